/* gateway/fields.h: tables from JSON fields to members of a struct. A field that no table knows is refused by
 * name. */
#ifndef LOAMI_GW_FIELDS_H
#define LOAMI_GW_FIELDS_H

#include "base/arena.h"
#include "base/json.h"

/* Where in the file we are, for messages: "gateway.json: backends[1].url". */
typedef struct loami_place {
    const char *file;
    char path[200];
} loami_place;

typedef struct loami_field_reader {
    loami_arena *arena; /* strings are copied there */
    void *context;      /* for custom readers */
    loam_err *err;
} loami_field_reader;

/* A table of these ends with { 0 }. */
typedef struct loami_gw_field {
    const char *name;
    enum { LOAMI_GF_STRING, LOAMI_GF_U32, LOAMI_GF_NUMBER, LOAMI_GF_BOOL, LOAMI_GF_CUSTOM } kind;
    size_t at;     /* offset of const char *, uint32_t, double, bool; of anything for a custom one */
    double lo, hi; /* bounds of numbers */
    int (*read)(loami_field_reader *r, void *to, const json_t *v, const loami_place *where);
} loami_gw_field;

#define LOAMI_GW_FIELD(name, kind, at, lo, hi)                                                               \
    {                                                                                                        \
        name, kind, at, lo, hi, NULL                                                                         \
    }

/* Fills base from the object v. */
int loami_gw_fields(loami_field_reader *r, const loami_gw_field *table, void *base, const json_t *v,
                    const loami_place *where);

/* LOAM_E_FORMAT: "file: place: words". */
int loami_gw_wrong(loami_field_reader *r, const loami_place *where, const char *fmt, ...) LOAMI_PRINTF(3, 4);

/* A place inside another: key, or [index] when key is NULL. */
loami_place loami_place_in(const loami_place *outer, const char *key, size_t index);

/* A string of 1 to max bytes, copied; and an array of them (const char *const * with its length behind it in
 * *n). */
int loami_gw_text(loami_field_reader *r, const char **out, const json_t *v, size_t max,
                  const loami_place *where);
int loami_gw_texts(loami_field_reader *r, const char *const **out, uint32_t *n, const json_t *v, uint32_t max,
                   const loami_place *where);

#endif
