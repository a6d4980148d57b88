/* A request's body, from JSON to the prompt's tokens, through a real tokenizer and template. The first byte
 * chooses the endpoint. */
#include "api/embeddings.h"
#include "api/endpoints.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char tokenizer[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"<"
                                "|im_start|>\":4,\"<|im_end|>\":5},\"merges\":[\"a b\"]},"
                                "\"added_tokens\":[{\"id\":4,\"content\":\"<|im_start|>\",\"special\":true,"
                                "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                                "\"normalized\":false},{\"id\":5,\"content\":\"<|im_end|>\",\"special\":true,"
                                "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                                "\"normalized\":false}],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_"
                                "prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},"
                                "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_"
                                "offsets\":true,\"use_regex\":true}}";
static const char template[] = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if "
                               "m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}"
                               "<|im_end|>\n{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}{% if "
                               "add_generation_prompt %}<|im_start|>assistant\n"
                               "{% endif %}";

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert(f);
    fputs(text, f);
    fclose(f);
}

static loam_text *open_text(void)
{
    char dir[300], path[400];
    const char *tmp = getenv("TMPDIR");
    loam_text *text = NULL;
    loam_err err;
    snprintf(dir, sizeof dir, "%s/loam-fuzz-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir)) abort();
    write_file(dir, "tokenizer.json", tokenizer);
    write_file(dir, "chat_template.jinja", template);
    if (loam_text_open(&text, dir, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/chat_template.jinja", dir);
    unlink(path);
    rmdir(dir);
    return text;
}

static void embed(const loami_api *api, const loami_served *served, const json_t *body)
{
    loami_embedding q = { 0 };
    loami_fault f = { 0 };
    int rc = loami_embedding_read(&q, api, served, body, &f);
    assert(rc == 0 || (rc == -1 && f.status >= 400 && f.msg[0]));
    assert(rc < 0 || (q.n_texts && q.texts[q.n_texts - 1].n && q.dims));
    loami_embedding_free(&q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static loam_text *text;
    static const char *const names[] = { "model" };
    if (!text) text = open_text();
    if (size == 0) return 0;

    static const loam_model_info info = { .embed_dims = 8 };
    loami_served_config config = { .names = names, .n_names = 1 };
    loami_served served = { .config = &config, .text = text, .info = &info };
    loami_api api = { .config = { .lenient = data[0] & 2 },
                      .models = { .config = { .n_models = 1 }, .list = &served } };
    loami_run run = { .api = &api,
                      .shape = data[0] & 1 ? &loami_text_shape : &loami_chat_shape,
                      .hold = { .served = &served } };
    loami_fault f = { 0 };
    json_t *body = json_loadb((const char *)data + 1, size - 1, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(body)) goto out;
    if (data[0] & 4) {
        embed(&api, &served, body);
        goto out;
    }
    run.request = calloc(1, run.shape->request_size);
    run.request->n = 1;
    int rc = run.shape->parse(&run, body, &f);
    assert(rc == 0 || (rc == -1 && f.status >= 400 && f.msg[0]));
    assert(rc < 0 || (run.n_prompts && run.prompts[0].ids));
    loami_run_forget_request(&run);
out:
    json_decref(body);
    return 0;
}
