#include "gateway/config.h"

#include "base/file.h"
#include "gateway/config_parts.h"
#include "gateway/policy.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_BYTES_MAX = 4 << 20 };

/* What the top level holds, before the parts that name each other are read in order. */
typedef struct draft {
    loami_gw_config *c;
    const char *listen, *policy, *admin_key, *admin_key_env, *log, *usage_file, *rollout_dir;
    const json_t *backends, *pools, *aliases, *keys;
} draft;

/* ---- small readers ------------------------------------------------------------------------------- */

static int read_hosts(loami_field_reader *r, void *to, const json_t *v, const loami_place *where)
{
    loami_gw_config *c = to;
    return loami_gw_texts(r, &c->hosts, &c->n_hosts, v, 64, where);
}

static int read_origins(loami_field_reader *r, void *to, const json_t *v, const loami_place *where)
{
    loami_gw_config *c = to;
    return loami_gw_texts(r, &c->origins, &c->n_origins, v, 64, where);
}

/* ---- groups -------------------------------------------------------------------------------------- */

#define GROUP(name, ...)                                                                                     \
    static int read_##name(loami_field_reader *r, void *to, const json_t *v, const loami_place *where)       \
    {                                                                                                        \
        static const loami_gw_field table[] = { __VA_ARGS__, { 0 } };                                        \
        return loami_gw_fields(r, table, to, v, where);                                                      \
    }

#define AT(field)                 offsetof(loami_gw_config, field)
#define U32(group, field, lo, hi) LOAMI_GW_FIELD(#field, LOAMI_GF_U32, AT(group.field), lo, hi)
#define NUM(group, field, lo, hi) LOAMI_GW_FIELD(#field, LOAMI_GF_NUMBER, AT(group.field), lo, hi)

GROUP(health, NUM(health, interval_s, 0.05, 3600), NUM(health, timeout_s, 0.05, 600),
      NUM(health, jitter, 0, 0.9), NUM(health, busy_s, 0, 86400), NUM(health, slow_start_s, 0, 3600),
      U32(health, rise, 1, 100), U32(health, fall, 1, 100))
GROUP(breaker, U32(breaker, failures, 1, 1000), NUM(breaker, open_s, 0.05, 3600),
      NUM(breaker, open_max_s, 0.05, 86400))
GROUP(timeouts, NUM(timeouts, connect_s, 0.05, 600), NUM(timeouts, first_byte_s, 0, 86400),
      NUM(timeouts, idle_s, 0, 86400), NUM(timeouts, request_s, 0, 604800), NUM(timeouts, drain_s, 0, 86400))
GROUP(queue, U32(queue, limit, 0, 1000000), NUM(queue, wait_s, 0, 86400))
GROUP(hedge, NUM(hedge, after_s, 0, 3600), U32(hedge, max_tokens, 1, 1000000))
GROUP(affinity, { "header", LOAMI_GF_STRING, offsetof(loami_gw_config, affinity.header), 0, 0, NULL },
      U32(affinity, prefix_bytes, 64, 1 << 20), NUM(affinity, load, 1, 100))
GROUP(limits, { "body_bytes", LOAMI_GF_U32, offsetof(loami_gw_config, max_body_bytes), 1024, 1u << 30, NULL },
      { "all_bodies_bytes", LOAMI_GF_NUMBER, offsetof(loami_gw_config, max_bodies_bytes), 1024, 9007199254740992.0, NULL },
      { "connections", LOAMI_GF_U32, offsetof(loami_gw_config, max_connections), 1, 1000000, NULL })

/* ---- the whole ----------------------------------------------------------------------------------- */

