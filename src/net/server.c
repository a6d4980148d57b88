#include "net/conn.h"

#include "base/clock.h"
#include "base/system.h"
#include "net/stderr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/listener.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BACKLOG = 512,
    ACCEPTS_A_TURN = 64, /* of new connections, before the open ones have their turn */
    RETIRE_S = 3, /* clients that keep a connection may use it once more */
    LATE_S = 2,       /* cancelled answers may still say so that long */
    SPARE_FILES = 64, /* of the process, besides connections: model files, logs, pipes */
};
static const double ACCEPT_PAUSE_S = 0.2; /* after running out of files */

static void set_defaults(loami_server_config *c)
{
    if (!c->host) c->host = "127.0.0.1";
    if (!c->max_body_bytes) c->max_body_bytes = 32u << 20;
    if (!c->max_bodies_bytes) c->max_bodies_bytes = 256u << 20;
    if (c->max_bodies_bytes < c->max_body_bytes) c->max_bodies_bytes = c->max_body_bytes;
    if (!c->max_header_bytes) c->max_header_bytes = 64u << 10;
    if (!c->max_connections) c->max_connections = 1024;
    if (!c->request_s) c->request_s = 30;
    if (!c->idle_s) c->idle_s = 75;
    if (!c->write_s) c->write_s = 120;
    if (!c->drain_s) c->drain_s = 30;
}

/* A connection is an open file, and systems allow few by default (macOS 256). */
static void raise_file_limit(uint32_t connections)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) < 0) return;
    rlim_t want = (rlim_t)connections + SPARE_FILES;
    if (lim.rlim_cur >= want) return;
    lim.rlim_cur = lim.rlim_max != RLIM_INFINITY && lim.rlim_max < want ? lim.rlim_max : want;
    setrlimit(RLIMIT_NOFILE, &lim);
}

/* ---- listening ---------------------------------------------------------------------------------------- */

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &n) < 0) return 0;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                         : ((struct sockaddr_in *)&a)->sin_port);
}

static int bind_failed(const loami_server_config *c, loam_err *err)
{
    if (errno == EADDRINUSE)
        return loami_fail(err, LOAM_E_IO,
                          "port %u of %s is in use by another program: stop that one, or choose another port",
                          c->port, c->host);
    if (errno == EACCES)
        return loami_fail(err, LOAM_E_IO, "not allowed to open port %u of %s: choose a port from 1024 up",
                          c->port, c->host);
    if (errno == EADDRNOTAVAIL)
        return loami_fail(err, LOAM_E_IO, "%s is not an address of this machine", c->host);
    return loami_fail_errno(err, "cannot listen on port %u of %s", c->port, c->host);
}

/* A predecessor, or the system's service manager, has it listening. */
static int listen_inherited(loami_server *s, loam_err *err)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    int fd = s->config.listen_fd;
    if (getsockname(fd, (struct sockaddr *)&a, &n) < 0 || evutil_make_socket_nonblocking(fd) < 0 ||
        evutil_make_socket_closeonexec(fd) < 0)
        return loami_fail_errno(err, "cannot listen on the socket inherited as %d", fd);
    s->loopback = is_loopback((struct sockaddr *)&a);
    s->port = bound_port(fd);
    s->bound = evhttp_accept_socket_with_handle(s->http, fd);
    return s->bound ? 0 : loami_fail_nomem(err);
}

