/* tests/kern/conformance.h: holds a substrate against the reference, operation by operation and then whole small
 * models, on random hostile input. A substrate that passes may ship. */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include "loam_substrate.h"

typedef struct conformance {
    const loam_substrate *sub;
    loam_sub_options options;
    double tolerance;        /* of one operation: |difference| / |reference|, both as Euclidean norms of the result */
    uint64_t seed;
    const char *only;        /* run cases whose name contains it; NULL = all */
    bool verbose;
    /* results */
    unsigned run, refused, failed;
    double worst;            /* largest error over what was allowed */
    char worst_name[128];
} conformance;

/* Runs all cases, prints each failure on stderr. A case that the substrate refuses at `weight` or `kv_open` with
 * LOAM_E_UNSUPPORTED counts as refused. Returns the number of failures. */
unsigned conformance_run(conformance *c);

#endif
