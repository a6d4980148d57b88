#include "grammar/schema.h"

#include <stdlib.h>
#include <string.h>

/* A value as text; numbers with the fewest digits that say the same. */
static char *spell(const json_t *v)
{
    char *text = NULL;
    for (size_t digits = 15; digits <= 17; digits++) {
        free(text);
        text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));
        if (!json_is_real(v) || !text || strtod(text, NULL) == json_real_value(v)) break;
    }
    return text;
}

static bool within(const json_t *v, const json_t *s)
{
    double x = json_number_value(v);
    const json_t *min = json_object_get(s, "minimum"), *max = json_object_get(s, "maximum"),
                 *above = json_object_get(s, "exclusiveMinimum"),
                 *below = json_object_get(s, "exclusiveMaximum");
    return (!min || x >= json_number_value(min)) && (!max || x <= json_number_value(max)) &&
           (!json_is_number(above) || x > json_number_value(above)) &&
           (!json_is_number(below) || x < json_number_value(below));
}

/* Keywords beside enum that we would have to check a value against, and don't. */
static const char *unchecked(const json_t *v, const json_t *s)
{
    static const char *const of_strings[] = { "pattern", "format" }, *const of_numbers[] = { "multipleOf" },
                             *const of_arrays[] = { "items", "prefixItems", "uniqueItems", "minItems",
                                                    "maxItems" },
                             *const of_objects[] = { "properties", "required", "additionalProperties",
                                                     "minProperties", "maxProperties" };
    const char *const *list = json_is_string(v)   ? of_strings
                              : json_is_number(v) ? of_numbers
                              : json_is_array(v)  ? of_arrays
                                                  : of_objects;
    size_t n = json_is_string(v) ? 2 : json_is_number(v) ? 1 : json_is_array(v) || json_is_object(v) ? 5 : 0;
    for (size_t i = 0; i < n; i++)
        if (json_object_get(s, list[i])) return list[i];
    return NULL;
}

static bool admitted(loami_schema *c, const json_t *v, const json_t *s)
{
    uint32_t lo = 0, hi = LOAMI_NO_LIMIT;
    if (json_is_number(v)) return within(v, s);
    if (!json_is_string(v)) return true;
    if (loami_schema_count(c, s, "minLength", &lo) < 0 || loami_schema_count(c, s, "maxLength", &hi) < 0)
        return false;
    return loami_schema_length(v) >= lo && loami_schema_length(v) <= hi;
}

loami_expr *loami_schema_enum(loami_schema *c, const json_t *s, uint32_t types)
{
    const json_t *list = json_object_get(s, "enum"), *only = json_object_get(s, "const");
    loami_exprs parts = { 0 };
    if (list && !json_is_array(list)) return loami_schema_wrong(c, LOAM_E_ARG, "enum", "must be an array");
    size_t n = only ? 1 : json_array_size(list);
    for (size_t i = 0; i < n && c->rc == 0; i++) {
        const json_t *v = only ? only : json_array_get(list, i);
        if (!(loami_type_of(v) & types) || !admitted(c, v, s)) continue;
        bool listed = !(only && list);
        for (size_t k = 0; k < json_array_size(list) && !listed; k++)
            listed = json_equal(v, json_array_get(list, k));
        if (!listed) continue;
        const char *keyword = unchecked(v, s);
        if (keyword)
            return loami_schema_wrong(c, LOAM_E_UNSUPPORTED, keyword,
                                      "beside enum or const this keyword is not checked: leave it out");
        char *text = spell(v);
        loami_exprs_put(c->d, &parts, text ? loami_json_literal_x(c->d, text, strlen(text)) : NULL);
        free(text);
    }
    return c->rc < 0 ? NULL : loami_x_alt(c->d, parts.items, parts.n);
}
