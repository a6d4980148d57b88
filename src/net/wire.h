/* net/wire.h: connections without TLS, of which each carries one request after another. client.c opens them with
 * libcurl and asks over them here, because relaying streams is what a gateway does most: one recv a wake-up, where
 * libcurl takes several system calls and a walk through all of its timers. */
#ifndef LOAMI_WIRE_H
#define LOAMI_WIRE_H

#include "net/http1.h"
#include "net/loop.h"

typedef struct loami_wires loami_wires; /* all of one client, with those that wait for their next request */
typedef struct loami_wire loami_wire;

typedef enum loami_wire_end {
    LOAMI_WIRE_WHOLE,
    LOAMI_WIRE_STALE, /* it broke before a byte of the answer came */
    LOAMI_WIRE_BROKE,
    LOAMI_WIRE_GARBLED, /* what came is no HTTP */
} loami_wire_end;

/* What an answer's reader does with it; called from the loop only. */
typedef struct loami_wire_ear {
    bool (*line)(void *arg, char *line, size_t n); /* of the head; see http1.h. False: the wire was dropped */
    bool (*data)(void *arg, char *bytes, size_t n); /* likewise */
    void (*end)(void *arg, loami_wire_end how);     /* the wire is not the reader's any more */
} loami_wire_ear;

/* max_idle: that wait for a request at most. */
int loami_wires_open(loami_wires **out, loami_loop *loop, uint32_t max_idle, loam_err *err);
void loami_wires_close(loami_wires *w); /* none is in use any more */

/* One to this place that waits, or NULL. */
loami_wire *loami_wires_take(loami_wires *w, const char *where);

/* A new one; takes the connected socket, and closes it if memory ran out (NULL). */
loami_wire *loami_wires_add(loami_wires *w, const char *where, int fd);

typedef struct loami_wire_request {
    const void *head, *body; /* borrowed until the end */
    size_t n_head, n_body;
    bool bodiless;       /* HEAD */
    uint32_t read_bytes; /* at once */
    const loami_wire_ear *ear;
    void *arg;
} loami_wire_request;

/* False when it is broken already; it is dropped then. */
bool loami_wire_ask(loami_wire *w, const loami_wire_request *request);

void loami_wire_pause(loami_wire *w, bool paused);

/* Closes it, in the middle of whatever it does. */
void loami_wire_drop(loami_wire *w);

#endif
