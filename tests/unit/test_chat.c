/* A model's text: which template, which special tokens, which ends, from which file. */
#include "check.h"

#include "temp.h"
#include "text/chat.h"

static const char tokenizer[] =
    "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 3, \"content\": \"</s>\", \"special\": true}, {\"id\": 4, \"content\": \"<end>\", \"special\": true}],"
    "\"normalizer\": null, \"pre_tokenizer\": null, \"post_processor\": null, \"decoder\": null,"
    "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]}}";

static char *dir;

static void put(const char *name, const char *text)
{
    temp_write(dir, name, text, strlen(text));
}

static int make(void **state)
{
    (void)state;
    dir = temp_make();
    put("tokenizer.json", tokenizer);
    return 0;
}

static int remove_it(void **state)
{
    (void)state;
    temp_remove(dir);
    return 0;
}

static loam_text *open_it(void)
{
    loam_text *t = NULL;
    loam_err err;
    CHECK_OK(loam_text_open(&t, dir, &err), err, 0);
    return t;
}

static void renders(const char *vars, const char *want)
{
    loam_text *t = open_it();
    loam_err err;
    char *prompt = NULL;
    CHECK_OK(loam_chat_render(t, vars, &prompt, &err), err, 0);
    assert_string_equal(prompt, want);
    free(prompt);
    loam_text_close(t);
}

static void test_templates(void **state)
{
    (void)state;
    put("tokenizer_config.json", "{\"chat_template\": \"config {{ tools is defined }}\"}");
    renders("{}", "config False");
    put("tokenizer_config.json",
        "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"r\"}, {\"name\": \"tool_use\", \"template\": \"t\"}, {\"name\": \"default\", \"template\": \"d\"}]}");
    renders("{}", "d");
    renders("{\"tools\": null}", "d");
    renders("{\"tools\": []}", "t");
    put("chat_template.json", "{\"chat_template\": \"json\"}");
    renders("{}", "json");
    put("chat_template.jinja", "file\n");
    renders("{\"tools\": []}", "file");
    char path[LOAMI_PATH_MAX];
    loam_err err;
    CHECK_OK(loami_path_join(path, dir, "additional_chat_templates", &err), err, 0);
    CHECK_OK(loami_dir_make(path, &err), err, 0);
    put("additional_chat_templates/tool_use.jinja", "tools");
    renders("{}", "file");
    renders("{\"tools\": []}", "tools");
}

static void test_special_tokens(void **state)
{
    (void)state;
    put("tokenizer_config.json",
        "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"}, \"add_bos_token\": true, \"pad_token\": null,"
        "\"extra_special_tokens\": {\"image_token\": \"<img>\"}, \"added_tokens_decoder\": {},"
        "\"chat_template\": \"{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ image_token }}{{ unk_token }}{{ add_bos_token is defined }}\"}");
    put("special_tokens_map.json", "{\"eos_token\": \"other\", \"unk_token\": {\"content\": \"<unk>\"}}");
    renders("{}", "<s></s>False<img><unk>False");
    renders("{\"bos_token\": \"mine\"}", "mine</s>False<img><unk>False");
    put("tokenizer_config.json", "{\"eos_token\": \"</s>\", \"chat_template\": \"{{ eos_token }}\"}");
    renders("{}", "other");
}

static void test_ends(void **state)
{
    (void)state;
    put("tokenizer_config.json", "{\"eos_token\": \"</s>\"}");
    put("config.json", "{\"eos_token_id\": 1, \"text_config\": {\"eos_token_id\": [2]}}");
    put("generation_config.json", "{\"eos_token_id\": [1, 4]}");
    loam_text *t = open_it();
    for (int32_t id = 0; id < 6; id++) assert_int_equal(loami_text_is_eos(t, id), id >= 1 && id <= 4);
    assert_int_equal(t->n_eos, 4);
    loam_text_close(t);
}

static void test_no_template(void **state)
{
    loam_err err;
    char *prompt;
    (void)state;
    loam_text *t = open_it();
    CHECK_FAILS(loam_chat_render(t, "{}", &prompt, &err), err, LOAM_E_UNSUPPORTED, "no chat template");
    loam_text_close(t);
}

