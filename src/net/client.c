#include "net/client.h"

#include "base/clock.h"
#include "net/wire.h"

#include <curl/curl.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <unistd.h>

enum {
    MAX_HEAD = 64 * 1024, /* of an answer */
    EXPECTS = 512 * 1024,
    SPARE_HANDLES = 64, /* easy handles kept for the next calls */
};

struct loami_call {
    loami_client *client;
    loami_call_request q; /* callbacks and times; its strings are libcurl's by now, or in request */
    CURL *easy;           /* makes the connection, and with TLS all else */
    struct curl_slist *headers;
    char *where;       /* host and port, when there is no TLS */
    loami_buf request; /* then: its head */
    loami_wire *wire;
    bool kept;      /* the wire carried others before */
    loami_buf head; /* of the answer: "name\0value\0" ... */
    int status;
    bool head_done, paused, dead, added, begun;
    double start_s, moved_s, connect_s;
    loami_timer clock;
    char error[CURL_ERROR_SIZE];
    TAILQ_ENTRY(loami_call) next;
};

TAILQ_HEAD(call_list, loami_call);

struct loami_client {
    loami_loop *loop;
    CURLM *multi;
    loami_wires *wires;
    struct event *timer;
    curl_socket_t taken; /* that libcurl shall leave open when it gives its connection up */
    bool busy; /* inside libcurl, which must not be entered again, or of a wire's callback */
    struct call_list calls;
    struct call_list waiting; /* started or ended by a callback: to be looked at after it */
    CURL *spare[SPARE_HANDLES];
    uint32_t n_spare;
};

typedef struct watch {
    struct event *event;
    loami_client *client;
} watch;

/* ---- the end of a call -------------------------------------------------------------------------------- */

static void give_back(loami_client *c, CURL *easy)
{
    if (c->n_spare == SPARE_HANDLES) {
        curl_easy_cleanup(easy);
        return;
    }
    curl_easy_reset(easy);
    c->spare[c->n_spare++] = easy;
}

/* Of its connection. */
static void let_go(loami_call *call)
{
    loami_client *c = call->client;
    if (call->added) curl_multi_remove_handle(c->multi, call->easy);
    call->added = false;
    if (call->wire) loami_wire_drop(call->wire);
    call->wire = NULL;
}

static void call_free(loami_call *call)
{
    let_go(call);
    if (call->easy) give_back(call->client, call->easy);
    curl_slist_free_all(call->headers);
    free(call->where);
    loami_buf_free(&call->request);
    loami_timer_clear(&call->clock);
    loami_buf_free(&call->head);
    free(call);
}

static void finish(loami_call *call, loami_call_fate fate, const char *msg)
{
    loami_client *c = call->client;
    TAILQ_REMOVE(&c->calls, call, next);
    let_go(call);
    call->q.done(call->q.arg, fate, call->status, msg);
    call_free(call);
}

static loami_call_fate fate_of(const loami_call *call, CURLcode code)
{
    curl_off_t sent_us = 0;
    switch (code) {
    case CURLE_OK: return LOAMI_CALL_OK;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL: return LOAMI_CALL_UNREACHED;
    case CURLE_OPERATION_TIMEDOUT:
        curl_easy_getinfo(call->easy, CURLINFO_PRETRANSFER_TIME_T, &sent_us);
        return sent_us ? LOAMI_CALL_LATE : LOAMI_CALL_UNREACHED;
    default: return LOAMI_CALL_LOST;
    }
}

/* ---- turning libcurl's wheel -------------------------------------------------------------------------- */

/* What callbacks asked for while libcurl was busy. */
static void settle(loami_client *c)
{
    loami_call *call;
    while ((call = TAILQ_FIRST(&c->waiting))) {
        TAILQ_REMOVE(&c->waiting, call, next);
        if (call->dead) {
            call_free(call);
            continue;
        }
        TAILQ_INSERT_TAIL(&c->calls, call, next);
        curl_multi_add_handle(c->multi, call->easy);
        call->added = call->begun = true;
    }
}

