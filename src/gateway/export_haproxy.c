/* HAProxy does the balancing and the checks; what it cannot do is said in the file itself. */
#include "gateway/export.h"
#include "gateway/policy.h"

#include <stdio.h>
#include <string.h>

static void put_head(loami_buf *o, const loami_gw_config *c)
{
    loami_buf_puts(o,
                   "# Made by `loam gateway export --format haproxy`. HAProxy passes streams on and retries "
                   "before the first\n"
                   "# byte; it does not continue a stream whose backend dies, count tokens, limit keys or "
                   "hold usage, and it\n"
                   "# balances requests, not tokens. Models are read from the first 128 KiB of a request.\n"
                   "global\n");
    loami_buf_puts(o, "    tune.bufsize 131072\n\n"); /* maxconn comes from its limit of files */
    loami_buf_puts(o, "defaults\n    mode http\n    option http-keep-alive\n    option http-no-delay\n    "
                      "option redispatch\n    option forwardfor\n"
                      "    retries 3\n    retry-on conn-failure empty-response 503\n");
    loami_buf_printf(o,
                     "    timeout connect %.0fms\n    timeout client %.0fs\n    timeout server %.0fs\n    "
                     "timeout queue %.0fms\n    timeout check %.0fms\n\n",
                     c->timeouts.connect_s * 1e3, c->timeouts.idle_s > 0 ? c->timeouts.idle_s : 86400,
                     c->timeouts.first_byte_s > 0 ? c->timeouts.first_byte_s : 86400, c->queue.wait_s * 1e3,
                     c->health.timeout_s * 1e3);
}

static void put_string(loami_buf *o, const char *s)
{
    loami_buf_putc(o, '"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\' || *s == '$') loami_buf_putc(o, '\\');
        loami_buf_putc(o, *s);
    }
    loami_buf_putc(o, '"');
}

/* The models of a pool and their aliases. */
static void put_rule(loami_buf *o, const loami_gw_config *c, const loami_pool_conf *p)
{
    for (uint32_t i = 0; i < p->n_models; i++) {
        loami_buf_printf(o, "    use_backend pool_%s if { var(txn.model) -m str ", p->name);
        put_string(o, p->models[i]);
        for (uint32_t k = 0; k < c->n_aliases; k++) {
            if (strcmp(c->aliases[k].value, p->models[i]) != 0) continue;
            loami_buf_putc(o, ' ');
            put_string(o, c->aliases[k].key);
        }
        loami_buf_puts(o, " }\n");
    }
}

static void put_keys(loami_buf *o, const loami_gw_config *c)
{
    char variable[80];
    if (!c->n_keys) return;
    loami_buf_puts(o, "    # Keys come from the environment.\n");
    for (uint32_t i = 0; i < c->n_keys; i++) {
        loami_export_variable(variable, c->keys[i].name);
        loami_buf_printf(o, "    acl key_ok req.hdr(Authorization) -m str \"Bearer ${%s}\"\n", variable);
    }
    loami_buf_puts(o, "    http-request deny deny_status 401 if !key_ok\n");
}

static void put_frontend(loami_buf *o, const loami_gw_config *c)
{
    const char *any = c->pools[0].name;
    loami_buf_printf(
        o, strchr(c->host, ':') ? "frontend loam\n    bind [%s]:%u\n" : "frontend loam\n    bind %s:%u\n",
        c->host, c->port);
    put_keys(o, c);
    loami_buf_puts(o, "    unique-id-format %{+X}o%ci%cp%Ts%rt\n    http-request set-header X-Request-Id "
                      "%[unique-id] unless { req.hdr(X-Request-Id) -m found }\n");
    if (c->n_pools > 1) {
        loami_buf_puts(o, "    option http-buffer-request\n    http-request set-var(txn.model) "
                          "req.body,json_query('$.model')\n");
        for (uint32_t i = 0; i < c->n_pools; i++) put_rule(o, c, &c->pools[i]);
    }
    for (uint32_t i = c->n_pools; i-- > 0;)
        if (!c->pools[i].n_models) any = c->pools[i].name;
    loami_buf_printf(o, "    default_backend pool_%s\n\n", any);
}

