/* substrate/registry.h: which substrates there are. */
#ifndef LOAMI_REGISTRY_H
#define LOAMI_REGISTRY_H

#include "loam_substrate.h"

extern const loam_substrate loami_reference;
extern const loam_substrate loami_cpu;

/* By name: one that is built in, or one in a shared object of its own (load.h). NULL, "" and "auto" mean what the
 * environment's LOAM_SUBSTRATE says or, if it says nothing, the fastest that this machine has. LOAM_E_NOT_FOUND lists
 * those there are. */
int loami_substrate_find(const loam_substrate **out, const char *name, loam_err *err);

/* The name of number i, of those built in and those that could be loaded, the fast ones first; NULL after the last. */
const char *loami_substrate_name(uint32_t i);

#endif
