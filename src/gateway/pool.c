#include "gateway/shift.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- routes -------------------------------------------------------------------------------------- */

static int fill_pool(loami_routes *r, loami_pool *p, const loami_pool_conf *conf, loam_err *err)
{
    p->routes = r;
    p->conf = conf;
    p->name = loami_gw_intern(r->gw, conf->name);
    TAILQ_INIT(&p->queue);
    p->shift = loami_shift_of(r->gw, r->config, conf->name, err);
    if (!p->shift) return err->code;
    p->members = calloc(conf->n_backends, sizeof *p->members);
    if (!p->members) return loami_fail_nomem(err);
    for (uint32_t i = 0; i < conf->n_backends; i++) {
        loami_backend *b = loami_backend_find(r->gw, r->config->backends[conf->backends[i]].name);
        if (!b) return loami_fail_nomem(err);
        loami_backend_ref(b);
        p->members[p->n_members++].backend = b;
    }
    loami_shift_members(p);
    return 0;
}

loami_routes *loami_routes_new(loami_gateway *gw, loami_gw_config *config, loam_err *err)
{
    loami_routes *r = calloc(1, sizeof *r + config->n_pools * sizeof r->pools[0]);
    if (!r) {
        loami_fail_nomem(err);
        return NULL;
    }
    r->gw = gw;
    r->refs = 1;
    r->config = loami_gw_config_ref(config);
    while (r->n_pools < config->n_pools) {
        uint32_t i = r->n_pools++;
        if (fill_pool(r, &r->pools[i], &config->pools[i], err) == 0) continue;
        loami_routes_unref(r);
        return NULL;
    }
    return r;
}

void loami_routes_unref(loami_routes *r)
{
    if (!r || --r->refs) return;
    for (uint32_t i = 0; i < r->n_pools; i++) {
        for (uint32_t k = 0; k < r->pools[i].n_members; k++)
            loami_backend_unref(r->pools[i].members[k].backend);
        free(r->pools[i].members);
    }
    loami_gw_config_unref(r->config);
    free(r);
}

static bool lists(const loami_pool *p, const char *model)
{
    for (uint32_t i = 0; i < p->conf->n_models; i++)
        if (strcmp(p->conf->models[i], model) == 0) return true;
    return false;
}

static bool someone_has(const loami_pool *p, const char *model)
{
    const char *told;
    for (uint32_t i = 0; i < p->n_members; i++)
        if (!p->members[i].backend->removed && loami_backend_has(p->members[i].backend, model, &told))
            return true;
    return false;
}

loami_pool *loami_routes_pool(loami_routes *r, const char *model)
{
    if (!model) return &r->pools[0];
    for (uint32_t i = 0; i < r->n_pools; i++)
        if (lists(&r->pools[i], model)) return &r->pools[i];
    for (uint32_t i = 0; i < r->n_pools; i++)
        if (!r->pools[i].conf->n_models && someone_has(&r->pools[i], model)) return &r->pools[i];
    return NULL;
}

/* ---- choosing ------------------------------------------------------------------------------------ */

static bool has_place(const loami_backend *b)
{
    return !b->conf->max_inflight || b->inflight < b->conf->max_inflight;
}

static loami_member *choose_on(loami_pool *p, loami_exchange *x, loami_side side,
                               bool (*fits)(const loami_exchange *x, const loami_backend *b), bool *full)
{
    loami_bid bids[LOAMI_GW_BACKENDS];
    loami_member *who[LOAMI_GW_BACKENDS];
    double now = loami_now_s();
    uint32_t n = 0, n_calm = 0;
    const char *told;

    if (full) *full = false;
    for (uint32_t i = 0; i < p->n_members; i++) {
        loami_member *m = &p->members[i];
        loami_backend *b = m->backend;
        if (side != LOAMI_SIDE_NONE && m->side != side) continue;
        if (!loami_backend_usable(b) || loami_exchange_tried(x, b) ||
            !loami_backend_has(b, x->facts.name, &told) || (fits && !fits(x, b)))
            continue;
        if (full && !has_place(b)) {
            *full = true;
            continue;
        }
        who[n++] = m;
        if (b->busy_until_s <= now) n_calm++;
    }
    if (n == 0) return NULL;
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        loami_backend *b = who[i]->backend;
        if (n_calm && b->busy_until_s > now) continue;
        who[k] = who[i];
        bids[k++] = (loami_bid){
            .name_hash = b->name_hash,
            .weight = b->conf->weight,
            .ramp = loami_backend_ramp(b, now),
            .load = b->owed + loami_backend_fails(b) * (x->facts.wish.cost + b->owed),
            .current = &who[i]->current,
            .last_turn = &who[i]->last_turn,
        };
    }
    loami_member *m = who[p->conf->policy->pick(bids, k, &x->facts.wish)];
    m->last_turn = ++p->turns;
    m->requests++;
    return m;
}

