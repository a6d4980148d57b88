#include "cmd/cmd.h"

#include "base/file.h"
#include "base/json.h"
#include "text/jinja.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEMPLATE = 4 << 20, MAX_VARS = 64 << 20 };

static int open_template(loami_jinja **out, const char *path, loam_err *err)
{
    char *text;
    size_t n;
    int rc = loami_file_read(&text, &n, path, MAX_TEMPLATE, err);
    if (rc < 0) return rc;
    rc = loami_jinja_open(out, text, n, err);
    free(text);
    return rc < 0 ? loami_fail_in(err, "%s", path) : 0;
}

static int render_one(const loami_jinja *j, loam_err *err)
{
    json_t *vars = NULL;
    loami_buf out = { 0 };
    int rc = loami_json_load(&vars, "-", MAX_VARS, err);
    if (rc == 0) rc = loami_jinja_render(j, &out, vars, err);
    if (rc == 0 && (fwrite(out.data ? out.data : "", 1, out.len, stdout) != out.len || fflush(stdout) != 0))
        rc = loami_fail_errno(err, "standard output");
    loami_buf_free(&out);
    json_decref(vars);
    return rc;
}

/* ---- many at once ---- */

/* Renders {"template": ..., "vars": {...}, "now": seconds}; without "template" j. */
static int render_request(const loami_jinja *j, const json_t *request, loami_buf *out, loam_err *err)
{
    const json_t *text = json_object_get(request, "template"), *now = json_object_get(request, "now");
    loami_jinja *own = NULL;
    int rc = 0;
    if (text) {
        if (!json_is_string(text)) return loami_fail(err, LOAM_E_ARG, "\"template\" must be a string");
        rc = loami_jinja_open(&own, json_string_value(text), json_string_length(text), err);
        j = own;
    }
    if (rc == 0 && !j) rc = loami_fail(err, LOAM_E_ARG, "a line without \"template\", and no --file or --model");
    if (rc == 0) {
        time_t at = json_is_integer(now) ? (time_t)json_integer_value(now) : time(NULL);
        rc = loami_jinja_render_at(j, out, json_object_get(request, "vars"), at, err);
    }
    loami_jinja_close(own);
    return rc;
}

/* The answer to one line: the rendering as a JSON string, or {"error": message, "code": number}. */
static json_t *answer(const loami_jinja *j, const char *line, size_t n, loam_err *err)
{
    json_t *request = NULL, *reply = NULL;
    loami_buf out = { 0 };
    int rc = loami_json_parse(&request, line, n, "line", err);
    if (rc == 0) rc = render_request(j, request, &out, err);
    if (rc == 0) reply = json_stringn(out.data ? out.data : "", out.len);
    else reply = json_pack("{s:s, s:i}", "error", err->msg, "code", rc);
    loami_buf_free(&out);
    json_decref(request);
    return reply;
}

static int render_lines(const loami_jinja *j, loam_err *err)
{
    char *line = NULL, *text;
    size_t cap = 0;
    ssize_t n;
    int rc = 0;
    while (rc == 0 && (n = getline(&line, &cap, stdin)) >= 0) {
        json_t *reply = answer(j, line, (size_t)n, err);
        text = reply ? json_dumps(reply, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
        if (!text) rc = loami_fail(err, LOAM_E_TEMPLATE, "a rendering that is no UTF-8, or out of memory");
        else if (printf("%s\n", text) < 0 || fflush(stdout) != 0) rc = loami_fail_errno(err, "standard output");
        free(text);
        json_decref(reply);
    }
    free(line);
    return rc;
}

int loami_cmd_template(int argc, char **argv)
{
    const char *file = NULL;
    bool lines = false;
    loami_jinja *j = NULL;
    loam_err err = { 0 };
    const loami_opt table[] = {
        { .name = "--file", .letter = 'f', .arg = "T.jinja", .help = "the template", .kind = LOAMI_OPT_STRING, .value = &file },
        { .name = "--json-lines", .help = "each line a {\"template\", \"vars\", \"now\"}, a JSON string or {\"error\"} each in return",
          .kind = LOAMI_OPT_FLAG, .value = &lines },
        { 0 },
    };
    int go = loami_opt_parse(argc, argv, table, "render a chat template; its variables are a JSON object on standard input");
    if (go) return go > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    int rc = 0;
    if (file) rc = open_template(&j, file, &err);
    else if (!lines) rc = loami_fail(&err, LOAM_E_ARG, "name a template with --file");
    if (rc == 0) rc = lines ? render_lines(j, &err) : render_one(j, &err);
    loami_jinja_close(j);
    return rc < 0 ? loami_cmd_fail("template", &err) : LOAMI_EXIT_OK;
}
