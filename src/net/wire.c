#include "net/wire.h"

#include "base/clock.h"
#include "base/system.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ_BYTES = 16384 };
static const double IDLE_S = 118; /* libcurl's; servers close theirs about then */

struct loami_wire {
    loami_wires *all;
    char *where;
    int fd;
    struct event *event;
    short watched;
    loami_http1 answer;
    loami_wire_request q; /* ear is NULL while it waits */
    size_t sent;
    bool heard; /* a byte of the answer */
    bool paused, busy, dropped;
    bool deaf; /* it takes no more of the request */
    double idle_since_s;
    TAILQ_ENTRY(loami_wire) next; /* of those that wait, the last used first */
};

struct loami_wires {
    struct event_base *base;
    uint32_t max_idle, n_idle;
    TAILQ_HEAD(, loami_wire) idle;
    double look_again_s;
    char bytes[READ_BYTES]; /* what one recv took; of any of them */
};

/* ---- life ---------------------------------------------------------------------------------------- */

static void wire_free(loami_wire *w)
{
    if (w->event) event_free(w->event);
    if (w->fd >= 0) close(w->fd);
    loami_http1_free(&w->answer);
    free(w->where);
    free(w);
}

static void leave_idle(loami_wire *w)
{
    TAILQ_REMOVE(&w->all->idle, w, next);
    w->all->n_idle--;
}

void loami_wire_drop(loami_wire *w)
{
    if (w->busy)
        w->dropped = true;
    else
        wire_free(w);
}

static void on_ready(evutil_socket_t fd, short what, void *arg);

static bool watch(loami_wire *w, short what)
{
    if (what == w->watched) return true;
    if (w->watched) event_del(w->event);
    w->watched = 0;
    if (!what) return true;
    if (event_assign(w->event, w->all->base, w->fd, (short)(what | EV_PERSIST), on_ready, w) < 0 ||
        event_add(w->event, NULL) < 0)
        return false;
    w->watched = what;
    return true;
}

/* ---- waiting for the next request -------------------------------------------------------------------- */

/* Those that have waited for long, and those beyond the limit. */
static void clear_out(loami_wires *all, double now)
{
    uint32_t n = 0;
    loami_wire *w = TAILQ_FIRST(&all->idle), *after;
    all->look_again_s = now + 1;
    for (; w; w = after) {
        after = TAILQ_NEXT(w, next);
        if (++n <= all->max_idle && w->idle_since_s + IDLE_S > now) continue;
        leave_idle(w);
        wire_free(w);
    }
}

static void rest(loami_wire *w)
{
    loami_wires *all = w->all;
    w->q = (loami_wire_request){ 0 };
    w->idle_since_s = loami_now_s();
    TAILQ_INSERT_HEAD(&all->idle, w, next);
    all->n_idle++;
    if (all->n_idle > all->max_idle || w->idle_since_s > all->look_again_s) clear_out(all, w->idle_since_s);
}

loami_wire *loami_wires_take(loami_wires *all, const char *where)
{
    double oldest = loami_now_s() - IDLE_S;
    loami_wire *w;
    TAILQ_FOREACH(w, &all->idle, next)
    if (strcmp(w->where, where) == 0) break;
    if (!w) return NULL;
    leave_idle(w);
    if (w->idle_since_s >= oldest) return w;
    wire_free(w);
    return NULL;
}

loami_wire *loami_wires_add(loami_wires *all, const char *where, int fd)
{
    loami_wire *w = calloc(1, sizeof *w);
    if (!w) {
        close(fd);
        return NULL;
    }
    w->all = all;
    w->fd = fd;
    w->where = strdup(where);
    w->event = event_new(all->base, fd, EV_READ | EV_PERSIST, on_ready, w);
    if (w->where && w->event) return w;
    wire_free(w);
    return NULL;
}

/* ---- a request ----------------------------------------------------------------------------------- */

