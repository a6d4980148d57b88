#include "substrate/registry.h"

int loam_preload(const char *substrate, loam_err *err)
{
    const loam_substrate *unused;
    return loami_substrate_find(&unused, substrate, err);
}
