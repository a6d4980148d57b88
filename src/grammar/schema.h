/* grammar/schema.h: what the files that read JSON Schema share.
 *
 * What is generated is always valid; not all that is valid is generated: members come in the order of `properties`, objects
 * with `properties` have no others unless additionalProperties says so, white space is bounded, a pattern has to match
 * the whole string. What can't be promised is refused by keyword and JSON pointer. */
#ifndef LOAMI_SCHEMA_H
#define LOAMI_SCHEMA_H

#include "grammar/syntax.h"

#include "base/json.h"

enum {
    LOAMI_SCHEMA_BYTES = 256 << 10,  /* twice OpenAI's limit */
    LOAMI_SCHEMA_NODES = 1 << 14,    /* subschemas compiled, merged ones included */
    LOAMI_SCHEMA_BRANCHES = 256,     /* of anyOf and oneOf once they are multiplied out */
    LOAMI_SCHEMA_ITEMS = 256,        /* of prefixItems */
    LOAMI_SCHEMA_PATH = 256,
};

typedef struct loami_schema {
    loami_syntax *d;
    json_t *root, *memo;             /* memo: a subschema's text -> its rule */
    char path[LOAMI_SCHEMA_PATH];    /* JSON pointer of the subschema at hand; cut when it is too long */
    size_t path_n;
    int depth;
    int comparing;                   /* loami_schema_disjoint is at work, so many levels of properties down */
    uint32_t n_nodes;
    loam_err *err;
    int rc;
} loami_schema;

/* Fails at the subschema at hand: keyword may be NULL. Returns NULL. */
loami_expr *loami_schema_wrong(loami_schema *c, int code, const char *keyword, const char *fmt, ...) LOAMI_PRINTF(4, 5);

/* Steps down and up again: size_t up = loami_schema_down(c, "items"); ... c->path_n = up after loami_schema_up. */
size_t loami_schema_down(loami_schema *c, const char *key, size_t index); /* key NULL: the index */
void loami_schema_up(loami_schema *c, size_t to);

/* Any subschema, as what may stand there. */
loami_expr *loami_schema_compile(loami_schema *c, const json_t *s);

/* ---- schema_merge.c ------------------------------------------------------------------------------------------ */

/* A schema that has $ref, allOf, anyOf or oneOf, as a list of schemas of which one must hold and that have none of these
 * at their top. New; NULL: failed. */
json_t *loami_schema_branches(loami_schema *c, const json_t *s);
const json_t *loami_schema_resolve(loami_schema *c, const char *ref);
/* Refuses a oneOf of which two may hold at once. */
bool loami_schema_check_one_of(loami_schema *c, const json_t *list, int depth);

/* ---- types ---------------------------------------------------------------------------------------------------- */

enum { LOAMI_T_NULL = 1, LOAMI_T_BOOL = 2, LOAMI_T_INTEGER = 4, LOAMI_T_NUMBER = 8, LOAMI_T_STRING = 16, LOAMI_T_ARRAY = 32, LOAMI_T_OBJECT = 64, LOAMI_T_ALL = 127 };

/* Of "type", or of the keywords that are there. */
uint32_t loami_schema_types(loami_schema *c, const json_t *s);
uint32_t loami_type_of(const json_t *value);

loami_expr *loami_schema_object(loami_schema *c, const json_t *s);  /* schema_object.c */
loami_expr *loami_schema_array(loami_schema *c, const json_t *s);
loami_expr *loami_schema_string(loami_schema *c, const json_t *s);  /* schema_string.c */
loami_expr *loami_schema_number(loami_schema *c, const json_t *s, bool integer); /* schema_number.c */
loami_expr *loami_schema_enum(loami_schema *c, const json_t *s, uint32_t types); /* schema_enum.c */

/* A count of the keyword: 0 absent, 1 there, -1 failed. */
int loami_schema_count(loami_schema *c, const json_t *s, const char *keyword, uint32_t *out);

/* The regular expression of a format; NULL: not known. *free: it says nothing that can be checked. */
const char *loami_format_pattern(const char *name, bool *free);

/* The characters of a string. */
size_t loami_schema_length(const json_t *string);

#endif
