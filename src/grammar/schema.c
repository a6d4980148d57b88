#include "grammar/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- where we are ---- */

loami_expr *loami_schema_wrong(loami_schema *c, int code, const char *keyword, const char *fmt, ...)
{
    char words[240];
    va_list args;
    if (c->rc < 0) return NULL;
    va_start(args, fmt);
    vsnprintf(words, sizeof words, fmt, args);
    va_end(args);
    c->rc = loami_fail(c->err, code, "the JSON Schema, at \"%s%s%s\": %s", c->path, keyword ? "/" : "",
                       keyword ? keyword : "", words);
    return NULL;
}

size_t loami_schema_down(loami_schema *c, const char *key, size_t index)
{
    size_t up = c->path_n, room = sizeof c->path - c->path_n;
    int n = key ? snprintf(c->path + up, room, "/%.60s", key) : snprintf(c->path + up, room, "/%zu", index);
    if (n > 0 && (size_t)n < room)
        c->path_n += (size_t)n;
    else
        c->path[up] = 0;
    return up;
}

void loami_schema_up(loami_schema *c, size_t to)
{
    c->path_n = to;
    c->path[to] = 0;
}

/* ---- types ---- */

static const struct {
    const char *name;
    uint32_t type;
} type_names[] = {
    { "null", LOAMI_T_NULL },       { "boolean", LOAMI_T_BOOL },
    { "integer", LOAMI_T_INTEGER }, { "number", LOAMI_T_NUMBER | LOAMI_T_INTEGER },
    { "string", LOAMI_T_STRING },   { "array", LOAMI_T_ARRAY },
    { "object", LOAMI_T_OBJECT },
};

/* Keywords, and which types they speak of. */
static const struct {
    const char *name;
    uint32_t types;
} keywords[] = {
    { "properties", LOAMI_T_OBJECT },
    { "required", LOAMI_T_OBJECT },
    { "additionalProperties", LOAMI_T_OBJECT },
    { "minProperties", LOAMI_T_OBJECT },
    { "maxProperties", LOAMI_T_OBJECT },
    { "items", LOAMI_T_ARRAY },
    { "prefixItems", LOAMI_T_ARRAY },
    { "minItems", LOAMI_T_ARRAY },
    { "maxItems", LOAMI_T_ARRAY },
    { "uniqueItems", LOAMI_T_ARRAY },
    { "additionalItems", LOAMI_T_ARRAY },
    { "minLength", LOAMI_T_STRING },
    { "maxLength", LOAMI_T_STRING },
    { "pattern", LOAMI_T_STRING },
    { "format", LOAMI_T_STRING },
    { "minimum", LOAMI_T_NUMBER | LOAMI_T_INTEGER },
    { "maximum", LOAMI_T_NUMBER | LOAMI_T_INTEGER },
    { "exclusiveMinimum", LOAMI_T_NUMBER | LOAMI_T_INTEGER },
    { "exclusiveMaximum", LOAMI_T_NUMBER | LOAMI_T_INTEGER },
    { "multipleOf", LOAMI_T_NUMBER | LOAMI_T_INTEGER },
};

/* What JSON Schema knows, says something about values, and we can't promise. */
static const char *const refused[] = {
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "patternProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "unevaluatedProperties",
    "unevaluatedItems",
    "$dynamicRef",
    "$recursiveRef",
    "extends",
    "disallow",
    "divisibleBy",
};

static uint32_t type_named(loami_schema *c, const json_t *name)
{
    const char *s = json_string_value(name);
    for (size_t i = 0; s && i < sizeof type_names / sizeof *type_names; i++)
        if (strcmp(type_names[i].name, s) == 0) return type_names[i].type;
    loami_schema_wrong(
        c, LOAM_E_ARG, "type",
        "there is no such type; there are null, boolean, integer, number, string, array and object");
    return 0;
}

