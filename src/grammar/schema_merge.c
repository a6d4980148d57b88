/* What several schemas say together. */
#include "grammar/schema.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MERGE_DEPTH = 32 };

/* ---- references ---- */

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* One step of a pointer, from s up to the next slash, with ~0, ~1 and %XX read. */
static bool step_name(char *out, size_t room, const char *s, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c == '~' && i + 1 < n && (s[i + 1] == '0' || s[i + 1] == '1'))
            c = s[++i] == '0' ? '~' : '/';
        else if (c == '%' && i + 2 < n && hex(s[i + 1]) >= 0 && hex(s[i + 2]) >= 0)
            c = (char)(hex(s[i + 1]) * 16 + hex(s[i + 2])), i += 2;
        if (k + 1 >= room) return false;
        out[k++] = c;
    }
    out[k] = 0;
    return true;
}

const json_t *loami_schema_resolve(loami_schema *c, const char *ref)
{
    const json_t *at = c->root;
    const char *s = ref;
    char name[512];
    if (*s != '#' || (s[1] && s[1] != '/')) {
        loami_schema_wrong(c, LOAM_E_UNSUPPORTED, "$ref",
                           "\"%.80s\": only references within the schema are followed, \"#/...\"", ref);
        return NULL;
    }
    for (s++; at && *s == '/';) {
        size_t n = strcspn(++s, "/");
        if (!step_name(name, sizeof name, s, n))
            at = NULL;
        else
            at = json_is_array(at) ? json_array_get(at, (size_t)strtoul(name, NULL, 10))
                                   : json_object_get(at, name);
        s += n;
    }
    if (!at) loami_schema_wrong(c, LOAM_E_ARG, "$ref", "there is nothing at \"%.80s\"", ref);
    return at;
}

/* ---- two plain schemas ---- */

static json_t *both(const json_t *a, const json_t *b)
{
    if (json_is_true(a)) return json_incref((json_t *)b);
    if (json_is_true(b) || json_equal(a, b)) return json_incref((json_t *)a);
    return json_pack("{s:[O,O]}", "allOf", a, b);
}

static json_t *values_of(const json_t *s)
{
    json_t *one = json_object_get(s, "const"), *list = json_object_get(s, "enum");
    if (one) return json_pack("[O]", one);
    return list ? json_incref(list) : NULL;
}

static bool has(const json_t *list, const json_t *v)
{
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one)
        if (json_equal(one, v)) return true;
    return false;
}

static json_t *common(const json_t *a, const json_t *b)
{
    size_t i;
    json_t *one, *out = json_array();
    json_array_foreach(a, i, one)
        if (has(b, one)) json_array_append(out, one);
    return out;
}

static json_t *type_list(uint32_t types)
{
    static const char *const names[] = {
        "null", "boolean", "integer", "number", "string", "array", "object"
    };
    json_t *out = json_array();
    for (int i = 0; i < 7; i++)
        if (types & 1u << i) json_array_append_new(out, json_string(names[i]));
    return out;
}

static json_t *union_of(const json_t *a, const json_t *b)
{
    size_t i;
    json_t *one, *out = json_copy((json_t *)a);
    json_array_foreach(b, i, one)
        if (!has(out, one)) json_array_append(out, one);
    return out;
}

/* A property that one of them does not name is what its additionalProperties says. */
static json_t *merge_properties(const json_t *a, const json_t *b)
{
    const json_t *pa = json_object_get(a, "properties"), *pb = json_object_get(b, "properties");
    const json_t *ra = json_object_get(a, "additionalProperties"),
                 *rb = json_object_get(b, "additionalProperties");
    json_t *out = json_object(), *v;
    const char *key;
    json_object_foreach((json_t *)pa, key, v) {
        const json_t *other = json_object_get(pb, key);
        if (!other) other = rb;
        json_object_set_new(out, key, other ? both(v, other) : json_incref(v));
    }
    json_object_foreach((json_t *)pb, key, v) {
        if (!json_object_get(pa, key)) json_object_set_new(out, key, ra ? both(ra, v) : json_incref(v));
    }
    return out;
}

