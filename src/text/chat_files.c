#include "text/chat.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 64 << 20, MAX_EOS = 256 };

/* The JSON object in a file of the folder; NULL when there is no such file. */
static int read_object(json_t **out, const char *dir, const char *name, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    *out = NULL;
    int rc = loami_path_join(path, dir, name, err);
    if (rc < 0 || !loami_file_exists(path)) return rc;
    rc = loami_json_load(out, path, MAX_FILE, err);
    if (rc < 0 || json_is_object(*out)) return rc;
    json_decref(*out);
    *out = NULL;
    return loami_fail(err, LOAM_E_FORMAT, "%s: must be a JSON object", path);
}

/* ---- templates ----------------------------------------------------------------------------------------- */

/* Takes over text. The first to come is kept. */
static void set_text(loami_chat_template *t, char *text)
{
    if (t->text) free(text);
    else t->text = text;
}

static loami_chat_template *named(struct loam_text *t, const char *name)
{
    if (strcmp(name, "default") == 0) return &t->chat;
    return strcmp(name, "tool_use") == 0 ? &t->tools : NULL;
}

static int copy_text(loami_chat_template *to, const json_t *text, const char *file, loam_err *err)
{
    if (!to) return 0;
    if (!json_is_string(text))
        return loami_fail(err, LOAM_E_FORMAT, "%s: a chat template must be a string", file);
    if (strlen(json_string_value(text)) != json_string_length(text))
        return loami_fail(err, LOAM_E_FORMAT, "%s: the chat template has a NUL character", file);
    char *copy = strdup(json_string_value(text));
    if (!copy) return loami_fail_nomem(err);
    set_text(to, copy);
    return 0;
}

