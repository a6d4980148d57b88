#include "gateway/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const loami_export loami_exports[] = {
    { "haproxy", "HAProxy 2.6 or later", loami_export_haproxy },
    { "envoy", "Envoy 1.24 or later", loami_export_envoy },
    { "k8s", "Kubernetes: this gateway as a Deployment, with probes", loami_export_k8s },
    { NULL, NULL, NULL },
};

loami_url loami_url_split(const char *url)
{
    loami_url u = { .tls = strncmp(url, "https", 5) == 0, .path = "" };
    const char *p = strstr(url, "://") + 3, *end = p + strcspn(p, "/"), *host_end = end;
    u.port = u.tls ? 443 : 80;
    u.path = end;
    if (*p == '[') {
        p++;
        host_end = memchr(p, ']', (size_t)(end - p));
        if (!host_end) host_end = end;
        if (host_end + 1 < end && host_end[1] == ':') u.port = (uint16_t)atoi(host_end + 2);
    } else {
        const char *colon = memchr(p, ':', (size_t)(end - p));
        if (colon) {
            host_end = colon;
            u.port = (uint16_t)atoi(colon + 1);
        }
    }
    snprintf(u.host, sizeof u.host, "%.*s", (int)(host_end - p), p);
    return u;
}

const char *loami_export_health(const loami_gw_config *c, const loami_pool_conf *p)
{
    const loami_kind *k = c->backends[p->backends[0]].kind;
    for (uint32_t i = 1; i < p->n_backends; i++)
        if (c->backends[p->backends[i]].kind != k) k = NULL;
    return k ? k->health : "/v1/models";
}

void loami_export_variable(char out[80], const char *name)
{
    size_t n = (size_t)snprintf(out, 80, "LOAM_KEY_");
    for (; *name && n < 79; name++) {
        char c = *name;
        out[n++] = (char)(c >= 'a' && c <= 'z'                               ? c - 32
                          : (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c
                                                                             : '_');
    }
    out[n] = 0;
}

bool loami_export_stands_by(const loami_gw_config *c, const loami_pool_conf *p, const loami_backend_conf *b)
{
    if (!b->standby) return false;
    for (uint32_t i = 0; i < p->n_backends; i++)
        if (!c->backends[p->backends[i]].standby) return true;
    return false;
}
