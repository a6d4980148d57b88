#include "api/fields.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE_BYTES = 64 }; /* what jansson takes for one: a struct of up to 40 bytes, the allocator's rounding, its slot */

int loami_field_wrong(loami_fault *f, const char *where, const char *what)
{
    return loami_fault_set(f, 400, "invalid_value", where, "'%s' must be %s.", where, what);
}

void loami_field_path(char *out, const char *parent, const char *name)
{
    snprintf(out, 128, "%s%s%.64s", parent, parent[0] && name[0] != '[' ? "." : "", name);
}

bool loami_whole(const json_t *v, json_int_t *out)
{
    double d = json_number_value(v);
    if (!json_is_integer(v) && !(json_is_real(v) && d == floor(d) && fabs(d) < 9e15)) return false;
    *out = json_is_integer(v) ? json_integer_value(v) : (json_int_t)d;
    return true;
}

static int read_integer(const loami_field *t, const json_t *v, const char *where, json_int_t *out,
                        loami_fault *f)
{
    char words[96];
    json_int_t i = 0;
    bool whole = loami_whole(v, &i);
    bool ranged = t->lo < t->hi;
    if (whole && (!ranged || ((double)i >= t->lo && (double)i <= t->hi))) {
        *out = i;
        return 0;
    }
    if (!ranged) return loami_field_wrong(f, where, "an integer");
    snprintf(words, sizeof words, "an integer from %.0f to %.0f", t->lo, t->hi);
    return loami_field_wrong(f, where, words);
}

static int read_float(const loami_field *t, const json_t *v, const char *where, float *out, loami_fault *f)
{
    char words[96];
    double d = json_number_value(v);
    if (json_is_number(v) && d >= t->lo && d <= t->hi) {
        *out = (float)d;
        return 0;
    }
    snprintf(words, sizeof words, "a number from %g to %g", t->lo, t->hi);
    return loami_field_wrong(f, where, words);
}

static bool is_among(const char *words, const char *s)
{
    size_t n = strlen(s);
    for (const char *w = words; w; w = strchr(w, '|') ? strchr(w, '|') + 1 : NULL)
        if (strncmp(w, s, n) == 0 && (w[n] == '|' || w[n] == 0)) return true;
    return false;
}

static int refuse(loami_fault *f, const char *where, const char *why)
{
    return loami_fault_set(f, 400, "unsupported_parameter", where, "'%s' is not supported: %s.", where, why);
}

static const char *type_name(json_type t)
{
    switch (t) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    default: return "true or false";
    }
}

static int read_one(const loami_field *t, const json_t *v, const char *where, void *into, loami_fault *f)
{
    void *to = (char *)into + t->at;
    json_int_t i;
    switch (t->kind) {
    case LOAMI_F_BOOL:
        if (!json_is_boolean(v)) return loami_field_wrong(f, where, "true or false");
        *(bool *)to = json_is_true(v);
        return 0;
    case LOAMI_F_U32:
        if (read_integer(t, v, where, &i, f) < 0) return -1;
        *(uint32_t *)to = (uint32_t)i;
        return 0;
    case LOAMI_F_I64:
        if (read_integer(t, v, where, &i, f) < 0) return -1;
        *(int64_t *)to = i;
        return 0;
    case LOAMI_F_FLOAT: return read_float(t, v, where, to, f);
    case LOAMI_F_STRING:
        if (!json_is_string(v)) return loami_field_wrong(f, where, "a string");
        *(const char **)to = json_string_value(v);
        return 0;
    case LOAMI_F_OBJECT:
        if (!json_is_object(v)) return loami_field_wrong(f, where, "an object");
        *(const json_t **)to = v;
        return 0;
    case LOAMI_F_ARRAY:
        if (!json_is_array(v)) return loami_field_wrong(f, where, "an array");
        *(const json_t **)to = v;
        return 0;
    case LOAMI_F_CUSTOM: return t->read(to, v, where, f);
    case LOAMI_F_CHOICE:
        if (!json_is_string(v) || !is_among(t->words, json_string_value(v))) {
            char words[128];
            snprintf(words, sizeof words, "one of %s", t->words);
            return loami_field_wrong(f, where, words);
        }
        *(const char **)to = json_string_value(v);
        return 0;
    case LOAMI_F_HINT:
        if (json_typeof(v) == t->hint_type || (t->hint_type == JSON_TRUE && json_is_boolean(v))) return 0;
        return loami_field_wrong(f, where, type_name(t->hint_type));
    case LOAMI_F_FALSE:
        if (!json_is_boolean(v)) return loami_field_wrong(f, where, "true or false");
        return json_is_true(v) ? refuse(f, where, t->words) : 0;
    case LOAMI_F_REFUSED: return refuse(f, where, t->words);
    }
    return 0;
}

