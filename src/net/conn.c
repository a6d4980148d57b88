#include "net/conn.h"

#include "base/clock.h"
#include "base/system.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    LINGER_S = 2,             /* a refused client may read the refusal that long */
    UPLOAD_BYTES_A_S = 65536, /* slower than this a request is not given more than request_s */
};

static void on_look(evutil_socket_t fd, short what, void *arg);
static void on_close(struct evhttp_connection *evcon, void *arg);

struct bufferevent *loami_conn_new(struct event_base *base, void *server)
{
    loami_conn *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->server = server;
    loami_tls *tls = c->server->config.tls;
    c->bev = tls ? loami_tls_accept(tls, base) : bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    c->look = c->bev ? event_new(base, -1, EV_PERSIST, on_look, c) : NULL;
    if (!c->look) {
        if (c->bev) bufferevent_free(c->bev);
        free(c);
        return NULL;
    }
    /* evhttp wraps its connection around bev after this returns; on_look finds it there before any byte is
     * read. */
    bufferevent_incref(c->bev);
    event_active(c->look, EV_READ, 0);
    return c->bev;
}

loami_conn *loami_conn_of(struct loami_server *s, struct evhttp_connection *evcon)
{
    loami_conn *c; /* input moves a connection to the front, so this ends at the first one */
    LIST_FOREACH(c, &s->conns, next)
    if (c->evcon == evcon) return c;
    return NULL;
}

static void set_timeouts(loami_conn *c, uint32_t read_s)
{
    struct timeval read = { read_s, 0 }, write = { c->server->config.write_s, 0 };
    bufferevent_set_timeouts(c->bev, read_s ? &read : NULL, &write);
}

/* ---- refusing, for which evhttp has no words ---------------------------------------------------------- */

static void linger_read(struct bufferevent *bev, void *arg)
{
    (void)arg; /* evhttp's deferred read passes its own */
    struct evbuffer *in = bufferevent_get_input(bev);
    evbuffer_drain(in, evbuffer_get_length(in));
}

/* The answer is out. Closing now, with unread bytes, would make the kernel take it back (TCP RST). */
static void linger_written(struct bufferevent *bev, void *arg)
{
    (void)arg;
    if (evbuffer_get_length(bufferevent_get_output(bev))) return; /* see loami_conn_guard_end */
    shutdown(bufferevent_getfd(bev), SHUT_WR);
}

static void linger_event(struct bufferevent *bev, short what, void *arg)
{
    loami_conn *c = arg;
    (void)bev, (void)what;
    evhttp_connection_free(c->evcon);
}

static void linger_over(void *arg)
{
    loami_conn *c = arg;
    evhttp_connection_free(c->evcon);
}

/* The whole answer, as bytes. */
static void put_refusal(loami_buf *out, const loami_fault *f)
{
    loami_buf body = { 0 };
    loami_fault_json(&body, f);
    loami_buf_printf(out,
                     "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: "
                     "%zu\r\n%sConnection: close\r\n\r\n",
                     f->status, loami_status_phrase(f->status), body.len,
                     f->status == 503   ? "Retry-After: 1\r\n"
                     : f->status == 405 ? "Allow: GET, HEAD, POST, OPTIONS\r\n"
                                        : "");
    loami_buf_put(out, body.data, body.len);
    loami_buf_free(&body);
}

static void refuse(loami_conn *c, const loami_fault *f)
{
    loami_buf answer = { 0 };
    struct evbuffer *out = bufferevent_get_output(c->bev);

    c->lingering = true;
    loami_server_refused(c->server, f->status);
    put_refusal(&answer, f);
    bufferevent_setcb(c->bev, linger_read, linger_written, linger_event, c);
    set_timeouts(c, 0);
    if (c->server->config.tls) { /* these are never frozen */
        evbuffer_drain(out, evbuffer_get_length(out));
    } else {
        evbuffer_unfreeze(out, 1);
        evbuffer_drain(out, evbuffer_get_length(out));
        evbuffer_freeze(out, 1);
    }
    evbuffer_add(out, answer.data, answer.len);
    loami_buf_free(&answer);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    loami_timer_set(c->server->loop, &c->deadline, LINGER_S, linger_over, c);
}