static int listen_on(loami_server *s, loam_err *err)
{
    const loami_server_config *c = &s->config;
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list = NULL;
    char port[8];
    int fd = -1, on = 1, rc = 0;

    if (c->listen_fd) return listen_inherited(s, err);
    snprintf(port, sizeof port, "%u", c->port);
    int why = getaddrinfo(c->host, port, &hints, &list);
    if (why) return loami_fail(err, LOAM_E_ARG, "no address for host \"%s\": %s", c->host, gai_strerror(why));
    fd = socket(list->ai_family, list->ai_socktype, list->ai_protocol);
    if (fd < 0 || evutil_make_socket_nonblocking(fd) < 0 || evutil_make_socket_closeonexec(fd) < 0) {
        rc = loami_fail_errno(err, "cannot make a socket");
        goto out;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, list->ai_addr, list->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        rc = bind_failed(c, err);
        goto out;
    }
    s->loopback = is_loopback(list->ai_addr);
    s->port = bound_port(fd);
    s->bound = evhttp_accept_socket_with_handle(s->http, fd);
    if (!s->bound)
        rc = loami_fail_nomem(err);
    else
        fd = -1;
out:
    if (fd >= 0) close(fd);
    freeaddrinfo(list);
    return rc;
}

static void accept_again(void *arg)
{
    loami_server *s = arg;
    if (s->bound) evconnlistener_enable(evhttp_bound_socket_get_listener(s->bound));
}

/* Out of files: the waiting connection stays readable, so look again later rather than at once. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
    loami_server *s = arg;
    if (loami_timer_set(s->loop, &s->accept_timer, ACCEPT_PAUSE_S, accept_again, s))
        evconnlistener_disable(listener);
}

/* libevent accepts as long as there is somebody, and who opens connections without a pause would keep it from all else. */
static struct bufferevent *on_accept(struct event_base *base, void *arg)
{
    loami_server *s = arg;
    if (++s->accepted >= ACCEPTS_A_TURN && s->bound && loami_timer_set(s->loop, &s->accept_timer, 0, accept_again, s)) {
        s->accepted = 0;
        evconnlistener_disable(evhttp_bound_socket_get_listener(s->bound));
    }
    return loami_conn_new(base, s);
}

/* ---- requests ----------------------------------------------------------------------------------------- */

static void on_request(struct evhttp_request *req, void *arg)
{
    loami_server *s = arg;
    loami_conn *c = loami_conn_of(s, evhttp_request_get_connection(req));
    if (c)
        loami_reply_new(s, c, req);
    else
        evhttp_send_error(req, 503, NULL);
}

static bool path_matches(const char *pattern, const char *path, const char **tail)
{
    size_t n = strlen(pattern);
    if (pattern[n - 1] != '*') return strcmp(pattern, path) == 0;
    if (strncmp(pattern, path, n - 1) != 0 || !path[n - 1]) return false;
    *tail = path + n - 1;
    return true;
}

/* Bodies whose end two readers could see in different places (request smuggling) close the connection. */
static int check_framing(loami_reply *r, loami_fault *f)
{
    const char *coding = loami_reply_header(r, "Transfer-Encoding");
    if (!coding) return 0;
    if (strcasecmp(coding, "chunked") == 0 && !loami_reply_header(r, "Content-Length")) return 0;
    loami_reply_set(r, "Connection", "close");
    return loami_fault_set(f, 400, "malformed_request", "",
                           "Transfer-Encoding must be \"chunked\" alone, and without Content-Length.");
}

/* The methods that a path has, for Allow; "" = no such path. */
static const loami_route *find_route(loami_reply *r, char *allow, size_t cap)
{
    const char *method = r->head ? "GET" : r->method;
    size_t n = 0;
    allow[0] = 0;
    for (const loami_route *t = r->server->config.routes; t->method; t++) {
        const char *tail = NULL;
        if (!path_matches(t->path, r->decoded, &tail)) continue;
        r->tail = tail;
        if (strcmp(t->method, method) == 0) return t;
        n += (size_t)snprintf(allow + n, cap - n, "%s%s, ", t->method,
                              strcmp(t->method, "GET") == 0 ? ", HEAD" : "");
    }
    if (n) snprintf(allow + n, cap - n, "OPTIONS");
    return NULL;
}

static void answer_options(loami_reply *r, const char *allow)
{
    loami_reply_set(r, "Allow", allow);
    if (r->cors) {
        const char *asked = loami_reply_header(r, "Access-Control-Request-Headers");
        loami_reply_set(r, "Access-Control-Allow-Methods", allow);
        loami_reply_set(r, "Access-Control-Allow-Headers", asked ? asked : "Authorization, Content-Type");
        loami_reply_set(r, "Access-Control-Max-Age", "600");
    }
    loami_reply_send(r, 204, NULL, NULL, 0);
}

