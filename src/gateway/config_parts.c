#include "gateway/config_parts.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { URL_MAX = 1000 };

/* ---- small readers ------------------------------------------------------------------------------- */

int loami_conf_keep(loami_field_reader *r, void *to, const json_t *v, const loami_place *where)
{
    (void)r, (void)where;
    *(const json_t **)to = v;
    return 0;
}

/* A secret is given as it is, or as the name of an environment variable that holds it. */
int loami_conf_secret(loami_field_reader *r, const char **out, const char *env, const char *field,
                      const loami_place *where)
{
    if (!env) return 0;
    loami_place at = loami_place_in(where, field, 0);
    const char *v = getenv(env);
    if (*out) return loami_gw_wrong(r, &at, "the key is given twice: as it is, and by this variable's name");
    if (!v || !v[0]) return loami_gw_wrong(r, &at, "environment variable %.100s is not set", env);
    *out = loami_arena_strndup(r->arena, v, strlen(v));
    return *out ? 0 : loami_fail_nomem(r->err);
}

/* {"key": "value"} */
int loami_conf_pairs(loami_field_reader *r, const loami_pair **out, uint32_t *n, const json_t *v,
                     uint32_t max, const loami_place *where)
{
    const char *key;
    json_t *value;
    uint32_t i = 0;
    if (!json_is_object(v)) return loami_gw_wrong(r, where, "must be an object of strings");
    if (json_object_size(v) > max) return loami_gw_wrong(r, where, "has more than %u entries", max);
    loami_pair *list = loami_arena_array(r->arena, json_object_size(v) + 1, sizeof *list);
    if (!list) return loami_fail_nomem(r->err);
    json_object_foreach((json_t *)v, key, value) {
        loami_place at = loami_place_in(where, key, 0);
        list[i].key = loami_arena_strndup(r->arena, key, strlen(key));
        if (!list[i].key) return loami_fail_nomem(r->err);
        int rc = loami_gw_text(r, &list[i].value, value, 1024, &at);
        if (rc < 0) return rc;
        i++;
    }
    *out = list;
    *n = i;
    return 0;
}

int loami_conf_policy(loami_field_reader *r, const loami_policy **out, const char *name,
                      const loami_place *where)
{
    char known[200] = "";
    size_t n = 0;
    loami_place at = loami_place_in(where, "policy", 0);
    if (!name) return 0;
    *out = loami_policy_find(name);
    if (*out) return 0;
    for (const loami_policy *const *p = loami_policies; *p && n < sizeof known; p++)
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", (*p)->name);
    return loami_gw_wrong(r, &at, "\"%.40s\" is unknown: %s", name, known);
}

static int find_name(const char *name, uint32_t n, const char *(*name_of)(const void *list, uint32_t i),
                     const void *list)
{
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(name_of(list, i), name) == 0) return (int)i;
    return -1;
}

/* ---- backends ------------------------------------------------------------------------------------ */

typedef struct backend_draft {
    loami_backend_conf b;
    const char *kind, *api_key_env;
    const json_t *models, *labels;
} backend_draft;

static int read_tls(loami_field_reader *r, void *to, const json_t *v, const loami_place *where)
{
    struct {
        const char *ca;
        bool verify;
    } tls = { NULL, true };
    static const loami_gw_field table[] = { { "ca", LOAMI_GF_STRING, 0, 0, 0, NULL },
                                            { "verify", LOAMI_GF_BOOL, sizeof(const char *), 0, 0, NULL },
                                            { 0 } };
    backend_draft *d = to;
    int rc = loami_gw_fields(r, table, &tls, v, where);
    d->b.ca_file = tls.ca;
    d->b.insecure = !tls.verify;
    return rc;
}