static int read_listen(loami_field_reader *r, loami_gw_config *c, const char *listen,
                       const loami_place *where)
{
    loami_place at = loami_place_in(where, "listen", 0);
    const char *text = listen ? listen : "127.0.0.1:8080", *colon = strrchr(text, ':');
    char *end;
    if (!colon) return loami_gw_wrong(r, &at, "must be address:port, as 127.0.0.1:8080 or [::1]:8080");
    unsigned long port = strtoul(colon + 1, &end, 10);
    size_t n = (size_t)(colon - text);
    if (n > 1 && text[0] == '[' && text[n - 1] == ']') text++, n -= 2;
    if (*end || end == colon + 1 || port > 65535 || n == 0 || n >= sizeof c->host || colon[1] == '-')
        return loami_gw_wrong(r, &at, "must be address:port, as 127.0.0.1:8080 or [::1]:8080");
    memcpy(c->host, text, n);
    c->port = (uint16_t)port;
    return 0;
}

static int read_log(loami_field_reader *r, loami_gw_config *c, const char *log, const loami_place *where)
{
    static const char *const names[] = { "json", "text", "off" };
    loami_place at = loami_place_in(where, "log", 0);
    if (!log) return 0;
    for (int i = 0; i < 3; i++) {
        c->log = i;
        if (strcmp(log, names[i]) == 0) return 0;
    }
    return loami_gw_wrong(r, &at, "must be \"json\", \"text\" or \"off\"");
}

static int read_aliases(loami_field_reader *r, loami_gw_config *c, const json_t *v, const loami_place *where)
{
    loami_place at = loami_place_in(where, "aliases", 0);
    return v ? loami_conf_pairs(r, &c->aliases, &c->n_aliases, v, LOAMI_GW_MODELS, &at) : 0;
}

static void set_defaults(loami_gw_config *c)
{
    c->policy = loami_policies[0];
    c->health.interval_s = 5;
    c->health.timeout_s = 5;
    c->health.jitter = 0.2;
    c->health.busy_s = 120;
    c->health.slow_start_s = 20;
    c->health.rise = 2;
    c->health.fall = 3;
    c->breaker.failures = 5;
    c->breaker.open_s = 1;
    c->breaker.open_max_s = 30;
    c->timeouts.connect_s = 5;
    c->timeouts.first_byte_s = 600;
    c->timeouts.idle_s = 120;
    c->timeouts.drain_s = 600;
    c->queue.limit = 256;
    c->queue.wait_s = 30;
    c->hedge.max_tokens = 64;
    c->affinity.header = "X-Session-Id";
    c->affinity.prefix_bytes = 4096;
    c->affinity.load = 1.25;
    c->resume = true;
    c->max_body_bytes = 32u << 20;
    c->max_bodies_bytes = 256u << 20;
    c->max_connections = 16384;
}

/* The draft is the table's base; members of the config are reached from its own start. */
#define IN_CONFIG(name, reader)                                                                              \
    {                                                                                                        \
        name, LOAMI_GF_CUSTOM, offsetof(draft, c), 0, 0, reader                                              \
    }
#define WRAP(reader)                                                                                         \
    static int in_config_##reader(loami_field_reader *r, void *to, const json_t *v,                          \
                                  const loami_place *where)                                                  \
    {                                                                                                        \
        return reader(r, *(loami_gw_config **)to, v, where);                                                 \
    }
WRAP(read_health)
WRAP(read_breaker)
WRAP(read_timeouts)
WRAP(read_queue)
WRAP(read_hedge)
WRAP(read_affinity)
WRAP(read_limits)
WRAP(read_hosts)
WRAP(read_origins)

static int read_resume(loami_field_reader *r, void *to, const json_t *v, const loami_place *where)
{
    if (!json_is_boolean(v)) return loami_gw_wrong(r, where, "must be true or false");
    (*(loami_gw_config **)to)->resume = json_is_true(v);
    return 0;
}