/* evhttp answers what it cannot parse with a page of HTML. Say the same in JSON instead. */
static void reword(loami_conn *c)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);
    const loami_server_config *config = &c->server->config;
    static const char html[] = "Content-Type: text/html";
    char line[16] = "";
    loami_fault f;

    if (evbuffer_search(out, html, sizeof html - 1, NULL).pos < 0) return;
    evbuffer_copyout(out, line, sizeof line - 1);
    int status = atoi(line + 9);
    if (status == 413)
        loami_fault_set(&f, 413, "request_too_large", "",
                        "The request body is larger than the %zu bytes allowed.", config->max_body_bytes);
    else if (status == 417)
        loami_fault_set(&f, 417, NULL, "", "Only \"Expect: 100-continue\" is understood.");
    else if (status == 501 || status == 0) /* a method that evhttp does not know has no path yet */
        loami_fault_set(&f, 405, "method_not_allowed", "", "This HTTP method is not known here.");
    else
        loami_fault_set(
            &f, 400, "malformed_request", "",
            "This is not a valid HTTP request, or its headers are larger than the %zu bytes allowed.",
            config->max_header_bytes);
    refuse(c, &f);
}

/* ---- time limits on what comes in --------------------------------------------------------------------- */

static void on_deadline(void *arg)
{
    loami_conn *c = arg;
    loami_fault f;
    double left = c->started_s + c->server->config.request_s + (double)c->got_bytes / UPLOAD_BYTES_A_S -
                  loami_now_s();
    if (left > 0 && loami_timer_set(c->server->loop, &c->deadline, left, on_deadline, c)) return;
    loami_fault_set(&f, 408, "request_timeout", "", "The request did not arrive within %u seconds.",
                    c->server->config.request_s);
    refuse(c, &f);
}

static void begin_request(loami_conn *c)
{
    c->started_s = loami_now_s();
    c->got_bytes = 0;
    loami_bodies_add(c, evbuffer_get_length(bufferevent_get_input(c->bev)));
    set_timeouts(c, 0); /* the deadline alone counts now */
    loami_timer_set(c->server->loop, &c->deadline, c->server->config.request_s, on_deadline, c);
}

static void on_input(struct evbuffer *in, const struct evbuffer_cb_info *info, void *arg)
{
    loami_conn *c = arg;
    (void)in;
    if (!info->n_added || c->lingering) return;
    LIST_REMOVE(c, next);
    LIST_INSERT_HEAD(&c->server->conns, c, next);
    if (c->reply) return;
    if (c->started_s == 0)
        begin_request(c);
    else
        loami_bodies_add(c, info->n_added);
    if (c->over) event_active(c->look, EV_READ, 0); /* not here, among evhttp's own work */
}

static void on_output(struct evbuffer *out, const struct evbuffer_cb_info *info, void *arg)
{
    loami_conn *c = arg;
    (void)out;
    if (info->n_added && !c->reply && !c->lingering) event_active(c->look, EV_READ, 0);
}

static bufferevent_data_cb evhttp_written; /* evhttp's own, the same for every connection */

static void guarded_written(struct bufferevent *bev, void *evcon)
{
    if (evbuffer_get_length(bufferevent_get_output(bev)) == 0) evhttp_written(bev, evcon);
}

/* A TLS bufferevent finds its output empty and says so a little later. By then there may be more in it, and evhttp,
 * which does not look again, would close the connection on that. */
void loami_conn_guard_end(loami_conn *c)
{
    bufferevent_data_cb read_cb, write_cb;
    bufferevent_event_cb event_cb;
    void *arg;
    if (!c->server->config.tls) return;
    bufferevent_getcb(c->bev, &read_cb, &write_cb, &event_cb, &arg);
    if (write_cb != guarded_written) evhttp_written = write_cb;
    bufferevent_setcb(c->bev, read_cb, guarded_written, event_cb, arg);
}

void loami_conn_request_done(loami_conn *c)
{
    c->reply = NULL;
    c->started_s = 0;
    bufferevent_setwatermark(c->bev, EV_READ, 0, 0);
    set_timeouts(c, c->server->config.idle_s);
    if (evbuffer_get_length(bufferevent_get_input(c->bev))) begin_request(c);
}

/* ---- birth and death ---------------------------------------------------------------------------------- */

static void conn_free(loami_conn *c)
{
    loami_timer_clear(&c->deadline);
    event_free(c->look);
    free(c);
}

