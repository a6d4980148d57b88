#include "net/conn.h"

#include "base/clock.h"
#include "base/fnv.h"
#include "base/json.h"

#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what went wrong ---------------------------------------------------------------------------------- */

const char *loami_status_phrase(int status)
{
    static const struct {
        int status;
        const char *phrase;
    } table[] = {
        { 200, "OK" },
        { 204, "No Content" },
        { 400, "Bad Request" },
        { 401, "Unauthorized" },
        { 403, "Forbidden" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 408, "Request Timeout" },
        { 413, "Content Too Large" },
        { 415, "Unsupported Media Type" },
        { 417, "Expectation Failed" },
        { 422, "Unprocessable Content" },
        { 429, "Too Many Requests" },
        { 500, "Internal Server Error" },
        { 501, "Not Implemented" },
        { 502, "Bad Gateway" },
        { 503, "Service Unavailable" },
        { 504, "Gateway Timeout" },
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].status == status) return table[i].phrase;
    return "Unknown";
}

int loami_fault_set(loami_fault *f, int status, const char *code, const char *param, const char *fmt, ...)
{
    va_list ap;
    f->status = status;
    f->code = code;
    f->retry_s = 0;
    snprintf(f->param, sizeof f->param, "%s", param);
    va_start(ap, fmt);
    vsnprintf(f->msg, sizeof f->msg, fmt, ap);
    va_end(ap);
    return -1;
}

static const char *fault_type(int status)
{
    switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    case 501: return "invalid_request_error";
    default: return status < 500 ? "invalid_request_error" : "server_error";
    }
}

void loami_fault_json(loami_buf *out, const loami_fault *f)
{
    loami_buf_puts(out, "{\"error\":{\"message\":");
    loami_json_put(out, f->msg, strlen(f->msg));
    loami_buf_printf(out, ",\"type\":\"%s\",\"param\":", fault_type(f->status));
    if (f->param[0])
        loami_json_put(out, f->param, strlen(f->param));
    else
        loami_buf_puts(out, "null");
    loami_buf_puts(out, ",\"code\":");
    if (f->code)
        loami_json_put(out, f->code, strlen(f->code));
    else
        loami_buf_puts(out, "null");
    loami_buf_puts(out, "}}");
}

/* ---- life of a reply ---------------------------------------------------------------------------------- */

static void release(loami_reply *r)
{
    struct loami_server *s = r->server;
    loami_log_access(r);
    s->state.replies--;
    s->state.bytes_sent += r->sent_bytes;
    loami_reply_body_free(r);
    loami_reply_body_done(r);
    loami_bodies_drop(s, atomic_load(&r->answer_bytes));
    loami_bodies_tidy(s);
    free(r->decoded);
    free(r->path);
    free(r);
    loami_server_settled(s);
}

/* The last byte is with the kernel. Called just before evhttp frees the request. */
static void on_complete(struct evhttp_request *req, void *arg)
{
    loami_reply *r = arg;
    (void)req;
    r->req = NULL;
    loami_conn_request_done(r->conn);
    r->conn = NULL;
    release(r);
}

void loami_reply_lost(loami_reply *r)
{
    /* A request that was not answered in full has been taken off its connection, and is ours to free. */
    if (!evhttp_request_get_connection(r->req)) evhttp_request_free(r->req);
    r->req = NULL;
    r->conn = NULL;
    r->server->state.gone++;
    if (r->state == LOAMI_REPLY_ENDED) {
        release(r);
        return;
    }
    r->was_lost = true;
    if (r->gone) r->gone(r->watch_arg);
}

static const char *method_name(enum evhttp_cmd_type type)
{
    switch (type) {
    case EVHTTP_REQ_GET: return "GET";
    case EVHTTP_REQ_POST: return "POST";
    case EVHTTP_REQ_HEAD: return "HEAD";
    case EVHTTP_REQ_PUT: return "PUT";
    case EVHTTP_REQ_DELETE: return "DELETE";
    case EVHTTP_REQ_OPTIONS: return "OPTIONS";
    case EVHTTP_REQ_PATCH: return "PATCH";
    default: return "TRACE";
    }
}

static void take_id(loami_reply *r)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-";
    const char *given = loami_reply_header(r, "X-Request-Id");
    size_t n = given ? strspn(given, allowed) : 0;
    if (n && n < 65 && !given[n]) loami_reply_set_id(r, given);
}