static const loami_field *find(const loami_field *table, const char *name)
{
    for (; table->name; table++)
        if (strcmp(table->name, name) == 0) return table;
    return NULL;
}

int loami_fields_read(const loami_field *table, const json_t *o, const char *where, bool lenient, void *into,
                      loami_fault *f)
{
    char path[128];
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)o, key, v)
    {
        const loami_field *t = find(table, key);
        loami_field_path(path, where, key);
        if (!t && lenient) continue;
        if (!t) return loami_fault_set(f, 400, "unknown_parameter", path, "Unknown parameter: '%s'.", path);
        if (!json_is_null(v) && read_one(t, v, path, into, f) < 0) return -1;
    }
    for (; table->name; table++) {
        const json_t *is = table->required ? json_object_get(o, table->name) : NULL;
        if (!table->required || (is && !json_is_null(is))) continue;
        loami_field_path(path, where, table->name);
        return loami_fault_set(f, 400, "missing_required_parameter", path,
                               "Missing required parameter: '%s'.", path);
    }
    return 0;
}

int32_t *loami_token_array(const json_t *v, const char *where, uint32_t *n, loami_fault *f)
{
    size_t i;
    json_t *one;
    int32_t *ids = malloc((json_array_size(v) + 1) * sizeof *ids);
    if (!ids) {
        loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
        return NULL;
    }
    json_array_foreach(v, i, one)
    {
        json_int_t id = -1;
        if (!loami_whole(one, &id) || id < 0 || id > INT32_MAX) {
            char path[128];
            snprintf(path, sizeof path, "%.80s[%zu]", where, i);
            loami_field_wrong(f, path, "a token id");
            free(ids);
            return NULL;
        }
        ids[i] = (int32_t)id;
    }
    *n = (uint32_t)i;
    return ids;
}

static bool one_text(const json_t *v)
{
    return json_is_string(v) || json_is_number(json_array_get(v, 0));
}

uint32_t loami_texts_count(const json_t *v, const char *what, uint32_t max, loami_fault *f)
{
    char words[64];
    size_t n = one_text(v) ? 1 : json_array_size(v);
    if (n > 0 && n <= max) return (uint32_t)n;
    snprintf(words, sizeof words, "a string, or an array of 1 to %u texts", max);
    loami_field_wrong(f, what, words);
    return 0;
}

const json_t *loami_texts_get(const json_t *v, const char *what, uint32_t i, char *where, loami_fault *f)
{
    bool one = one_text(v);
    const json_t *it = one ? v : json_array_get(v, i);
    snprintf(where, 32, one ? "%.16s" : "%.16s[%u]", what, i);
    if (!json_is_string(it) && !json_is_array(it))
        loami_field_wrong(f, where, "a string or an array of token ids");
    else if (json_is_string(it) ? json_string_length(it) == 0 : json_array_size(it) == 0)
        loami_field_wrong(f, where, "not empty");
    else
        return it;
    return NULL;
}

/* Of JSON, the values and keys: what stands outside of strings and separates them. */
static size_t count_values(const char *text, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c == '"')
            for (i++; i < n && text[i] != '"'; i++) i += text[i] == '\\';
        else
            count += c == ',' || c == ':' || c == '[' || c == '{';
    }
    return count;
}

int loami_body_parse(json_t **out, loami_reply *r, loami_fault *f)
{
    size_t n;
    json_error_t e;
    const char *text = loami_reply_body(r, &n);
    if (n == 0)
        return loami_fault_set(f, 400, "invalid_json", "",
                               "The request has no body; it must be a JSON object.");
    if (text && loami_reply_body_charge(r, count_values(text, n) * VALUE_BYTES, f) < 0) return -1;
    json_t *v = text ? json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e) : NULL;
    if (!v && !text) return loami_fault_set(f, 503, NULL, "", "Out of memory.");
    if (!v)
        return loami_fault_set(f, 400, "invalid_json", "",
                               "The body is not valid JSON: line %d, column %d: %s.", e.line, e.column,
                               e.text);
    loami_reply_body_free(r);
    if (!json_is_object(v)) {
        json_decref(v);
        return loami_fault_set(f, 400, "invalid_json", "", "The body must be a JSON object.");
    }
    *out = v;
    return 0;
}