static void put_policy(loami_buf *o, const loami_gw_config *c, const loami_pool_conf *p)
{
    const char *policy = p->policy->name;
    if (strcmp(policy, "session") == 0)
        loami_buf_printf(o, "    balance hdr(%s)\n    hash-type consistent\n", c->affinity.header);
    else if (strcmp(policy, "prefix_affinity") == 0)
        loami_buf_printf(o,
                         "    option http-buffer-request\n    balance hash req.body,bytes(0,512)\n    "
                         "hash-type consistent\n    hash-balance-factor %.0f\n",
                         c->affinity.load * 100);
    else
        loami_buf_printf(o, "    balance %s\n",
                         strcmp(policy, "least_outstanding_tokens") == 0 ? "leastconn" : "roundrobin");
}

static void put_server(loami_buf *o, const loami_gw_config *c, const loami_pool_conf *p,
                       const loami_backend_conf *b, bool weighted)
{
    loami_url u = loami_url_split(b->url);
    loami_buf_printf(o, strchr(u.host, ':') ? "    server %s [%s]:%u" : "    server %s %s:%u", b->name,
                     u.host, u.port);
    if (weighted) loami_buf_printf(o, " weight %u", b->weight > 256 ? 256 : b->weight);
    if (b->max_inflight) loami_buf_printf(o, " maxconn %u", b->max_inflight);
    loami_buf_printf(o,
                     " check inter %.0fms rise %u fall %u slowstart %.0fms observe layer7 error-limit %u "
                     "on-error mark-down",
                     c->health.interval_s * 1e3, c->health.rise, c->health.fall, c->health.slow_start_s * 1e3,
                     c->breaker.failures);
    if (loami_export_stands_by(c, p, b)) loami_buf_puts(o, " disabled");
    if (u.tls && b->insecure)
        loami_buf_puts(o, " ssl verify none");
    else if (u.tls)
        loami_buf_printf(o, " ssl verify required ca-file %s sni str(%s)",
                         b->ca_file ? b->ca_file : "@system-ca", u.host);
    loami_buf_puts(o, "\n");
    if (u.path[0])
        loami_buf_printf(o,
                         "    # %s: its URL's path %s is not part of this: http-request set-path adds it\n",
                         b->name, u.path);
}

static void put_pool(loami_buf *o, const loami_gw_config *c, const loami_pool_conf *p)
{
    char variable[80];
    bool weighted = strcmp(p->policy->name, "round_robin") != 0;
    loami_buf_printf(o, "backend pool_%s\n", p->name);
    put_policy(o, c, p);
    loami_buf_printf(o, "    option httpchk GET %s\n    http-check expect status 200\n",
                     loami_export_health(c, p));
    loami_buf_printf(o,
                     "    http-error status 503 content-type application/json string "
                     "'{\"error\":{\"message\":\"No healthy MLX backends in pool \\\"%s\\\".\","
                     "\"type\":\"server_error\",\"param\":null,\"code\":\"no_healthy_backends\"}}'\n",
                     p->name);
    for (uint32_t i = 0; i < p->n_backends; i++) {
        const loami_backend_conf *b = &c->backends[p->backends[i]];
        if (!b->api_key) continue;
        loami_export_variable(variable, b->name);
        loami_buf_printf(o, "    http-request set-header Authorization \"Bearer ${%s}\"\n", variable);
        break;
    }
    for (uint32_t i = 0; i < p->n_backends; i++) put_server(o, c, p, &c->backends[p->backends[i]], weighted);
    for (uint32_t i = 0; i < p->n_fallback; i++)
        loami_buf_printf(o, "    # falls back to %s in loam; HAProxy needs its servers here as `backup`\n",
                         c->pools[p->fallback[i]].name);
    loami_buf_putc(o, '\n');
}

void loami_export_haproxy(loami_buf *o, const loami_gw_config *c)
{
    put_head(o, c);
    put_frontend(o, c);
    for (uint32_t i = 0; i < c->n_pools; i++) put_pool(o, c, &c->pools[i]);
}
