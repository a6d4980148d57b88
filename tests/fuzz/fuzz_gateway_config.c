/* gateway.json */
#include "gateway/config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    loami_gw_config *c;
    loam_err err;
    if (loami_gw_config_parse(&c, (const char *)data, size, "gateway.json", &err) < 0) return 0;
    if (!c->n_backends || !c->n_pools) abort();
    for (uint32_t i = 0; i < c->n_pools; i++) {
        for (uint32_t k = 0; k < c->pools[i].n_backends; k++)
            if (c->pools[i].backends[k] >= c->n_backends) abort();
        for (uint32_t k = 0; k < c->pools[i].n_fallback; k++)
            if (c->pools[i].fallback[k] >= c->n_pools) abort();
    }
    loami_gw_config_unref(c);
    return 0;
}