uint32_t loami_schema_types(loami_schema *c, const json_t *s)
{
    const json_t *type = json_object_get(s, "type"), *one;
    size_t i;
    uint32_t types = 0;
    if (json_is_array(type)) {
        json_array_foreach(type, i, one) types |= type_named(c, one);
        return types;
    }
    if (type) return type_named(c, type);
    if (json_object_get(s, "enum") || json_object_get(s, "const")) return LOAMI_T_ALL;
    for (i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (json_object_get(s, keywords[i].name)) types |= keywords[i].types;
    return types ? types : LOAMI_T_ALL;
}

uint32_t loami_type_of(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return LOAMI_T_OBJECT;
    case JSON_ARRAY: return LOAMI_T_ARRAY;
    case JSON_STRING: return LOAMI_T_STRING;
    case JSON_INTEGER: return LOAMI_T_INTEGER;
    case JSON_REAL: {
        double d = json_real_value(v);
        return d == (double)(int64_t)d && d > -1e18 && d < 1e18 ? LOAMI_T_INTEGER | LOAMI_T_NUMBER
                                                                : LOAMI_T_NUMBER;
    }
    case JSON_NULL: return LOAMI_T_NULL;
    default: return LOAMI_T_BOOL;
    }
}

int loami_schema_count(loami_schema *c, const json_t *s, const char *keyword, uint32_t *out)
{
    const json_t *v = json_object_get(s, keyword);
    double d = json_number_value(v);
    if (!v) return 0;
    if (!json_is_number(v) || !(d >= 0) || d != (double)(uint64_t)(d < 1e18 ? d : 0)) {
        loami_schema_wrong(c, LOAM_E_ARG, keyword, "must be a whole number that is not negative");
        return -1;
    }
    *out = d < 1e9 ? (uint32_t)d : 1000000000;
    return 1;
}

/* ---- one schema ---- */

/* Keywords that are no constraint as they stand: {"uniqueItems": false}, {"contains": ...} of nothing. */
static bool says_nothing(const json_t *v)
{
    return json_is_true(v) || ((json_is_object(v)) && json_object_size(v) == 0);
}

static bool check_keywords(loami_schema *c, const json_t *s)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const json_t *v = json_object_get(s, refused[i]);
        if (!v || (says_nothing(v) && strcmp(refused[i], "not") != 0)) continue;
        loami_schema_wrong(c, LOAM_E_UNSUPPORTED, refused[i], "this keyword can't be honoured");
        return false;
    }
    return c->rc == 0;
}

static loami_expr *of_type(loami_schema *c, const json_t *s, uint32_t type)
{
    switch (type) {
    case LOAMI_T_NULL: return loami_x_text(c->d, "null");
    case LOAMI_T_BOOL: return loami_x_either(c->d, loami_x_text(c->d, "true"), loami_x_text(c->d, "false"));
    case LOAMI_T_INTEGER: return loami_schema_number(c, s, true);
    case LOAMI_T_NUMBER: return loami_schema_number(c, s, false);
    case LOAMI_T_STRING: return loami_schema_string(c, s);
    case LOAMI_T_ARRAY: return loami_schema_array(c, s);
    default: return loami_schema_object(c, s);
    }
}

static bool speaks_of_values(const json_t *s)
{
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (json_object_get(s, keywords[i].name)) return true;
    return json_object_get(s, "type") || json_object_get(s, "enum") || json_object_get(s, "const");
}

