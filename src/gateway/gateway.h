/* gateway/gateway.h: one address in front of several servers that speak the OpenAI API.
 *
 * A request goes to the backend that its pool's policy picks. Backends that are dead are noticed and left
 * out; until the first byte of an answer a request moves on to another backend unseen; a stream whose backend
 * dies in the middle goes on from another one. docs/gateway.md tells all of it. */
#ifndef LOAMI_GATEWAY_H
#define LOAMI_GATEWAY_H

#include "gateway/config.h"
#include "net/server.h"

typedef struct loami_gateway loami_gateway;

typedef struct loami_gateway_options {
    const char *path;         /* where the configuration came from, for reloads; NULL = from no file */
    const loami_route *pages; /* more routes, before its own; or NULL */
    int listen_fd;            /* a socket that listens already; 0 = none */
    void (*on_reload)(void *arg, int rc,
                      const loam_err *err); /* SIGHUP was obeyed, or not; NULL = SIGHUP is left alone */
    void (*on_restart)(
        void *arg); /* an administrator asks for a new process in this one's place; may be NULL */
    void *arg;
} loami_gateway_options;

/* Takes a reference to config. The loop is the caller's. */
int loami_gateway_open(loami_gateway **out, loami_loop *loop, loami_gw_config *config,
                       const loami_gateway_options *o, loam_err *err);

/* After the loop has stopped. */
void loami_gateway_close(loami_gateway *gw);

/* Reads the file again; on failure the old configuration stays. SIGHUP does this. */
int loami_gateway_reload(loami_gateway *gw, loam_err *err);

uint16_t loami_gateway_port(const loami_gateway *gw);
int loami_gateway_fd(const loami_gateway *gw); /* the listening socket, for a successor */
void loami_gateway_retire(loami_gateway *gw);  /* a successor listens: see loami_server_retire */

#endif
