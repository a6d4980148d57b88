/* Prefixes are replayed on a side before it gets weight, so that its first clients do not pay for its empty cache.
 * What is replayed are the requests seen lately, one of each beginning, with an answer of one token. */
#include "gateway/shift.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

enum { AT_ONCE = 2 };
static const double WARM_S = 30, ONE_S = 30; /* the longest that a step waits for it; and one request */

struct loami_replay {
    loami_shift *s;
    loami_call *call;
    loami_buf body;
    LIST_ENTRY(loami_replay) next;
};

/* ---- what is seen -------------------------------------------------------------------------------- */

static void recent_clear(loami_recent *r)
{
    free(r->model);
    free(r->body);
    memset(r, 0, sizeof *r);
}

void loami_shift_recent_free(loami_shift *s)
{
    for (uint32_t i = 0; i < LOAMI_RECENT; i++) recent_clear(&s->recent[i]);
    s->n_recent = s->recent_at = 0;
}

void loami_shift_note_recent(loami_exchange *x)
{
    loami_shift *s = x->first_pool->shift;
    bool text = x->endpoint->shape == LOAMI_SHAPE_CHAT || x->endpoint->shape == LOAMI_SHAPE_TEXT;
    uint64_t prefix = x->facts.wish.prefix;
    if (!text || !prefix || x->n_body > LOAMI_RECENT_BYTES || x->first_pool->n_members < 2) return;
    for (uint32_t i = 0; i < s->n_recent; i++)
        if (s->recent[i].prefix == prefix) return;
    loami_recent r = { .prefix = prefix, .endpoint = x->endpoint, .n_body = x->n_body };
    r.body = malloc(x->n_body + 1);
    r.model = x->facts.name ? strdup(x->facts.name) : NULL;
    if (!r.body || (x->facts.name && !r.model)) {
        recent_clear(&r);
        return;
    }
    memcpy(r.body, x->body, x->n_body);
    recent_clear(&s->recent[s->recent_at]);
    s->recent[s->recent_at] = r;
    s->recent_at = (s->recent_at + 1) % LOAMI_RECENT;
    if (s->n_recent < LOAMI_RECENT) s->n_recent++;
}

/* ---- requests of ours ---------------------------------------------------------------------------- */

loami_call *loami_shift_call(loami_shift *s, const loami_backend *b, const char *path, const loami_buf *body,
                             double total_s, bool (*data)(void *arg, const char *bytes, size_t n),
                             void (*done)(void *arg, loami_call_fate fate, int status, const char *msg), void *arg)
{
    loami_buf url = { 0 }, key = { 0 };
    loami_call *call = NULL;
    loami_buf_printf(&url, "%s%s", b->conf->url, path);
    loami_buf_printf(&key, "Authorization: Bearer %s", b->conf->api_key ? b->conf->api_key : "");
    const char *headers[] = { "Content-Type: application/json", "User-Agent: loam-gateway", key.data };
    loami_call_request q = { .method = "POST",
                             .url = url.data,
                             .headers = headers,
                             .n_headers = b->conf->api_key ? 3 : 2,
                             .body = body->data,
                             .n_body = body->len,
                             .connect_s = b->config->timeouts.connect_s,
                             .total_s = total_s,
                             .insecure = b->conf->insecure,
                             .ca_file = b->conf->ca_file,
                             .data = data,
                             .done = done,
                             .arg = arg };
    if (!url.failed && !key.failed && !body->failed) call = loami_call_start(s->gw->client, &q);
    loami_buf_free(&url);
    loami_buf_free(&key);
    return call;
}

static void set(loami_edits *e, const char *base, loami_span object, const char *name, const loami_buf *pair,
                size_t n_value)
{
    if (!pair->failed) loami_edit_member(e, base, object, loami_peek_get(object, name), pair->data, n_value);
}

