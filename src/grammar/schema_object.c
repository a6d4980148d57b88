#include "grammar/schema.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* ---- keys ---- */

static loami_expr *key_literal(loami_schema *c, const char *key)
{
    loami_buf text = { 0 };
    loami_json_put(&text, key, strlen(key));
    loami_buf_puts(&text, ":");
    loami_expr *x = text.failed ? NULL : loami_json_literal_x(c->d, text.data, text.len);
    loami_buf_free(&text);
    return loami_x_two(c->d, x, loami_json_space_x(c->d));
}

/* Names that are taken, sorted, as characters from `at` on. */
typedef struct names {
    const char **list;
    size_t n;
} names;

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Characters that a key may have without escapes. */
static const loami_range key_chars[] = { { ' ', '!' }, { '#', '[' }, { ']', 0x10ffff } };

static loami_expr *any_key_char(loami_schema *c)
{
    return loami_x_chars(c->d, key_chars, 3, false);
}

/* Whatever goes on after the first `at` bytes that names[from, to) have in common, and is none of them. */
static loami_expr *other_than(loami_schema *c, const names *taken, size_t from, size_t to, size_t at,
                              loami_expr *rest)
{
    loami_exprs parts = { 0 };
    loami_range *cut = calloc(to - from + 4, sizeof *cut),
                *left = cut ? calloc(to - from + 5, sizeof *left) : NULL;
    uint32_t n = 0;
    bool ends = false;
    if (!left) {
        c->d->failed = true;
        free(cut);
        return NULL;
    }
    for (size_t i = from, next; i < to; i = next) {
        uint32_t ch = 0;
        const char *s = taken->list[i] + at;
        size_t len = *s ? loami_utf8_next(s, strlen(s), &ch) : 0;
        for (next = i + 1; next < to && strncmp(taken->list[next] + at, s, len ? len : 1) == 0; next++)
            continue;
        if (len == 0) {
            ends = true; /* one of them ends here, so this can't */
            continue;
        }
        cut[n++] = (loami_range){ ch, ch };
        bool plain_char = ch >= ' ' && ch != '"' && ch != '\\';
        if (plain_char)
            loami_exprs_put(c->d, &parts,
                            loami_x_two(c->d, loami_x_bytes(c->d, s, len),
                                        other_than(c, taken, i, next, at + len, rest)));
    }
    cut[n++] = (loami_range){ 0, 0x1f };
    cut[n++] = (loami_range){ '"', '"' };
    cut[n++] = (loami_range){ '\\', '\\' };
    n = loami_chars_normal(cut, n);
    n = loami_chars_invert(cut, n, left);
    loami_exprs_put(c->d, &parts, loami_x_two(c->d, loami_x_chars(c->d, left, n, false), rest));
    if (!ends) loami_exprs_put(c->d, &parts, loami_x_empty(c->d));
    free(cut);
    free(left);
    return loami_x_alt(c->d, parts.items, parts.n);
}

enum { MOST_KEY_DEPTH = 512 };

/* "key": with a key that is none of these. */
static loami_expr *other_key(loami_schema *c, const char **list, size_t n)
{
    names taken = { list, n };
    loami_expr *quote = loami_x_text(c->d, "\""),
               *rest = loami_x_repeat(c->d, any_key_char(c), NULL, 0, LOAMI_NO_LIMIT);
    for (size_t i = 0; i < n; i++)
        if (strlen(list[i]) > MOST_KEY_DEPTH)
            return loami_schema_wrong(c, LOAM_E_UNSUPPORTED, "additionalProperties",
                                      "beside a property with a name of more than %d bytes", MOST_KEY_DEPTH);
    qsort(list, n, sizeof *list, by_text);
    return loami_x_seq(c->d,
                       (loami_expr *[]){ quote, other_than(c, &taken, 0, n, 0, rest),
                                         loami_x_text(c->d, "\":"), loami_json_space_x(c->d) },
                       4);
}

/* ---- members ---- */

typedef struct object {
    loami_expr **items;
    const char **keys;
    bool *required;
    uint32_t n, n_required;
    bool never;
} object;

static bool is_required(const json_t *s, const char *key)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(s, "required"), i, one)
        if (json_is_string(one) && strcmp(json_string_value(one), key) == 0) return true;
    return false;
}

static void add_member(loami_schema *c, object *o, const json_t *s, const char *key, const json_t *schema)
{
    size_t up = loami_schema_down(c, key, 0);
    loami_expr *value = loami_schema_compile(c, schema);
    loami_schema_up(c, up);
    if (!value) return;
    bool required = is_required(s, key);
    o->keys[o->n] = key;
    if (value->kind == LOAMI_X_NEVER) { /* may not be there */
        o->never |= required;
        o->items[o->n] = value;
    } else {
        o->items[o->n] = loami_x_two(c->d, key_literal(c, key), value);
    }
    o->required[o->n++] = required;
    o->n_required += required;
}