/* On the side that the request belongs to; on the other one, where that is allowed, if nobody is there. */
loami_member *loami_pool_choose(loami_pool *p, loami_exchange *x,
                                bool (*fits)(const loami_exchange *x, const loami_backend *b), bool *full)
{
    loami_side side = loami_shift_side(p, x);
    loami_member *m = choose_on(p, x, side, fits, full);
    if (m || (full && *full) || !loami_shift_spills(p, side)) return m;
    if (!x->over && x->side == side) x->side_failed = true;
    return choose_on(p, x, side == LOAMI_SIDE_NEW ? LOAMI_SIDE_OLD : LOAMI_SIDE_NEW, fits, full);
}

/* ---- waiting for a place ------------------------------------------------------------------------- */

void loami_pool_leave(loami_exchange *x)
{
    if (!x->queued) return;
    TAILQ_REMOVE(&x->pool->queue, x, next_queued);
    x->pool->n_queued--;
    x->queued = false;
    loami_timer_clear(&x->timer);
}

static void refuse_full(loami_exchange *x, const char *why)
{
    loami_fault f;
    loami_fault_set(&f, 429, "queue_full", "",
                    "Every backend of pool \"%s\" is at its limit, and %s. Try again later.", x->pool->name,
                    why);
    x->pool->refused++;
    loami_exchange_fail(x, &f);
}

static void on_waited(void *arg)
{
    loami_exchange *x = arg;
    char why[80];
    snprintf(why, sizeof why, "none became free within %.3g seconds", x->pool->conf->queue_wait_s);
    loami_pool_leave(x);
    refuse_full(x, why);
}

/* False when the queue is full. */
static bool enqueue(loami_exchange *x)
{
    loami_pool *p = x->pool;
    if (p->n_queued >= p->conf->queue_limit) return false;
    if (!loami_timer_set(x->gw->loop, &x->timer, p->conf->queue_wait_s, on_waited, x)) return false;
    TAILQ_INSERT_TAIL(&p->queue, x, next_queued);
    p->n_queued++;
    p->queued++;
    x->queued = true;
    return true;
}

static void serve_queue(loami_pool *p)
{
    loami_exchange *x, *after;
    bool full;
    for (x = TAILQ_FIRST(&p->queue); x; x = after) {
        after = TAILQ_NEXT(x, next_queued);
        loami_member *m = loami_pool_choose(p, x, NULL, &full);
        if (!m && full) continue;
        loami_pool_leave(x);
        if (!m || !loami_attempt_start(x, m, false)) loami_exchange_next(x);
    }
}

static void on_moved(void *arg)
{
    loami_gateway *gw = arg;
    for (uint32_t i = 0; i < gw->routes->n_pools; i++) serve_queue(&gw->routes->pools[i]);
}

void loami_pool_moved(loami_gateway *gw)
{
    if (!gw->routes) return;
    for (uint32_t i = 0; i < gw->routes->n_pools; i++)
        if (gw->routes->pools[i].n_queued) {
            loami_timer_set(gw->loop, &gw->moved, 0, on_moved, gw);
            return;
        }
}

/* ---- dispatch ------------------------------------------------------------------------------------ */

/* The next pool that stands in for the first one; its own model is asked for there. */
static bool fall_back(loami_exchange *x)
{
    const loami_pool_conf *first = x->first_pool->conf;
    if (x->fallbacks == first->n_fallback) return false;
    x->pool = &x->routes->pools[first->fallback[x->fallbacks++]];
    if (x->facts.name && x->pool->conf->n_models && !lists(x->pool, x->facts.name))
        x->facts.name = x->pool->conf->models[0];
    return true;
}

static void refuse_nobody(loami_exchange *x)
{
    loami_fault f;
    if (x->failed_status)
        loami_fault_set(&f, x->failed_status, "backend_failed", "", "%s", x->failed_words);
    else if (x->failed_words[0])
        loami_fault_set(&f, 503, "no_healthy_backends", "",
                        "No healthy MLX backends in pool \"%s\" (the last one tried: %s).",
                        x->first_pool->name, x->failed_words);
    else
        loami_fault_set(&f, 503, "no_healthy_backends", "", "No healthy MLX backends in pool \"%s\".",
                        x->first_pool->name);
    x->first_pool->nobody++;
    loami_exchange_fail(x, &f);
}

void loami_pool_dispatch(loami_exchange *x)
{
    do {
        bool full = false;
        loami_member *m = x->n_tried < LOAMI_GW_TRIES ? loami_pool_choose(x->pool, x, NULL, &full) : NULL;
        if (m && loami_attempt_start(x, m, false)) return;
        if (full && enqueue(x)) return;
        if (full && x->fallbacks == x->first_pool->conf->n_fallback) {
            refuse_full(x, "its queue is full too");
            return;
        }
    } while (fall_back(x));
    refuse_nobody(x);
}
