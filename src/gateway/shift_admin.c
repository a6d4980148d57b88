/* The rollout's part of the admin interface:
 *
 * GET /gateway/api/rollout                    all pools; ?pool=NAME one of them, with its history and shadows
 * POST /gateway/api/rollout {"action": "start", "pool": "default", "from": "vllm", "to": "mlx", ...}
 *                           promote, pause, resume, rollback (with "hard": true), forget */
#include "gateway/shift.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- what is known ------------------------------------------------------------------------------- */

static void put_text(loami_buf *b, const char *s)
{
    loami_json_put(b, s, strlen(s));
}

static void put_gate(const loami_judge *j, loami_metric m, loami_buf *out)
{
    const loami_metric_info *info = &loami_gate_metrics[m];
    const loami_score *s = &j->of[m];
    char words[300];
    loami_judge_words(j, m, words, sizeof words);
    double closes = loami_judge_closes_at(&j->gate, m);
    bool closed = s->worse.highest >= closes;
    loami_buf_printf(out,
                     "{\"gate\":\"%s\",\"on\":%s,\"limit\":%g,\"kind\":\"%s\",\"old\":[%llu,%llu],\"new\":[%llu,%llu],"
                     "\"wealth\":%.6g,\"highest\":%.6g,\"closes_at\":%.6g,\"closed\":%s,\"proof\":%.6g,\"proven\":%s,"
                     "\"words\":",
                     info->name, j->gate.of[m].off ? "false" : "true", j->gate.of[m].limit,
                     info->quantile > 0 ? "factor" : "increase", (unsigned long long)s->bad[0],
                     (unsigned long long)s->n[0], (unsigned long long)s->bad[1], (unsigned long long)s->n[1],
                     loami_bet_wealth(&s->worse), s->worse.highest, closes, closed ? "true" : "false",
                     s->no_worse.highest, loami_judge_proven(j, m) ? "true" : "false");
    put_text(out, words);
    loami_buf_putc(out, '}');
}

void loami_shift_figures(const loami_shift *s, loami_buf *out)
{
    loami_buf_printf(out,
                     "{\"open_s\":%.1f,\"requests\":[%llu,%llu],\"failures\":[%llu,%llu],\"proven\":%s,\"gates\":[",
                     s->open_s, (unsigned long long)s->served[0], (unsigned long long)s->served[1],
                     (unsigned long long)s->failures[0], (unsigned long long)s->failures[1],
                     loami_judge_all_proven(&s->judge) ? "true" : "false");
    for (int m = 0; m < LOAMI_METRICS; m++) {
        if (m) loami_buf_putc(out, ',');
        put_gate(&s->judge, m, out);
    }
    loami_buf_puts(out, "]}");
}

static uint32_t inflight_on(const loami_shift *s, loami_side side)
{
    loami_pool *p = loami_shift_pool(s);
    uint32_t n = 0;
    for (uint32_t i = 0; p && i < p->n_members; i++)
        if (p->members[i].side == side) n += p->members[i].backend->inflight;
    return n;
}

void loami_shift_write(const loami_shift *s, loami_buf *out, bool full)
{
    const loami_rollout *r = &s->r;
    double part = loami_rollout_part(r);
    uint32_t since = (uint32_t)(time(NULL) - (int64_t)r->plan.idle_s);
    loami_buf_puts(out, "{\"pool\":");
    put_text(out, s->pool);
    loami_buf_printf(out, ",\"state\":\"%s\",\"why\":", loami_rollout_states[r->state]);
    put_text(out, r->why);
    loami_buf_puts(out, ",\"advice\":");
    put_text(out, s->advice);
    loami_buf_printf(out, ",\"step\":%u,\"per_cent\":%g,\"started\":%lld,\"step_started\":%lld", r->step, 100 * part,
                     (long long)r->started, (long long)r->step_started);
    if (r->state != LOAMI_R_NONE) {
        loami_buf_puts(out, ",\"plan\":{");
        loami_plan_write(&r->plan, out);
        loami_buf_printf(out,
                         "},\"inflight\":[%u,%u],\"conversations\":%u,\"on_old\":%u,\"warming\":{\"on\":%s,\"sent\":%u,"
                         "\"failed\":%u},\"figures\":",
                         inflight_on(s, LOAMI_SIDE_OLD), inflight_on(s, LOAMI_SIDE_NEW), loami_sides_count(s->sides),
                         full ? loami_sides_alive(s->sides, LOAMI_SIDE_OLD, since) : 0, s->warming.on ? "true" : "false",
                         s->warming.sent, s->warming.failed);
        loami_shift_figures(s, out);
    }
    if (full) {
        char *history = r->history ? loami_json_text(r->history) : NULL;
        loami_buf_puts(out, ",\"shadows\":");
        loami_shadows_write(&s->shadows, out);
        loami_buf_puts(out, ",\"history\":");
        loami_buf_puts(out, history ? history : "[]");
        free(history);
    }
    loami_buf_putc(out, '}');
}

