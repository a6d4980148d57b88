/* net/server.h: an HTTP/1.1 server: routes, limits, and the life of one request.
 *
 * libevent's evhttp parses; this puts limits on everything, notices a client that leaves at any moment, gives
 * a stream back-pressure, and words every error as OpenAI does. It knows nothing of models. */
#ifndef LOAMI_SERVER_H
#define LOAMI_SERVER_H

#include "base/buf.h"
#include "net/loop.h"

typedef struct loami_server loami_server;

/* One request and the answer to it. A handler that was given one ends it exactly once, with loami_reply_send,
 * loami_reply_fail or loami_reply_end, now or later, whether the client is still there or not; then it is
 * gone. */
typedef struct loami_reply loami_reply;

typedef void loami_handler(loami_reply *r, void *arg);

/* A table of these ends with { 0 }. A path that ends in a star takes any tail (loami_reply_tail). */
typedef struct loami_route {
    const char *method;
    const char *path;
    loami_handler *handle;
    bool open; /* needs no API key */
} loami_route;

/* Zero is the default everywhere. */
typedef struct loami_server_config {
    const char *host; /* "127.0.0.1" */
    uint16_t port;    /* 0 = any free one */
    int listen_fd;    /* listen there instead: a socket that listens already; 0 = none */
    const loami_route *routes;
    void *arg;                /* handed to the handlers */
    size_t max_body_bytes;    /* 32 MiB: beyond, 413 */
    size_t max_bodies_bytes;  /* 256 MiB, and max_body_bytes at least: of all requests together; beyond, 503 */
    size_t max_header_bytes;  /* 64 KiB: beyond, 400 */
    uint32_t max_per_address; /* connections of one address: beyond, 503; 0 = no limit */
    uint32_t max_connections; /* 1024: beyond, 503 */
    uint32_t request_s; /* 30: a request must be here that long after its first byte, longer only if it comes
                           at 64 KiB/s or more; otherwise 408 */
    uint32_t idle_s;    /* 75: a connection may be silent between requests */
    uint32_t write_s;   /* 120: a client may not read */
    uint32_t drain_s;   /* 30: running answers may go on after the first SIGTERM */
    const char *const *hosts; /* [n_hosts] more names for the Host header */
    uint32_t n_hosts;
    const char *const *origins; /* [n_origins] web origins that may call from a browser; "*" = any */
    uint32_t n_origins;
    struct loami_keys *keys;          /* who may use it; NULL = everyone */
    struct loami_tls *tls;            /* NULL = plain HTTP */
    bool log_off, log_json;           /* the access log on stderr: one line a request */
    bool take_ids;                    /* a request's X-Request-Id becomes its id, if it looks like one */
    void (*on_reload)(void *arg);     /* SIGHUP: read again what may have changed; may be NULL */
    void (*on_drain)(void *arg);      /* drain begins; may be NULL */
    void (*on_drain_late)(void *arg); /* drain_s are over: end the answers still running now; may be NULL */
} loami_server_config;

/* Binds and listens; requests are answered once the loop runs. An address in use is LOAM_E_IO naming it. */
int loami_server_open(loami_server **out, loami_loop *loop, const loami_server_config *config, loam_err *err);

/* Drops every connection. Handlers are told that their clients are gone. */
void loami_server_close(loami_server *s);

uint16_t loami_server_port(const loami_server *s);

/* The socket it listens on, for a successor to inherit; -1 once it takes no more connections. */
int loami_server_fd(const loami_server *s);

/* Takes no more connections, lets running answers end, then stops the loop. SIGTERM and SIGINT do this; the
 * second one leaves the program at once. */
void loami_server_drain(loami_server *s);
bool loami_server_draining(const loami_server *s);

/* A successor listens on the same socket: takes no more connections, answers what still comes on those it has
 * with "Connection: close", and drains some seconds later. */
void loami_server_retire(loami_server *s);

/* A line in the log that is no request's: {"event":what,"why":why}. what is static. */
void loami_server_log(const loami_server *s, const char *what, const char *why);

typedef struct loami_server_state {
    uint32_t connections, replies;       /* now */
    uint64_t held_bytes;                 /* now, of requests */
    uint64_t log_lost;                   /* lines that nobody read in time */
    uint64_t refused_429, refused_503;   /* answered so, by handlers and before any of them */
    uint64_t requests, bytes_sent, gone; /* since open; gone: clients that left before their answer was out */
} loami_server_state;
void loami_server_stat(const loami_server *s, loami_server_state *out);

/* ---- the request ----------------------------------------------------------------------------------------
 */