static int check_key(loami_reply *r, loami_fault *f)
{
    r->key = loami_keys_check(r->server->config.keys, loami_reply_header(r, "Authorization"),
                              loami_reply_header(r, "X-API-Key"), f);
    if (!r->key) return -1;
    loami_reply_note_text(r, "key", loami_key_name(r->key));
    return 0;
}

void loami_server_route(loami_reply *r)
{
    loami_server *s = r->server;
    loami_fault f;
    char allow[96];

    if (check_framing(r, &f) < 0 || loami_guard_check(r, &f) < 0) {
        loami_reply_fail(r, &f);
        return;
    }
    const loami_route *t = find_route(r, allow, sizeof allow);
    if (s->config.keys && !(t && t->open) && strcmp(r->method, "OPTIONS") != 0 && check_key(r, &f) < 0) {
        loami_reply_fail(r, &f);
        return;
    }
    if (!t && allow[0] && strcmp(r->method, "OPTIONS") == 0) {
        answer_options(r, allow);
        return;
    }
    if (!t && allow[0]) {
        loami_reply_set(r, "Allow", allow);
        loami_fault_set(&f, 405, "method_not_allowed", "", "%s is not a method of %.200s; it has %s.",
                        r->method, r->decoded, allow);
    } else if (!t) {
        loami_fault_set(&f, 404, "not_found", "", "There is nothing at %.200s.", r->decoded);
    } else if (s->draining && strcmp(t->method, "GET") != 0) {
        loami_fault_set(&f, 503, "shutting_down", "", "The server is shutting down.");
    } else {
        t->handle(r, s->config.arg);
        return;
    }
    loami_reply_fail(r, &f);
}

static void on_send(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    loami_reply_send_all(arg);
}

/* ---- the end ------------------------------------------------------------------------------------------ */

void loami_server_refused(struct loami_server *s, int status)
{
    s->state.refused_429 += status == 429;
    s->state.refused_503 += status == 503;
}

void loami_server_settled(loami_server *s)
{
    if (s->draining && s->state.replies == 0) loami_loop_stop(s->loop);
}

static void drain_late(void *arg)
{
    loami_server *s = arg;
    if (s->late) {
        loami_loop_stop(s->loop);
        return;
    }
    s->late = true;
    loami_timer_set(s->loop, &s->drain_timer, LATE_S, drain_late, s);
    if (s->config.on_drain_late) s->config.on_drain_late(s->config.arg);
}

static void retired(void *arg)
{
    loami_server_drain(arg);
}

void loami_server_retire(loami_server *s)
{
    if (s->draining || s->retiring) return;
    s->retiring = true;
    if (s->bound) evhttp_del_accept_socket(s->http, s->bound);
    s->bound = NULL;
    loami_timer_set(s->loop, &s->drain_timer, RETIRE_S, retired, s);
}

void loami_server_drain(loami_server *s)
{
    if (s->draining) return;
    s->draining = true;
    if (s->bound) evhttp_del_accept_socket(s->http, s->bound);
    s->bound = NULL;
    if (s->config.on_drain) s->config.on_drain(s->config.arg);
    loami_timer_set(s->loop, &s->drain_timer, s->config.drain_s, drain_late, s);
    loami_conn_close_idle(s);
    loami_server_settled(s);
}

bool loami_server_draining(const loami_server *s)
{
    return s->draining;
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
    loami_server *s = arg;
    (void)what;
    if (s->draining) _exit(128 + (int)number);
    loami_server_drain(s);
}

