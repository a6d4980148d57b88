/* A client that asks a lot, for the gateway's benchmarks and tests. It knows only sockets: what it measures
 * shares no code with what is measured.
 *
 *     load MODE PORT [key=value ...]
 *
 * MODE http:    connections=10 rate=1000 seconds=5: whole answers, asked for at fixed times whatever the last
 * one took; latency counts from those times. rate=0: one after the other, as fast as it goes. stream:
 * connections=1000 pace=50 seconds=10: streams of one token every pace ms, each token the time it was sent;
 * the delay of each. idle:    connections=10000: streams that say one token and then nothing; prints a line
 * when all have, and holds them until its input ends. chaos:   connections=50 requests=100000 tokens=12:
 * streams and whole answers in turn, each with a seed of its own and checked against what fake_backend says
 * with that: an answer to another request is wrong too.
 *
 * Prints one line of JSON. */
#include "base/buf.h"
#include "base/clock.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SAMPLES = 4 << 20 };

typedef struct run run;

typedef struct client {
    run *run;
    struct bufferevent *bev;
    struct event *timer;
    double due_s, sent_s;
    enum { IDLE, HEAD, BODY } state;
    int status;
    bool chunked, streaming, said, scheduled;
    size_t left; /* of the body, or of this chunk */
    loami_buf body;
    uint64_t n_asked, index;
} client;

struct run {
    const char *mode;
    struct event_base *base;
    struct sockaddr_in to;
    uint32_t connections, rate, seconds, pace, requests, tokens;
    client *clients;
    double start_s;
    uint64_t asked, answered, bad_status, broken, wrong, error_events, lost;
    uint32_t n_said, n_started, n_open;
    uint64_t reconnects;
    float *sample; /* [n_samples] seconds */
    uint32_t n_samples;
    bool over;
    char first_wrong[400];
};

static void ask(client *c);
static void open_connection(client *c);

static void sample(run *r, double s)
{
    if (r->n_samples < SAMPLES) r->sample[r->n_samples++] = (float)s;
}

static bool is(const run *r, const char *mode)
{
    return strcmp(r->mode, mode) == 0;
}

static void finish(run *r)
{
    r->over = true;
    event_base_loopbreak(r->base);
}

/* ---- answers ------------------------------------------------------------------------------------- */

static uint32_t hash_of(uint64_t seed, uint32_t i) /* fake_backend's */
{
    uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ z >> 31) >> 33) % 1000;
}

/* The text of an answer: every "content":"..." of it. */
static void collect_text(const loami_buf *body, loami_buf *text)
{
    static const char key[] = "\"content\":\"";
    for (const char *p = body->data; p && (p = strstr(p, key));) {
        p += sizeof key - 1;
        const char *end = strchr(p, '"');
        if (!end) return;
        loami_buf_put(text, p, (size_t)(end - p));
    }
}

static void note_wrong(run *r, const client *c)
{
    if (!r->first_wrong[0])
        snprintf(r->first_wrong, sizeof r->first_wrong, "status %d: %.350s", c->status,
                 c->body.len > 350 ? c->body.data + c->body.len - 350
                 : c->body.data    ? c->body.data
                                   : "");
}

static uint32_t count(const char *s, const char *what)
{
    uint32_t n = 0;
    for (; s && (s = strstr(s, what)); s++) n++;
    return n;
}

static void check(client *c)
{
    run *r = c->run;
    loami_buf text = { 0 }, want = { 0 };
    if (!is(r, "chaos")) return;
    for (uint32_t i = 0; i < r->tokens; i++) loami_buf_printf(&want, " %u.%03u", i, hash_of(c->index, i));
    collect_text(&c->body, &text);
    if (c->status != 200)
        r->bad_status++;
    else if (strstr(c->body.data, "\"error\""))
        r->error_events++;
    else if (!text.data || strcmp(text.data, want.data) != 0 ||
             (c->streaming && count(c->body.data, "data: [DONE]") != 1))
        r->wrong++;
    if (c->status != 200 || !text.data || strcmp(text.data, want.data) != 0) note_wrong(r, c);
    loami_buf_free(&text);
    loami_buf_free(&want);
}

