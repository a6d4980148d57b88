/* cmd/admin.h: asking a running gateway over its admin interface. */
#ifndef LOAMI_CMD_ADMIN_H
#define LOAMI_CMD_ADMIN_H

#include "base/buf.h"
#include "gateway/config.h"

/* Where a command finds the gateway, and the key for it: from url and LOAM_ADMIN_KEY, or from the configuration. */
typedef struct loami_admin {
    const char *config, *url;
    char found[300];
    const char *key;
    loami_gw_config *c;
} loami_admin;

/* Asks, and waits for the answer's body (the caller's). A status other than 200 is LOAM_E_ARG in the gateway's words. */
int loami_admin_ask(loami_admin *t, const char *method, const char *path, const char *body, loami_buf *out,
                    loam_err *err);
void loami_admin_done(loami_admin *t);

#endif
