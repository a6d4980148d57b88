#include "text/chat.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>

bool loami_text_is_eos(const struct loam_text *t, int32_t id)
{
    for (uint32_t i = 0; i < t->n_eos; i++)
        if (t->eos[i] == id) return true;
    return false;
}

static int open_folder(struct loam_text *t, const char *dir, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    int rc = loami_path_join(path, dir, "tokenizer.json", err);
    if (rc == 0 && !loami_file_exists(path))
        rc = loami_fail(err, LOAM_E_NOT_FOUND, "%s: there is no tokenizer.json in this folder", dir);
    if (rc == 0) rc = loami_tokenizer_open(&t->tokenizer, path, err);
    if (rc == 0) rc = loami_chat_read(t, dir, err);
    return rc == 0 ? loami_chat_read_eos(t, dir, err) : rc;
}

int loami_text_open_path(struct loam_text **out, const char *dir, loam_err *err)
{
    struct loam_text *t = calloc(1, sizeof *t);
    if (!t) return loami_fail_nomem(err);
    int rc = loami_dir_exists(dir) ? open_folder(t, dir, err) : loami_tokenizer_open(&t->tokenizer, dir, err);
    if (rc < 0) {
        loam_text_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

int loam_text_open(loam_text **out, const char *path, loam_err *err)
{
    return loami_text_open_path(out, path, err);
}

static void free_template(loami_chat_template *t)
{
    loami_jinja_close(t->jinja);
    free(t->text);
}

void loam_text_close(loam_text *t)
{
    if (!t) return;
    loami_tokenizer_close(t->tokenizer);
    free_template(&t->chat);
    free_template(&t->tools);
    json_decref(t->special);
    free(t->eos);
    free(t);
}

/* ---- tokens -------------------------------------------------------------------------------------------- */

int loam_encode(const loam_text *t, const char *text, size_t n, unsigned flags, int32_t **ids, loam_err *err)
{
    loami_ids out = { 0 };
    int rc = loami_tokenizer_encode(t->tokenizer, &out, text, n, !(flags & LOAM_NO_SPECIAL), err);
    if (rc == 0 && out.len > INT32_MAX)
        rc = loami_fail(err, LOAM_E_TOO_LONG, "the text has more than %d tokens", INT32_MAX);
    if (rc == 0 && !out.data && !(out.data = malloc(sizeof *out.data))) rc = loami_fail_nomem(err);
    if (rc < 0) {
        free(out.data);
        return rc;
    }
    *ids = out.data;
    return (int)out.len;
}

int loam_decode(const loam_text *t, const int32_t *ids, size_t n, unsigned flags, char **text, size_t *len,
                loam_err *err)
{
    loami_buf out = { 0 };
    uint32_t size = loami_tokenizer_size(t->tokenizer);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= size)
            return loami_fail(err, LOAM_E_ARG, "token %d is not in the vocabulary of %u", ids[i], size);
    int rc = loami_tokenizer_decode(t->tokenizer, &out, ids, n, (flags & LOAM_NO_SPECIAL) != 0, err);
    if (rc < 0) {
        loami_buf_free(&out);
        return rc;
    }
    *text = loami_buf_take(&out, len);
    return *text ? 0 : loami_fail_nomem(err);
}

int loam_token_bytes(const loam_text *t, int32_t id, char **bytes, size_t *len, loam_err *err)
{
    loami_buf out = { 0 };
    int rc = loami_tokenizer_bytes(t->tokenizer, &out, id, err);
    if (rc < 0) {
        loami_buf_free(&out);
        return rc;
    }
    *bytes = loami_buf_take(&out, len);
    return *bytes ? 0 : loami_fail_nomem(err);
}

/* ---- chat ---------------------------------------------------------------------------------------------- */

const loami_chat_template *loami_text_template(const struct loam_text *t, const json_t *vars)
{
    const json_t *tools = json_object_get(vars, "tools");
    if (t->tools.text && tools && !json_is_null(tools)) return &t->tools;
    return t->chat.text ? &t->chat : NULL;
}

static int render(const loam_text *t, const json_t *vars, loami_buf *out, loam_err *err)
{
    const loami_chat_template *c = loami_text_template(t, vars);
    if (!c)
        return loami_fail(err, LOAM_E_UNSUPPORTED,
                          "the model has no chat template: give it plain text to complete");
    if (!c->jinja)
        return loami_fail(err, c->err.code, "the model's chat template can't be used: %s", c->err.msg);
    return loami_jinja_render(c->jinja, out, vars, err);
}

int loam_chat_render(const loam_text *t, const char *vars_json, char **prompt, loam_err *err)
{
    json_t *vars = NULL;
    loami_buf out = { 0 };
    int rc = loami_json_parse(&vars, vars_json, strlen(vars_json), "the variables of the chat template", err);
    if (rc == 0 && !json_is_object(vars))
        rc = loami_fail(err, LOAM_E_ARG, "the variables of a chat template must be a JSON object");
    if (rc == 0 && t->special && json_object_update_missing(vars, t->special) < 0) rc = loami_fail_nomem(err);
    if (rc == 0) rc = render(t, vars, &out, err);
    if (rc == 0 && out.len && memchr(out.data, 0, out.len))
        rc = loami_fail(err, LOAM_E_ARG, "the prompt has a NUL character");
    if (rc == 0 && !(*prompt = loami_buf_take(&out, NULL))) rc = loami_fail_nomem(err);
    loami_buf_free(&out);
    json_decref(vars);
    return rc;
}