static void answered(client *c)
{
    run *r = c->run;
    double now = loami_now_s();
    c->state = IDLE;
    r->answered++;
    if (is(r, "http")) {
        if (c->status != 200) r->bad_status++;
        sample(r, now - c->due_s);
    }
    check(c);
    if (r->requests && r->answered + r->lost >= r->requests)
        finish(r);
    else
        ask(c);
}

/* A token of a stream is the time in ns at which it was sent. */
static void on_stream_bytes(client *c)
{
    static const char key[] = "\"content\":\" ";
    char *p = c->body.data, *lf;
    double now = loami_now_s();
    while (p && (lf = strchr(p, '\n'))) {
        char *at = strstr(p, key);
        if (at && at < lf) {
            if (!c->said)
                c->run->n_said++;
            else if (is(c->run, "stream"))
                sample(c->run, now - strtod(at + sizeof key - 1, NULL) * 1e-9);
            c->said = true;
        }
        p = lf + 1;
    }
    if (p && p != c->body.data) {
        size_t rest = c->body.len - (size_t)(p - c->body.data);
        memmove(c->body.data, p, rest + 1);
        c->body.len = rest;
    }
}

/* ---- HTTP ---------------------------------------------------------------------------------------- */

static bool read_head(client *c, struct evbuffer *in)
{
    struct evbuffer_ptr end = evbuffer_search(in, "\r\n\r\n", 4, NULL);
    char head[8192];
    if (end.pos < 0 || end.pos > 8000) return false;
    evbuffer_remove(in, head, (size_t)end.pos + 4);
    head[end.pos + 4] = 0;
    c->status = atoi(head + 9);
    for (char *h = head; *h; h++) *h = (char)(*h >= 'A' && *h <= 'Z' ? *h + 32 : *h);
    char *length = strstr(head, "content-length:");
    c->chunked = strstr(head, "transfer-encoding: chunked") != NULL;
    c->left = length ? strtoul(length + 15, NULL, 10) : 0;
    c->state = BODY;
    loami_buf_clear(&c->body);
    return true;
}

static void take(client *c, struct evbuffer *in, size_t n)
{
    if (!loami_buf_reserve(&c->body, n)) abort();
    evbuffer_remove(in, c->body.data + c->body.len, n);
    c->body.len += n;
    c->body.data[c->body.len] = 0;
}

/* True when the body is complete. */
static bool read_body(client *c, struct evbuffer *in)
{
    for (;;) {
        size_t have = evbuffer_get_length(in);
        if (c->left) {
            size_t n = have < c->left ? have : c->left;
            if (n == 0) return false;
            take(c, in, n);
            c->left -= n;
            if (c->chunked) continue;
        }
        if (!c->chunked) return c->left == 0;
        if (c->left) return false;
        size_t n;
        char *line = evbuffer_readln(in, &n, EVBUFFER_EOL_CRLF_STRICT);
        if (!line) return false;
        if (n) { /* the empty one ends the chunk before */
            c->left = strtoul(line, NULL, 16);
            bool last = c->left == 0;
            free(line);
            if (!last) continue;
            line = evbuffer_readln(in, &n, EVBUFFER_EOL_CRLF_STRICT);
            free(line);
            return true;
        }
        free(line);
    }
}

static void on_read(struct bufferevent *bev, void *arg)
{
    client *c = arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    while (!c->run->over && c->state != IDLE) {
        if (c->state == HEAD && !read_head(c, in)) return;
        bool whole = read_body(c, in);
        if (!is(c->run, "chaos") && !is(c->run, "http")) on_stream_bytes(c);
        if (!whole) return;
        answered(c);
    }
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    client *c = arg;
    run *r = c->run;
    (void)bev;
    if (what & BEV_EVENT_CONNECTED) return;
    if (r->over) return;
    bufferevent_free(c->bev);
    c->bev = NULL;
    if (c->state == HEAD && c->status < 0) { /* a kept connection that was closed meanwhile */
        r->reconnects++;
        open_connection(c);
        ask(c);
        return;
    }
    if (c->state != IDLE) {
        r->broken++;
        r->lost++;
        note_wrong(r, c);
        if (r->requests && r->answered + r->lost >= r->requests) {
            finish(r);
            return;
        }
    }
    c->state = IDLE;
    open_connection(c);
    ask(c);
}