/* ["a","b"], or {"what clients say": "what the backend is told"}. */
static int read_models(loami_field_reader *r, loami_backend_conf *b, const json_t *v,
                       const loami_place *where)
{
    const char *const *names;
    if (!v) return 0;
    if (json_is_object(v)) return loami_conf_pairs(r, &b->models, &b->n_models, v, LOAMI_GW_MODELS, where);
    int rc = loami_gw_texts(r, &names, &b->n_models, v, LOAMI_GW_MODELS, where);
    if (rc < 0) return rc;
    loami_pair *list = loami_arena_array(r->arena, b->n_models + 1, sizeof *list);
    if (!list) return loami_fail_nomem(r->err);
    for (uint32_t i = 0; i < b->n_models; i++) list[i] = (loami_pair){ names[i], names[i] };
    b->models = list;
    return 0;
}

static int check_url(loami_field_reader *r, loami_backend_conf *b, const loami_place *where)
{
    loami_place at = loami_place_in(where, "url", 0);
    if (!b->url) return loami_gw_wrong(r, where, "\"url\" is missing");
    const char *host = strncmp(b->url, "http://", 7) == 0    ? b->url + 7
                       : strncmp(b->url, "https://", 8) == 0 ? b->url + 8
                                                             : NULL;
    size_t n = strlen(b->url);
    if (!host || !host[0] || host[0] == '/' || n > URL_MAX || strpbrk(b->url, "?#@ \\"))
        return loami_gw_wrong(r, &at, "must look like http://host:port, without a query");
    while (b->url[n - 1] == '/') n--;
    if (n > 3 && memcmp(b->url + n - 3, "/v1", 3) == 0) n -= 3;
    b->url = loami_arena_strndup(r->arena, b->url, n);
    return b->url ? 0 : loami_fail_nomem(r->err);
}

