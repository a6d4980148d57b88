#include "gateway/gw.h"

#include "base/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double RAMP_LEAST = 0.1;  /* of its share, just after a recovery */
static const double FAILS_FADE_S = 10; /* a failure counts half after about 7 s */

loami_backend *loami_backend_new(loami_gateway *gw, loami_gw_config *config, const loami_backend_conf *conf)
{
    loami_backend *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->gw = gw;
    b->refs = 1;
    b->name = loami_gw_intern(gw, conf->name);
    b->name_hash = loami_hash(b->name, strlen(b->name), 0);
    b->changed_s = loami_now_s();
    b->open_for_s = config->breaker.open_s;
    loami_backend_set_conf(b, config, conf);
    TAILQ_INSERT_TAIL(&gw->backends, b, next);
    return b;
}

void loami_backend_set_conf(loami_backend *b, loami_gw_config *config, const loami_backend_conf *conf)
{
    loami_gw_config *before = b->config;
    b->config = loami_gw_config_ref(config);
    if (conf->kind || !before || b->conf->kind) b->kind = conf->kind;
    b->conf = conf;
    loami_gw_config_unref(before);
}

loami_backend *loami_backend_find(loami_gateway *gw, const char *name)
{
    loami_backend *b;
    TAILQ_FOREACH(b, &gw->backends, next)
    if (!b->removed && strcmp(b->name, name) == 0) return b;
    return NULL;
}

void loami_backend_ref(loami_backend *b)
{
    b->refs++;
}

void loami_backend_unref(loami_backend *b)
{
    if (--b->refs) return;
    loami_health_stop(b);
    TAILQ_REMOVE(&b->gw->backends, b, next);
    for (uint32_t i = 0; i < b->n_models; i++) free(b->models[i]);
    free(b->models);
    loami_gw_config_unref(b->config);
    free(b);
}

void loami_backend_remove(loami_backend *b)
{
    if (b->removed) return;
    b->removed = true;
    loami_health_stop(b);
    loami_backend_unref(b);
}

/* ---- models -------------------------------------------------------------------------------------- */

/* Ollama's "llama3" is its "llama3:latest". */
static bool same_model(const char *listed, const char *asked)
{
    size_t n = strlen(asked);
    return strncmp(listed, asked, n) == 0 && (listed[n] == 0 || strcmp(listed + n, ":latest") == 0);
}

bool loami_backend_has(const loami_backend *b, const char *model, const char **told)
{
    const loami_backend_conf *c = b->conf;
    *told = NULL;
    if (c->n_models) {
        for (uint32_t i = 0; i < c->n_models; i++) {
            if (model && strcmp(c->models[i].key, model) != 0) continue;
            *told = c->models[i].value;
            return true;
        }
        return false;
    }
    *told = model;
    if (!model || b->n_models == 0) return true;
    for (uint32_t i = 0; i < b->n_models; i++)
        if (same_model(b->models[i], model)) return true;
    return false;
}

/* ---- fitness ------------------------------------------------------------------------------------- */

bool loami_backend_usable(loami_backend *b)
{
    if (b->removed || b->draining || b->health == LOAMI_HEALTH_DOWN) return false;
    if (b->breaker == LOAMI_BREAKER_OPEN && loami_now_s() >= b->open_until_s) {
        b->breaker = LOAMI_BREAKER_HALF;
        b->trial = false;
    }
    return b->breaker == LOAMI_BREAKER_CLOSED || (b->breaker == LOAMI_BREAKER_HALF && !b->trial);
}

double loami_backend_ramp(const loami_backend *b, double now)
{
    double all = b->config->health.slow_start_s;
    if (b->ramp_from_s == 0 || all <= 0) return 1;
    double part = (now - b->ramp_from_s) / all;
    return part >= 1 ? 1 : part > RAMP_LEAST ? part : RAMP_LEAST;
}

double loami_backend_fails(loami_backend *b)
{
    double now = loami_now_s();
    b->fails *= exp((b->fails_s - now) / FAILS_FADE_S);
    b->fails_s = now;
    return b->fails;
}

const char *loami_backend_state(const loami_backend *b)
{
    if (b->draining) return b->inflight ? "draining" : "drained";
    if (b->health == LOAMI_HEALTH_DOWN) return "down";
    if (b->breaker == LOAMI_BREAKER_OPEN) return "failing";
    if (b->breaker == LOAMI_BREAKER_HALF) return "on trial";
    if (b->health == LOAMI_HEALTH_UNKNOWN) return "unknown";
    return loami_backend_ramp(b, loami_now_s()) < 1 ? "warming" : "up";
}
