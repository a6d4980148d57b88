#include "base/utf8.h"
#include "text/tok/tok.h"

#include <string.h>

int loami_components(const json_t *v, const char *key, const char *what, loami_component_on *on, void *arg,
                     loam_err *err)
{
    const char *type = NULL;
    if (!v || json_is_null(v)) return 0;
    if (!json_is_object(v)) return loami_fail(err, LOAM_E_FORMAT, "%s: must be an object", what);
    int rc = loami_json_string(v, what, "type", &type, err);
    if (rc < 0) return rc;
    if (!type) return loami_fail(err, LOAM_E_FORMAT, "%s: \"type\" is missing", what);
    if (strcmp(type, "Sequence") != 0) return on(arg, v, type, err);

    const json_t *list = json_object_get(v, key);
    if (!json_is_array(list)) return loami_fail(err, LOAM_E_FORMAT, "%s: \"%s\" must be an array", what, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        rc = loami_components(json_array_get(list, i), key, what, on, arg, err);
        if (rc < 0) return rc;
    }
    return 0;
}

int loami_string_field(const json_t *o, const char *what, const char *key, loami_str *out, loam_err *err)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_string(v)) return loami_fail(err, LOAM_E_FORMAT, "%s: \"%s\" must be a string", what, key);
    *out = (loami_str){ json_string_value(v), json_string_length(v) };
    return 0;
}

int loami_char_field(const json_t *o, const char *what, const char *key, uint32_t *out, loam_err *err)
{
    loami_str s = { 0 };
    int rc = loami_string_field(o, what, key, &s, err);
    if (rc < 0) return rc;
    if (s.n == 0 || loami_utf8_next(s.s, s.n, out) != s.n)
        return loami_fail(err, LOAM_E_FORMAT, "%s: \"%s\" must be one character", what, key);
    return 0;
}
