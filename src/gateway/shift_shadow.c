/* Mirroring: after a client has its answer, the same request goes to the other side. What comes is scored against what
 * the client got, and thrown away. It can slow nobody: it starts after the answer's end, few at a time, within a
 * budget, and only where a place is free. */
#include "gateway/shift.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

static const double SHADOW_S = 120;

struct loami_shadow_job {
    loami_shift *s;
    loami_backend *backend;
    loami_call *call;
    const loami_gw_endpoint *endpoint;
    char *request; /* [n_request] the client's body */
    size_t n_request;
    char *model;
    char *text[2];    /* [1]: the new side's */
    size_t n_text[2];
    bool served_new;  /* the client's answer came from there */
    loami_buf body, got;
    loami_shadow_result result;
    LIST_ENTRY(loami_shadow_job) next;
};

static void job_free(loami_shadow_job *j)
{
    LIST_REMOVE(j, next);
    j->s->n_mirrored--;
    if (j->backend) loami_backend_unref(j->backend);
    free(j->request);
    free(j->model);
    free(j->text[0]);
    free(j->text[1]);
    loami_buf_free(&j->body);
    loami_buf_free(&j->got);
    free(j);
}

void loami_shift_mirror_stop(loami_shift *s)
{
    loami_shadow_job *j;
    while ((j = LIST_FIRST(&s->mirrored))) {
        if (j->call) loami_call_cancel(j->call);
        job_free(j);
    }
}

/* ---- scores -------------------------------------------------------------------------------------- */

static bool parses(const char *text, size_t n)
{
    json_t *v = NULL;
    bool ok = loami_json_parse(&v, text, n, "answer", NULL) == 0;
    json_decref(v);
    return ok;
}

static void score_texts(loami_shadow_job *j, bool checked)
{
    loami_shadow_result *r = &j->result;
    size_t n[2] = { j->n_text[0], j->n_text[1] }, same = 0;
    while (same < n[0] && same < n[1] && j->text[0][same] == j->text[1][same]) same++;
    r->same = n[0] == n[1] && same == n[0];
    r->common = n[0] ? (float)same / (float)n[0] : n[1] ? 0 : 1;
    r->length_ratio = n[0] ? (float)n[1] / (float)n[0] : n[1] ? 99 : 1;
    r->checked = checked;
    if (!checked) return;
    for (int i = 0; i < 2; i++) r->valid[i] = parses(j->text[i], n[i]);
}

static void settle(loami_shadow_job *j)
{
    loami_shadows *h = &j->s->shadows;
    const loami_shadow_result *r = &j->result;
    h->greedy += r->greedy;
    h->same += r->greedy && r->same;
    h->checked += r->checked;
    h->valid[0] += r->valid[0];
    h->valid[1] += r->valid[1];
    h->length_ratio += r->length_ratio;
    h->common += r->common;
    h->n_length++;
    if (r->logprob <= 0) {
        h->logprob += r->logprob;
        h->scored++;
    }
    h->kept[h->at] = *r;
    h->at = (h->at + 1) % LOAMI_SHADOWS_KEPT;
    if (h->n_kept < LOAMI_SHADOWS_KEPT) h->n_kept++;
    j->s->dirty = true;
    job_free(j);
}

/* ---- the other side ------------------------------------------------------------------------------ */

static bool on_data(void *arg, const char *bytes, size_t n)
{
    loami_shadow_job *j = arg;
    if (j->got.len + n <= LOAMI_SHADOW_BYTES) loami_buf_put(&j->got, bytes, n);
    return true;
}

static loami_backend *idlest(loami_shift *s, loami_side side, const char *model, bool scores)
{
    loami_pool *p = loami_shift_pool(s);
    loami_backend *best = NULL;
    const char *told;
    for (uint32_t i = 0; p && i < p->n_members; i++) {
        loami_backend *b = p->members[i].backend;
        if (p->members[i].side != side || !loami_backend_usable(b) || !loami_backend_has(b, model, &told) ||
            (b->conf->max_inflight && b->inflight >= b->conf->max_inflight) || (scores && (!b->kind || !b->kind->exact)))
            continue;
        if (!best || b->inflight < best->inflight) best = b;
    }
    return best;
}

static void on_scored(void *arg, loami_call_fate fate, int status, const char *msg)
{
    loami_shadow_job *j = arg;
    json_t *v = NULL;
    (void)msg;
    j->call = NULL;
    if (fate == LOAMI_CALL_OK && status == 200 && j->got.data &&
        loami_json_parse(&v, j->got.data, j->got.len, "score", NULL) == 0) {
        size_t n = json_array_size(json_object_get(v, "token_logprobs"));
        double sum = json_number_value(json_object_get(v, "logprob"));
        if (n && sum <= 0) j->result.logprob = (float)(sum / (double)n);
    }
    json_decref(v);
    settle(j);
}

