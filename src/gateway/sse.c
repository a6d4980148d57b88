#include "gateway/sse.h"

#include <string.h>

enum { SMALL = 4096 }; /* a larger part is given back when its event is whole */

/* Just after the blank line that ends the event at s, or 0. *looked: where to look on when there is more. */
static size_t event_end(const char *s, size_t n, size_t *looked)
{
    size_t i = *looked;
    for (;;) {
        const char *lf = memchr(s + i, '\n', n - i);
        if (!lf) break;
        size_t next = (size_t)(lf - s) + 1;
        if (next < n && s[next] == '\r') next++;
        if (next >= n) {
            *looked = (size_t)(lf - s);
            return 0;
        }
        if (s[next] == '\n') return next + 1;
        i = (size_t)(lf - s) + 1;
    }
    *looked = n;
    return 0;
}

static loami_span data_of(loami_span whole)
{
    loami_span found = { 0 };
    for (size_t i = 0; i < whole.n;) {
        const char *lf = memchr(whole.at + i, '\n', whole.n - i);
        size_t end = lf ? (size_t)(lf - whole.at) : whole.n, next = end + 1;
        if (end > i && whole.at[end - 1] == '\r') end--;
        if (end - i >= 5 && memcmp(whole.at + i, "data:", 5) == 0) {
            if (found.at) return (loami_span){ 0 };
            size_t from = i + 5 + (end > i + 5 && whole.at[i + 5] == ' ');
            found = (loami_span){ whole.at + from, end - from };
        }
        i = next;
    }
    return found;
}

static size_t feed_all(const char *s, size_t n, size_t *looked, void (*event)(void *, loami_span, loami_span),
                       void *arg)
{
    size_t at = 0, end;
    while (at < n && (end = event_end(s + at, n - at, looked))) {
        loami_span whole = { s + at, end };
        event(arg, whole, data_of(whole));
        at += end;
        *looked = 0;
    }
    return at;
}

int loami_sse_feed(loami_sse *s, const char *bytes, size_t n,
                   void (*event)(void *arg, loami_span whole, loami_span data), void *arg)
{
    size_t used;
    if (s->part.len == 0) {
        used = feed_all(bytes, n, &s->looked, event, arg);
        loami_buf_put(&s->part, bytes + used, n - used);
    } else {
        loami_buf_put(&s->part, bytes, n);
        if (s->part.failed) return -1;
        used = feed_all(s->part.data, s->part.len, &s->looked, event, arg);
        memmove(s->part.data, s->part.data + used, s->part.len - used);
        s->part.len -= used;
        if (s->part.len == 0 && s->part.cap > SMALL) loami_buf_free(&s->part);
    }
    return s->part.failed || s->part.len > LOAMI_SSE_EVENT_MAX ? -1 : 0;
}

void loami_sse_free(loami_sse *s)
{
    loami_buf_free(&s->part);
    s->looked = 0;
}