typedef enum how { LARGER, SMALLER, UNION, SCHEMA, OR, SKIP } how;

static const struct {
    const char *name;
    how how;
} merged[] = {
    { "minimum", LARGER },
    { "exclusiveMinimum", LARGER },
    { "minLength", LARGER },
    { "minItems", LARGER },
    { "minProperties", LARGER },
    { "maximum", SMALLER },
    { "exclusiveMaximum", SMALLER },
    { "maxLength", SMALLER },
    { "maxItems", SMALLER },
    { "maxProperties", SMALLER },
    { "required", UNION },
    { "additionalProperties", SCHEMA },
    { "uniqueItems", OR },
    { "type", SKIP },
    { "enum", SKIP },
    { "const", SKIP },
    { "properties", SKIP },
    { "title", SKIP },
    { "description", SKIP },
    { "default", SKIP },
    { "examples", SKIP },
    { "example", SKIP },
    { "$comment", SKIP },
    { "$id", SKIP },
    { "$schema", SKIP },
    { "$defs", SKIP },
    { "definitions", SKIP },
    { "deprecated", SKIP },
    { "readOnly", SKIP },
    { "writeOnly", SKIP },
    { "discriminator", SKIP },
    { "$anchor", SKIP },
};

static int how_to_merge(const char *key)
{
    for (size_t i = 0; i < sizeof merged / sizeof *merged; i++)
        if (strcmp(merged[i].name, key) == 0) return (int)merged[i].how;
    return -1;
}

static json_t *merge_values(loami_schema *c, const char *key, const json_t *a, const json_t *b)
{
    bool a_larger = json_number_value(a) >= json_number_value(b);
    bool numbers = json_is_number(a) && json_is_number(b);
    switch (how_to_merge(key)) {
    case LARGER: return numbers ? json_incref((json_t *)(a_larger ? a : b)) : NULL;
    case SMALLER: return numbers ? json_incref((json_t *)(a_larger ? b : a)) : NULL;
    case UNION: return union_of(a, b);
    case SCHEMA: return both(a, b);
    case OR: return json_boolean(json_is_true(a) || json_is_true(b));
    case SKIP: return json_incref((json_t *)a);
    default: break;
    }
    if (json_equal(a, b)) return json_incref((json_t *)a);
    if (strcmp(key, "items") == 0 && !json_is_array(a) && !json_is_array(b)) return both(a, b);
    loami_schema_wrong(c, LOAM_E_UNSUPPORTED, key,
                       "two schemas that must hold together say different things here: they can't be merged");
    return NULL;
}

/* What holds when both do; false when nothing can. New. */
static json_t *merge(loami_schema *c, const json_t *a, const json_t *b)
{
    if (json_is_false(a) || json_is_false(b)) return json_false();
    if (json_is_true(a) || json_is_true(b)) return json_incref((json_t *)(json_is_true(a) ? b : a));
    json_t *out = json_copy((json_t *)a), *va = values_of(a), *vb = values_of(b), *v;
    const char *key;
    json_object_foreach((json_t *)b, key, v) {
        const json_t *mine = json_object_get(a, key);
        json_t *joint = mine ? merge_values(c, key, mine, v) : json_incref(v);
        if (c->rc < 0) break;
        if (joint) json_object_set_new(out, key, joint);
    }
    if (json_object_get(a, "properties") || json_object_get(b, "properties"))
        json_object_set_new(out, "properties", merge_properties(a, b));
    if (json_object_get(a, "type") && json_object_get(b, "type")) {
        uint32_t types = loami_schema_types(c, a) & loami_schema_types(c, b);
        json_object_set_new(out, "type", type_list(types));
    }
    if (va || vb) {
        json_object_del(out, "const");
        json_object_set_new(out, "enum", va && vb ? common(va, vb) : json_incref(va ? va : vb));
    }
    json_decref(va);
    json_decref(vb);
    return out;
}

/* ---- all that a schema is made of ---- */

static json_t *branches(loami_schema *c, const json_t *s, int depth);

