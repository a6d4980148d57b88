/* base/json.h: reading JSON (jansson) with messages that name the field. */
#ifndef LOAMI_JSON_H
#define LOAMI_JSON_H

#include "base/buf.h"

#include <jansson.h>

/* Parses n bytes; duplicate keys, trailing bytes, invalid UTF-8 and nesting beyond jansson's 2048 are errors. what: a name for
 * messages ("config.json"). */
int loami_json_parse(json_t **out, const char *text, size_t n, const char *what, loam_err *err);

/* Reads and parses a file of at most limit bytes. */
int loami_json_load(json_t **out, const char *path, size_t limit, loam_err *err);

/* Fields of an object. An absent or null field leaves *out as it is (set the default before) and returns 0; a
 * present and right one returns 1; a wrong type or a value outside [lo, hi] is LOAM_E_FORMAT naming what and key. */
int loami_json_u32(const json_t *o, const char *what, const char *key, uint32_t lo, uint32_t hi, uint32_t *out, loam_err *err);
int loami_json_float(const json_t *o, const char *what, const char *key, double lo, double hi, float *out, loam_err *err);
int loami_json_bool(const json_t *o, const char *what, const char *key, bool *out, loam_err *err);
int loami_json_string(const json_t *o, const char *what, const char *key, const char **out, loam_err *err); /* borrowed */

/* Appends n bytes as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD. For writers that know their shape. */
void loami_json_put(loami_buf *b, const char *s, size_t n);

/* A value as text, compact, malloc'd; NULL when memory ran out. */
char *loami_json_text(const json_t *v);

#endif