static int read_all(loami_field_reader *r, loami_gw_config *c, const json_t *root, const loami_place *top)
{
    static const loami_gw_field table[] = {
        { "listen", LOAMI_GF_STRING, offsetof(draft, listen), 0, 0, NULL },
        { "policy", LOAMI_GF_STRING, offsetof(draft, policy), 0, 0, NULL },
        { "backends", LOAMI_GF_CUSTOM, offsetof(draft, backends), 0, 0, loami_conf_keep },
        { "pools", LOAMI_GF_CUSTOM, offsetof(draft, pools), 0, 0, loami_conf_keep },
        { "aliases", LOAMI_GF_CUSTOM, offsetof(draft, aliases), 0, 0, loami_conf_keep },
        { "keys", LOAMI_GF_CUSTOM, offsetof(draft, keys), 0, 0, loami_conf_keep },
        { "admin_key", LOAMI_GF_STRING, offsetof(draft, admin_key), 0, 0, NULL },
        { "admin_key_env", LOAMI_GF_STRING, offsetof(draft, admin_key_env), 0, 0, NULL },
        { "usage_file", LOAMI_GF_STRING, offsetof(draft, usage_file), 0, 0, NULL },
        { "rollout_dir", LOAMI_GF_STRING, offsetof(draft, rollout_dir), 0, 0, NULL },
        { "log", LOAMI_GF_STRING, offsetof(draft, log), 0, 0, NULL },
        IN_CONFIG("health", in_config_read_health),
        IN_CONFIG("breaker", in_config_read_breaker),
        IN_CONFIG("timeouts", in_config_read_timeouts),
        IN_CONFIG("queue", in_config_read_queue),
        IN_CONFIG("hedge", in_config_read_hedge),
        IN_CONFIG("affinity", in_config_read_affinity),
        IN_CONFIG("limits", in_config_read_limits),
        IN_CONFIG("allow_hosts", in_config_read_hosts),
        IN_CONFIG("cors_origins", in_config_read_origins),
        IN_CONFIG("resume", read_resume),
        { 0 },
    };
    draft d = { .c = c };
    int rc = loami_gw_fields(r, table, &d, root, top);
    if (rc < 0) return rc;
    c->admin_key = d.admin_key;
    c->usage_file = d.usage_file;
    c->rollout_dir = d.rollout_dir;
    if ((rc = loami_conf_secret(r, &c->admin_key, d.admin_key_env, "admin_key_env", top)) < 0) return rc;
    if ((rc = read_listen(r, c, d.listen, top)) < 0 ||
        (rc = loami_conf_policy(r, &c->policy, d.policy, top)) < 0)
        return rc;
    if ((rc = read_log(r, c, d.log, top)) < 0 || (rc = read_aliases(r, c, d.aliases, top)) < 0) return rc;
    if ((rc = loami_conf_backends(r, c, d.backends, top)) < 0 ||
        (rc = loami_conf_pools(r, c, d.pools, top)) < 0)
        return rc;
    if (c->breaker.open_max_s < c->breaker.open_s) c->breaker.open_max_s = c->breaker.open_s;
    return loami_conf_keys(r, c, d.keys, top);
}

int loami_gw_config_parse(loami_gw_config **out, const char *text, size_t n, const char *what, loam_err *err)
{
    json_t *root = NULL;
    loami_gw_config *c = calloc(1, sizeof *c);
    loami_place top = { .file = what };
    if (!c) return loami_fail_nomem(err);
    c->refs = 1;
    set_defaults(c);
    loami_field_reader r = { .arena = &c->arena, .err = err };
    int rc = loami_json_parse(&root, text, n, what, err);
    if (rc == 0) rc = read_all(&r, c, root, &top);
    json_decref(root);
    if (rc < 0)
        loami_gw_config_unref(c);
    else
        *out = c;
    return rc;
}

int loami_gw_config_load(loami_gw_config **out, const char *path, loam_err *err)
{
    char *text;
    size_t n;
    int rc = loami_file_read(&text, &n, path, CONFIG_BYTES_MAX, err);
    if (rc < 0) return rc;
    rc = loami_gw_config_parse(out, text, n, path, err);
    free(text);
    return rc;
}

loami_gw_config *loami_gw_config_ref(loami_gw_config *c)
{
    c->refs++;
    return c;
}

void loami_gw_config_unref(loami_gw_config *c)
{
    if (!c || --c->refs) return;
    loami_arena_free(&c->arena);
    free(c);
}
