#include "gateway/shift.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { SPARE_FILES = 128, FIRST_GUESS = 256 };

/* ---- small helpers ------------------------------------------------------------------------------- */

const char *loami_gw_intern(loami_gateway *gw, const char *s)
{
    for (uint32_t i = 0; i < gw->n_interned; i++)
        if (strcmp(gw->interned[i], s) == 0) return gw->interned[i];
    char **more = realloc(gw->interned, (gw->n_interned + 1) * sizeof *more);
    if (!more) return "";
    gw->interned = more;
    char *copy = strdup(s);
    if (!copy) return "";
    gw->interned[gw->n_interned++] = copy;
    return copy;
}

/* splitmix64, from a start that the operating system gave. Names requests and spreads probes; keeps no
 * secret. */
uint64_t loami_gw_random(loami_gateway *gw)
{
    uint64_t z = gw->salt += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double loami_gw_uniform(loami_gateway *gw)
{
    return (double)(loami_gw_random(gw) >> 11) * 0x1p-53;
}

/* A request is two connections. */
static void raise_file_limit(uint32_t connections)
{
    struct rlimit lim;
    rlim_t want = (rlim_t)connections * 2 + SPARE_FILES;
    if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur >= want) return;
    lim.rlim_cur = lim.rlim_max != RLIM_INFINITY && lim.rlim_max < want ? lim.rlim_max : want;
    setrlimit(RLIMIT_NOFILE, &lim);
}

/* ---- the configuration at work ------------------------------------------------------------------- */

static bool same_server(const loami_backend *b, const loami_backend_conf *c)
{
    return strcmp(b->conf->url, c->url) == 0;
}

/* Backends that stay keep what is known of them; the others are made, or let go when their requests are done.
 */
static int load_backends(loami_gateway *gw, loami_gw_config *c, loam_err *err)
{
    loami_backend *b, *after;
    for (uint32_t i = 0; i < c->n_backends; i++) {
        b = loami_backend_find(gw, c->backends[i].name);
        if (b && !same_server(b, &c->backends[i])) {
            loami_backend_remove(b);
            b = NULL;
        }
        if (b) {
            loami_backend_set_conf(b, c, &c->backends[i]);
            continue;
        }
        b = loami_backend_new(gw, c, &c->backends[i]);
        if (!b) return loami_fail_nomem(err);
        loami_health_start(b);
    }
    for (b = TAILQ_FIRST(&gw->backends); b; b = after) {
        bool stays = false;
        after = TAILQ_NEXT(b, next);
        for (uint32_t i = 0; i < c->n_backends; i++) stays |= strcmp(b->name, c->backends[i].name) == 0;
        if (!stays) loami_backend_remove(b);
    }
    return 0;
}

/* Requests that wait in an old pool wait in the new one. */
static void requeue(loami_routes *old, loami_routes *now)
{
    loami_exchange *x;
    for (uint32_t i = 0; i < old->n_pools; i++)
        while ((x = TAILQ_FIRST(&old->pools[i].queue))) {
            loami_pool_leave(x);
            loami_pool *p = loami_routes_pool(now, x->facts.name);
            if (p) {
                x->pool = x->first_pool = p;
                x->fallbacks = 0;
                now->refs++;
                loami_routes_unref(x->routes);
                x->routes = now;
            }
            loami_pool_dispatch(x);
        }
}

static int load(loami_gateway *gw, loami_gw_config *c, loam_err *err)
{
    int rc = load_backends(gw, c, err);
    loami_routes *now = rc < 0 ? NULL : loami_routes_new(gw, c, err), *old = gw->routes;
    if (!now) return rc < 0 ? rc : err->code;
    gw->routes = now;
    loami_gw_keys_load(gw);
    if (old) requeue(old, now);
    loami_routes_unref(old);
    return 0;
}