/* Each of a with each of b. Takes both. */
static json_t *cross(loami_schema *c, json_t *a, json_t *b)
{
    size_t i, k;
    json_t *x, *y, *out = json_array();
    if (a && b && json_array_size(a) * json_array_size(b) > LOAMI_SCHEMA_BRANCHES)
        loami_schema_wrong(c, LOAM_E_UNSUPPORTED, "anyOf", "alternatives multiply to more than %d",
                           LOAMI_SCHEMA_BRANCHES);
    json_array_foreach(a, i, x) {
        json_array_foreach(b, k, y) {
            if (c->rc == 0) json_array_append_new(out, merge(c, x, y));
        }
    }
    json_decref(a);
    json_decref(b);
    return out;
}

static json_t *any(loami_schema *c, const json_t *list, int depth)
{
    json_t *one, *out = json_array();
    size_t i;
    json_array_foreach(list, i, one) {
        json_t *b = branches(c, one, depth);
        if (b) json_array_extend(out, b);
        json_decref(b);
        if (json_array_size(out) > LOAMI_SCHEMA_BRANCHES)
            loami_schema_wrong(c, LOAM_E_UNSUPPORTED, "anyOf", "more than %d alternatives",
                               LOAMI_SCHEMA_BRANCHES);
        if (c->rc < 0) break;
    }
    return out;
}

static json_t *branches(loami_schema *c, const json_t *s, int depth)
{
    static const char *const parts[] = { "$ref", "allOf", "anyOf", "oneOf" };
    if (depth > MERGE_DEPTH) {
        loami_schema_wrong(c, LOAM_E_UNSUPPORTED, NULL,
                           "schemas that must hold together refer to each other more than %d deep",
                           MERGE_DEPTH);
        return NULL;
    }
    if (++c->n_nodes > LOAMI_SCHEMA_NODES) {
        loami_schema_wrong(c, LOAM_E_UNSUPPORTED, NULL, "the schema has more than %d parts once it is merged",
                           LOAMI_SCHEMA_NODES);
        return NULL;
    }
    if (!json_is_object(s)) return json_pack("[O]", s);
    json_t *base = json_copy((json_t *)s), *out, *one;
    for (int i = 0; i < 4; i++) json_object_del(base, parts[i]);
    out = json_pack("[o]", base);
    const char *ref = json_string_value(json_object_get(s, "$ref"));
    const json_t *to = ref ? loami_schema_resolve(c, ref) : NULL, *list;
    size_t i;
    if (to) out = cross(c, out, branches(c, to, depth + 1));
    json_array_foreach(json_object_get(s, "allOf"), i, one)
        if (c->rc == 0) out = cross(c, out, branches(c, one, depth + 1));
    if ((list = json_object_get(s, "anyOf")) && c->rc == 0) out = cross(c, out, any(c, list, depth + 1));
    list = json_object_get(s, "oneOf");
    if (list && !c->comparing) loami_schema_check_one_of(c, list, depth + 1);
    if (list && c->rc == 0) out = cross(c, out, any(c, list, depth + 1));
    return out;
}

json_t *loami_schema_branches(loami_schema *c, const json_t *s)
{
    json_t *out = branches(c, s, 0);
    if (c->rc == 0 && out) return out;
    json_decref(out);
    return NULL;
}

/* ---- whether two can't hold at once ---- */

static bool number_at(const json_t *s, const char *key, double *out)
{
    const json_t *v = json_object_get(s, key);
    *out = json_number_value(v);
    return json_is_number(v);
}

/* a ends before b begins. */
static bool below(const json_t *a, const json_t *b, const char *max, const char *min)
{
    double hi, lo;
    return number_at(a, max, &hi) && number_at(b, min, &lo) && hi < lo;
}

