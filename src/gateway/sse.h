/* gateway/sse.h: cutting a stream of server-sent events (WHATWG HTML, section 9.2) into whole events. Lines
 * end in LF or CR LF. */
#ifndef LOAMI_SSE_H
#define LOAMI_SSE_H

#include "gateway/peek.h"

enum { LOAMI_SSE_EVENT_MAX = 4 << 20 }; /* a larger one is an error */

/* Zero-initialised is the beginning of a stream. */
typedef struct loami_sse {
    loami_buf part; /* of an event that is not whole yet */
    size_t looked;  /* of part, without finding its end */
} loami_sse;

/* event is called for each event that became whole: all of its bytes with the blank line, and what its one
 * data line says (at NULL: there is none, or several). Returns 0, or -1 when an event is too large or memory
 * ran out. */
int loami_sse_feed(loami_sse *s, const char *bytes, size_t n,
                   void (*event)(void *arg, loami_span whole, loami_span data), void *arg);
void loami_sse_free(loami_sse *s);

#endif