/* Sends what the socket takes. False when it is broken; an answer that came before is still read. */
static bool push(loami_wire *w)
{
    const loami_wire_request *q = &w->q;
    while (w->sent < q->n_head + q->n_body) {
        bool in_head = w->sent < q->n_head;
        size_t of_body = in_head ? 0 : w->sent - q->n_head;
        struct iovec v[2] = { { (char *)(uintptr_t)q->head + w->sent, in_head ? q->n_head - w->sent : 0 },
                              { (char *)(uintptr_t)q->body + of_body, q->n_body - of_body } };
        struct msghdr m = { .msg_iov = in_head ? v : v + 1, .msg_iovlen = in_head && q->n_body ? 2 : 1 };
        ssize_t n = sendmsg(w->fd, &m, loami_send_flags);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
        w->sent += (size_t)n;
    }
    return true;
}

static short wanted(const loami_wire *w)
{
    return (short)((w->paused ? 0 : EV_READ) | (!w->deaf && w->sent < w->q.n_head + w->q.n_body ? EV_WRITE : 0));
}

bool loami_wire_ask(loami_wire *w, const loami_wire_request *request)
{
    w->q = *request;
    w->sent = 0;
    w->heard = w->paused = false;
    loami_http1_reset(&w->answer, request->bodiless);
    if (push(w) && watch(w, wanted(w))) return true;
    wire_free(w);
    return false;
}

void loami_wire_pause(loami_wire *w, bool paused)
{
    w->paused = paused;
    if (!w->dropped) watch(w, wanted(w));
}

/* ---- the answer ---------------------------------------------------------------------------------- */

static void end(loami_wire *w, loami_wire_end how)
{
    loami_wire_request q = w->q;
    bool all_sent = w->sent == q.n_head + q.n_body && !w->deaf;
    if (how == LOAMI_WIRE_WHOLE && w->answer.keep && all_sent && watch(w, EV_READ))
        rest(w);
    else
        wire_free(w);
    q.ear->end(q.arg, how);
}

/* True when w lives on with its request. */
static bool take(loami_wire *w, size_t n)
{
    char *body;
    size_t n_body;
    w->heard = w->busy = true;
    int rc = loami_http1_take(&w->answer, w->all->bytes, n, w->q.ear->line, w->q.arg, &body, &n_body);
    if (!w->dropped && n_body) w->q.ear->data(w->q.arg, body, n_body);
    w->busy = false;
    if (w->dropped)
        wire_free(w);
    else if (rc < 0)
        end(w, LOAMI_WIRE_GARBLED);
    else if (w->answer.state == LOAMI_HTTP1_DONE)
        end(w, LOAMI_WIRE_WHOLE);
    else
        return true;
    return false;
}

static void pull(loami_wire *w)
{
    size_t most = w->q.read_bytes && w->q.read_bytes < READ_BYTES ? w->q.read_bytes : READ_BYTES;
    ssize_t n = recv(w->fd, w->all->bytes, most, 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n > 0)
        take(w, (size_t)n);
    else if (n == 0 && loami_http1_end(&w->answer))
        end(w, LOAMI_WIRE_WHOLE);
    else
        end(w, w->heard ? LOAMI_WIRE_BROKE : LOAMI_WIRE_STALE);
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
    loami_wire *w = arg;
    (void)fd;
    if (!w->q.ear) { /* nobody asked: it is closed, or mad */
        leave_idle(w);
        wire_free(w);
        return;
    }
    if (what & EV_WRITE) {
        w->deaf = !push(w);
        watch(w, wanted(w));
    }
    if (what & EV_READ) pull(w);
}

/* ---- open and close ------------------------------------------------------------------------------ */

int loami_wires_open(loami_wires **out, loami_loop *loop, uint32_t max_idle, loam_err *err)
{
    loami_wires *all = calloc(1, sizeof *all);
    if (!all) return loami_fail_nomem(err);
    all->base = loami_loop_base(loop);
    all->max_idle = max_idle;
    TAILQ_INIT(&all->idle);
    *out = all;
    return 0;
}

void loami_wires_close(loami_wires *all)
{
    loami_wire *w;
    if (!all) return;
    while ((w = TAILQ_FIRST(&all->idle))) {
        leave_idle(w);
        wire_free(w);
    }
    free(all);
}
