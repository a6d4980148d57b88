/* Who may ask, and how much. A bucket holds what one minute allows and fills evenly; tokens are taken as they
 * are guessed and put right when the answer is there, so a bucket can be overdrawn once. */
#include "gateway/gw.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Takes as long wherever the difference is. */
bool loami_secret_same(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned char differ = n != m;
    for (size_t i = 0; i < m; i++) differ |= (unsigned char)(a[n ? i % n : 0] ^ b[i]);
    return !differ;
}

static const char *given_key(loami_reply *r)
{
    const char *h = loami_reply_header(r, "Authorization");
    if (h && strncasecmp(h, "Bearer ", 7) == 0) return h + 7 + strspn(h + 7, " ");
    return loami_reply_header(r, "X-Api-Key");
}

static loami_gw_key *key_of(loami_gateway *gw, const loami_key_conf *conf)
{
    const char *name = loami_gw_intern(gw, conf->name);
    loami_gw_key *k;
    LIST_FOREACH(k, &gw->keys, next)
    if (k->name == name) return k;
    k = calloc(1, sizeof *k);
    if (!k) return NULL;
    k->name = name;
    k->requests = conf->requests_a_minute;
    k->tokens = conf->tokens_a_minute;
    k->filled_s = loami_now_s();
    LIST_INSERT_HEAD(&gw->keys, k, next);
    return k;
}

/* Keys that are no longer configured keep their numbers: a request may still be under way with one. */
void loami_gw_keys_load(loami_gateway *gw)
{
    const loami_gw_config *c = gw->routes->config;
    loami_gw_key *k;
    LIST_FOREACH(k, &gw->keys, next) k->conf = NULL;
    for (uint32_t i = 0; i < c->n_keys; i++)
        if ((k = key_of(gw, &c->keys[i]))) k->conf = &c->keys[i];
}

int loami_gw_keys_check(loami_gateway *gw, loami_reply *r, loami_gw_key **out, loami_fault *f)
{
    const char *given = given_key(r);
    loami_gw_key *k, *found = NULL;
    *out = NULL;
    if (gw->routes->config->n_keys == 0) return 0;
    if (!given)
        return loami_fault_set(f, 401, "missing_api_key", "",
                               "This gateway wants an API key: send it as \"Authorization: Bearer KEY\".");
    LIST_FOREACH(k, &gw->keys, next)
    if (k->conf && loami_secret_same(k->conf->key, given)) found = k;
    if (!found)
        return loami_fault_set(f, 401, "invalid_api_key", "", "The API key is not one of this gateway's.");
    *out = found;
    return 0;
}

static void fill(loami_gw_key *k)
{
    double now = loami_now_s(), minutes = (now - k->filled_s) / 60;
    double requests = k->conf->requests_a_minute, tokens = k->conf->tokens_a_minute;
    k->filled_s = now;
    k->requests = k->requests + minutes * requests < requests ? k->requests + minutes * requests : requests;
    k->tokens = k->tokens + minutes * tokens < tokens ? k->tokens + minutes * tokens : tokens;
}

static void tell(loami_reply *r, const char *name, double v)
{
    char text[32];
    snprintf(text, sizeof text, "%.0f", v > 0 ? v : 0);
    loami_reply_set(r, name, text);
}

static int refuse(loami_gw_key *k, loami_reply *r, const char *what, double rate, double missing,
                  loami_fault *f)
{
    double wait = missing / rate * 60;
    k->n_refused++;
    loami_fault_set(f, 429, "rate_limit_exceeded", "",
                    "Key \"%s\" has used its %.0f %s a minute. Try again in %.0f seconds.", k->name, rate,
                    what, wait < 1 ? 1 : wait);
    f->retry_s = wait < 1 ? 1 : (uint32_t)(wait + 1);
    (void)r;
    return -1;
}

int loami_gw_keys_admit(loami_gw_key *k, loami_reply *r, const loami_facts *facts, loami_fault *f)
{
    const loami_key_conf *c = k->conf;
    bool allowed = c->n_models == 0 || !facts->name;
    for (uint32_t i = 0; i < c->n_models; i++)
        allowed |= facts->name && strcmp(c->models[i], facts->name) == 0;
    if (!allowed)
        return loami_fault_set(f, 403, "model_not_allowed", "model",
                               "Key \"%s\" may not use the model \"%.200s\".", k->name, facts->asked);
    fill(k);
    if (c->requests_a_minute && k->requests < 1)
        return refuse(k, r, "requests", c->requests_a_minute, 1 - k->requests, f);
    if (c->tokens_a_minute && k->tokens <= 0)
        return refuse(k, r, "tokens", c->tokens_a_minute, 1 - k->tokens, f);
    k->requests -= 1;
    k->tokens -= facts->wish.cost;
    k->n_requests++;
    if (c->requests_a_minute) {
        tell(r, "X-RateLimit-Limit-Requests", c->requests_a_minute);
        tell(r, "X-RateLimit-Remaining-Requests", k->requests);
    }
    if (c->tokens_a_minute) {
        tell(r, "X-RateLimit-Limit-Tokens", c->tokens_a_minute);
        tell(r, "X-RateLimit-Remaining-Tokens", k->tokens);
    }
    return 0;
}

void loami_gw_keys_charge(loami_gw_key *k, double guessed, uint64_t tokens)
{
    k->tokens += guessed - (double)tokens;
    k->n_tokens += tokens;
}

bool loami_admin_allowed(loami_gateway *gw, loami_reply *r, loami_fault *f)
{
    const char *want = gw->routes->config->admin_key, *given = given_key(r), *peer = loami_reply_peer(r);
    if (want) {
        if (given && loami_secret_same(want, given)) return true;
        loami_fault_set(f, 401, "admin_key_needed", "",
                        "This needs the gateway's admin key: send it as \"Authorization: Bearer KEY\".");
        return false;
    }
    if (strncmp(peer, "127.", 4) == 0 || strcmp(peer, "::1") == 0 || strncmp(peer, "::ffff:127.", 11) == 0)
        return true;
    loami_fault_set(
        f, 403, "admin_key_needed", "",
        "Without an \"admin_key\" in its configuration, the gateway is managed from its own machine alone.");
    return false;
}
