/* net/conn.h: what the files of the server share: connections and replies from the inside. */
#ifndef LOAMI_CONN_H
#define LOAMI_CONN_H

#include "net/keys.h"
#include "net/server.h"
#include "net/tls.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdatomic.h>
#include <sys/queue.h>

/* A client's connection. Made when it is accepted, freed when evhttp frees it (closecb). */
typedef struct loami_conn {
    struct loami_server *server;
    struct bufferevent *bev;
    struct evhttp_connection *evcon; /* NULL until attached */
    struct loami_reply *reply;       /* the request being answered, or NULL */
    struct event *look;              /* active: attach, or look at output that no handler wrote */
    struct evbuffer_cb_entry *in_cb, *out_cb;
    loami_timer deadline; /* of a request that is coming in, or of lingering */
    double started_s;     /* when its first byte came; 0 = between requests */
    uint64_t got_bytes;   /* of it, all of them counted in the server's held_bytes */
    bool over;            /* it does not fit beside what others hold: to be refused */
    bool lingering;       /* answered and half closed: what still comes is thrown away */
    bool unsent;          /* a piece of its answer waits for the end of the loop's turn */
    LIST_ENTRY(loami_conn) next;
    TAILQ_ENTRY(loami_conn) next_unsent;
} loami_conn;

enum { LOAMI_NOTES = 16, LOAMI_HIGH_WATER = 64 * 1024, LOAMI_PIPELINED = 64 * 1024 };

struct loami_reply {
    struct loami_server *server;
    struct loami_conn *conn;    /* NULL once the client is gone */
    struct evhttp_request *req; /* NULL once evhttp has it back */
    struct evbuffer *body;
    atomic_size_t held_bytes;   /* of the server's, for the body and what is made of it */
    atomic_size_t answer_bytes; /* likewise for an answer that is made whole */
    const char *tail;
    char *path, *decoded;
    char id[72], peer[64], method[8];
    loami_key *key;   /* that it came with, or NULL */
    const char *cors; /* the origin to name in the answer, or NULL */
    enum { LOAMI_REPLY_OPEN, LOAMI_REPLY_STARTED, LOAMI_REPLY_ENDED } state; /* as the handler sees it */
    bool head;                                                               /* HEAD: headers without body */
    bool was_lost; /* the client left before the end */
    bool full;     /* write said false and drained is owed */
    bool chunked;  /* and evhttp knows whom to tell when its output is out: pieces may go in beside it */
    int status;
    uint64_t sent_bytes;
    double start_s, first_s; /* request complete, answer begun */
    void (*gone)(void *arg);
    void (*drained)(void *arg);
    void *watch_arg;
    struct {
        const char *key, *text;
        double number;
    } note[LOAMI_NOTES];
    uint32_t n_notes;
};

struct loami_server {
    loami_server_config config;
    loami_loop *loop;
    struct evhttp *http;
    struct evhttp_bound_socket *bound;
    struct event *on_term, *on_int, *on_hup;
    loami_timer drain_timer, accept_timer;
    uint32_t accepted;     /* since others had their turn */
    uint16_t port;
    char host[256];
    bool loopback; /* bound to this machine alone */
    bool draining, late, retiring;
    LIST_HEAD(loami_conns, loami_conn) conns;
    TAILQ_HEAD(, loami_conn) unsent;
    uint32_t n_unsent;
    struct event *send; /* active while there are any */
    uint64_t id_salt;
    atomic_size_t held_bytes; /* what has come of requests and is not done with */
    atomic_size_t most_bytes; /* of them, since memory was last given back to the system */
    loami_timer trim_timer;
    bool trimming; /* it is set */
    LIST_HEAD(loami_lingers, loami_lingerer) lingers;
    uint32_t n_lingers;
    loami_server_state state;
};

/* conn.c */
struct bufferevent *loami_conn_new(struct event_base *base, void *server); /* evhttp's bevcb */
loami_conn *loami_conn_of(struct loami_server *s, struct evhttp_connection *evcon);
void loami_conn_request_done(loami_conn *c); /* a reply is out: wait for the next request */
void loami_conn_close_idle(struct loami_server *s);

/* After the last bytes of an answer were given to evhttp: it must not think them sent before they are. */
void loami_conn_guard_end(loami_conn *c);

/* reply.c */
const char *loami_status_phrase(int status);
void loami_reply_new(struct loami_server *s, loami_conn *c, struct evhttp_request *req);
void loami_reply_lost(struct loami_reply *r); /* the connection is being freed */
void loami_reply_send_all(struct loami_server *s); /* what waits for the end of the loop's turn */
void loami_reply_unqueue(loami_conn *c);

/* bodies.c: what all requests together may hold of memory. */
void loami_bodies_add(loami_conn *c, size_t n);               /* came in; marks c as over when it does not fit */
void loami_bodies_move(loami_reply *r, loami_conn *c);        /* c's request is complete and becomes r's body */
void loami_bodies_drop(struct loami_server *s, size_t n);     /* given back. Any thread */
void loami_bodies_tidy(struct loami_server *s);               /* soon after much was given back, the system gets it */
void loami_bodies_fault(const struct loami_server *s, loami_fault *f);
bool loami_bodies_fit(const struct loami_server *s);

/* linger.c: reads what still comes on a copy of fd, whose answer is out, until the client ends or some seconds are over. Closing with unread bytes
 * would make the kernel take the answer back (TCP RST). */
void loami_linger(struct loami_server *s, int fd);
void loami_linger_close(struct loami_server *s); /* all of them */

/* server.c */
void loami_server_route(loami_reply *r);
void loami_server_refused(struct loami_server *s, int status); /* counts it, if it says to come again */
void loami_server_settled(struct loami_server *s); /* a reply is over: perhaps the drain is */

/* guard.c: whether this request may come from where it says it does. 0, or -1 with f filled. */
int loami_guard_check(loami_reply *r, loami_fault *f);

/* log.c */
void loami_log_open(const struct loami_server *s);
void loami_log_access(const loami_reply *r);
void loami_log_text(const loami_reply *r, const char *key, const char *text, size_t n);
void loami_log_words(const struct loami_server *s, const char *what, const char *why);

#endif