/* How likely is the old side's text to the new model? */
static bool ask_score(loami_shadow_job *j)
{
    loami_backend *b = idlest(j->s, LOAMI_SIDE_NEW, j->model, true);
    loami_span object = loami_peek_value(j->request, j->n_request), messages = loami_peek_get(object, "messages"),
               prompt = loami_peek_get(object, "prompt");
    const char *told = NULL;
    if (!b || !j->n_text[0] || (!messages.at && (!prompt.at || prompt.at[0] != '"'))) return false;
    loami_backend_unref(j->backend);
    j->backend = b;
    loami_backend_ref(b);
    loami_buf_clear(&j->body);
    loami_buf_clear(&j->got);
    loami_backend_has(b, j->model, &told);
    loami_buf_puts(&j->body, "{\"continuation\":");
    loami_json_put(&j->body, j->text[0], j->n_text[0]);
    if (told) loami_buf_puts(&j->body, ",\"model\":");
    if (told) loami_json_put(&j->body, told, strlen(told));
    loami_buf_puts(&j->body, messages.at ? ",\"messages\":" : ",\"prompt\":");
    loami_buf_put(&j->body, messages.at ? messages.at : prompt.at, messages.at ? messages.n : prompt.n);
    loami_buf_putc(&j->body, '}');
    j->call = loami_shift_call(j->s, b, "/v1/score", &j->body, SHADOW_S, on_data, on_scored, j);
    return j->call != NULL;
}

static void on_answered(void *arg, loami_call_fate fate, int status, const char *msg)
{
    loami_shadow_job *j = arg;
    loami_span choice, text = { 0 };
    int other = !j->served_new;
    (void)msg;
    j->call = NULL;
    if (fate == LOAMI_CALL_OK && status == 200 && j->got.data) {
        choice = loami_peek_first(loami_peek_get(loami_peek_value(j->got.data, j->got.len), "choices"));
        if (choice.at && choice.at[0] == '{') {
            text = loami_peek_get(choice, "text");
            if (!text.at) text = loami_peek_get(loami_peek_get(choice, "message"), "content");
        }
        j->text[other] = text.at ? loami_span_string(text, LOAMI_SHADOW_BYTES, &j->n_text[other]) : NULL;
    }
    if (!j->text[other]) {
        j->s->shadows.failed++;
        j->s->dirty = true;
        job_free(j);
        return;
    }
    score_texts(j, j->result.checked);
    if (!ask_score(j)) settle(j);
}

/* ---- which requests ------------------------------------------------------------------------------ */

static bool in_budget(loami_shift *s, double tokens)
{
    double now = loami_now_s(), most = s->r.plan.shadow_tokens_minute;
    s->shadow_tokens += (now - s->shadow_s) / 60 * most;
    if (s->shadow_tokens > most) s->shadow_tokens = most;
    s->shadow_s = now;
    if (s->n_mirrored >= s->r.plan.shadow_running || s->shadow_tokens < tokens) return false;
    s->shadow_tokens -= tokens;
    return true;
}

static char *copy(const void *bytes, size_t n)
{
    char *p = malloc(n + 1);
    if (!p) return NULL;
    memcpy(p, bytes, n);
    p[n] = 0;
    return p;
}

static bool fits(const loami_exchange *x, const loami_shift *s)
{
    return s->r.plan.shadow > 0 && loami_rollout_open(&s->r) && x->side != LOAMI_SIDE_NONE &&
           x->shift_id == s->r.id && x->backend && !x->side_failed && x->facts.one_answer && !x->odd && x->text.len &&
           !x->text.failed && x->text.len < LOAMI_SHADOW_BYTES && x->n_body < LOAMI_SHADOW_BYTES &&
           (x->endpoint->shape == LOAMI_SHAPE_CHAT || x->endpoint->shape == LOAMI_SHAPE_TEXT);
}

