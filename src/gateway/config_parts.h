/* gateway/config_parts.h: the parts of gateway.json that name each other: backends, then pools, then keys. */
#ifndef LOAMI_GW_CONFIG_PARTS_H
#define LOAMI_GW_CONFIG_PARTS_H

#include "gateway/config.h"
#include "gateway/fields.h"
#include "gateway/policy.h"

/* where: the top of the file; v may be NULL: absent. */
int loami_conf_backends(loami_field_reader *r, loami_gw_config *c, const json_t *v, const loami_place *where);
int loami_conf_pools(loami_field_reader *r, loami_gw_config *c, const json_t *v, const loami_place *where);
int loami_conf_keys(loami_field_reader *r, loami_gw_config *c, const json_t *v, const loami_place *where);

/* A custom reader that keeps the value for later: to is a const json_t **. */
int loami_conf_keep(loami_field_reader *r, void *to, const json_t *v, const loami_place *where);

/* A secret is given as it is, or as the name of an environment variable (in field) that holds it. */
int loami_conf_secret(loami_field_reader *r, const char **out, const char *env, const char *field,
                      const loami_place *where);

/* {"key": "value"} */
int loami_conf_pairs(loami_field_reader *r, const loami_pair **out, uint32_t *n, const json_t *v,
                     uint32_t max, const loami_place *where);

/* name NULL leaves *out. */
int loami_conf_policy(loami_field_reader *r, const loami_policy **out, const char *name,
                      const loami_place *where);

#endif