static bool apart_by_counts(const json_t *a, const json_t *b, uint32_t types)
{
    if (!(types & ~(uint32_t)LOAMI_T_STRING))
        return below(a, b, "maxLength", "minLength") || below(b, a, "maxLength", "minLength");
    if (!(types & ~(uint32_t)LOAMI_T_ARRAY))
        return below(a, b, "maxItems", "minItems") || below(b, a, "maxItems", "minItems");
    if (!(types & ~(uint32_t)(LOAMI_T_INTEGER | LOAMI_T_NUMBER)))
        return below(a, b, "maximum", "minimum") || below(b, a, "maximum", "minimum");
    return false;
}

static bool disjoint(loami_schema *c, const json_t *a, const json_t *b, int depth);

static bool apart_by_property(loami_schema *c, const json_t *a, const json_t *b, int depth)
{
    const json_t *pa = json_object_get(a, "properties"), *pb = json_object_get(b, "properties"), *v;
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(a, "required"), i, name) {
        const char *key = json_string_value(name);
        if (!key) continue;
        if (!json_object_get(pb, key) && json_is_false(json_object_get(b, "additionalProperties")))
            return true;
        if (!(v = json_object_get(pb, key)) || !json_object_get(pa, key)) continue;
        if (json_is_false(v) || disjoint(c, json_object_get(pa, key), v, depth + 1)) return true;
    }
    return false;
}

static bool plain_apart(loami_schema *c, const json_t *a, const json_t *b, int depth)
{
    if (json_is_false(a) || json_is_false(b)) return true;
    if (!json_is_object(a) || !json_is_object(b)) return false;
    json_t *va = values_of(a), *vb = values_of(b), *one;
    uint32_t ta = json_object_get(a, "type") || va ? 0 : LOAMI_T_ALL,
             tb = json_object_get(b, "type") || vb ? 0 : LOAMI_T_ALL;
    size_t i;
    bool apart = false;
    json_array_foreach(va, i, one) ta |= loami_type_of(one);
    json_array_foreach(vb, i, one) tb |= loami_type_of(one);
    if (json_object_get(a, "type")) ta = va ? ta & loami_schema_types(c, a) : loami_schema_types(c, a);
    if (json_object_get(b, "type")) tb = vb ? tb & loami_schema_types(c, b) : loami_schema_types(c, b);
    if (ta & LOAMI_T_NUMBER) ta |= LOAMI_T_INTEGER;
    if (tb & LOAMI_T_NUMBER) tb |= LOAMI_T_INTEGER;
    if (va && vb) {
        json_t *in_both = common(va, vb);
        apart = json_array_size(in_both) == 0 &&
                !((ta | tb) & LOAMI_T_NUMBER); /* 1 and 1.0 are the same to a schema */
        json_decref(in_both);
    }
    uint32_t types = ta & tb;
    apart = apart || types == 0 || apart_by_counts(a, b, types);
    if (!apart && types == LOAMI_T_OBJECT)
        apart = apart_by_property(c, a, b, depth) || apart_by_property(c, b, a, depth);
    json_decref(va);
    json_decref(vb);
    return apart;
}

/* Whether no value satisfies both: then true; false: it may. */
static bool disjoint(loami_schema *c, const json_t *a, const json_t *b, int depth)
{
    enum { LEVELS = 4 };
    size_t i, k;
    json_t *x, *y;
    if (c->comparing > LEVELS || c->rc < 0) return false;
    c->comparing++;
    json_t *all = branches(c, a, depth), *others = branches(c, b, depth);
    bool apart = all && others && c->rc == 0;
    json_array_foreach(all, i, x) {
        json_array_foreach(others, k, y) apart = apart && plain_apart(c, x, y, depth);
    }
    c->comparing--;
    json_decref(all);
    json_decref(others);
    return apart;
}

bool loami_schema_check_one_of(loami_schema *c, const json_t *list, int depth)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        for (size_t k = 0; k < i; k++) {
            if (disjoint(c, json_array_get(list, k), json_array_get(list, i), depth)) continue;
            if (c->rc == 0)
                loami_schema_wrong(c, LOAM_E_UNSUPPORTED, "oneOf",
                                   "a value may satisfy both %zu and %zu: use anyOf, or make them differ in "
                                   "a type or a required constant",
                                   k, i);
            return false;
        }
    return true;
}
