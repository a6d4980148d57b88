#include "gateway/fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

loami_place loami_place_in(const loami_place *outer, const char *key, size_t index)
{
    loami_place p = { .file = outer->file };
    if (key)
        snprintf(p.path, sizeof p.path, "%.100s%s%.90s", outer->path, outer->path[0] ? "." : "", key);
    else
        snprintf(p.path, sizeof p.path, "%.160s[%zu]", outer->path, index);
    return p;
}

int loami_gw_wrong(loami_field_reader *r, const loami_place *where, const char *fmt, ...)
{
    char words[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    return loami_fail(r->err, LOAM_E_FORMAT, "%s: %s%s%s", where->file, where->path,
                      where->path[0] ? ": " : "", words);
}

int loami_gw_text(loami_field_reader *r, const char **out, const json_t *v, size_t max,
                  const loami_place *where)
{
    size_t n = json_string_length(v);
    if (!json_is_string(v)) return loami_gw_wrong(r, where, "must be a string");
    if (n == 0 || n > max) return loami_gw_wrong(r, where, "must be 1 to %zu bytes long", max);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)json_string_value(v)[i] < 0x20)
            return loami_gw_wrong(r, where, "must not contain control characters");
    *out = loami_arena_strndup(r->arena, json_string_value(v), n);
    return *out ? 0 : loami_fail_nomem(r->err);
}

int loami_gw_texts(loami_field_reader *r, const char *const **out, uint32_t *n, const json_t *v, uint32_t max,
                   const loami_place *where)
{
    size_t count = json_array_size(v);
    if (!json_is_array(v)) return loami_gw_wrong(r, where, "must be an array of strings");
    if (count > max) return loami_gw_wrong(r, where, "has %zu entries, at most %u are allowed", count, max);
    const char **list = loami_arena_array(r->arena, count + 1, sizeof *list);
    if (!list) return loami_fail_nomem(r->err);
    for (size_t i = 0; i < count; i++) {
        loami_place at = loami_place_in(where, NULL, i);
        int rc = loami_gw_text(r, &list[i], json_array_get(v, i), 1024, &at);
        if (rc < 0) return rc;
    }
    *out = list;
    *n = (uint32_t)count;
    return 0;
}

static int read_field(loami_field_reader *r, const loami_gw_field *f, void *base, const json_t *v,
                      const loami_place *at)
{
    char *to = (char *)base + f->at;
    double number = json_number_value(v);
    switch (f->kind) {
    case LOAMI_GF_STRING: return loami_gw_text(r, (const char **)(void *)to, v, 1024, at);
    case LOAMI_GF_U32:
        if (!json_is_integer(v) || number < f->lo || number > f->hi)
            return loami_gw_wrong(r, at, "must be a whole number from %.10g to %.10g", f->lo, f->hi);
        *(uint32_t *)(void *)to = (uint32_t)json_integer_value(v);
        return 0;
    case LOAMI_GF_NUMBER:
        if (!json_is_number(v) || !(number >= f->lo && number <= f->hi))
            return loami_gw_wrong(r, at, "must be a number from %.10g to %.10g", f->lo, f->hi);
        *(double *)(void *)to = number;
        return 0;
    case LOAMI_GF_BOOL:
        if (!json_is_boolean(v)) return loami_gw_wrong(r, at, "must be true or false");
        *(bool *)(void *)to = json_is_true(v);
        return 0;
    case LOAMI_GF_CUSTOM: return f->read(r, to, v, at);
    }
    return 0;
}

int loami_gw_fields(loami_field_reader *r, const loami_gw_field *table, void *base, const json_t *v,
                    const loami_place *where)
{
    const char *key;
    json_t *value;
    if (!json_is_object(v)) return loami_gw_wrong(r, where, "must be an object");
    json_object_foreach((json_t *)v, key, value) {
        const loami_gw_field *f = table;
        while (f->name && strcmp(f->name, key) != 0) f++;
        if (!f->name) {
            char known[300] = "";
            size_t n = 0;
            for (f = table; f->name && n < sizeof known - 40; f++)
                n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", f->name);
            return loami_gw_wrong(r, where, "unknown field \"%.60s\"; known are %s", key, known);
        }
        loami_place at = loami_place_in(where, key, 0);
        int rc = read_field(r, f, base, value, &at);
        if (rc < 0) return rc;
    }
    return 0;
}
