/* base/bandwidth.h: how fast this machine's processor reads memory: the limit of generation on it. */
#ifndef LOAMI_BANDWIDTH_H
#define LOAMI_BANDWIDTH_H

#include "base/err.h"

/* Bytes a second that `threads` threads (0 = all processors) read together from memory too large for the caches, the
 * best of several passes within about `seconds`. Takes a buffer of at most 512 MiB. */
int loami_read_bandwidth(double *bytes_per_s, uint32_t threads, double seconds, loam_err *err);

#endif
