/* A template, a NUL, and its variables as JSON (or none). What compiles renders the same twice. */
#include "text/jinja.h"

#include <stdlib.h>
#include <string.h>

static int render(const loami_jinja *j, loami_buf *out, const json_t *vars, loam_err *err)
{
    const loami_jinja_how how = { .now = 1753000000, .max_steps = 300000, .max_bytes = 32 << 20 };
    return loami_jinja_render_how(j, out, vars, &how, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *json = size ? memchr(text, 0, size) : NULL;
    size_t n = json ? (size_t)(json - text) : size;
    loami_jinja *j;
    json_t *vars = NULL;
    loami_buf a = { 0 }, b = { 0 };
    loam_err err;

    if (json) loami_json_parse(&vars, json + 1, size - n - 1, "vars", &err);
    if (!vars) vars = json_object();
    if (vars && loami_jinja_open(&j, text, n, &err) == 0) {
        int first = render(j, &a, vars, &err), second = render(j, &b, vars, &err);
        if (first != second || a.len != b.len || (a.len && memcmp(a.data, b.data, a.len) != 0)) abort();
        loami_jinja_close(j);
    }
    loami_buf_free(&a);
    loami_buf_free(&b);
    json_decref(vars);
    return 0;
}