/* What cannot be read stays as it was: a slip in a file must not stop the server. */
static void on_hup(evutil_socket_t number, short what, void *arg)
{
    loami_server *s = arg;
    loam_err err;
    (void)number, (void)what;
    if (s->config.tls && loami_tls_reload(s->config.tls, &err) < 0)
        loami_log_words(s, "kept the old certificate", err.msg);
    if (s->config.keys && loami_keys_reload(s->config.keys, &err) < 0)
        loami_log_words(s, "kept the old keys", err.msg);
    if (s->config.on_reload) s->config.on_reload(s->config.arg);
}

/* ---- open and close ----------------------------------------------------------------------------------- */

static int watch_signals(loami_server *s, loam_err *err)
{
    struct event_base *base = loami_loop_base(s->loop);
    signal(SIGPIPE, SIG_IGN);
    s->on_term = evsignal_new(base, SIGTERM, on_signal, s);
    s->on_int = evsignal_new(base, SIGINT, on_signal, s);
    s->on_hup = evsignal_new(base, SIGHUP, on_hup, s);
    if (!s->on_hup || evsignal_add(s->on_hup, NULL) < 0 || !s->on_term || !s->on_int ||
        evsignal_add(s->on_term, NULL) < 0 || evsignal_add(s->on_int, NULL) < 0)
        return loami_fail(err, LOAM_E_IO, "cannot watch for signals");
    return 0;
}

int loami_server_open(loami_server **out, loami_loop *loop, const loami_server_config *config, loam_err *err)
{
    loami_server *s = calloc(1, sizeof *s);
    int rc;

    if (!s) return loami_fail_nomem(err);
    s->config = *config;
    set_defaults(&s->config);
    s->loop = loop;
    LIST_INIT(&s->conns);
    LIST_INIT(&s->lingers);
    TAILQ_INIT(&s->unsent);
    evutil_secure_rng_get_bytes(&s->id_salt, sizeof s->id_salt);
    snprintf(s->host, sizeof s->host, "%s", s->config.host);
    raise_file_limit(s->config.max_connections);
    loami_memory_lean();
    loami_log_open(s);

    rc = LOAM_E_NOMEM;
    s->http = evhttp_new(loami_loop_base(loop));
    s->send = event_new(loami_loop_base(loop), -1, EV_PERSIST, on_send, s);
    if (!s->http || !s->send) {
        loami_fail_nomem(err);
        goto out;
    }
    evhttp_set_bevcb(s->http, on_accept, s);
    evhttp_set_gencb(s->http, on_request, s);
    evhttp_set_max_body_size(s->http, (ev_ssize_t)s->config.max_body_bytes);
    evhttp_set_max_headers_size(s->http, (ev_ssize_t)s->config.max_header_bytes);
    evhttp_set_default_content_type(s->http, NULL);
    evhttp_set_allowed_methods(s->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
                                            EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_PATCH |
                                            EVHTTP_REQ_TRACE);
    if ((rc = listen_on(s, err)) < 0 || (rc = watch_signals(s, err)) < 0) goto out;
    evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(s->bound), on_accept_error);
    *out = s;
    s = NULL;
out:
    loami_server_close(s);
    return rc;
}

void loami_server_close(loami_server *s)
{
    if (!s) return;
    loami_timer_clear(&s->drain_timer);
    loami_timer_clear(&s->accept_timer);
    if (s->http) evhttp_free(s->http);
    loami_timer_clear(&s->trim_timer);
    loami_linger_close(s);
    loami_stderr_flush();
    if (s->send) event_free(s->send);
    if (s->on_term) event_free(s->on_term);
    if (s->on_int) event_free(s->on_int);
    if (s->on_hup) event_free(s->on_hup);
    free(s);
}

uint16_t loami_server_port(const loami_server *s)
{
    return s->port;
}

int loami_server_fd(const loami_server *s)
{
    return s->bound ? evhttp_bound_socket_get_fd(s->bound) : -1;
}

void loami_server_log(const loami_server *s, const char *what, const char *why)
{
    loami_log_words(s, what, why);
}

void loami_server_stat(const loami_server *s, loami_server_state *out)
{
    *out = s->state;
    out->held_bytes = atomic_load(&s->held_bytes);
    out->log_lost = loami_stderr_lost();
}
