/* gateway/peek.h: looking into JSON without building it, and changing a few places of it.
 *
 * A gateway reads five fields of a request that may be megabytes long and hands the rest on byte for byte.
 * What is inside those fields is parsed by base/json.h; here only members are found. Strictness is the
 * backend's: this checks that brackets and strings close, so that what is found is where any parser finds it.
 */
#ifndef LOAMI_PEEK_H
#define LOAMI_PEEK_H

#include "base/buf.h"

/* n bytes of somebody's text; at is NULL when there is none. A value has no blanks around it. */
typedef struct loami_span {
    const char *at;
    size_t n;
} loami_span;

/* The whole text as one object or array with nothing but blanks around it; at NULL when it isn't one. */
loami_span loami_peek_value(const char *text, size_t n);

/* Walks the members of an object (key without its quotes) or the items of an array (key.at is NULL). Start
 * with { container }. False at the end, and with bad set where the text is not JSON. */
typedef struct loami_peek {
    loami_span in;
    size_t at;
    bool bad;
} loami_peek;
bool loami_peek_next(loami_peek *p, loami_span *key, loami_span *value);

/* The member of that name, the last one if there are several; at is NULL when there is none. */
loami_span loami_peek_get(loami_span object, const char *key);

/* The first item of an array. */
loami_span loami_peek_first(loami_span array);

bool loami_span_is(loami_span s, const char *text);       /* byte for byte: loami_span_is(v, "true") */
bool loami_span_key_is(loami_span key, const char *name); /* escapes understood */

/* A string value's text, unescaped, malloc'd; NULL when it is no valid string or longer than limit bytes. */
char *loami_span_string(loami_span s, size_t limit, size_t *len);

/* A whole number from 0; false when it is none. */
bool loami_span_u64(loami_span s, uint64_t *out);

/* Changes to a text, written out in one go. Put replacements in any order; they may not overlap. */
enum { LOAMI_EDITS = 32 };
typedef struct loami_edits {
    struct {
        size_t from, n;   /* what is replaced */
        const char *text; /* [len] borrowed */
        size_t len;
    } edit[LOAMI_EDITS];
    uint32_t n;
} loami_edits;

void loami_edit(loami_edits *e, const char *base, loami_span old, const char *text, size_t len);

/* Sets a member of the object: replaces its value, or adds it in front. pair is `"name":value`, n_value the
 * length of its value. */
void loami_edit_member(loami_edits *e, const char *base, loami_span object, loami_span old, const char *pair,
                       size_t n_value);

/* Removes a member with its comma. value must be in object. */
void loami_edit_remove(loami_edits *e, const char *base, loami_span object, loami_span value);

void loami_edits_apply(const loami_edits *e, const char *base, size_t n, loami_buf *out);

#endif