void loami_reply_new(struct loami_server *s, loami_conn *c, struct evhttp_request *req)
{
    loami_reply *r = calloc(1, sizeof *r);
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(req));
    char *peer = NULL;
    uint16_t port;

    if (r) {
        r->body = evbuffer_new();
        r->path = strdup(path && path[0] ? path : "/");
        r->decoded = r->path ? evhttp_uridecode(r->path, 0, NULL) : NULL;
    }
    if (!r || !r->body || !r->decoded) {
        if (r && r->body) evbuffer_free(r->body);
        if (r) free(r->path);
        free(r);
        evhttp_send_error(req, 503, NULL);
        return;
    }
    r->server = s;
    r->conn = c;
    r->req = req;
    r->start_s = loami_now_s();
    evhttp_connection_get_peer(c->evcon, &peer, &port);
    snprintf(r->peer, sizeof r->peer, "%s", peer ? peer : "");
    snprintf(r->method, sizeof r->method, "%s", method_name(evhttp_request_get_command(req)));
    snprintf(r->id, sizeof r->id, "req_%016llx",
             (unsigned long long)(s->id_salt + ++s->state.requests * 0x9e3779b97f4a7c15u));
    if (s->config.take_ids) take_id(r);
    r->head = evhttp_request_get_command(req) == EVHTTP_REQ_HEAD;
    evbuffer_add_buffer(r->body, evhttp_request_get_input_buffer(req));
    loami_bodies_move(r, c);
    s->state.replies++;

    c->reply = r;
    loami_timer_clear(&c->deadline);
    evhttp_request_set_on_complete_cb(req, on_complete, r);

    /* evhttp stops reading while it waits for an answer, and so would not see the client leave. Read on, but
     * hand what comes (a pipelined request) to nobody yet: evhttp takes it up when this one is done. */
    bufferevent_data_cb write_cb;
    bufferevent_event_cb event_cb;
    void *arg;
    struct timeval write = { s->config.write_s, 0 };
    bufferevent_getcb(c->bev, NULL, &write_cb, &event_cb, &arg);
    bufferevent_setcb(c->bev, NULL, write_cb, event_cb, arg);
    bufferevent_setwatermark(c->bev, EV_READ, 0, LOAMI_PIPELINED);
    bufferevent_set_timeouts(c->bev, NULL, &write);
    bufferevent_enable(c->bev, EV_READ);

    loami_server_route(r);
}

/* ---- the request -------------------------------------------------------------------------------------- */

const char *loami_reply_method(const loami_reply *r)
{
    return r->method;
}

const char *loami_reply_path(const loami_reply *r)
{
    return r->decoded;
}

const char *loami_reply_raw_path(const loami_reply *r)
{
    return r->path;
}

const char *loami_reply_query(const loami_reply *r)
{
    return r->req ? evhttp_uri_get_query(evhttp_request_get_evhttp_uri(r->req)) : NULL;
}

const char *loami_reply_tail(const loami_reply *r)
{
    return r->tail;
}

const char *loami_reply_header(const loami_reply *r, const char *name)
{
    return r->req ? evhttp_find_header(evhttp_request_get_input_headers(r->req), name) : NULL;
}

bool loami_reply_next_header(const loami_reply *r, void **at, const char **name, const char **value)
{
    struct evkeyval *kv = *at;
    if (!r->req) return false;
    kv = kv ? TAILQ_NEXT(kv, next) : TAILQ_FIRST(evhttp_request_get_input_headers(r->req));
    if (!kv) return false;
    *at = kv;
    *name = kv->key;
    *value = kv->value;
    return true;
}

const char *loami_reply_peer(const loami_reply *r)
{
    return r->peer;
}

const char *loami_reply_id(const loami_reply *r)
{
    return r->id;
}

uint64_t loami_reply_key_number(const loami_reply *r)
{
    return r->key ? loami_key_number(r->key) : 0;
}

uint64_t loami_reply_client(const loami_reply *r)
{
    return r->key ? loami_key_number(r->key) : loami_fnv(r->peer, strlen(r->peer));
}

void loami_reply_server_stat(const loami_reply *r, loami_server_state *out)
{
    loami_server_stat(r->server, out);
}

double loami_reply_start_s(const loami_reply *r)
{
    return r->start_s;
}

void loami_reply_set_id(loami_reply *r, const char *id)
{
    snprintf(r->id, sizeof r->id, "%s", id);
}

const char *loami_reply_body(loami_reply *r, size_t *n)
{
    *n = evbuffer_get_length(r->body);
    return *n ? (const char *)evbuffer_pullup(r->body, -1) : "";
}

void loami_reply_body_free(loami_reply *r)
{
    if (r->body) evbuffer_free(r->body);
    r->body = NULL;
}

void loami_reply_body_done(loami_reply *r)
{
    loami_bodies_drop(r->server, atomic_exchange(&r->held_bytes, 0));
}

/* ---- the answer --------------------------------------------------------------------------------------- */

void loami_reply_watch(loami_reply *r, void (*gone)(void *arg), void (*drained)(void *arg), void *arg)
{
    r->gone = gone;
    r->drained = drained;
    r->watch_arg = arg;
}

