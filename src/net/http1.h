/* net/http1.h: a request in HTTP/1.1, and its answer as it comes from a connection: its head line by line, its body
 * without chunks. Knows nothing of sockets. */
#ifndef LOAMI_HTTP1_H
#define LOAMI_HTTP1_H

#include "base/buf.h"

typedef enum loami_http1_state {
    LOAMI_HTTP1_HEAD,
    LOAMI_HTTP1_LENGTH,      /* left bytes of body */
    LOAMI_HTTP1_UNTIL_CLOSE, /* the body ends with the connection */
    LOAMI_HTTP1_SIZE,        /* of a chunk; then what may follow it on its line */
    LOAMI_HTTP1_EXTENSION,
    LOAMI_HTTP1_CHUNK,       /* left bytes of it; then its line's end */
    LOAMI_HTTP1_CHUNK_END,
    LOAMI_HTTP1_TRAILER,
    LOAMI_HTTP1_DONE,
    LOAMI_HTTP1_BAD,
} loami_http1_state;

/* Zero-initialised waits for the answer to anything but HEAD. */
typedef struct loami_http1 {
    bool bodiless; /* the request was HEAD */
    loami_http1_state state;
    bool keep; /* once it is DONE: the connection may carry another request */
    int status;
    bool chunked, has_length, encoded;
    uint64_t left;
    uint32_t n_digits, n_line, n_extra, n_head;
    loami_buf line; /* a part of a line of the head */
} loami_http1;

/* For the next answer. */
void loami_http1_reset(loami_http1 *h, bool bodiless);
void loami_http1_free(loami_http1 *h);

/* Takes n bytes. Each line of the head goes to line() without its end, with an empty one behind the last, heads of
 * interim answers (1xx) too; false ends it there. What of the body was among them is decoded in place: *n_body bytes
 * at *body. 0, or -1 when this is no answer or line() ended it. */
int loami_http1_take(loami_http1 *h, char *bytes, size_t n, bool (*line)(void *arg, char *line, size_t n), void *arg,
                     char **body, size_t *n_body);

/* Host and port of a URL without TLS that is nothing unusual, malloc'd; else NULL. *path: what follows them. */
char *loami_http1_place(const char *url, const char **path);

/* The head of a request but its last, empty line. headers: "Name: value"; one with a line's end in it is left out. */
void loami_http1_ask(loami_buf *out, const char *method, const char *where, const char *path,
                     const char *const *headers, uint32_t n_headers);

/* The connection has ended. True if that completes the answer. */
bool loami_http1_end(loami_http1 *h);

#endif
