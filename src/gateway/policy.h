/* gateway/policy.h: which backend gets the next request. One small file each, behind one table. */
#ifndef LOAMI_POLICY_H
#define LOAMI_POLICY_H

#include <stdbool.h>
#include <stdint.h>

/* One backend that could take the request. */
typedef struct loami_bid {
    uint64_t name_hash;  /* of the backend, the same in every run */
    double weight;       /* as configured */
    double ramp;         /* 0 < ramp <= 1: below 1 while it warms up after a recovery */
    double load;         /* tokens it still owes to requests, more if it failed lately */
    double *current;     /* this pool's memory of it, for turns */
    uint64_t *last_turn; /* when it was chosen last */
} loami_bid;

/* What a policy may know of the request. */
typedef struct loami_wish {
    uint64_t prefix;  /* hash of the leading messages */
    uint64_t session; /* hash of the session's or user's name; 0 = none */
    double cost;      /* tokens it is expected to take */
    double most_load; /* how much more than the average one backend may have, as a factor */
} loami_wish;

typedef struct loami_policy {
    const char *name;
    const char *about;
    uint32_t (*pick)(const loami_bid *bids, uint32_t n, const loami_wish *wish); /* n > 0; an index */
} loami_policy;

extern const loami_policy loami_policy_tokens, loami_policy_round_robin, loami_policy_weighted,
    loami_policy_prefix, loami_policy_session;

/* All of them, the default first, NULL at the end. */
extern const loami_policy *const loami_policies[];
const loami_policy *loami_policy_find(const char *name);

/* Smooth weighted turns: over any stretch each gets its share, spread evenly. */
uint32_t loami_policy_turns(const loami_bid *bids, uint32_t n, bool by_weight);

/* The order in which a key prefers backends (rendezvous hashing, Thaler and Ravishankar 1998): a backend that
 * comes or goes moves only the keys that it gets or had. order[n] of indices, n at most 64. */
void loami_policy_rank(const loami_bid *bids, uint32_t n, uint64_t key, uint32_t *order);

uint64_t loami_hash(const void *bytes, uint64_t n, uint64_t seed);

#endif
