#include "cmd/cmd.h"

#include "base/file.h"
#include "base/json.h"
#include "store/store.h"
#include "text/jinja.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEMPLATE = 4 << 20, MAX_VARS = 64 << 20 };

/* What is rendered: a file's template as it is, or a model's, which knows the model's special tokens. */
typedef struct source {
    loami_jinja *file;
    loam_text *model;
} source;

static int open_file(source *s, const char *path, loam_err *err)
{
    char *text;
    size_t n;
    int rc = loami_file_read(&text, &n, path, MAX_TEMPLATE, err);
    if (rc < 0) return rc;
    rc = loami_jinja_open(&s->file, text, n, err);
    free(text);
    return rc < 0 ? loami_fail_in(err, "%s", path) : 0;
}

static int open_model(source *s, const char *name, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    int rc = loami_store_find(path, name, err);
    return rc == 0 ? loam_text_open(&s->model, path, err) : rc;
}

static int render_model(const loam_text *model, const json_t *vars, loami_buf *out, loam_err *err)
{
    char *prompt, *text = loami_json_text(vars);
    if (!text) return loami_fail_nomem(err);
    int rc = loam_chat_render(model, text, &prompt, err);
    free(text);
    if (rc < 0) return rc;
    loami_buf_puts(out, prompt);
    free(prompt);
    return out->failed ? loami_fail_nomem(err) : 0;
}

static int render_one(const source *s, loam_err *err)
{
    json_t *vars = NULL;
    loami_buf out = { 0 };
    int rc = loami_json_load(&vars, "-", MAX_VARS, err);
    if (rc == 0 && s->model) rc = render_model(s->model, vars, &out, err);
    else if (rc == 0) rc = loami_jinja_render(s->file, &out, vars, err);
    if (rc == 0 && (fwrite(out.data ? out.data : "", 1, out.len, stdout) != out.len || fflush(stdout) != 0))
        rc = loami_fail_errno(err, "standard output");
    loami_buf_free(&out);
    json_decref(vars);
    return rc;
}

/* ---- many at once ---- */

/* Renders {"template": ..., "vars": {...}, "now": seconds}; without "template" the source. */
static int render_request(const source *s, const json_t *request, loami_buf *out, loam_err *err)
{
    const json_t *text = json_object_get(request, "template"), *now = json_object_get(request, "now");
    const json_t *vars = json_object_get(request, "vars");
    const loami_jinja *j = s->file;
    loami_jinja *own = NULL;
    int rc = 0;
    if (text) {
        if (!json_is_string(text)) return loami_fail(err, LOAM_E_ARG, "\"template\" must be a string");
        rc = loami_jinja_open(&own, json_string_value(text), json_string_length(text), err);
        j = own;
    }
    if (rc == 0 && !j && !s->model)
        rc = loami_fail(err, LOAM_E_ARG, "a line without \"template\", and no --file or --model");
    if (rc == 0 && j) {
        loami_jinja_how how = { .now = (time_t)json_integer_value(now) };
        rc = loami_jinja_render_how(j, out, vars, &how, err);
    } else if (rc == 0) {
        rc = render_model(s->model, vars, out, err);
    }
    loami_jinja_close(own);
    return rc;
}

/* The answer to one line: the rendering as a JSON string, or {"error": message, "code": number}. */
static json_t *answer(const source *s, const char *line, size_t n, loam_err *err)
{
    json_t *request = NULL, *reply = NULL;
    loami_buf out = { 0 };
    int rc = loami_json_parse(&request, line, n, "line", err);
    if (rc == 0) rc = render_request(s, request, &out, err);
    if (rc == 0) reply = json_stringn(out.data ? out.data : "", out.len);
    else reply = json_pack("{s:s, s:i}", "error", err->msg, "code", rc);
    loami_buf_free(&out);
    json_decref(request);
    return reply;
}

static int render_lines(const source *s, loam_err *err)
{
    char *line = NULL, *text;
    size_t cap = 0;
    ssize_t n;
    int rc = 0;
    while (rc == 0 && (n = getline(&line, &cap, stdin)) >= 0) {
        json_t *reply = answer(s, line, (size_t)n, err);
        text = reply ? json_dumps(reply, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
        if (!text) rc = loami_fail(err, LOAM_E_TEMPLATE, "a rendering that is no UTF-8, or out of memory");
        else if (printf("%s\n", text) < 0 || fflush(stdout) != 0)
            rc = loami_fail_errno(err, "standard output");
        free(text);
        json_decref(reply);
    }
    free(line);
    return rc;
}

int loami_cmd_template(int argc, char **argv)
{
    const char *file = NULL, *model = NULL;
    bool lines = false;
    source s = { 0 };
    loam_err err = { 0 };
    const loami_opt table[] = {
        { .name = "--model", .letter = 'm', .arg = "M",
          .help = "a model, whose template and special tokens are used",
          .kind = LOAMI_OPT_STRING, .value = &model },
        { .name = "--file", .letter = 'f', .arg = "T.jinja", .help = "or a template in a file",
          .kind = LOAMI_OPT_STRING, .value = &file },
        { .name = "--json-lines",
          .help = "each line {\"vars\", \"template\", \"now\"} gives a JSON string or {\"error\"}",
          .kind = LOAMI_OPT_FLAG, .value = &lines },
        { 0 },
    };
    int go = loami_opt_parse(argc, argv, table,
                             "render a chat template; its variables are a JSON object on standard input");
    if (go) return go > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if ((file && model) || (!file && !model && !lines)) {
        fprintf(stderr, "loam template: give either --model or --file (see loam template --help)\n");
        return LOAMI_EXIT_USAGE;
    }
    int rc = file ? open_file(&s, file, &err) : model ? open_model(&s, model, &err) : 0;
    if (rc == 0) rc = lines ? render_lines(&s, &err) : render_one(&s, &err);
    loami_jinja_close(s.file);
    loam_text_close(s.model);
    return rc < 0 ? loami_cmd_fail("template", &err) : LOAMI_EXIT_OK;
}