static bool is_name(const char *s)
{
    for (; *s; s++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", *s)) return false;
    return true;
}

static int check_name(loami_field_reader *r, const char *name, const loami_place *where)
{
    loami_place at = loami_place_in(where, "name", 0);
    if (!name) return loami_gw_wrong(r, where, "\"name\" is missing");
    if (strlen(name) > 64 || !is_name(name))
        return loami_gw_wrong(r, &at, "must be at most 64 of letters, digits, . _ and -");
    return 0;
}

static int read_backend(loami_field_reader *r, loami_backend_conf *out, const json_t *v,
                        const loami_place *where)
{
    static const loami_gw_field table[] = {
        { "name", LOAMI_GF_STRING, offsetof(backend_draft, b.name), 0, 0, NULL },
        { "standby", LOAMI_GF_BOOL, offsetof(backend_draft, b.standby), 0, 0, NULL },
        { "url", LOAMI_GF_STRING, offsetof(backend_draft, b.url), 0, 0, NULL },
        { "kind", LOAMI_GF_STRING, offsetof(backend_draft, kind), 0, 0, NULL },
        { "models", LOAMI_GF_CUSTOM, offsetof(backend_draft, models), 0, 0, loami_conf_keep },
        { "weight", LOAMI_GF_U32, offsetof(backend_draft, b.weight), 1, 1000, NULL },
        { "max_inflight", LOAMI_GF_U32, offsetof(backend_draft, b.max_inflight), 0, 1000000, NULL },
        { "api_key", LOAMI_GF_STRING, offsetof(backend_draft, b.api_key), 0, 0, NULL },
        { "api_key_env", LOAMI_GF_STRING, offsetof(backend_draft, api_key_env), 0, 0, NULL },
        { "tls", LOAMI_GF_CUSTOM, 0, 0, 0, read_tls },
        { "labels", LOAMI_GF_CUSTOM, offsetof(backend_draft, labels), 0, 0, loami_conf_keep },
        { 0 },
    };
    backend_draft d = { .b = { .weight = 1 } };
    loami_place at;
    int rc = loami_gw_fields(r, table, &d, v, where);
    if (rc < 0) return rc;
    if ((rc = check_name(r, d.b.name, where)) < 0 || (rc = check_url(r, &d.b, where)) < 0) return rc;
    if ((rc = loami_conf_secret(r, &d.b.api_key, d.api_key_env, "api_key_env", where)) < 0) return rc;
    if (d.kind && strcmp(d.kind, "auto") != 0) {
        at = loami_place_in(where, "kind", 0);
        d.b.kind = loami_kind_find(d.kind);
        if (!d.b.kind)
            return loami_gw_wrong(
                r, &at, "\"%.40s\" is unknown: auto, loam, vllm, sglang, llama.cpp, ollama, mlx_lm or openai",
                d.kind);
    }
    at = loami_place_in(where, "models", 0);
    if ((rc = read_models(r, &d.b, d.models, &at)) < 0) return rc;
    at = loami_place_in(where, "labels", 0);
    if (d.labels && (rc = loami_conf_pairs(r, &d.b.labels, &d.b.n_labels, d.labels, 32, &at)) < 0) return rc;
    *out = d.b;
    return 0;
}

static const char *backend_name(const void *list, uint32_t i)
{
    return ((const loami_backend_conf *)list)[i].name;
}

static const char *pool_name(const void *list, uint32_t i)
{
    return ((const loami_pool_conf *)list)[i].name;
}

int loami_conf_backends(loami_field_reader *r, loami_gw_config *c, const json_t *v, const loami_place *where)
{
    size_t n = json_array_size(v);
    if (!v) return loami_gw_wrong(r, where, "\"backends\" is missing: an array of {\"name\", \"url\"}");
    loami_place list = loami_place_in(where, "backends", 0);
    if (!json_is_array(v) || n == 0)
        return loami_gw_wrong(r, &list, "must be an array of at least one backend");
    if (n > LOAMI_GW_BACKENDS)
        return loami_gw_wrong(r, &list, "has %zu entries, at most %d are allowed", n, LOAMI_GW_BACKENDS);
    c->backends = loami_arena_array(r->arena, n, sizeof *c->backends);
    if (!c->backends) return loami_fail_nomem(r->err);
    for (size_t i = 0; i < n; i++) {
        loami_place at = loami_place_in(&list, NULL, i);
        int rc = read_backend(r, &c->backends[i], json_array_get(v, i), &at);
        if (rc < 0) return rc;
        if (find_name(c->backends[i].name, (uint32_t)i, backend_name, c->backends) >= 0)
            return loami_gw_wrong(r, &at, "\"%s\" is the name of another backend already",
                                  c->backends[i].name);
        c->n_backends = (uint32_t)i + 1;
    }
    return 0;
}

/* ---- pools --------------------------------------------------------------------------------------- */

typedef struct pool_draft {
    loami_pool_conf p;
    const char *policy;
    const json_t *backends, *models, *fallback, *queue;
} pool_draft;

static int read_refs(loami_field_reader *r, const uint32_t **out, uint32_t *n, const json_t *v,
                     const loami_place *where, const char *what, uint32_t n_names,
                     const char *(*name_of)(const void *, uint32_t), const void *names)
{
    const char *const *list;
    int rc = loami_gw_texts(r, &list, n, v, LOAMI_GW_BACKENDS, where);
    if (rc < 0) return rc;
    uint32_t *refs = loami_arena_array(r->arena, *n + 1, sizeof *refs);
    if (!refs) return loami_fail_nomem(r->err);
    for (uint32_t i = 0; i < *n; i++) {
        loami_place at = loami_place_in(where, NULL, i);
        int found = find_name(list[i], n_names, name_of, names);
        if (found < 0) return loami_gw_wrong(r, &at, "there is no %s named \"%.64s\"", what, list[i]);
        for (uint32_t k = 0; k < i; k++)
            if (refs[k] == (uint32_t)found)
                return loami_gw_wrong(r, &at, "\"%.64s\" is there twice", list[i]);
        refs[i] = (uint32_t)found;
    }
    *out = refs;
    return 0;
}

static int read_pool_queue(loami_field_reader *r, loami_pool_conf *p, const json_t *v,
                           const loami_place *where)
{
    static const loami_gw_field table[] = {
        { "limit", LOAMI_GF_U32, offsetof(loami_pool_conf, queue_limit), 0, 1000000, NULL },
        { "wait_s", LOAMI_GF_NUMBER, offsetof(loami_pool_conf, queue_wait_s), 0, 86400, NULL },
        { 0 },
    };
    loami_place at = loami_place_in(where, "queue", 0);
    return v ? loami_gw_fields(r, table, p, v, &at) : 0;
}

static int read_pool(loami_field_reader *r, loami_gw_config *c, pool_draft *d, const json_t *v,
                     const loami_place *where)
{
    static const loami_gw_field table[] = {
        { "name", LOAMI_GF_STRING, offsetof(pool_draft, p.name), 0, 0, NULL },
        { "backends", LOAMI_GF_CUSTOM, offsetof(pool_draft, backends), 0, 0, loami_conf_keep },
        { "models", LOAMI_GF_CUSTOM, offsetof(pool_draft, models), 0, 0, loami_conf_keep },
        { "policy", LOAMI_GF_STRING, offsetof(pool_draft, policy), 0, 0, NULL },
        { "fallback", LOAMI_GF_CUSTOM, offsetof(pool_draft, fallback), 0, 0, loami_conf_keep },
        { "queue", LOAMI_GF_CUSTOM, offsetof(pool_draft, queue), 0, 0, loami_conf_keep },
        { 0 },
    };
    d->p = (loami_pool_conf){ .policy = c->policy,
                              .queue_limit = c->queue.limit,
                              .queue_wait_s = c->queue.wait_s };
    int rc = loami_gw_fields(r, table, d, v, where);
    if (rc < 0) return rc;
    if ((rc = check_name(r, d->p.name, where)) < 0 ||
        (rc = loami_conf_policy(r, &d->p.policy, d->policy, where)) < 0)
        return rc;
    if (!d->backends) return loami_gw_wrong(r, where, "\"backends\" is missing: an array of their names");
    loami_place at = loami_place_in(where, "backends", 0);
    rc = read_refs(r, &d->p.backends, &d->p.n_backends, d->backends, &at, "backend", c->n_backends,
                   backend_name, c->backends);
    if (rc < 0) return rc;
    if (d->p.n_backends == 0) return loami_gw_wrong(r, &at, "must name at least one");
    at = loami_place_in(where, "models", 0);
    if (d->models &&
        (rc = loami_gw_texts(r, &d->p.models, &d->p.n_models, d->models, LOAMI_GW_MODELS, &at)) < 0)
        return rc;
    return read_pool_queue(r, &d->p, d->queue, where);
}

/* Without pools in the file, one has every backend. */
static int one_pool(loami_field_reader *r, loami_gw_config *c)
{
    uint32_t *all = loami_arena_array(r->arena, c->n_backends, sizeof *all);
    c->pools = loami_arena_array(r->arena, 1, sizeof *c->pools);
    if (!all || !c->pools) return loami_fail_nomem(r->err);
    for (uint32_t i = 0; i < c->n_backends; i++) all[i] = i;
    c->pools[0] = (loami_pool_conf){ .name = "default",
                                     .backends = all,
                                     .n_backends = c->n_backends,
                                     .policy = c->policy,
                                     .queue_limit = c->queue.limit,
                                     .queue_wait_s = c->queue.wait_s };
    c->n_pools = 1;
    return 0;
}

int loami_conf_pools(loami_field_reader *r, loami_gw_config *c, const json_t *v, const loami_place *where)
{
    size_t n = json_array_size(v);
    if (!v) return one_pool(r, c);
    loami_place list = loami_place_in(where, "pools", 0);
    if (!json_is_array(v) || n == 0 || n > LOAMI_GW_POOLS)
        return loami_gw_wrong(r, &list, "must be an array of 1 to %d pools", LOAMI_GW_POOLS);
    pool_draft *drafts = loami_arena_array(r->arena, n, sizeof *drafts);
    c->pools = loami_arena_array(r->arena, n, sizeof *c->pools);
    if (!drafts || !c->pools) return loami_fail_nomem(r->err);
    for (size_t i = 0; i < n; i++) {
        loami_place at = loami_place_in(&list, NULL, i);
        int rc = read_pool(r, c, &drafts[i], json_array_get(v, i), &at);
        if (rc < 0) return rc;
        if (find_name(drafts[i].p.name, (uint32_t)i, pool_name, c->pools) >= 0)
            return loami_gw_wrong(r, &at, "\"%s\" is the name of another pool already", drafts[i].p.name);
        c->pools[i] = drafts[i].p;
        c->n_pools = (uint32_t)i + 1;
    }
    for (size_t i = 0; i < n; i++) {
        loami_place one = loami_place_in(&list, NULL, i), at = loami_place_in(&one, "fallback", 0);
        if (!drafts[i].fallback) continue;
        int rc = read_refs(r, &c->pools[i].fallback, &c->pools[i].n_fallback, drafts[i].fallback, &at, "pool",
                           c->n_pools, pool_name, c->pools);
        if (rc < 0) return rc;
        for (uint32_t k = 0; k < c->pools[i].n_fallback; k++)
            if (c->pools[i].fallback[k] == i)
                return loami_gw_wrong(r, &at, "a pool cannot fall back to itself");
    }
    return 0;
}

/* ---- keys ---------------------------------------------------------------------------------------- */

typedef struct key_draft {
    loami_key_conf k;
    const char *env;
    const json_t *models;
} key_draft;

static int read_key(loami_field_reader *r, loami_key_conf *out, const json_t *v, const loami_place *where)
{
    static const loami_gw_field table[] = {
        { "name", LOAMI_GF_STRING, offsetof(key_draft, k.name), 0, 0, NULL },
        { "key", LOAMI_GF_STRING, offsetof(key_draft, k.key), 0, 0, NULL },
        { "key_env", LOAMI_GF_STRING, offsetof(key_draft, env), 0, 0, NULL },
        { "requests_per_minute", LOAMI_GF_U32, offsetof(key_draft, k.requests_a_minute), 0, 4e9, NULL },
        { "tokens_per_minute", LOAMI_GF_U32, offsetof(key_draft, k.tokens_a_minute), 0, 4e9, NULL },
        { "models", LOAMI_GF_CUSTOM, offsetof(key_draft, models), 0, 0, loami_conf_keep },
        { 0 },
    };
    key_draft d = { 0 };
    int rc = loami_gw_fields(r, table, &d, v, where);
    if (rc < 0) return rc;
    if ((rc = check_name(r, d.k.name, where)) < 0 ||
        (rc = loami_conf_secret(r, &d.k.key, d.env, "key_env", where)) < 0)
        return rc;
    if (!d.k.key || strlen(d.k.key) < 8)
        return loami_gw_wrong(r, where, "needs a \"key\" of at least 8 characters");
    loami_place at = loami_place_in(where, "models", 0);
    if (d.models && (rc = loami_gw_texts(r, &d.k.models, &d.k.n_models, d.models, LOAMI_GW_MODELS, &at)) < 0)
        return rc;
    *out = d.k;
    return 0;
}

int loami_conf_keys(loami_field_reader *r, loami_gw_config *c, const json_t *v, const loami_place *where)
{
    size_t n = json_array_size(v);
    if (!v) return 0;
    loami_place list = loami_place_in(where, "keys", 0);
    if (!json_is_array(v) || n > LOAMI_GW_KEYS)
        return loami_gw_wrong(r, &list, "must be an array of at most %d keys", LOAMI_GW_KEYS);
    loami_key_conf *keys = loami_arena_array(r->arena, n + 1, sizeof *keys);
    if (!keys) return loami_fail_nomem(r->err);
    for (size_t i = 0; i < n; i++) {
        loami_place at = loami_place_in(&list, NULL, i);
        int rc = read_key(r, &keys[i], json_array_get(v, i), &at);
        if (rc < 0) return rc;
        for (size_t k = 0; k < i; k++)
            if (strcmp(keys[k].key, keys[i].key) == 0 || strcmp(keys[k].name, keys[i].name) == 0)
                return loami_gw_wrong(r, &at, "has the name or the key of another one");
    }
    c->keys = keys;
    c->n_keys = (uint32_t)n;
    return 0;
}
