#include "cmd/contain.h"
#include "base/notify.h"
#include "base/system.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void add(loami_containment *c, const char *path)
{
    if (path && c->rules.n_read < LOAMI_SANDBOX_PATHS) c->rules.read[c->rules.n_read++] = path;
}

void loami_contain_file(loami_containment *c, const char *path)
{
    if (!path) return;
    char *copy = strdup(path), *real = realpath(path, NULL);
    add(c, copy ? strdup(dirname(copy)) : NULL);
    add(c, real ? strdup(dirname(real)) : NULL);
    free(copy);
    free(real);
    c->rules.opens_later = true;
}

void loami_contain_folder(loami_containment *c, const char *path)
{
    if (c->rules.n_write < LOAMI_SANDBOX_PATHS) c->rules.write[c->rules.n_write++] = strdup(path);
    c->rules.opens_later = true;
}

/* The port of http://host:port/..., and whether the host is a name. 0 = none. */
static uint16_t port_of(const char *url, bool *name)
{
    unsigned port = strncmp(url, "https://", 8) == 0 ? 443 : strncmp(url, "http://", 7) == 0 ? 80 : 0;
    const char *host = strstr(url, "://");
    if (!host) return 0;
    host += 3;
    const char *end = *host == '[' ? strchr(host, ']') : host + strcspn(host, ":/?");
    if (!end) return 0;
    *name = *host != '[' && strspn(host, "0123456789.") != (size_t)(end - host);
    if (*end == ']') end++;
    if (*end == ':') port = (unsigned)strtoul(end + 1, NULL, 10);
    return port < 65536 ? (uint16_t)port : 0;
}

static bool has_port(const loami_containment *c, uint16_t port)
{
    for (uint32_t i = 0; i < c->rules.n_connect; i++)
        if (c->rules.connect[i] == port) return true;
    return false;
}

int loami_contain_backend(loami_containment *c, const char *url, loam_err *err)
{
    bool name = false;
    uint16_t port = port_of(url, &name);
    if (!port) return loami_fail(err, LOAM_E_ARG, "--sandbox: %s: no port to connect to", url);
    c->rules.connects = true;
    c->rules.resolves |= name;
    if (has_port(c, port)) return 0;
    if (c->rules.n_connect == LOAMI_SANDBOX_PORTS)
        return loami_fail(err, LOAM_E_ARG, "--sandbox: more than %d ports", LOAMI_SANDBOX_PORTS);
    c->rules.connect[c->rules.n_connect++] = port;
    return 0;
}

bool loami_contain_reaches(const loami_containment *c, const char *url)
{
    bool name = false;
    return !c->state.ports || (has_port(c, port_of(url, &name)) && (!name || c->rules.resolves));
}

int loami_contain_begin(loami_containment *c, loam_err *err)
{
    loam_err why;
    if (loami_notify_open(&why) < 0) fprintf(stderr, "loam %s: note: %s\n", c->command, why.msg);
    if (!c->on) return 0;
    loami_resident_memory_bytes(); /* what these read they keep open */
    tzset();
    return loami_sandbox_files(&c->state, &c->rules, err);
}

static void on_watchdog(void *arg)
{
    loami_containment *c = arg;
    if (c->alive(c->arg)) loami_notify("WATCHDOG=1");
    loami_timer_set(c->loop, &c->watchdog, loami_notify_watchdog_s() / 3, on_watchdog, c);
}

int loami_contain_ready(loami_containment *c, loami_loop *loop, bool (*alive)(void *arg), void *arg,
                        loam_err *err)
{
    char words[LOAMI_SANDBOX_TEXT];
    if (c->on) {
        int rc = loami_sandbox_seal(&c->state, &c->rules, err);
        if (rc < 0) return rc;
        loami_sandbox_words(&c->state, words);
        fprintf(stderr, "loam %s: sandbox: %s\n", c->command, words);
    }
    c->loop = loop;
    c->alive = alive;
    c->arg = arg;
    loami_notify("READY=1");
    if (loami_notify_watchdog_s() > 0) on_watchdog(c);
    return 0;
}

void loami_contain_end(loami_containment *c)
{
    loami_timer_clear(&c->watchdog);
    loami_notify("STOPPING=1");
    for (uint32_t i = 0; i < c->rules.n_read; i++) free((char *)c->rules.read[i]);
    for (uint32_t i = 0; i < c->rules.n_write; i++) free((char *)c->rules.write[i]);
}