/* Its turn comes when libcurl may be entered. */
static void wait_turn(loami_call *call)
{
    loami_client *c = call->client;
    TAILQ_INSERT_TAIL(&c->waiting, call, next);
    if (!c->busy) settle(c);
}

static void on_connected(loami_call *call);

static void collect(loami_client *c)
{
    CURLMsg *m;
    int left;
    settle(c);
    while ((m = curl_multi_info_read(c->multi, &left))) {
        if (m->msg != CURLMSG_DONE) continue;
        loami_call *call;
        CURLcode code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        if (call->where && code == CURLE_OK)
            on_connected(call);
        else
            finish(call, fate_of(call, code), call->error[0] ? call->error : curl_easy_strerror(code));
        settle(c);
    }
}

static void act(loami_client *c, curl_socket_t fd, int what)
{
    int running;
    c->busy = true;
    curl_multi_socket_action(c->multi, fd, what, &running);
    c->busy = false;
    collect(c);
}

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
    watch *w = arg;
    act(w->client, fd, (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
    loami_client *c = arg;
    watch *w = known;
    (void)easy;
    if (w) event_free(w->event);
    if (what == CURL_POLL_REMOVE) {
        free(w);
        curl_multi_assign(c->multi, fd, NULL);
        return 0;
    }
    if (!w) {
        w = malloc(sizeof *w);
        if (!w) return -1;
        w->client = c;
        curl_multi_assign(c->multi, fd, w);
    }
    short wanted = (short)((what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0) |
                           EV_PERSIST);
    w->event = event_new(loami_loop_base(c->loop), fd, wanted, on_socket, w);
    if (w->event && event_add(w->event, NULL) == 0) return 0;
    if (w->event) event_free(w->event);
    free(w);
    curl_multi_assign(c->multi, fd, NULL);
    return -1;
}

static int set_timer(CURLM *multi, long ms, void *arg)
{
    loami_client *c = arg;
    struct timeval tv = { ms / 1000, (suseconds_t)(ms % 1000 * 1000) };
    (void)multi;
    if (ms < 0)
        evtimer_del(c->timer);
    else
        evtimer_add(c->timer, &tv);
    return 0;
}

/* ---- what comes in ------------------------------------------------------------------------------------ */

static void put_header(loami_call *call, const char *line, size_t n)
{
    const char *colon = memchr(line, ':', n);
    if (!colon) return;
    size_t n_name = (size_t)(colon - line), from = n_name + 1;
    while (from < n && (line[from] == ' ' || line[from] == '\t')) from++;
    while (n > from && (line[n - 1] == ' ' || line[n - 1] == '\t')) n--;
    if (memchr(line, 0, n)) return;
    loami_buf_put(&call->head, line, n_name);
    loami_buf_putc(&call->head, 0);
    loami_buf_put(&call->head, line + from, n - from);
    loami_buf_putc(&call->head, 0);
}

static size_t on_header(char *line, size_t one, size_t n, void *arg)
{
    loami_call *call = arg;
    size_t all = one * n;
    if (call->dead) return 0;
    if (call->head_done) return all; /* a trailer */
    n = all;
    while (n && (line[n - 1] == '\r' || line[n - 1] == '\n')) n--;
    if (n > 5 && memcmp(line, "HTTP/", 5) == 0) {
        const char *space = memchr(line, ' ', n);
        call->status = space ? atoi(space + 1) : 0;
        loami_buf_clear(&call->head);
    } else if (n) {
        put_header(call, line, n);
    } else if (call->status >= 200) {
        call->head_done = true;
        call->moved_s = loami_now_s();
        if (call->head.failed) return 0;
        if (call->q.head) call->q.head(call->q.arg, call->status);
    }
    return call->dead ? 0 : all;
}

static size_t on_data(char *bytes, size_t one, size_t n, void *arg)
{
    loami_call *call = arg;
    if (call->dead) return 0;
    call->moved_s = loami_now_s();
    bool room = call->q.data ? call->q.data(call->q.arg, bytes, one * n) : true;
    if (call->dead) return 0;
    if (!room && !call->paused) {
        call->paused = true;
        if (call->wire)
            loami_wire_pause(call->wire, true);
        else
            curl_easy_pause(call->easy, CURLPAUSE_RECV);
    }
    return one * n;
}

/* Looks at the limits only when the nearest one could have passed: a piece that arrives moves no timer. */
static void on_clock(void *arg)
{
    loami_call *call = arg;
    const loami_call_request *q = &call->q;
    double now = loami_now_s(), due = 1e300;

    if (q->total_s > 0) due = call->start_s + q->total_s;
    if (!call->head_done) {
        if (q->first_byte_s > 0 && call->start_s + q->first_byte_s < due)
            due = call->start_s + q->first_byte_s;
    } else if (q->idle_s > 0) {
        double idle = (call->paused ? now : call->moved_s) + q->idle_s;
        if (idle < due) due = idle;
    }
    if (due >= 1e300) return;
    if (due <= now)
        finish(call, LOAMI_CALL_LATE,
               call->head_done ? "the answer stopped coming" : "no answer came in time");
    else
        loami_timer_set(call->client->loop, &call->clock, due - now, on_clock, call);
}

static void start_clock(loami_call *call)
{
    const loami_call_request *q = &call->q;
    double first = 1e300;
    if (q->total_s > 0) first = q->total_s;
    if (q->first_byte_s > 0 && q->first_byte_s < first) first = q->first_byte_s;
    if (q->idle_s > 0 && q->idle_s < first) first = q->idle_s;
    if (first < 1e300) loami_timer_set(call->client->loop, &call->clock, first, on_clock, call);
}

/* ---- over a wire ------------------------------------------------------------------------------------ */

/* Callbacks may end their call, which goes on until they have returned. */
static bool settled(loami_call *call, bool was)
{
    loami_client *c = call->client;
    bool alive = !call->dead;
    c->busy = was;
    if (!was) settle(c);
    return alive;
}

static bool wire_line(void *arg, char *line, size_t n)
{
    loami_call *call = arg;
    bool was = call->client->busy;
    call->client->busy = true;
    bool ok = on_header(line, 1, n, call) == n;
    return settled(call, was) && ok;
}

static bool wire_data(void *arg, char *bytes, size_t n)
{
    loami_call *call = arg;
    bool was = call->client->busy;
    call->client->busy = true;
    on_data(bytes, 1, n, call);
    return settled(call, was);
}

static bool connect_again(loami_call *call);

static void wire_end(void *arg, loami_wire_end how)
{
    static const struct {
        loami_call_fate fate;
        const char *msg;
    } ends[] = { [LOAMI_WIRE_WHOLE] = { LOAMI_CALL_OK, "" },
                 [LOAMI_WIRE_STALE] = { LOAMI_CALL_LOST, "the connection was closed without an answer" },
                 [LOAMI_WIRE_BROKE] = { LOAMI_CALL_LOST, "the connection was closed before the answer's end" },
                 [LOAMI_WIRE_GARBLED] = { LOAMI_CALL_LOST, "what came is not an answer in HTTP" } };
    loami_call *call = arg;
    call->wire = NULL;
    if (how == LOAMI_WIRE_STALE && call->kept && connect_again(call)) return;
    finish(call, ends[how].fate, ends[how].msg);
}

static bool ask(loami_call *call, loami_wire *w)
{
    static const loami_wire_ear ear = { wire_line, wire_data, wire_end };
    loami_wire_request r = { .head = call->request.data,
                             .n_head = call->request.len,
                             .body = call->q.body,
                             .n_body = call->q.n_body,
                             .bodiless = strcmp(call->q.method, "HEAD") == 0,
                             .read_bytes = call->q.read_bytes,
                             .ear = &ear,
                             .arg = call };
    if (!w || !loami_wire_ask(w, &r)) return false;
    call->wire = w;
    return true;
}

static int close_socket(void *arg, curl_socket_t fd)
{
    loami_client *c = arg;
    return fd == c->taken ? 0 : close(fd);
}

/* libcurl's part is done: the socket goes on without it. */
static void on_connected(loami_call *call)
{
    loami_client *c = call->client;
    curl_socket_t fd = CURL_SOCKET_BAD;
    curl_off_t us = 0;
    curl_easy_getinfo(call->easy, CURLINFO_ACTIVESOCKET, &fd);
    curl_easy_getinfo(call->easy, CURLINFO_CONNECT_TIME_T, &us);
    c->taken = fd;
    let_go(call);
    c->taken = CURL_SOCKET_BAD;
    give_back(c, call->easy);
    call->easy = NULL;
    call->connect_s = (double)us * 1e-6;
    call->kept = false;
    if (fd == CURL_SOCKET_BAD || !ask(call, loami_wires_add(c->wires, call->where, fd)))
        finish(call, LOAMI_CALL_LOST, "its connection broke");
}

/* ---- calls -------------------------------------------------------------------------------------------- */

static bool set_headers(loami_call *call, const loami_call_request *q)
{
    uint32_t quiet = q->n_body > EXPECTS; /* libcurl would ask first whether so much may come */
    for (uint32_t i = 0; i < q->n_headers + quiet; i++) {
        const char *line = i < q->n_headers ? q->headers[i] : "Expect:";
        struct curl_slist *more = curl_slist_append(call->headers, line);
        if (!more) return false;
        call->headers = more;
    }
    return curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers) == CURLE_OK;
}