/* A schema without $ref, allOf, anyOf and oneOf at its top. */
static loami_expr *plain(loami_schema *c, const json_t *s)
{
    loami_exprs parts = { 0 };
    if (!check_keywords(c, s)) return NULL;
    if (!speaks_of_values(s)) return loami_json_value_x(c->d);
    uint32_t types = loami_schema_types(c, s);
    if (c->rc < 0) return NULL;
    if (json_is_true(json_object_get(s, "nullable")) && json_object_get(s, "type"))
        types |= LOAMI_T_NULL; /* OpenAPI 3.0 */
    if (json_object_get(s, "enum") || json_object_get(s, "const")) return loami_schema_enum(c, s, types);
    for (uint32_t type = 1; type <= LOAMI_T_OBJECT && c->rc == 0; type <<= 1) {
        bool covered = type == LOAMI_T_INTEGER && (types & LOAMI_T_NUMBER); /* a number may be whole */
        if (!(types & type) || covered) continue;
        loami_expr *x = of_type(c, s, type);
        if (!x) return NULL;
        if (x->kind != LOAMI_X_NEVER) loami_exprs_put(c->d, &parts, x);
    }
    return c->rc < 0 ? NULL : loami_x_alt(c->d, parts.items, parts.n);
}

static loami_expr *all_of(loami_schema *c, const json_t *list, const char *keyword)
{
    loami_exprs parts = { 0 };
    size_t i, up = loami_schema_down(c, keyword, 0);
    json_t *one;
    json_array_foreach(list, i, one) {
        size_t back = loami_schema_down(c, NULL, i);
        loami_expr *x = loami_schema_compile(c, one);
        loami_schema_up(c, back);
        if (!x) return NULL;
        loami_exprs_put(c->d, &parts, x);
    }
    loami_schema_up(c, up);
    return loami_x_alt(c->d, parts.items, parts.n);
}

/* How many keywords say something, up to 2: a lone $ref or anyOf needs no merging. */
static int n_assertions(const json_t *s)
{
    static const char *const parts[] = { "$ref", "allOf", "anyOf", "oneOf" };
    int n = speaks_of_values(s) * 2;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) n += json_object_get(s, refused[i]) != NULL;
    for (size_t i = 0; i < 4; i++) n += json_object_get(s, parts[i]) != NULL;
    return n;
}

static bool check_list(loami_schema *c, const json_t *s, const char *keyword)
{
    const json_t *v = json_object_get(s, keyword);
    if (!v || (json_is_array(v) && json_array_size(v) > 0 && json_array_size(v) <= LOAMI_SCHEMA_BRANCHES))
        return true;
    loami_schema_wrong(c, json_array_size(v) ? LOAM_E_UNSUPPORTED : LOAM_E_ARG, keyword,
                       "must be an array of 1 to %d schemas", LOAMI_SCHEMA_BRANCHES);
    return false;
}

static loami_expr *build(loami_schema *c, const json_t *s)
{
    const json_t *ref = json_object_get(s, "$ref"), *all = json_object_get(s, "allOf"),
                 *any = json_object_get(s, "anyOf"), *one = json_object_get(s, "oneOf");
    if (ref && !json_is_string(ref)) return loami_schema_wrong(c, LOAM_E_ARG, "$ref", "must be a string");
    if (!check_list(c, s, "allOf") || !check_list(c, s, "anyOf") || !check_list(c, s, "oneOf")) return NULL;
    if (!ref && !all && !any && !one) return plain(c, s);
    if (one && !loami_schema_check_one_of(c, one, 0)) return NULL;
    if (n_assertions(s) == 1) {
        if (ref) {
            const json_t *to = loami_schema_resolve(c, json_string_value(ref));
            return to ? loami_schema_compile(c, to) : NULL;
        }
        if (any) return all_of(c, any, "anyOf");
        if (one) return all_of(c, one, "oneOf");
        if (json_array_size(all) == 1) return all_of(c, all, "allOf");
    }
    json_t *branches = loami_schema_branches(c, s), *branch;
    loami_exprs parts = { 0 };
    size_t i;
    json_array_foreach(branches, i, branch) {
        loami_expr *x = json_is_false(branch) ? loami_x_never(c->d) : loami_schema_compile(c, branch);
        if (!x || c->rc < 0) break;
        if (x->kind != LOAMI_X_NEVER) loami_exprs_put(c->d, &parts, x);
    }
    bool ok = branches && c->rc == 0;
    json_decref(branches);
    return ok ? loami_x_alt(c->d, parts.items, parts.n) : NULL;
}

