/* A page from anywhere may make its visitor's browser talk to 127.0.0.1. Two checks keep such pages out: the
 * Host header (a name that was rebound to this address is still the page's own name there) and the Origin
 * header. */
#include "net/conn.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

/* Cuts "name:port", "[v6]:port" or "name" into name (without brackets, in lower case); false when it is none.
 */
static bool host_name(char *out, size_t cap, const char *host)
{
    size_t n;
    if (host[0] == '[') {
        const char *end = strchr(++host, ']');
        if (!end || (end[1] && end[1] != ':')) return false;
        n = (size_t)(end - host);
    } else {
        n = strcspn(host, ":");
    }
    if (n == 0 || n >= cap) return false;
    for (size_t i = 0; i < n; i++) out[i] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] + 32 : host[i]);
    out[n] = 0;
    return true;
}

static bool names_this_machine(const char *name)
{
    struct in_addr v4;
    struct in6_addr v6;
    size_t n = strlen(name);
    if (strcmp(name, "localhost") == 0) return true;
    if (n > 10 && strcmp(name + n - 10, ".localhost") == 0) return true;
    if (inet_pton(AF_INET, name, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, name, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static bool host_allowed(const struct loami_server *s, const char *host)
{
    char name[256];
    if (!s->loopback && s->config.n_hosts == 0)
        return true; /* whoever opens it to a network gives it any name */
    if (!host_name(name, sizeof name, host)) return false;
    if (names_this_machine(name) || strcasecmp(name, s->host) == 0) return true;
    for (uint32_t i = 0; i < s->config.n_hosts; i++)
        if (strcasecmp(name, s->config.hosts[i]) == 0) return true;
    return false;
}

/* The origin as configured, or NULL. */
static const char *cross_origin(const struct loami_server *s, const char *origin)
{
    for (uint32_t i = 0; i < s->config.n_origins; i++) {
        const char *o = s->config.origins[i];
        if (strcmp(o, "*") == 0 || strcasecmp(o, origin) == 0) return o;
    }
    return NULL;
}

static bool same_origin(const char *origin, const char *host)
{
    const char *after = strstr(origin, "://");
    return after && host && strcasecmp(after + 3, host) == 0;
}

int loami_guard_check(loami_reply *r, loami_fault *f)
{
    const char *host = loami_reply_header(r, "Host");
    const char *named = evhttp_uri_get_host(evhttp_request_get_evhttp_uri(r->req)); /* in an absolute URI */
    const char *origin = loami_reply_header(r, "Origin");
    bool safe = strcmp(r->method, "GET") == 0 || r->head;

    if (named && !host_allowed(r->server, named)) host = named;
    if (host && !host_allowed(r->server, host))
        return loami_fault_set(f, 403, "host_not_allowed", "",
                               "The Host header names \"%.100s\", which is not this server; if it is, start "
                               "it with --allow-host %.100s.",
                               host, host);
    if (!origin || same_origin(origin, host)) return 0;
    r->cors = cross_origin(r->server, origin);
    if (r->cors || safe) return 0;
    return loami_fault_set(
        f, 403, "origin_not_allowed", "",
        "Web pages from %.100s may not call this server; to allow them, start it with --cors-origin %.100s.",
        origin, origin);
}