/* A handle that connects to url. */
static bool set_connection(loami_call *call, const char *url)
{
    loami_client *c = call->client;
    const loami_call_request *q = &call->q;
    CURL *e = call->easy = c->n_spare ? c->spare[--c->n_spare] : curl_easy_init();
    if (!e) return false;
    curl_easy_setopt(e, CURLOPT_PRIVATE, call);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, call->error);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)((q->connect_s > 0 ? q->connect_s : 5) * 1000));
    return curl_easy_setopt(e, CURLOPT_URL, url) == CURLE_OK;
}

/* A new connection for a wire. */
static bool connect_again(loami_call *call)
{
    loami_client *c = call->client;
    loami_buf url = { 0 };
    loami_buf_printf(&url, "http://%s/", call->where);
    bool ok = !url.failed && set_connection(call, url.data);
    loami_buf_free(&url);
    if (!ok) return false;
    curl_easy_setopt(call->easy, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(call->easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    curl_easy_setopt(call->easy, CURLOPT_CLOSESOCKETDATA, c);
    if (call->begun) TAILQ_REMOVE(&c->calls, call, next);
    call->begun = false;
    wait_turn(call);
    return true;
}

static bool set_options(loami_call *call, const loami_call_request *q)
{
    const char *method = call->q.method;
    bool ok = set_connection(call, q->url) && set_headers(call, q);
    CURL *e = call->easy;
    if (!ok) return false;
    curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE, (long)(q->read_bytes ? q->read_bytes : 16384));
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, call);
    if (q->fresh) curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, 1L);
    if (q->ca_file) curl_easy_setopt(e, CURLOPT_CAINFO, q->ca_file);
    if (q->insecure) {
        curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (strcmp(method, "HEAD") == 0)
        curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
    else if (q->body || strcmp(method, "POST") == 0) {
        curl_easy_setopt(e, CURLOPT_POST, 1L);
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->n_body);
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, q->body ? q->body : "");
    }
    if (strcmp(method, "GET") != 0 && strcmp(method, "POST") != 0 && strcmp(method, "HEAD") != 0)
        ok = curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, method) == CURLE_OK && ok;
    return ok;
}