bool loami_reply_gone(const loami_reply *r)
{
    return r->was_lost;
}

void loami_reply_set(loami_reply *r, const char *name, const char *value)
{
    if (!r->req) return;
    struct evkeyvalq *headers = evhttp_request_get_output_headers(r->req);
    evhttp_remove_header(headers, name);
    evhttp_add_header(headers, name, value);
}

static void set_common(loami_reply *r, int status, const char *type)
{
    r->status = status;
    r->first_s = loami_now_s();
    loami_bodies_tidy(r->server); /* a worker may be done with the body long before the end */
    if (type) loami_reply_set(r, "Content-Type", type);
    loami_reply_set(r, "X-Request-Id", r->id);
    loami_reply_set(r, "X-Content-Type-Options", "nosniff");
    if (r->server->draining || r->server->retiring) loami_reply_set(r, "Connection", "close");
    if (r->cors) {
        loami_reply_set(r, "Access-Control-Allow-Origin", r->cors);
        loami_reply_set(r, "Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
        loami_reply_set(r, "Vary", "Origin");
    }
}

/* What the socket takes goes now, not with the loop's next turn, which saves a token three system calls. True
 * when that was all: then the loop will not report it. TLS is left to the loop. */
static bool flush_now(struct bufferevent *bev, bool tls)
{
    struct evbuffer *out = bufferevent_get_output(bev);
    if (tls || evbuffer_get_length(out) == 0) return false;
    evbuffer_unfreeze(out, 1);
    evbuffer_write(out, bufferevent_getfd(bev));
    evbuffer_freeze(out, 1);
    bool all = evbuffer_get_length(out) == 0, waits = bufferevent_get_enabled(bev) & EV_WRITE;
    if (all && waits) bufferevent_disable(bev, EV_WRITE);
    if (!all && !waits) bufferevent_enable(bev, EV_WRITE);
    return all;
}

/* ---- pieces, sent together -------------------------------------------------------------------------- */

/* Those of all answers go when the loop has handled what woke it. Readers then find several at once, and what came
 * in pieces for one of them leaves as one; sent one by one, each piece wakes somebody who sleeps again before the
 * next. */
enum { SEND_AT = 32 }; /* connections: who was first does not wait for more than these */

void loami_reply_unqueue(loami_conn *c)
{
    if (!c->unsent) return;
    c->unsent = false;
    c->server->n_unsent--;
    TAILQ_REMOVE(&c->server->unsent, c, next_unsent);
}

void loami_reply_send_all(struct loami_server *s)
{
    loami_conn *c;
    while ((c = TAILQ_FIRST(&s->unsent))) {
        loami_reply_unqueue(c);
        flush_now(c->bev, false);
    }
}

static void queue(loami_conn *c)
{
    struct loami_server *s = c->server;
    if (c->unsent) return;
    c->unsent = true;
    TAILQ_INSERT_TAIL(&s->unsent, c, next_unsent);
    if (s->n_unsent++ == 0) event_active(s->send, EV_WRITE, 0);
    if (s->n_unsent >= SEND_AT) loami_reply_send_all(s);
}

/* Likewise, of a whole answer: evhttp goes on to the next request, as if the loop had told it. */
static void flush_last(struct bufferevent *bev, bool tls)
{
    if (flush_now(bev, tls))
        bufferevent_trigger(bev, EV_WRITE, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
    bufferevent_decref(bev);
}

void loami_reply_send(loami_reply *r, int status, const char *type, const void *bytes, size_t n)
{
    r->state = LOAMI_REPLY_ENDED;
    if (!r->req) {
        release(r);
        return;
    }
    struct evbuffer *out = evhttp_request_get_output_buffer(r->req);
    set_common(r, status, type);
    if (r->head) {
        char length[24];
        snprintf(length, sizeof length, "%zu", n);
        loami_reply_set(r, "Content-Length", length);
    } else if (n) {
        evbuffer_add(out, bytes, n);
        r->sent_bytes = n;
    }
    loami_conn *c = r->conn;
    struct bufferevent *bev = c->bev;
    bool tls = r->server->config.tls;
    bufferevent_incref(bev); /* the connection may end with this */
    evhttp_send_reply(r->req, status, loami_status_phrase(status), NULL);
    loami_conn_guard_end(c);
    flush_last(bev, tls);
}

void loami_reply_fail(loami_reply *r, const loami_fault *f)
{
    loami_buf body = { 0 };
    loami_server_refused(r->server, f->status);
    loami_fault_json(&body, f);
    if (f->status == 429 || f->status == 503) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%u", f->retry_s ? f->retry_s : 1);
        loami_reply_set(r, "Retry-After", seconds);
    }
    if (f->status == 401) loami_reply_set(r, "WWW-Authenticate", "Bearer");
    loami_reply_send(r, f->status, "application/json", body.data, body.len);
    loami_buf_free(&body);
}

void loami_reply_start(loami_reply *r, int status, const char *type)
{
    r->state = LOAMI_REPLY_STARTED;
    if (!r->req) return;
    set_common(r, status, type);
    /* HTTP/1.0 has no chunks: such an answer ends with its connection, whatever the client asked for. */
    struct evkeyvalq *in = evhttp_request_get_input_headers(r->req);
    const char *keep = evhttp_find_header(in, "Connection");
    if (keep && evutil_ascii_strncasecmp(keep, "keep-alive", 10) == 0) evhttp_remove_header(in, "Connection");
    evhttp_send_reply_start(r->req, status, loami_status_phrase(status));
}

static void on_drained(struct evhttp_connection *evcon, void *arg)
{
    loami_reply *r = arg;
    (void)evcon;
    if (!r->full) return;
    r->full = false;
    if (r->drained && r->state != LOAMI_REPLY_ENDED) r->drained(r->watch_arg);
}

/* One chunk, as evhttp would frame it. */
static void put_chunk(struct evbuffer *out, const void *bytes, size_t n)
{
    char size[24];
    int n_size = snprintf(size, sizeof size, "%zx\r\n", n);
    evbuffer_expand(out, n + (size_t)n_size + 2);
    evbuffer_add(out, size, (size_t)n_size);
    evbuffer_add(out, bytes, n);
    evbuffer_add(out, "\r\n", 2);
}

/* The first piece goes through evhttp, which remembers on_drained from then on. */
static void put_piece(loami_reply *r, const void *bytes, size_t n)
{
    struct evbuffer *piece = evhttp_request_get_output_buffer(r->req);
    evbuffer_add(piece, bytes, n);
    evhttp_send_reply_chunk_with_cb(r->req, piece, on_drained, r);
    r->chunked = !r->head && !r->server->config.tls &&
                 evhttp_find_header(evhttp_request_get_output_headers(r->req), "Transfer-Encoding");
}

bool loami_reply_write(loami_reply *r, const void *bytes, size_t n)
{
    if (!r->req) return false;
    loami_conn *c = r->conn;
    struct evbuffer *out = bufferevent_get_output(c->bev);
    bool tls = r->server->config.tls;
    r->sent_bytes += n;
    if (r->chunked && n)
        put_chunk(out, bytes, n);
    else
        put_piece(r, bytes, n);
    if (evbuffer_get_length(out) > LOAMI_HIGH_WATER)
        flush_now(c->bev, tls);
    else if (!tls)
        queue(c);
    r->full = evbuffer_get_length(out) > LOAMI_HIGH_WATER;
    return !r->full;
}

void loami_reply_end(loami_reply *r)
{
    if (r->state == LOAMI_REPLY_OPEN && r->req) {
        loami_fault f;
        loami_fault_set(&f, 500, NULL, "", "The request ended without an answer.");
        loami_reply_fail(r, &f);
        return;
    }
    r->state = LOAMI_REPLY_ENDED;
    if (!r->req) {
        release(r);
        return;
    }
    /* Without chunks, and with everything out, this is over at once, and r and its connection may be gone. */
    loami_conn *c = r->conn;
    struct bufferevent *bev = c->bev;
    bool tls = r->server->config.tls;
    loami_reply_unqueue(c);
    bool at_once = !evhttp_find_header(evhttp_request_get_output_headers(r->req), "Transfer-Encoding") &&
                   evbuffer_get_length(bufferevent_get_output(bev)) == 0;
    bufferevent_incref(bev);
    evhttp_send_reply_end(r->req);
    if (!at_once) loami_conn_guard_end(c);
    flush_last(bev, tls);
}

void loami_reply_charge(loami_reply *r, double tokens)
{
    if (r->key) loami_key_charge(r->key, tokens);
}

void loami_reply_drop(loami_reply *r)
{
    r->state = LOAMI_REPLY_ENDED;
    if (r->req)
        evhttp_connection_free(r->conn->evcon);
    else
        release(r);
}

void loami_reply_note(loami_reply *r, const char *key, double number)
{
    if (r->n_notes == LOAMI_NOTES) return;
    r->note[r->n_notes].key = key;
    r->note[r->n_notes++].number = number;
}

void loami_reply_note_text(loami_reply *r, const char *key, const char *text)
{
    if (r->n_notes == LOAMI_NOTES) return;
    r->note[r->n_notes].key = key;
    r->note[r->n_notes++].text = text;
}

void loami_reply_log_text(const loami_reply *r, const char *key, const char *text, size_t n)
{
    loami_log_text(r, key, text, n);
}