static uint32_t count_from(const loami_conn *c)
{
    const loami_conn *other;
    char *mine = NULL, *theirs = NULL;
    uint16_t port;
    uint32_t n = 0;
    evhttp_connection_get_peer(c->evcon, &mine, &port);
    LIST_FOREACH(other, &c->server->conns, next)
    {
        evhttp_connection_get_peer(other->evcon, &theirs, &port);
        n += mine && theirs && strcmp(mine, theirs) == 0;
    }
    return n;
}

static void refuse_too_many(loami_conn *c)
{
    const struct loami_server *s = c->server;
    loami_fault f;
    if (s->state.connections > s->config.max_connections)
        loami_fault_set(&f, 503, "too_many_connections", "",
                        "The server has %u connections, the most it takes. Try again later.",
                        s->config.max_connections);
    else if (s->config.max_per_address && count_from(c) > s->config.max_per_address)
        loami_fault_set(&f, 503, "too_many_connections", "",
                        "Your address has %u connections here, the most it may have.",
                        s->config.max_per_address);
    else
        return;
    refuse(c, &f);
}

static void attach(loami_conn *c)
{
    struct loami_server *s = c->server;
    void *evcon = NULL;
    int on = 1;

    bufferevent_getcb(c->bev, NULL, NULL, NULL, &evcon);
    bool last = bufferevent_decref(c->bev);
    if (last || !evcon) { /* evhttp gave it up again */
        conn_free(c);
        return;
    }
    c->evcon = evcon;
    LIST_INSERT_HEAD(&s->conns, c, next);
    s->state.connections++;
    evhttp_connection_set_closecb(c->evcon, on_close, c);
    c->in_cb = evbuffer_add_cb(bufferevent_get_input(c->bev), on_input, c);
    c->out_cb = evbuffer_add_cb(bufferevent_get_output(c->bev), on_output, c);
    setsockopt(bufferevent_getfd(c->bev), IPPROTO_TCP, TCP_NODELAY, &on,
               sizeof on); /* a token is a small packet */
    begin_request(c);
    refuse_too_many(c);
}

/* Says so and gives all memory of the request back at once, which evhttp would keep as long as the connection: then those
 * beside it may fit. What still comes is read from a copy of the socket. */
static void refuse_over(loami_conn *c)
{
    struct loami_server *s = c->server;
    loami_buf answer = { 0 };
    loami_fault f;
    if (loami_bodies_fit(s)) { /* by now, since another was refused */
        c->over = false;
        return;
    }
    c->lingering = true;
    loami_server_refused(s, 503);
    loami_bodies_fault(s, &f);
    put_refusal(&answer, &f);
    if (s->config.tls)
        loami_tls_say(c->bev, answer.data, answer.len);
    else if (send(bufferevent_getfd(c->bev), answer.data, answer.len, loami_send_flags) < 0) { /* its client will see the end */
    }
    loami_buf_free(&answer);
    loami_linger(s, bufferevent_getfd(c->bev));
    evhttp_connection_free(c->evcon);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
    loami_conn *c = arg;
    (void)fd, (void)what;
    if (!c->evcon)
        attach(c);
    else if (!c->reply && !c->lingering && c->over)
        refuse_over(c);
    else if (!c->reply && !c->lingering)
        reword(c);
}

static void on_close(struct evhttp_connection *evcon, void *arg)
{
    loami_conn *c = arg;
    struct loami_server *s = c->server;
    (void)evcon;
    evbuffer_remove_cb_entry(bufferevent_get_input(c->bev), c->in_cb);
    evbuffer_remove_cb_entry(bufferevent_get_output(c->bev), c->out_cb);
    LIST_REMOVE(c, next);
    loami_bodies_drop(s, c->got_bytes);
    loami_bodies_tidy(s);
    loami_reply_unqueue(c);
    s->state.connections--;
    if (c->reply) loami_reply_lost(c->reply);
    conn_free(c);
}

void loami_conn_close_idle(struct loami_server *s)
{
    loami_conn *after;
    for (loami_conn *c = LIST_FIRST(&s->conns); c; c = after) {
        after = LIST_NEXT(c, next);
        if (!c->reply && c->started_s == 0) evhttp_connection_free(c->evcon);
    }
}
