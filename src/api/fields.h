/* api/fields.h: reading a JSON object into a struct by a table.
 *
 * Every field a client sends is either in the table or an error that names it. null is the same as absent. */
#ifndef LOAMI_FIELDS_H
#define LOAMI_FIELDS_H

#include "base/json.h"
#include "net/server.h"

typedef enum loami_field_kind {
    LOAMI_F_BOOL,    /* bool */
    LOAMI_F_U32,     /* uint32_t, within [lo, hi] */
    LOAMI_F_I64,     /* int64_t */
    LOAMI_F_FLOAT,   /* float, within [lo, hi] */
    LOAMI_F_STRING,  /* const char *, borrowed from the JSON */
    LOAMI_F_OBJECT,  /* json_t *, borrowed */
    LOAMI_F_ARRAY,   /* json_t *, borrowed */
    LOAMI_F_CUSTOM,  /* read(into, value, where, f) */
    LOAMI_F_CHOICE,  /* const char *, one of words ("auto|none") */
    LOAMI_F_HINT,    /* of type hint_type, no effect on the answer: taken and left */
    LOAMI_F_FALSE,   /* false is taken; true is refused, because words */
    LOAMI_F_REFUSED, /* because words */
} loami_field_kind;

/* A table of these ends with { 0 }. */
typedef struct loami_field {
    const char *name;
    loami_field_kind kind;
    size_t at; /* offsetof the struct's member */
    double lo, hi;
    const char *words;
    bool required;
    json_type hint_type;
    int (*read)(void *into, const json_t *value, const char *where, loami_fault *f);
} loami_field;

/* The rows, short. */
#define LOAMI_FIELD(kind_, name_, struct_, member_)                                                          \
    { .name = name_, .kind = LOAMI_F_##kind_, .at = offsetof(struct_, member_) }
#define LOAMI_RANGE(kind_, name_, struct_, member_, lo_, hi_)                                                \
    { .name = name_, .kind = LOAMI_F_##kind_, .at = offsetof(struct_, member_), .lo = lo_, .hi = hi_ }
#define LOAMI_READ(name_, read_) { .name = name_, .kind = LOAMI_F_CUSTOM, .read = read_ }
#define LOAMI_READ_AT(name_, at_, read_) { .name = name_, .kind = LOAMI_F_CUSTOM, .at = at_, .read = read_ }
#define LOAMI_HINT(name_, type_) { .name = name_, .kind = LOAMI_F_HINT, .hint_type = JSON_##type_ }
#define LOAMI_REFUSE(name_, why_) { .name = name_, .kind = LOAMI_F_REFUSED, .words = why_ }
#define LOAMI_REFUSE_TRUE(name_, why_) { .name = name_, .kind = LOAMI_F_FALSE, .words = why_ }

/* Fills *into from the fields of o. where is what o is called in messages: "" or "messages[1]". 0, or -1 with
 * f filled (status 400, param = the field). lenient: fields that are not in the table are left, not refused.
 */
int loami_fields_read(const loami_field *table, const json_t *o, const char *where, bool lenient, void *into,
                      loami_fault *f);

/* 400: where must be what.  return loami_field_wrong(f, "stop", "a string or an array of strings"); */
int loami_field_wrong(loami_fault *f, const char *where, const char *what);

/* "messages[1].content" into out[128]; parent may be "". */
void loami_field_path(char *out, const char *parent, const char *name);

/* A whole number, however it is written (5, 5.0, 5e0). */
bool loami_whole(const json_t *v, json_int_t *out);

/* An array of token ids as numbers, malloc'd; NULL with f filled. */
int32_t *loami_token_array(const json_t *v, const char *where, uint32_t *n, loami_fault *f);

/* Texts as clients give them: a string, an array of strings, of token ids, or of arrays of token ids. How many, from 1
 * to max; 0 with f filled. */
uint32_t loami_texts_count(const json_t *v, const char *what, uint32_t max, loami_fault *f);

/* One of them: a string or an array, neither empty, and in where[32] what it is called ("prompt[3]"); NULL with f filled. */
const json_t *loami_texts_get(const json_t *v, const char *what, uint32_t i, char *where, loami_fault *f);

/* Parses a request's body, which must be a JSON object. *out is the caller's to decref. */
int loami_body_parse(json_t **out, loami_reply *r, loami_fault *f);

#endif