/* "chat_template": a string, a list of {"name", "template"}, or an object of names. */
static int templates_from_json(struct loam_text *t, const json_t *v, const char *file, loam_err *err)
{
    int rc = 0;
    if (!v || json_is_null(v)) return 0;
    if (json_is_string(v)) return copy_text(&t->chat, v, file, err);
    for (size_t i = 0; i < json_array_size(v) && rc == 0; i++) {
        const json_t *one = json_array_get(v, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        if (!name) return loami_fail(err, LOAM_E_FORMAT, "%s: \"chat_template\"[%zu] has no name", file, i);
        rc = copy_text(named(t, name), json_object_get(one, "template"), file, err);
    }
    for (void *at = json_object_iter((json_t *)v); at && rc == 0; at = json_object_iter_next((json_t *)v, at))
        rc = copy_text(named(t, json_object_iter_key(at)), json_object_iter_value(at), file, err);
    if (rc == 0 && !json_is_array(v) && !json_is_object(v))
        rc = loami_fail(err, LOAM_E_FORMAT, "%s: \"chat_template\" must be a string or a list", file);
    return rc;
}

static int template_from_file(loami_chat_template *to, const char *dir, const char *name, loam_err *err)
{
    char path[LOAMI_PATH_MAX], *text;
    size_t n;
    int rc = loami_path_join(path, dir, name, err);
    if (rc < 0 || !loami_file_exists(path)) return rc;
    rc = loami_file_read(&text, &n, path, MAX_FILE, err);
    if (rc < 0) return rc;
    if (memchr(text, 0, n)) {
        free(text);
        return loami_fail(err, LOAM_E_FORMAT, "%s: has a NUL character", path);
    }
    set_text(to, text);
    return 0;
}

/* Files of their own come before what tokenizer_config.json says. */
static int read_templates(struct loam_text *t, const char *dir, const json_t *config, loam_err *err)
{
    json_t *file = NULL;
    int rc = template_from_file(&t->chat, dir, "chat_template.jinja", err);
    if (rc == 0) rc = template_from_file(&t->tools, dir, "additional_chat_templates/tool_use.jinja", err);
    bool own_files = t->chat.text || t->tools.text;
    if (rc == 0 && !own_files) rc = read_object(&file, dir, "chat_template.json", err);
    if (rc == 0 && file)
        rc = templates_from_json(t, json_object_get(file, "chat_template"), "chat_template.json", err);
    if (rc == 0 && !own_files)
        rc = templates_from_json(t, json_object_get(config, "chat_template"), "tokenizer_config.json", err);
    json_decref(file);
    return rc;
}

static void compile(loami_chat_template *t)
{
    if (!t->text) return;
    loami_jinja_open(&t->jinja, t->text, strlen(t->text), &t->err);
    t->format = loami_format_detect(t->text, strlen(t->text));
}

/* ---- special tokens ------------------------------------------------------------------------------------ */

/* "</s>" or {"content": "</s>", ...}; NULL for anything else. */
static const json_t *token_text(const json_t *v)
{
    if (json_is_object(v)) v = json_object_get(v, "content");
    return json_is_string(v) ? v : NULL;
}

/* Adds the tokens of an object: all keys that end in _token, or all keys. over: replaces what is there. */
static int add_tokens(json_t *special, const json_t *from, bool all, bool over)
{
    static const char suffix[] = "_token";
    for (void *at = json_object_iter((json_t *)from); at; at = json_object_iter_next((json_t *)from, at)) {
        const char *key = json_object_iter_key(at);
        size_t n = strlen(key);
        const json_t *text = token_text(json_object_iter_value(at));
        bool fits = all || (n >= sizeof suffix - 1 && strcmp(key + n - (sizeof suffix - 1), suffix) == 0);
        if (!text || !fits || (!over && json_object_get(special, key))) continue;
        if (json_object_set(special, key, (json_t *)text) < 0) return -1;
    }
    return 0;
}

/* special_tokens_map.json counts where tokenizer_config.json is of the old kind, which does not list its tokens. */
static int read_special(struct loam_text *t, const char *dir, const json_t *config, loam_err *err)
{
    json_t *map = NULL;
    int rc = read_object(&map, dir, "special_tokens_map.json", err);
    if (rc < 0) return rc;
    t->special = json_object();
    bool old = !json_object_get(config, "added_tokens_decoder");
    if (!t->special || add_tokens(t->special, config, false, true) < 0 ||
        add_tokens(t->special, json_object_get(config, "extra_special_tokens"), true, false) < 0 ||
        add_tokens(t->special, map, false, old) < 0)
        rc = loami_fail_nomem(err);
    json_decref(map);
    return rc;
}

int loami_chat_read(struct loam_text *t, const char *dir, loam_err *err)
{
    json_t *config = NULL;
    int rc = read_object(&config, dir, "tokenizer_config.json", err);
    if (rc == 0) rc = read_templates(t, dir, config, err);
    if (rc == 0) rc = read_special(t, dir, config, err);
    json_decref(config);
    if (rc < 0) return rc;
    compile(&t->chat);
    compile(&t->tools);
    return 0;
}

/* ---- end of text --------------------------------------------------------------------------------------- */

static int add_eos(struct loam_text *t, json_int_t id, const char *file, loam_err *err)
{
    if (id < 0 || id > INT32_MAX)
        return loami_fail(err, LOAM_E_FORMAT, "%s: \"eos_token_id\" %lld is no token", file, (long long)id);
    if (loami_text_is_eos(t, (int32_t)id)) return 0;
    if (t->n_eos == MAX_EOS)
        return loami_fail(err, LOAM_E_FORMAT, "%s: more than %d ids in \"eos_token_id\"", file, MAX_EOS);
    t->eos[t->n_eos++] = (int32_t)id;
    return 0;
}

static int eos_from(struct loam_text *t, const json_t *v, const char *file, loam_err *err)
{
    int rc = 0;
    if (!v || json_is_null(v)) return 0;
    if (json_is_integer(v)) return add_eos(t, json_integer_value(v), file, err);
    if (!json_is_array(v))
        return loami_fail(err, LOAM_E_FORMAT, "%s: \"eos_token_id\" must be an integer or a list of them",
                          file);
    for (size_t i = 0; i < json_array_size(v) && rc == 0; i++) {
        const json_t *id = json_array_get(v, i);
        if (!json_is_integer(id))
            return loami_fail(err, LOAM_E_FORMAT, "%s: \"eos_token_id\" must be a list of integers", file);
        rc = add_eos(t, json_integer_value(id), file, err);
    }
    return rc;
}

int loami_chat_read_eos(struct loam_text *t, const char *dir, loam_err *err)
{
    static const char *const files[] = { "generation_config.json", "config.json" };
    int rc = 0;
    t->eos = calloc(MAX_EOS, sizeof *t->eos);
    if (!t->eos) return loami_fail_nomem(err);
    for (int i = 0; i < 2 && rc == 0; i++) {
        json_t *file = NULL;
        rc = read_object(&file, dir, files[i], err);
        if (rc == 0) rc = eos_from(t, json_object_get(file, "eos_token_id"), files[i], err);
        if (rc == 0)
            rc = eos_from(t, json_object_get(json_object_get(file, "text_config"), "eos_token_id"), files[i],
                          err);
        json_decref(file);
    }
    const char *eos = json_string_value(json_object_get(t->special, "eos_token"));
    int32_t id = eos ? loami_tokenizer_id(t->tokenizer, eos, strlen(eos)) : -1;
    return rc == 0 && id >= 0 ? add_eos(t, id, "tokenizer_config.json", err) : rc;
}