void loami_shift_retell(loami_buf *out, const char *body, size_t n, const loami_backend *b, const char *model,
                        uint32_t max_tokens)
{
    loami_edits e = { .n = 0 };
    loami_buf told = { 0 }, most[2] = { { 0 }, { 0 } }, stream = { 0 };
    loami_span object = loami_peek_value(body, n), options;
    const char *word = NULL;
    if (!object.at) return;
    loami_backend_has(b, model, &word);
    if (word) {
        loami_buf_puts(&told, "\"model\":");
        loami_json_put(&told, word, strlen(word));
        set(&e, body, object, "model", &told, told.len - 8);
    }
    loami_buf_puts(&stream, "\"stream\":false");
    set(&e, body, object, "stream", &stream, 5);
    options = loami_peek_get(object, "stream_options");
    if (options.at) loami_edit_remove(&e, body, object, options);
    if (max_tokens) {
        bool completion = loami_peek_get(object, "max_completion_tokens").at != NULL;
        loami_buf_printf(&most[0], "\"%s\":%u", completion ? "max_completion_tokens" : "max_tokens", max_tokens);
        set(&e, body, object, completion ? "max_completion_tokens" : "max_tokens", &most[0],
            most[0].len - (completion ? 24 : 13));
        if (completion && loami_peek_get(object, "max_tokens").at) {
            loami_buf_printf(&most[1], "\"max_tokens\":%u", max_tokens);
            set(&e, body, object, "max_tokens", &most[1], most[1].len - 13);
        }
    }
    loami_edits_apply(&e, body, n, out);
    loami_buf_free(&told);
    loami_buf_free(&stream);
    loami_buf_free(&most[0]);
    loami_buf_free(&most[1]);
}

/* ---- replaying ----------------------------------------------------------------------------------- */

static void go_on(loami_shift *s);

static void replay_free(loami_replay *r)
{
    LIST_REMOVE(r, next);
    r->s->warming.n_running--;
    loami_buf_free(&r->body);
    free(r);
}

static void on_done(void *arg, loami_call_fate fate, int status, const char *msg)
{
    loami_replay *r = arg;
    loami_shift *s = r->s;
    (void)msg;
    if (fate != LOAMI_CALL_OK || status != 200) s->warming.failed++;
    replay_free(r);
    go_on(s);
}

/* The k-th of all pairs of a recent request and a usable backend of the side; NULL backend: not this one. */
static bool pair_of(loami_shift *s, uint32_t k, const loami_recent **recent, loami_backend **b)
{
    loami_pool *p = loami_shift_pool(s);
    uint32_t n = p ? p->n_members : 0;
    if (!n || k >= n * s->n_recent) return false;
    loami_member *m = &p->members[k % n];
    *recent = &s->recent[(s->recent_at + LOAMI_RECENT - 1 - k / n) % LOAMI_RECENT]; /* the newest first */
    *b = m->side == s->warming.side && loami_backend_usable(m->backend) ? m->backend : NULL;
    return true;
}

static void replay(loami_shift *s, const loami_recent *recent, loami_backend *b)
{
    loami_replay *r = calloc(1, sizeof *r);
    if (!r) return;
    r->s = s;
    loami_shift_retell(&r->body, recent->body, recent->n_body, b, recent->model, 1);
    LIST_INSERT_HEAD(&s->warming.running, r, next);
    s->warming.n_running++;
    s->warming.sent++;
    r->call = loami_shift_call(s, b, recent->endpoint->path, &r->body, ONE_S, NULL, on_done, r);
    if (!r->call) replay_free(r);
}

static void go_on(loami_shift *s)
{
    const loami_recent *recent;
    loami_backend *b;
    const char *told;
    while (s->warming.on && s->warming.n_running < AT_ONCE) {
        if (loami_now_s() > s->warming.until_s || !pair_of(s, s->warming.next, &recent, &b)) break;
        s->warming.next++;
        if (b && recent->body && loami_backend_has(b, recent->model, &told)) replay(s, recent, b);
    }
    if (s->warming.n_running) return;
    s->warming.on = false;
    if (s->r.state == LOAMI_R_WARMING) loami_shift_look(s);
}

void loami_shift_warm(loami_shift *s, loami_side side)
{
    loami_shift_warm_stop(s);
    if (!s->r.plan.warm || !s->n_recent) return;
    s->warmed_s = loami_now_s();
    s->warming.side = side;
    s->warming.until_s = s->warmed_s + WARM_S;
    s->warming.next = s->warming.sent = s->warming.failed = 0;
    s->warming.on = true;
    go_on(s);
}

void loami_shift_warm_stop(loami_shift *s)
{
    loami_replay *r;
    s->warming.on = false;
    while ((r = LIST_FIRST(&s->warming.running))) {
        if (r->call) loami_call_cancel(r->call);
        replay_free(r);
    }
}