/* ---- asking -------------------------------------------------------------------------------------- */

static loami_shift *find(loami_gateway *gw, const char *pool, loami_fault *f)
{
    const loami_routes *r = gw->routes;
    if (!pool && r->n_pools == 1) return r->pools[0].shift;
    for (uint32_t i = 0; pool && i < r->n_pools; i++)
        if (strcmp(r->pools[i].name, pool) == 0) return r->pools[i].shift;
    if (pool)
        loami_fault_set(f, 404, "pool_not_found", "pool", "There is no pool named \"%.64s\".", pool);
    else
        loami_fault_set(f, 400, "invalid_value", "pool", "There are %u pools; say which one.", r->n_pools);
    return NULL;
}

static void answer(loami_reply *r, loami_buf *b)
{
    loami_reply_set(r, "Cache-Control", "no-store");
    loami_reply_send(r, 200, "application/json", b->data ? b->data : "", b->len);
    loami_buf_free(b);
}

void loami_admin_rollout(loami_reply *r, void *arg)
{
    loami_gateway *gw = arg;
    loami_fault f;
    loami_buf b = { 0 };
    const char *query = loami_reply_query(r);
    if (!loami_admin_allowed(gw, r, &f)) {
        loami_reply_fail(r, &f);
        return;
    }
    loami_buf_puts(&b, "{\"rollouts\":[");
    for (uint32_t i = 0; i < gw->routes->n_pools; i++) {
        if (i) loami_buf_putc(&b, ',');
        loami_shift_write(gw->routes->pools[i].shift, &b, query && strstr(query, "full"));
    }
    loami_buf_puts(&b, "]}");
    answer(r, &b);
}

/* ---- orders -------------------------------------------------------------------------------------- */

static int start(loami_shift *s, json_t *body, loam_err *err)
{
    loami_plan plan;
    json_object_del(body, "action");
    int rc = loami_plan_read(&plan, body, "rollout", err);
    return rc < 0 ? rc : loami_shift_start(s, &plan, err);
}

/* The requests that it moves are counted in the answer. */
static int back(loami_shift *s, const json_t *body, loami_buf *more, loam_err *err)
{
    uint32_t moved, left;
    const char *why = json_string_value(json_object_get(body, "why"));
    int rc = loami_shift_back(s, "operator", why && why[0] ? why : "an operator asked for it", err);
    if (rc < 0 || !json_is_true(json_object_get(body, "hard"))) return rc;
    loami_shift_evict(s, &moved, &left);
    loami_buf_printf(more, ",\"moved\":%u,\"left\":%u", moved, left);
    return 0;
}

static int obey(loami_shift *s, json_t *body, const char *action, loami_buf *more, loam_err *err)
{
    if (strcmp(action, "start") == 0) return start(s, body, err);
    if (strcmp(action, "promote") == 0) return loami_shift_promote(s, err);
    if (strcmp(action, "pause") == 0) return loami_shift_pause(s, true, err);
    if (strcmp(action, "resume") == 0) return loami_shift_pause(s, false, err);
    if (strcmp(action, "rollback") == 0) return back(s, body, more, err);
    if (strcmp(action, "forget") == 0) return loami_shift_forget(s, err);
    return loami_fail(err, LOAM_E_ARG,
                      "action must be start, promote, pause, resume, rollback or forget, not \"%.40s\"", action);
}

void loami_admin_rollout_order(loami_reply *r, void *arg)
{
    loami_gateway *gw = arg;
    loami_fault f;
    loami_buf b = { 0 }, more = { 0 };
    json_t *body = NULL;
    size_t n;
    loam_err err = { 0 };
    const char *bytes = loami_reply_body(r, &n);
    if (!loami_admin_allowed(gw, r, &f)) {
        loami_reply_fail(r, &f);
        return;
    }
    int rc = loami_json_parse(&body, bytes, n, "body", &err);
    const char *action = json_string_value(json_object_get(body, "action"));
    const char *pool = json_string_value(json_object_get(body, "pool"));
    if (rc == 0 && !action) rc = loami_fail(&err, LOAM_E_ARG, "body: \"action\" is missing");
    loami_shift *s = rc == 0 ? find(gw, pool, &f) : NULL;
    if (s) rc = obey(s, body, action, &more, &err);
    if (rc < 0) loami_fault_set(&f, rc == LOAM_E_IO ? 500 : 400, "rollout_refused", "", "%s", err.msg);
    if (!s || rc < 0) {
        loami_reply_fail(r, &f);
    } else {
        loami_buf_puts(&b, "{\"rollout\":");
        loami_shift_write(s, &b, false);
        if (more.len) loami_buf_put(&b, more.data, more.len);
        loami_buf_putc(&b, '}');
        answer(r, &b);
    }
    loami_buf_free(&more);
    json_decref(body);
}
