/* Envoy: one listener, one cluster a pool. Envoy does not read bodies by itself, so the pool is picked by the
 * header X-Loam-Model, which a client or a filter of yours sets. */
#include "gateway/export.h"
#include "gateway/policy.h"

#include <stdio.h>
#include <string.h>

/* A YAML string that is also JSON's. */
static void put_string(loami_buf *o, const char *s)
{
    loami_buf_putc(o, '"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') loami_buf_putc(o, '\\');
        loami_buf_putc(o, *s);
    }
    loami_buf_putc(o, '"');
}

static void put_retry(loami_buf *o)
{
    loami_buf_puts(
        o, "                    timeout: 0s\n"
           "                    retry_policy:\n"
           "                      retry_on: "
           "connect-failure,refused-stream,reset-before-request,retriable-status-codes\n"
           "                      retriable_status_codes: [503]\n"
           "                      num_retries: 3\n"
           "                      retry_host_predicate:\n"
           "                        - name: envoy.retry_host_predicates.previous_hosts\n"
           "                          typed_config:\n"
           "                            \"@type\": "
           "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate\n");
}

static void put_hash(loami_buf *o, const loami_gw_config *c, const loami_pool_conf *p)
{
    if (strcmp(p->policy->name, "session") != 0) return;
    loami_buf_puts(o, "                    hash_policy:\n                      - header: { header_name: ");
    put_string(o, c->affinity.header);
    loami_buf_puts(o, " }\n");
}

static void put_route(loami_buf *o, const loami_gw_config *c, const loami_pool_conf *p, const char *model)
{
    loami_buf_puts(o, "                - match:\n                    prefix: \"/\"\n");
    if (model) {
        loami_buf_puts(o, "                    headers:\n                      - name: x-loam-model\n        "
                          "                string_match: { exact: ");
        put_string(o, model);
        loami_buf_puts(o, " }\n");
    }
    loami_buf_printf(o, "                  route:\n                    cluster: pool_%s\n", p->name);
    put_retry(o);
    put_hash(o, c, p);
}

static void put_routes(loami_buf *o, const loami_gw_config *c)
{
    const loami_pool_conf *any = &c->pools[0];
    for (uint32_t i = 0; i < c->n_pools; i++)
        for (uint32_t k = 0; k < c->pools[i].n_models; k++)
            put_route(o, c, &c->pools[i], c->pools[i].models[k]);
    for (uint32_t i = c->n_pools; i-- > 0;)
        if (!c->pools[i].n_models) any = &c->pools[i];
    put_route(o, c, any, NULL);
}

static const char *policy_of(const loami_pool_conf *p)
{
    if (strcmp(p->policy->name, "session") == 0) return "RING_HASH";
    return strcmp(p->policy->name, "least_outstanding_tokens") == 0 ? "LEAST_REQUEST" : "ROUND_ROBIN";
}

static void put_endpoint(loami_buf *o, const loami_backend_conf *b)
{
    loami_url u = loami_url_split(b->url);
    loami_buf_printf(o,
                     "              - load_balancing_weight: %u\n                endpoint:\n                 "
                     " address:\n                    socket_address: { address: ",
                     b->weight);
    put_string(o, u.host);
    loami_buf_printf(o, ", port_value: %u }\n", u.port);
}

static void put_cluster(loami_buf *o, const loami_gw_config *c, const loami_pool_conf *p)
{
    bool tls = loami_url_split(c->backends[p->backends[0]].url).tls;
    loami_buf_printf(
        o, "    - name: pool_%s\n      type: STRICT_DNS\n      lb_policy: %s\n      connect_timeout: %.3gs\n",
        p->name, policy_of(p), c->timeouts.connect_s);
    loami_buf_printf(o,
                     "      health_checks:\n        - timeout: %.3gs\n          interval: %.3gs\n          "
                     "healthy_threshold: %u\n          unhealthy_threshold: %u\n"
                     "          http_health_check: { path: \"%s\" }\n",
                     c->health.timeout_s, c->health.interval_s, c->health.rise, c->health.fall,
                     loami_export_health(c, p));
    loami_buf_printf(o,
                     "      outlier_detection:\n        consecutive_5xx: %u\n        base_ejection_time: "
                     "%.3gs\n        max_ejection_time: %.3gs\n",
                     c->breaker.failures, c->breaker.open_s, c->breaker.open_max_s);
    if (tls)
        loami_buf_puts(
            o, "      transport_socket:\n        name: envoy.transport_sockets.tls\n        typed_config:\n"
               "          \"@type\": "
               "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n");
    loami_buf_printf(o,
                     "      load_assignment:\n        cluster_name: pool_%s\n        endpoints:\n          - "
                     "lb_endpoints:\n",
                     p->name);
    for (uint32_t i = 0; i < p->n_backends; i++)
        if (!loami_export_stands_by(c, p, &c->backends[p->backends[i]]))
            put_endpoint(o, &c->backends[p->backends[i]]);
}

void loami_export_envoy(loami_buf *o, const loami_gw_config *c)
{
    loami_buf_puts(o, "# Made by `loam gateway export --format envoy`. Envoy passes streams on and retries "
                      "before the first byte; it does\n"
                      "# not continue a stream whose backend dies, and it does not read the model from a "
                      "request: say it in the header\n"
                      "# X-Loam-Model, or set that with a filter.\n"
                      "static_resources:\n  listeners:\n    - name: loam\n      address:\n        "
                      "socket_address: { address: ");
    put_string(o, c->host);
    loami_buf_printf(o, ", port_value: %u }\n", c->port);
    loami_buf_puts(o, "      filter_chains:\n        - filters:\n            - name: "
                      "envoy.filters.network.http_connection_manager\n              typed_config:\n"
                      "                \"@type\": "
                      "type.googleapis.com/"
                      "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n"
                      "                stat_prefix: loam\n");
    loami_buf_printf(o, "                stream_idle_timeout: %.3gs\n", c->timeouts.first_byte_s);
    loami_buf_puts(o,
                   "                http_filters:\n                  - name: envoy.filters.http.router\n     "
                   "               typed_config:\n"
                   "                      \"@type\": "
                   "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n"
                   "                route_config:\n                  virtual_hosts:\n                    - "
                   "name: loam\n                      domains: [\"*\"]\n                      routes:\n");
    loami_buf routes = { 0 };
    put_routes(&routes, c);
    for (const char *line = routes.data; line && *line;) { /* six columns further in */
        size_t n = strcspn(line, "\n");
        loami_buf_printf(o, "        %.*s\n", (int)n, line);
        line += n + (line[n] == '\n');
    }
    loami_buf_free(&routes);
    loami_buf_puts(o, "  clusters:\n");
    for (uint32_t i = 0; i < c->n_pools; i++) put_cluster(o, c, &c->pools[i]);
}
