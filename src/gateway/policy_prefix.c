/* Prefix affinity: conversations that begin alike go where their beginning is in the cache already, as long
 * as that backend has no more than its bounded part of the load (Mirrokni, Thorup and Zadimoghaddam 2016). */
#include "gateway/policy.h"

static uint32_t pick(const loami_bid *bids, uint32_t n, const loami_wish *wish)
{
    uint32_t order[64];
    double load = 0, weight = 0;
    loami_policy_rank(bids, n, wish->prefix, order);
    for (uint32_t i = 0; i < n; i++) {
        load += bids[i].load;
        weight += bids[i].weight * bids[i].ramp;
    }
    for (uint32_t i = 0; i < n; i++) {
        const loami_bid *b = &bids[order[i]];
        double share = b->weight * b->ramp / weight;
        if (b->load <= wish->most_load * (load + wish->cost) * share) return order[i];
    }
    return loami_policy_tokens.pick(bids, n, wish);
}

const loami_policy loami_policy_prefix = { "prefix_affinity",
                                           "where the beginning is cached, with bounded load", pick };