/* Strings live as long as the reply. A header that was not sent is NULL. */
const char *loami_reply_method(const loami_reply *r);
const char *loami_reply_path(const loami_reply *r);
const char *loami_reply_raw_path(const loami_reply *r); /* as it was sent */
const char *loami_reply_query(const loami_reply *r); /* likewise, after the question mark; NULL = none */
const char *loami_reply_tail(const loami_reply *r); /* decoded, what the route's star stands for */
const char *loami_reply_header(const loami_reply *r, const char *name);
const char *loami_reply_peer(const loami_reply *r);
const char *loami_reply_id(const loami_reply *r); /* of this request, for logs and X-Request-Id */

/* Who asks, as a number: the API key's, or without keys that of the peer's address. And the key's alone, 0 without. */
uint64_t loami_reply_client(const loami_reply *r);
uint64_t loami_reply_key_number(const loami_reply *r);

void loami_reply_server_stat(const loami_reply *r, loami_server_state *out); /* its server's */

/* When the request was complete, by loami_now_s. */
double loami_reply_start_s(const loami_reply *r);

/* Another id, of at most 71 characters without blanks or quotes. */
void loami_reply_set_id(loami_reply *r, const char *id);

/* Walks the headers: *at starts as NULL. False at the end. */
bool loami_reply_next_header(const loami_reply *r, void **at, const char **name, const char **value);

/* The body, n bytes. May be called on a worker's thread, by one at a time. */
const char *loami_reply_body(loami_reply *r, size_t *n);
void loami_reply_body_free(loami_reply *r);

/* What was made of the body is freed, too: its bytes count no more among those that requests may hold. The reply's end
 * does this otherwise. Any thread. */
void loami_reply_body_done(loami_reply *r);

/* ---- the answer -----------------------------------------------------------------------------------------
 */

/* gone: the client left; the handler should stop its work and end the reply. drained: the client has read
 * what was written: go on. Either may be NULL; neither is called after the end. */
void loami_reply_watch(loami_reply *r, void (*gone)(void *arg), void (*drained)(void *arg), void *arg);
bool loami_reply_gone(const loami_reply *r);

/* Adds a header. Before send or start. */
void loami_reply_set(loami_reply *r, const char *name, const char *value);

/* The whole answer. */
void loami_reply_send(loami_reply *r, int status, const char *type, const void *bytes, size_t n);

/* What went wrong, in words for the client. */
typedef struct loami_fault {
    int status;       /* 400, ... */
    const char *code; /* "model_not_found", static, or NULL */
    char param[128];  /* the field, "" = none */
    char msg[600];
    uint32_t retry_s; /* with 429 and 503: when to come again; 0 = in a second */
} loami_fault;

/* Fills f; returns -1. */
int loami_fault_set(loami_fault *f, int status, const char *code, const char *param, const char *fmt, ...)
    LOAMI_PRINTF(5, 6);

/* What is made of the body will take n bytes more than the body: they count among those that requests may hold. -1 with f
 * filled when they don't fit. Any thread. */
int loami_reply_body_charge(loami_reply *r, size_t n, loami_fault *f);

/* Likewise an answer that is there as a whole before it is sent: until its reply ends. */
int loami_reply_answer_charge(loami_reply *r, size_t n, loami_fault *f);

/* {"error":{"message","type","param","code"}} as text. */
void loami_fault_json(loami_buf *out, const loami_fault *f);

/* The whole answer, an error. 429 and 503 get a Retry-After. */
void loami_reply_fail(loami_reply *r, const loami_fault *f);

/* An answer in pieces: start, write as often as wanted, end. write returns false when more than a little is
 * still unread: the handler should wait for drained. */
void loami_reply_start(loami_reply *r, int status, const char *type);
bool loami_reply_write(loami_reply *r, const void *bytes, size_t n);
void loami_reply_end(loami_reply *r);

/* Ends a begun answer that cannot be completed: the connection is closed, so that the client sees it cut. Not
 * from inside the handler. */
void loami_reply_drop(loami_reply *r);

/* Takes tokens from the limit of the API key that the request came with, if there is one. */
void loami_reply_charge(loami_reply *r, double tokens);

/* Something for the request's line in the log. key and text are static. At most 16; later ones are dropped.
 */
void loami_reply_note(loami_reply *r, const char *key, double number);
void loami_reply_note_text(loami_reply *r, const char *key, const char *text);

/* A text from outside, copied, for a line of its own in the log, as JSON: {"id":…,"KEY":"text"}. */
void loami_reply_log_text(const loami_reply *r, const char *key, const char *text, size_t n);

#endif