static int check_fixed(const loami_gateway *gw, const loami_gw_config *c, loam_err *err)
{
    const loami_gw_config *was = gw->routes->config;
    const char *file = c->usage_file ? c->usage_file : "", *before = was->usage_file ? was->usage_file : "";
    const char *what = strcmp(c->host, was->host) || c->port != was->port ? "listen"
                       : strcmp(file, before)                             ? "usage_file"
                                                                          : NULL;
    if (!what) return 0;
    return loami_fail(err, LOAM_E_ARG,
                      "%s: \"%s\" cannot change while the gateway runs; everything stays as it was", gw->path,
                      what);
}

int loami_gateway_reload(loami_gateway *gw, loam_err *err)
{
    loami_gw_config *c;
    if (!gw->path) return loami_fail(err, LOAM_E_ARG, "the configuration came from no file");
    int rc = loami_gw_config_load(&c, gw->path, err);
    if (rc == 0) {
        rc = check_fixed(gw, c, err);
        if (rc == 0) rc = load(gw, c, err);
        loami_gw_config_unref(c);
    }
    if (rc < 0)
        gw->reloads_failed++;
    else
        gw->reloads++;
    return rc;
}

static void on_hup(void *arg)
{
    loami_gateway *gw = arg;
    int rc = loami_gateway_reload(gw, &gw->reload_err);
    if (gw->on_reload) gw->on_reload(gw->options_arg, rc, &gw->reload_err);
}

/* ---- requests ------------------------------------------------------------------------------------ */

static void forward(loami_reply *r, void *arg)
{
    loami_exchange_open(r, arg);
}

static const loami_route own_routes[] = {
    { "GET", "/health", loami_admin_health, true },
    { "GET", "/ready", loami_admin_ready, true },
    { "GET", "/metrics", loami_metrics, true },
    { "GET", "/v1/models", loami_admin_models, true },
    { "GET", "/v1/models/*", loami_admin_models, true },
    { "GET", "/gateway/api/status", loami_admin_status, true },
    { "POST", "/gateway/api/drain", loami_admin_drain, true },
    { "POST", "/gateway/api/undrain", loami_admin_undrain, true },
    { "POST", "/gateway/api/reload", loami_admin_reload, true },
    { "POST", "/gateway/api/restart", loami_admin_restart, true },
    { "GET", "/gateway/api/rollout", loami_admin_rollout, true },
    { "POST", "/gateway/api/rollout", loami_admin_rollout_order, true },
    { "POST", "/v1/*", forward, true },
    { "GET", "/v1/*", forward, true },
    { "DELETE", "/v1/*", forward, true },
    { "POST", "/api/*", forward, true },
    { "GET", "/api/*", forward, true },
    { "POST", "/tokenize", forward, true },
    { "POST", "/detokenize", forward, true },
    { "POST", "/apply-template", forward, true },
    { "POST", "/rerank", forward, true },
    { "POST", "/score", forward, true },
    { "POST", "/infill", forward, true },
    { NULL, NULL, NULL, false },
};

static loami_route *make_routes(const loami_route *pages)
{
    size_t n = 0, m = 0;
    while (pages && pages[n].method) n++;
    while (own_routes[m].method) m++;
    loami_route *all = calloc(n + m + 1, sizeof *all);
    if (all && n) memcpy(all, pages, n * sizeof *all);
    if (all) memcpy(all + n, own_routes, m * sizeof *all);
    return all;
}

/* ---- open and close ------------------------------------------------------------------------------ */

static void close_streams(void *arg)
{
    loami_gateway *gw = arg;
    loami_exchange *x, *after;
    for (x = TAILQ_FIRST(&gw->exchanges); x; x = after) {
        after = TAILQ_NEXT(x, next);
        loami_exchange_abort(x, "the gateway is shutting down");
    }
}