static bool start(loami_call *call, const loami_call_request *q)
{
    loami_client *c = call->client;
    const char *path;
    call->where = loami_http1_place(q->url, &path);
    if (!call->where) {
        if (!set_options(call, q)) return false;
        wait_turn(call);
        return true;
    }
    loami_http1_ask(&call->request, q->method, call->where, path, q->headers, q->n_headers);
    if (q->body || strcmp(q->method, "POST") == 0)
        loami_buf_printf(&call->request, "Content-Length: %zu\r\n", q->n_body);
    loami_buf_puts(&call->request, "\r\n");
    if (call->request.failed) return false;
    call->kept = !q->fresh && ask(call, loami_wires_take(c->wires, call->where));
    if (!call->kept) return connect_again(call);
    call->begun = true;
    TAILQ_INSERT_TAIL(&c->calls, call, next);
    return true;
}

loami_call *loami_call_start(loami_client *c, const loami_call_request *q)
{
    loami_call *call = calloc(1, sizeof *call);
    if (!call) return NULL;
    call->client = c;
    call->q = *q;
    call->q.method = q->method ? q->method : "GET";
    call->head.limit = MAX_HEAD;
    call->start_s = call->moved_s = loami_now_s();
    if (!start(call, &call->q)) {
        call_free(call);
        return NULL;
    }
    start_clock(call);
    return call;
}