void loami_shift_mirror(loami_exchange *x)
{
    loami_shift *s = x->first_pool->shift;
    loami_buf quoted = { 0 };
    bool on_new = x->side == LOAMI_SIDE_NEW;
    if (!fits(x, s) || loami_gw_uniform(x->gw) >= s->r.plan.shadow) return;
    loami_backend *b = idlest(s, on_new ? LOAMI_SIDE_OLD : LOAMI_SIDE_NEW, x->facts.name, false);
    double tokens = (double)(x->answer_tokens ? x->answer_tokens : x->n_tokens) + 1;
    if (!b || !in_budget(s, tokens)) {
        s->shadows.over_budget++;
        return;
    }
    loami_shadow_job *j = calloc(1, sizeof *j);
    if (!j) return;
    LIST_INSERT_HEAD(&s->mirrored, j, next);
    s->n_mirrored++;
    j->s = s;
    j->backend = b;
    loami_backend_ref(b);
    j->endpoint = x->endpoint;
    j->served_new = on_new;
    j->result = (loami_shadow_result){ .logprob = 1, .greedy = !x->facts.samples, .checked = x->facts.wants_json };
    j->request = copy(x->body, x->n_body);
    j->n_request = x->n_body;
    j->model = x->facts.name ? strdup(x->facts.name) : NULL;
    loami_buf_putc(&quoted, '"');
    loami_buf_put(&quoted, x->text.data, x->text.len);
    loami_buf_putc(&quoted, '"');
    if (!quoted.failed)
        j->text[on_new] =
            loami_span_string((loami_span){ quoted.data, quoted.len }, LOAMI_SHADOW_BYTES, &j->n_text[on_new]);
    loami_buf_free(&quoted);
    if (j->request && j->text[on_new]) {
        loami_shift_retell(&j->body, j->request, j->n_request, b, j->model, 0);
        j->call = loami_shift_call(s, b, x->endpoint->path, &j->body, SHADOW_S, on_data, on_answered, j);
    }
    if (j->call)
        s->shadows.sent++;
    else
        job_free(j);
}

/* ---- as JSON ------------------------------------------------------------------------------------- */

void loami_shadows_write(const loami_shadows *h, loami_buf *out)
{
    loami_buf_printf(out,
                     "{\"sent\":%llu,\"failed\":%llu,\"over_budget\":%llu,\"scored\":%llu,\"greedy\":%llu,\"same\":%"
                     "llu,\"checked\":%llu,\"valid_old\":%llu,\"valid_new\":%llu,\"n\":%llu,\"logprob\":%.9g,"
                     "\"length_ratio\":%.9g,\"common\":%.9g,\"kept\":[",
                     (unsigned long long)h->sent, (unsigned long long)h->failed, (unsigned long long)h->over_budget,
                     (unsigned long long)h->scored, (unsigned long long)h->greedy, (unsigned long long)h->same,
                     (unsigned long long)h->checked, (unsigned long long)h->valid[0], (unsigned long long)h->valid[1],
                     (unsigned long long)h->n_length, h->logprob, h->length_ratio, h->common);
    for (uint32_t i = 0; i < h->n_kept; i++) {
        const loami_shadow_result *r = &h->kept[(h->at + LOAMI_SHADOWS_KEPT - h->n_kept + i) % LOAMI_SHADOWS_KEPT];
        loami_buf_printf(out, "%s[%.5g,%.5g,%.4g,%d]", i ? "," : "", (double)r->logprob, (double)r->length_ratio,
                         (double)r->common,
                         r->greedy + 2 * r->same + 4 * r->checked + 8 * r->valid[0] + 16 * r->valid[1]);
    }
    loami_buf_puts(out, "]}");
}

static uint64_t whole(const json_t *v, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(v, key));
    return n > 0 ? (uint64_t)n : 0;
}

static void read_kept(loami_shadows *h, const json_t *list)
{
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v) {
        int flags = (int)json_integer_value(json_array_get(v, 3));
        if (json_array_size(v) != 4 || h->n_kept == LOAMI_SHADOWS_KEPT) return;
        h->kept[h->at] = (loami_shadow_result){ .logprob = (float)json_number_value(json_array_get(v, 0)),
                                                .length_ratio = (float)json_number_value(json_array_get(v, 1)),
                                                .common = (float)json_number_value(json_array_get(v, 2)),
                                                .greedy = flags & 1,
                                                .same = flags & 2,
                                                .checked = flags & 4,
                                                .valid = { flags & 8, flags & 16 } };
        h->at = (h->at + 1) % LOAMI_SHADOWS_KEPT;
        h->n_kept++;
    }
}

void loami_shadows_read(loami_shadows *h, const json_t *v)
{
    memset(h, 0, sizeof *h);
    if (!json_is_object(v)) return;
    h->sent = whole(v, "sent");
    h->failed = whole(v, "failed");
    h->over_budget = whole(v, "over_budget");
    h->scored = whole(v, "scored");
    h->greedy = whole(v, "greedy");
    h->same = whole(v, "same");
    h->checked = whole(v, "checked");
    h->valid[0] = whole(v, "valid_old");
    h->valid[1] = whole(v, "valid_new");
    h->n_length = whole(v, "n");
    h->logprob = json_number_value(json_object_get(v, "logprob"));
    h->length_ratio = json_number_value(json_object_get(v, "length_ratio"));
    h->common = json_number_value(json_object_get(v, "common"));
    read_kept(h, json_object_get(v, "kept"));
}