static bool read_members(loami_schema *c, object *o, const json_t *s)
{
    json_t *properties = json_object_get(s, "properties"), *required = json_object_get(s, "required"), *v;
    const json_t *rest = json_object_get(s, "additionalProperties");
    const char *key;
    size_t i;
    if (properties && !json_is_object(properties))
        loami_schema_wrong(c, LOAM_E_ARG, "properties", "must be an object");
    if (required && !json_is_array(required))
        loami_schema_wrong(c, LOAM_E_ARG, "required", "must be an array of strings");
    size_t most = json_object_size(properties) + json_array_size(required) + 1;
    o->items = loami_arena_array(&c->d->arena, most, sizeof *o->items);
    o->keys = loami_arena_array(&c->d->arena, most, sizeof *o->keys);
    o->required = loami_arena_array(&c->d->arena, most, sizeof *o->required);
    if (!o->items || !o->keys || !o->required) c->d->failed = true;
    if (c->rc < 0 || c->d->failed) return false;
    size_t up = loami_schema_down(c, "properties", 0);
    json_object_foreach(properties, key, v) {
        add_member(c, o, s, key, v);
        if (c->rc < 0) return false;
    }
    loami_schema_up(c, up);
    json_array_foreach(required, i, v) {
        bool seen = false;
        if (!json_is_string(v))
            return loami_schema_wrong(c, LOAM_E_ARG, "required", "must be an array of strings");
        key = json_string_value(v);
        for (uint32_t k = 0; k < o->n && !seen; k++) seen = strcmp(o->keys[k], key) == 0;
        if (!seen) add_member(c, o, s, key, rest ? rest : json_true());
        if (c->rc < 0) return false;
    }
    return !c->d->failed;
}

/* Members that may not be there leave the list; when too few must be there, the first optional ones must;
 * when too many may, the last optional ones may not. */
static loami_expr *hold_to_counts(loami_schema *c, object *o, const json_t *s, loami_expr **more)
{
    uint32_t lo = 0, hi = LOAMI_NO_LIMIT, n = 0, optional;
    if (loami_schema_count(c, s, "minProperties", &lo) < 0 ||
        loami_schema_count(c, s, "maxProperties", &hi) < 0)
        return NULL;
    for (uint32_t i = 0; i < o->n; i++)
        if (o->items[i]->kind != LOAMI_X_NEVER) {
            o->items[n] = o->items[i];
            o->required[n++] = o->required[i];
        }
    o->n = n;
    for (uint32_t i = 0; i < o->n && o->n_required < lo; i++)
        if (!o->required[i]) {
            o->required[i] = true;
            o->n_required++;
        }
    if (o->n_required > hi) return loami_x_never(c->d);
    if (o->n_required < lo && !*more) return loami_x_never(c->d);
    if (o->n_required < lo && (o->n || lo > 1))
        return loami_schema_wrong(
            c, LOAM_E_UNSUPPORTED, "minProperties",
            "more members than are named can't be promised: name them, or ask for at most 1");
    if (hi == LOAMI_NO_LIMIT) return loami_x_empty(c->d);
    if (o->n) *more = NULL;
    optional = hi - o->n_required;
    n = 0;
    for (uint32_t i = 0; i < o->n; i++) {
        if (!o->required[i] && optional-- == 0) {
            optional = 0;
            continue;
        }
        o->items[n] = o->items[i];
        o->required[n++] = o->required[i];
    }
    o->n = n;
    return loami_x_empty(c->d);
}

loami_expr *loami_schema_object(loami_schema *c, const json_t *s)
{
    object o = { 0 };
    const json_t *rest = json_object_get(s, "additionalProperties");
    bool open = rest ? !json_is_false(rest) : !json_object_get(s, "properties");
    loami_syntax *d = c->d;
    loami_expr *more = NULL, *space = loami_json_space_x(d);
    uint32_t lo = 0, hi = LOAMI_NO_LIMIT;

    if (!rest && !json_object_get(s, "properties") && !json_object_get(s, "required") &&
        !json_object_get(s, "minProperties") && !json_object_get(s, "maxProperties"))
        return loami_json_object_x(d);
    if (!read_members(c, &o, s)) return NULL;
    if (o.never) return loami_x_never(d);
    if (open) {
        size_t up = loami_schema_down(c, "additionalProperties", 0);
        loami_expr *value = loami_schema_compile(c, rest ? rest : json_true());
        loami_schema_up(c, up);
        if (!value) return NULL;
        if (value->kind != LOAMI_X_NEVER) more = loami_x_two(d, other_key(c, o.keys, o.n), value);
        if (value->kind != LOAMI_X_NEVER && !more) return NULL;
    }
    loami_expr *ok = hold_to_counts(c, &o, s, &more);
    if (!ok || ok->kind == LOAMI_X_NEVER) return ok;
    if (o.n == 0 && more) {
        loami_schema_count(c, s, "minProperties", &lo);
        loami_schema_count(c, s, "maxProperties", &hi);
        return loami_json_list_x(d, '{', more, lo, hi, '}');
    }
    loami_expr *begin = loami_x_two(d, loami_x_text(d, "{"), space),
               *end = loami_x_two(d, space, loami_x_text(d, "}"));
    if (o.n == 0) return loami_x_text(d, "{}");
    loami_members m = {
        .items = o.items, .required = o.required, .n = o.n, .more = more, .separator = loami_json_comma_x(d)
    };
    return loami_x_seq(d, (loami_expr *[]){ begin, loami_x_members(d, &m), end }, 3);
}