void loami_call_cancel(loami_call *call)
{
    loami_client *c = call->client;
    if (call->dead) return;
    TAILQ_REMOVE(call->begun ? &c->calls : &c->waiting, call, next);
    loami_timer_clear(&call->clock);
    call->dead = true;
    wait_turn(call);
}

void loami_call_resume(loami_call *call)
{
    loami_client *c = call->client;
    if (!call->paused || call->dead) return;
    call->paused = false;
    call->moved_s = loami_now_s();
    if (call->wire) {
        loami_wire_pause(call->wire, false);
        return;
    }
    bool was = c->busy; /* this may hand on what libcurl holds already */
    c->busy = true;
    curl_easy_pause(call->easy, CURLPAUSE_CONT);
    settled(call, was);
}

const char *loami_call_header(const loami_call *call, const char *name)
{
    const char *key, *value;
    for (size_t at = 0; loami_call_next_header(call, &at, &key, &value);)
        if (strcasecmp(key, name) == 0) return value;
    return NULL;
}

bool loami_call_next_header(const loami_call *call, size_t *at, const char **name, const char **value)
{
    if (*at >= call->head.len || call->head.failed) return false;
    *name = call->head.data + *at;
    *value = *name + strlen(*name) + 1;
    *at += strlen(*name) + strlen(*value) + 2;
    return true;
}

double loami_call_connect_s(const loami_call *call)
{
    curl_off_t us = 0;
    if (call->where) return call->connect_s;
    curl_easy_getinfo(call->easy, CURLINFO_CONNECT_TIME_T, &us);
    return (double)us * 1e-6;
}

/* ---- open and close ----------------------------------------------------------------------------------- */

int loami_client_open(loami_client **out, loami_loop *loop, uint32_t max_connections, loam_err *err)
{
    loami_client *c = calloc(1, sizeof *c);
    if (!c) return loami_fail_nomem(err);
    TAILQ_INIT(&c->calls);
    TAILQ_INIT(&c->waiting);
    c->loop = loop;
    c->taken = CURL_SOCKET_BAD;
    c->timer = evtimer_new(loami_loop_base(loop), on_timer, c);
    if (curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK) c->multi = curl_multi_init();
    if (!c->timer || !c->multi ||
        loami_wires_open(&c->wires, loop, max_connections ? max_connections : 1024, err) < 0) {
        loami_client_close(c);
        return loami_fail(err, LOAM_E_IO, "the HTTP client cannot start");
    }
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)(max_connections ? max_connections : 1024));
    *out = c;
    return 0;
}

void loami_client_close(loami_client *c)
{
    loami_call *call;
    if (!c) return;
    settle(c);
    while ((call = TAILQ_FIRST(&c->calls))) {
        TAILQ_REMOVE(&c->calls, call, next);
        call_free(call);
    }
    loami_wires_close(c->wires);
    if (c->multi) curl_multi_cleanup(c->multi);
    while (c->n_spare) curl_easy_cleanup(c->spare[--c->n_spare]);
    if (c->timer) event_free(c->timer);
    free(c);
}
