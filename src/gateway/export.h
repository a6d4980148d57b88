/* gateway/export.h: the same backends, pools and checks for another proxy. docs/scaling.md says when to use
 * which, and what is lost. */
#ifndef LOAMI_GW_EXPORT_H
#define LOAMI_GW_EXPORT_H

#include "base/buf.h"
#include "gateway/config.h"

typedef struct loami_export {
    const char *name;
    const char *about;
    void (*write)(loami_buf *out, const loami_gw_config *c);
} loami_export;

/* Ends with { 0 }. */
extern const loami_export loami_exports[];

void loami_export_haproxy(loami_buf *out, const loami_gw_config *c);
void loami_export_envoy(loami_buf *out, const loami_gw_config *c);
void loami_export_k8s(loami_buf *out, const loami_gw_config *c);

/* The parts of a backend's URL: http://host:port/path. */
typedef struct loami_url {
    char host[256]; /* without brackets */
    uint16_t port;
    bool tls;
    const char *path; /* "" or "/..." */
} loami_url;
loami_url loami_url_split(const char *url);

/* Where a probe of every backend of a pool can ask. */
const char *loami_export_health(const loami_gw_config *c, const loami_pool_conf *p);

/* Does it stand by for others of that pool? Rollouts are not exported, so it gets nothing. */
bool loami_export_stands_by(const loami_gw_config *c, const loami_pool_conf *p, const loami_backend_conf *b);

/* An environment variable's name for a secret: LOAM_KEY_ and name in capitals. */
void loami_export_variable(char out[80], const char *name);

#endif