/* ---- arrays ---- */

static loami_expr *item(loami_schema *c, const char *keyword, const json_t *schema, size_t index,
                        bool indexed)
{
    size_t up = loami_schema_down(c, keyword, 0);
    if (indexed) loami_schema_down(c, NULL, index);
    loami_expr *x = schema ? loami_schema_compile(c, schema) : loami_json_value_x(c->d);
    loami_schema_up(c, up);
    return x;
}

/* "[" first, second, ... up to n, then others "]": each is there when lo says so, and may be when the one
 * before it is. */
static loami_expr *tuple(loami_schema *c, const json_t *prefix, const char *keyword, uint32_t lo, uint32_t hi,
                         const json_t *rest)
{
    loami_syntax *d = c->d;
    uint32_t n = (uint32_t)json_array_size(prefix), kept = n < hi ? n : hi;
    loami_expr *comma = loami_json_comma_x(d), *tail = loami_x_empty(d), *space = loami_json_space_x(d), *x;
    bool more = hi > n &&
                (rest ? !json_is_false(rest) : lo > n); /* without a word about them there are no others */
    if (more) {
        x = item(c, rest ? "items" : keyword, rest, 0, false);
        if (!x) return NULL;
        if (x->kind != LOAMI_X_NEVER)
            tail = loami_x_repeat(d, loami_x_two(d, comma, x), NULL, lo > n ? lo - n : 0,
                                  hi == LOAMI_NO_LIMIT ? hi : hi - n);
        else
            more = false;
    }
    if (!more && lo > n) return loami_x_never(d);
    for (uint32_t i = kept; i-- > 0;) {
        x = item(c, keyword, json_array_get(prefix, i), i, true);
        if (!x) return NULL;
        if (x->kind == LOAMI_X_NEVER) { /* so the array ends before it */
            if (lo > i) return x;
            tail = loami_x_empty(d);
            continue;
        }
        tail = loami_x_seq(d, (loami_expr *[]){ i ? comma : loami_x_empty(d), x, tail }, 3);
        if (lo <= i) tail = loami_x_repeat(d, tail, NULL, 0, 1);
    }
    return loami_x_seq(d, (loami_expr *[]){ loami_x_text(d, "["), space, tail, space, loami_x_text(d, "]") },
                       5);
}

loami_expr *loami_schema_array(loami_schema *c, const json_t *s)
{
    const json_t *items = json_object_get(s, "items"), *prefix = json_object_get(s, "prefixItems");
    const char *keyword = "prefixItems";
    uint32_t lo = 0, hi = LOAMI_NO_LIMIT;
    if (loami_schema_count(c, s, "minItems", &lo) < 0 || loami_schema_count(c, s, "maxItems", &hi) < 0)
        return NULL;
    if (lo > hi) return loami_x_never(c->d);
    if (json_is_true(json_object_get(s, "uniqueItems")) && hi > 1)
        return loami_schema_wrong(c, LOAM_E_UNSUPPORTED, "uniqueItems",
                                  "that items differ can't be promised");
    if (json_is_array(items) && !prefix) { /* before draft 2020-12 */
        prefix = items;
        keyword = "items";
        items = json_object_get(s, "additionalItems");
    }
    if (prefix && !json_is_array(prefix))
        return loami_schema_wrong(c, LOAM_E_ARG, "prefixItems", "must be an array of schemas");
    if (json_array_size(prefix) > LOAMI_SCHEMA_ITEMS)
        return loami_schema_wrong(c, LOAM_E_UNSUPPORTED, keyword, "more than %d items", LOAMI_SCHEMA_ITEMS);
    if (json_array_size(prefix)) return tuple(c, prefix, keyword, lo, hi, items);
    loami_expr *x = item(c, "items", items, 0, false);
    return x ? loami_json_list_x(c->d, '[', x, lo, hi, ']') : NULL;
}