/* Each subschema is a rule, known by its text: so recursion ends, and what is said twice is compiled once. */
static loami_expr *as_rule(loami_schema *c, const json_t *s)
{
    char *text = json_dumps(s, JSON_COMPACT | JSON_ENCODE_ANY);
    loami_expr *x = NULL;
    if (!text) {
        c->d->failed = true;
        return NULL;
    }
    const json_t *known = json_object_get(c->memo, text);
    if (known) {
        free(text);
        return loami_x_rule(c->d, (uint32_t)json_integer_value(known));
    }
    uint32_t rule = loami_rule_new(c->d, c->path[0] ? c->path : "the schema");
    if (rule && json_object_set_new(c->memo, text, json_integer(rule)) == 0) x = build(c, s);
    if (x) c->d->rules[rule].expr = x;
    if (x && (x->kind == LOAMI_X_RULE || x->kind == LOAMI_X_NEVER)) {
        if (x->kind == LOAMI_X_RULE && x->lo == 0 && x->hi == LOAMI_NO_LIMIT)
            json_object_set_new(c->memo, text, json_integer(x->u.rule));
    } else if (x) {
        x = loami_x_rule(c->d, rule);
    }
    free(text);
    return x;
}

loami_expr *loami_schema_compile(loami_schema *c, const json_t *s)
{
    if (c->rc < 0) return NULL;
    if (json_is_true(s)) return loami_json_value_x(c->d);
    if (json_is_false(s)) return loami_x_never(c->d);
    if (!json_is_object(s))
        return loami_schema_wrong(c, LOAM_E_ARG, NULL, "a schema is an object, true or false");
    if (++c->n_nodes > LOAMI_SCHEMA_NODES)
        return loami_schema_wrong(c, LOAM_E_UNSUPPORTED, NULL, "the schema has more than %d parts",
                                  LOAMI_SCHEMA_NODES);
    if (c->depth == LOAMI_SYNTAX_DEPTH)
        return loami_schema_wrong(c, LOAM_E_UNSUPPORTED, NULL, "the schema is nested more than %d deep",
                                  LOAMI_SYNTAX_DEPTH);
    c->depth++;
    loami_expr *x = as_rule(c, s);
    c->depth--;
    return x;
}

int loami_schema_read(loami_syntax *d, loami_expr **out, const char *s, size_t n, loam_err *err)
{
    loami_schema c = { .d = d, .err = err };
    if (n > LOAMI_SCHEMA_BYTES)
        return loami_fail(err, LOAM_E_UNSUPPORTED, "the JSON Schema has %zu bytes, at most %d are taken", n,
                          LOAMI_SCHEMA_BYTES);
    int rc = loami_json_parse(&c.root, s, n, "the JSON Schema", err);
    if (rc < 0) return rc;
    c.memo = json_object();
    *out = c.memo ? loami_schema_compile(&c, c.root) : NULL;
    if (c.rc == 0 && !*out) d->failed = true;
    json_decref(c.memo);
    json_decref(c.root);
    return c.rc;
}

int loami_choice_read(loami_syntax *d, loami_expr **out, const char *s, size_t n, loam_err *err)
{
    json_t *list, *one;
    loami_exprs parts = { 0 };
    size_t i;
    int rc = loami_json_parse(&list, s, n, "the choices", err);
    if (rc < 0) return rc;
    bool ok = json_is_array(list) && json_array_size(list) > 0;
    json_array_foreach(list, i, one) {
        ok &= json_is_string(one);
        if (ok) loami_exprs_put(d, &parts, loami_x_bytes(d, json_string_value(one), json_string_length(one)));
    }
    json_decref(list);
    if (!ok)
        return loami_fail(err, LOAM_E_ARG,
                          "the choices must be an array of at least one string, and nothing else");
    *out = loami_x_alt(d, parts.items, parts.n);
    return 0;
}