static void open_connection(client *c)
{
    int on = 1;
    c->bev = bufferevent_socket_new(c->run->base, -1, BEV_OPT_CLOSE_ON_FREE);
    if (!c->bev) abort();
    bufferevent_setcb(c->bev, on_read, NULL, on_event, c);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    if (bufferevent_socket_connect(c->bev, (struct sockaddr *)&c->run->to, sizeof c->run->to) < 0) {
        fprintf(stderr, "load: cannot connect\n");
        exit(1);
    }
    setsockopt(bufferevent_getfd(c->bev), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void send_request(client *c)
{
    run *r = c->run;
    char body[512];
    int n;
    c->streaming = is(r, "stream") || is(r, "idle") || (is(r, "chaos") && c->index % 2);
    if (is(r, "stream"))
        n = snprintf(body, sizeof body,
                     "{\"model\":\"m\",\"stream\":true,\"max_tokens\":%u,\"messages\":[{\"role\":\"user\","
                     "\"content\":\"[fake stamp=1 delay=%u]\"}]}",
                     r->seconds * 1000 / r->pace, r->pace);
    else if (is(r, "idle"))
        n = snprintf(body, sizeof body,
                     "{\"model\":\"m\",\"stream\":true,\"max_tokens\":9,\"messages\":[{\"role\":\"user\","
                     "\"content\":\"[fake stamp=1 delay=3600000]\"}]}");
    else if (is(r, "chaos"))
        n = snprintf(body, sizeof body,
                     "{\"model\":\"m\",\"stream\":%s,\"seed\":%llu,\"max_tokens\":%u,\"messages\":[{"
                     "\"role\":\"user\",\"content\":\"[fake delay=%u]\"}]}",
                     c->streaming ? "true" : "false", (unsigned long long)c->index, r->tokens, r->pace);
    else
        n = snprintf(body, sizeof body,
                     "{\"model\":\"m\",\"max_tokens\":%u,\"messages\":[{\"role\":\"user\",\"content\":\"What "
                     "is the capital of France?\"}]}",
                     r->tokens);
    evbuffer_add_printf(bufferevent_get_output(c->bev),
                        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                        "application/json\r\nContent-Length: %d\r\n\r\n%s",
                        n, body);
    c->state = HEAD;
    c->status = c->n_asked++ ? -1 : 0;
    c->sent_s = loami_now_s();
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
    client *c = arg;
    (void)fd, (void)what;
    c->scheduled = false;
    send_request(c);
}

/* The next request of this connection, at its time. */
static void ask(client *c)
{
    run *r = c->run;
    if (c->state == HEAD) { /* once more, on a new connection */
        send_request(c);
        return;
    }
    double now = loami_now_s();
    if (is(r, "http") && now - r->start_s >= r->seconds) {
        if (--r->n_open == 0) finish(r);
        return;
    }
    if ((is(r, "stream") || is(r, "idle")) && c->n_asked) {
        if (--r->n_open == 0) finish(r);
        return;
    }
    if (r->requests && r->asked >= r->requests) return;
    c->index = r->asked++;
    if (!r->rate) {
        c->due_s = now;
        send_request(c);
        return;
    }
    c->due_s += (double)r->connections / r->rate;
    if (c->due_s <= now) {
        send_request(c);
        return;
    }
    double wait = c->due_s - now;
    struct timeval tv = { (time_t)wait, (suseconds_t)((wait - (double)(time_t)wait) * 1e6) };
    c->scheduled = true;
    evtimer_add(c->timer, &tv);
}

/* ---- the whole ----------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double percentile(const run *r, double p)
{
    return r->n_samples ? r->sample[(uint32_t)(p * (r->n_samples - 1))] * 1e3 : 0;
}

static void report(run *r)
{
    double took = loami_now_s() - r->start_s;
    qsort(r->sample, r->n_samples, sizeof *r->sample, by_value);
    printf("{\"mode\":\"%s\",\"asked\":%llu,\"answered\":%llu,\"seconds\":%.2f,\"per_s\":%.1f,\"bad_status\":"
           "%llu,\"broken\":%llu,\"wrong\":%llu,\"error_events\":%llu,\"reconnects\":%llu,"
           "\"samples\":%u,\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n",
           r->mode, (unsigned long long)r->asked, (unsigned long long)r->answered, took,
           (double)r->answered / took, (unsigned long long)r->bad_status, (unsigned long long)r->broken,
           (unsigned long long)r->wrong, (unsigned long long)r->error_events,
           (unsigned long long)r->reconnects, r->n_samples, percentile(r, 0.5), percentile(r, 0.9),
           percentile(r, 0.99), percentile(r, 1));
    if (r->first_wrong[0]) fprintf(stderr, "load: first trouble: %s\n", r->first_wrong);
}

static void on_input(evutil_socket_t fd, short what, void *arg)
{
    char c[64];
    (void)what;
    if (read(fd, c, sizeof c) <= 0) finish(arg);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
    run *r = arg;
    (void)fd, (void)what;
    if (r->n_said < r->connections) return;
    printf("{\"streams\":%u}\n", r->n_said);
    fflush(stdout);
    r->n_said = 0;
}

/* Connections are made a few at a time, as a listen queue takes them; streams evenly over their pace. */
static void on_more(evutil_socket_t fd, short what, void *arg)
{
    run *r = arg;
    (void)fd, (void)what;
    int most = is(r, "stream") ? 1 : 50;
    for (int i = 0; i < most && r->n_started < r->connections; i++) {
        client *c = &r->clients[r->n_started];
        c->run = r;
        c->timer = evtimer_new(r->base, on_due, c);
        c->due_s = loami_now_s() + (r->rate ? (double)r->n_started / r->rate : 0);
        r->n_started++;
        r->n_open++;
        open_connection(c);
        ask(c);
    }
}

static uint32_t setting(int argc, char **argv, const char *name, uint32_t otherwise)
{
    size_t n = strlen(name);
    for (int i = 3; i < argc; i++)
        if (strncmp(argv[i], name, n) == 0 && argv[i][n] == '=')
            return (uint32_t)strtoul(argv[i] + n + 1, NULL, 10);
    return otherwise;
}

int main(int argc, char **argv)
{
    struct timeval often = { 0, 2000 }, look = { 0, 50000 };
    struct rlimit lim;
    if (argc < 3) {
        fprintf(stderr, "load MODE PORT [key=value ...]\n");
        return 2;
    }
    run r = { .mode = argv[1] };
    r.connections = setting(argc, argv, "connections", 10);
    r.rate = setting(argc, argv, "rate", 0);
    r.seconds = setting(argc, argv, "seconds", 5);
    r.pace = setting(argc, argv, "pace", 50);
    r.requests = setting(argc, argv, "requests", 0);
    r.tokens = setting(argc, argv, "tokens", 12);
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
        lim.rlim_cur = lim.rlim_max;
        setrlimit(RLIMIT_NOFILE, &lim);
    }
    struct event_config *config = event_config_new();
    event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
    r.base = event_base_new_with_config(config);
    event_config_free(config);
    r.clients = calloc(r.connections, sizeof *r.clients);
    r.sample = malloc(SAMPLES * sizeof *r.sample);
    if (!r.base || !r.clients || !r.sample) return 1;
    r.to = (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)atoi(argv[2])),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    r.start_s = loami_now_s();

    struct event *more = event_new(r.base, -1, EV_PERSIST, on_more, &r), *looking = NULL, *input = NULL;
    if (is(&r, "stream") && r.connections) often.tv_usec = (suseconds_t)(r.pace * 1000 / r.connections) + 1;
    event_add(more, &often);
    if (is(&r, "idle")) {
        looking = event_new(r.base, -1, EV_PERSIST, on_look, &r);
        input = event_new(r.base, STDIN_FILENO, EV_READ | EV_PERSIST, on_input, &r);
        event_add(looking, &look);
        event_add(input, NULL);
    }
    event_base_dispatch(r.base);
    report(&r);
    return r.bad_status + r.broken + r.wrong ? 1 : 0;
}
