/* engine/shares.h: which client has had how much of the machine, so that one with a thousand requests does not keep
 * away one with a single one.
 *
 * Virtual token counters (Sheng et al. 2024, "Fairness in Serving Large Language Models"): each token run is charged to
 * its client, those of answers twice since they cost more; of those who wait, the one with the smallest counter is next.
 * A client that comes (back) starts at the smallest counter of those that are there: idleness saves up nothing. Engine
 * thread only; nothing is allocated after open. */
#ifndef LOAMI_SHARES_H
#define LOAMI_SHARES_H

#include "base/err.h"

typedef struct loami_share {
    uint64_t client;
    double got;              /* tokens, weighted */
    double due;              /* see loami_sched: where the client's last prompt stands in the order of prompts */
    uint32_t n_requests;     /* waiting or running; one with none may be forgotten */
} loami_share;

typedef struct loami_shares {
    loami_share *share;      /* [n] of room for cap; its places don't move */
    uint32_t n, cap;
} loami_shares;

/* Room for n clients at once that have requests. */
int loami_shares_open(loami_shares *s, uint32_t n, loam_err *err);
void loami_shares_close(loami_shares *s);

/* A request of client comes, or goes. Valid until it goes. */
loami_share *loami_shares_join(loami_shares *s, uint64_t client);
void loami_shares_leave(loami_share *share);

#endif
