#include "base/json.h"
#include "base/file.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

int loami_json_parse(json_t **out, const char *text, size_t n, const char *what, loam_err *err)
{
    json_error_t e;
    json_t *v = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (!v) return loami_fail(err, LOAM_E_FORMAT, "%s: line %d, column %d: %s", what, e.line, e.column, e.text);
    *out = v;
    return 0;
}

int loami_json_load(json_t **out, const char *path, size_t limit, loam_err *err)
{
    char *text;
    size_t n;
    int rc = loami_file_read(&text, &n, path, limit, err);
    if (rc < 0) return rc;
    rc = loami_json_parse(out, text, n, path, err);
    free(text);
    return rc;
}

/* The field, or NULL when it is absent or null. */
static const json_t *field(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return !v || json_is_null(v) ? NULL : v;
}

int loami_json_u32(const json_t *o, const char *what, const char *key, uint32_t lo, uint32_t hi, uint32_t *out, loam_err *err)
{
    const json_t *v = field(o, key);
    if (!v) return 0;
    if (!json_is_integer(v)) return loami_fail(err, LOAM_E_FORMAT, "%s: \"%s\" must be an integer", what, key);
    json_int_t i = json_integer_value(v);
    if (i < (json_int_t)lo || i > (json_int_t)hi)
        return loami_fail(err, LOAM_E_FORMAT, "%s: \"%s\" is %lld, must be from %u to %u", what, key, (long long)i, lo, hi);
    *out = (uint32_t)i;
    return 1;
}

int loami_json_float(const json_t *o, const char *what, const char *key, double lo, double hi, float *out, loam_err *err)
{
    const json_t *v = field(o, key);
    if (!v) return 0;
    if (!json_is_number(v)) return loami_fail(err, LOAM_E_FORMAT, "%s: \"%s\" must be a number", what, key);
    double d = json_number_value(v);
    if (!(d >= lo && d <= hi)) return loami_fail(err, LOAM_E_FORMAT, "%s: \"%s\" is %g, must be from %g to %g", what, key, d, lo, hi);
    *out = (float)d;
    return 1;
}

int loami_json_bool(const json_t *o, const char *what, const char *key, bool *out, loam_err *err)
{
    const json_t *v = field(o, key);
    if (!v) return 0;
    if (!json_is_boolean(v)) return loami_fail(err, LOAM_E_FORMAT, "%s: \"%s\" must be true or false", what, key);
    *out = json_is_true(v);
    return 1;
}

int loami_json_string(const json_t *o, const char *what, const char *key, const char **out, loam_err *err)
{
    const json_t *v = field(o, key);
    if (!v) return 0;
    if (!json_is_string(v)) return loami_fail(err, LOAM_E_FORMAT, "%s: \"%s\" must be a string", what, key);
    if (strlen(json_string_value(v)) != json_string_length(v))
        return loami_fail(err, LOAM_E_FORMAT, "%s: \"%s\" must not contain a NUL character", what, key);
    *out = json_string_value(v);
    return 1;
}

char *loami_json_text(const json_t *v)
{
    return json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
}

void loami_json_put(loami_buf *b, const char *s, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    static const char letter[] = "btn\0fr"; /* for 8 to 13; 11 has none */
    size_t from = 0;

    loami_buf_putc(b, '"');
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        uint32_t cp;
        size_t len = c < 0x80 ? 1 : loami_utf8_next(s + i, n - i, &cp);
        if (len && c >= 0x20 && c != '"' && c != '\\') {
            i += len;
            continue;
        }
        loami_buf_put(b, s + from, i - from);
        from = ++i;
        if (!len) {
            loami_buf_puts(b, "\\ufffd");
        } else if (c == '"' || c == '\\' || (c >= 8 && c <= 13 && letter[c - 8])) {
            loami_buf_putc(b, '\\');
            loami_buf_putc(b, c >= 0x20 ? (char)c : letter[c - 8]);
        } else {
            char u[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };
            loami_buf_put(b, u, sizeof u);
        }
    }
    loami_buf_put(b, s + from, n - from);
    loami_buf_putc(b, '"');
}