static void test_bad_template_fails_when_it_is_needed(void **state)
{
    loam_err err;
    char *prompt;
    int32_t *ids;
    (void)state;
    put("chat_template.jinja", "a\n{% if %}");
    loam_text *t = open_it();
    CHECK_OK(loam_encode(t, "ab", 2, 0, &ids, &err), err, 1);
    free(ids);
    CHECK_FAILS(loam_chat_render(t, "{}", &prompt, &err), err, LOAM_E_FORMAT, "line 2");
    loam_text_close(t);
}

static void test_render_errors(void **state)
{
    loam_err err;
    char *prompt;
    (void)state;
    put("chat_template.jinja", "{% if x %}{{ raise_exception('No: ' ~ x) }}{% endif %}{{ y.z }}{{ s }}");
    loam_text *t = open_it();
    CHECK_FAILS(loam_chat_render(t, "{\"x\": 5}", &prompt, &err), err, LOAM_E_TEMPLATE, "No: 5");
    assert_string_equal(err.msg, "No: 5");
    CHECK_FAILS(loam_chat_render(t, "{}", &prompt, &err), err, LOAM_E_TEMPLATE, "line 1: 'y' is undefined");
    CHECK_FAILS(loam_chat_render(t, "[]", &prompt, &err), err, LOAM_E_ARG, "object");
    CHECK_FAILS(loam_chat_render(t, "{", &prompt, &err), err, LOAM_E_FORMAT, "variables");
    CHECK_FAILS(loam_chat_render(t, "{\"y\": {}, \"s\": \"a\\u0000b\"}", &prompt, &err), err, LOAM_E_ARG,
                "NUL");
    loam_text_close(t);
}

static void test_bad_files(void **state)
{
    static const struct { const char *file, *text, *words; } bad[] = {
        { "tokenizer_config.json", "[]", "object" },
        { "tokenizer_config.json", "{", "tokenizer_config.json" },
        { "tokenizer_config.json", "{\"chat_template\": 5}", "chat_template" },
        { "tokenizer_config.json", "{\"chat_template\": [{}]}", "name" },
        { "tokenizer_config.json", "{\"chat_template\": [{\"name\": \"default\"}]}", "string" },
        { "generation_config.json", "{\"eos_token_id\": \"x\"}", "eos_token_id" },
        { "generation_config.json", "{\"eos_token_id\": [1, -2]}", "-2" },
        { "config.json", "{\"eos_token_id\": 99999999999}", "99999999999" },
        { "config.json", "{\"eos_token_id\": [1.5]}", "integers" },
    };
    loam_err err;
    loam_text *t;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put(bad[i].file, bad[i].text);
        CHECK_FAILS(loam_text_open(&t, dir, &err), err, LOAM_E_FORMAT, bad[i].words);
        put(bad[i].file, "{}");
    }
    CHECK_FAILS(loam_text_open(&t, "no/such/folder", &err), err, LOAM_E_NOT_FOUND, "no/such/folder");
}

static void test_tokens(void **state)
{
    loam_err err;
    int32_t *ids;
    char *text;
    size_t n;
    (void)state;
    char path[LOAMI_PATH_MAX];
    CHECK_OK(loami_path_join(path, dir, "tokenizer.json", &err), err, 0);
    loam_text *t;
    CHECK_OK(loam_text_open(&t, path, &err), err, 0);
    CHECK_OK(loam_encode(t, "abba</s>", 8, 0, &ids, &err), err, 4);
    assert_true(ids[0] == 2 && ids[1] == 1 && ids[2] == 0 && ids[3] == 3);
    CHECK_OK(loam_decode(t, ids, 1, 0, &text, &n, &err), err, 0);
    assert_string_equal(text, "ab");
    assert_int_equal(n, 2);
    free(text);
    ids[0] = 5;
    CHECK_FAILS(loam_decode(t, ids, 4, 0, &text, &n, &err), err, LOAM_E_ARG, "token 5");
    free(ids);
    CHECK_OK(loam_encode(t, "", 0, LOAM_NO_SPECIAL, &ids, &err), err, 0);
    free(ids);
    CHECK_OK(loam_decode(t, NULL, 0, 0, &text, NULL, &err), err, 0);
    assert_string_equal(text, "");
    free(text);
    loam_text_close(t);
    loam_text_close(NULL);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make, remove_it)
    const struct CMUnitTest tests[] = {
        TEST(test_templates), TEST(test_special_tokens), TEST(test_ends), TEST(test_no_template), TEST(test_bad_template_fails_when_it_is_needed),
        TEST(test_render_errors), TEST(test_bad_files), TEST(test_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
