/* In turn, alike or by weight. */
#include "gateway/policy.h"

static uint32_t pick_alike(const loami_bid *bids, uint32_t n, const loami_wish *wish)
{
    (void)wish;
    return loami_policy_turns(bids, n, false);
}

static uint32_t pick_weighted(const loami_bid *bids, uint32_t n, const loami_wish *wish)
{
    (void)wish;
    return loami_policy_turns(bids, n, true);
}

const loami_policy loami_policy_round_robin = { "round_robin", "each in turn", pick_alike };
const loami_policy loami_policy_weighted = { "weighted", "in turn, by weight", pick_weighted };