static int open_server(loami_gateway *gw, const loami_gateway_options *o, loam_err *err)
{
    const loami_gw_config *c = gw->routes->config;
    loami_server_config s = {
        .host = c->host,
        .port = c->port,
        .listen_fd = o->listen_fd,
        .routes = gw->all_routes,
        .arg = gw,
        .max_body_bytes = c->max_body_bytes,
        .max_bodies_bytes = (size_t)c->max_bodies_bytes,
        .max_connections = c->max_connections,
        .drain_s = c->timeouts.drain_s < 1 ? 1 : (uint32_t)c->timeouts.drain_s,
        .hosts = c->hosts,
        .n_hosts = c->n_hosts,
        .origins = c->origins,
        .n_origins = c->n_origins,
        .log_off = c->log == LOAMI_GW_LOG_OFF,
        .log_json = c->log == LOAMI_GW_LOG_JSON,
        .on_reload = on_hup,
        .on_drain_late = close_streams,
    };
    gw->first_config = loami_gw_config_ref(gw->routes->config); /* the server borrows its strings */
    return loami_server_open(&gw->server, gw->loop, &s, err);
}

int loami_gateway_open(loami_gateway **out, loami_loop *loop, loami_gw_config *config,
                       const loami_gateway_options *o, loam_err *err)
{
    loami_gateway *gw = calloc(1, sizeof *gw);
    struct timespec now;
    int rc;
    if (!gw) return loami_fail_nomem(err);
    TAILQ_INIT(&gw->backends);
    TAILQ_INIT(&gw->exchanges);
    LIST_INIT(&gw->keys);
    LIST_INIT(&gw->shifts);
    gw->loop = loop;
    gw->path = o->path;
    gw->on_reload = o->on_reload;
    gw->on_restart = o->on_restart;
    gw->options_arg = o->arg;
    gw->opened_s = loami_now_s();
    gw->answer_guess = FIRST_GUESS;
    clock_gettime(CLOCK_REALTIME, &now);
    gw->opened_unix = now.tv_sec;
    gw->salt = (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 30 ^ (uint64_t)getpid() << 48 ^
               (uint64_t)(uintptr_t)gw;
    gw->all_routes = make_routes(o->pages);
    rc = gw->all_routes ? 0 : loami_fail_nomem(err);
    raise_file_limit(config->max_connections);
    if (rc == 0) rc = loami_client_open(&gw->client, loop, config->max_connections * 2, err);
    if (rc == 0 && config->usage_file) rc = loami_ledger_open(&gw->ledger, config->usage_file, err);
    if (rc == 0) rc = load(gw, config, err);
    if (rc == 0) rc = open_server(gw, o, err);
    if (rc < 0)
        loami_gateway_close(gw);
    else
        *out = gw;
    return rc;
}

void loami_gateway_close(loami_gateway *gw)
{
    loami_backend *b;
    loami_gw_key *k;
    loami_shift *s;
    if (!gw) return;
    loami_server_close(gw->server); /* tells every exchange that its client is gone */
    loami_timer_clear(&gw->moved);
    loami_timer_clear(&gw->restart);
    while ((s = LIST_FIRST(&gw->shifts))) loami_shift_free(s);
    loami_routes_unref(gw->routes);
    while ((b = TAILQ_FIRST(&gw->backends))) loami_backend_remove(b);
    loami_client_close(gw->client);
    loami_ledger_close(gw->ledger);
    while ((k = LIST_FIRST(&gw->keys))) {
        LIST_REMOVE(k, next);
        free(k);
    }
    loami_gw_config_unref(gw->first_config);
    for (uint32_t i = 0; i < gw->n_interned; i++) free(gw->interned[i]);
    free(gw->interned);
    free(gw->all_routes);
    loami_buf_free(&gw->scratch);
    free(gw);
}

uint16_t loami_gateway_port(const loami_gateway *gw)
{
    return loami_server_port(gw->server);
}

int loami_gateway_fd(const loami_gateway *gw)
{
    return loami_server_fd(gw->server);
}

void loami_gateway_retire(loami_gateway *gw)
{
    loami_server_retire(gw->server);
    loami_shift_retire(gw);
}
