/* Least outstanding tokens: requests differ a thousandfold in length, so counting them says little. A
 * backend's load is what its requests still have to read and write; one that fails fast has a load for it,
 * and so gains nothing. */
#include "gateway/policy.h"

static double score(const loami_bid *b, double cost)
{
    return (b->load + cost) / (b->weight * b->ramp);
}

static uint32_t pick(const loami_bid *bids, uint32_t n, const loami_wish *wish)
{
    uint32_t best = 0;
    double least = score(&bids[0], wish->cost);
    for (uint32_t i = 1; i < n; i++) {
        double s = score(&bids[i], wish->cost);
        bool tie = s < least * 1.0001 && s > least * 0.9999;
        if (tie ? *bids[i].last_turn < *bids[best].last_turn : s < least) {
            best = i;
            least = s;
        }
    }
    return best;
}

const loami_policy loami_policy_tokens = { "least_outstanding_tokens", "who owes the fewest tokens", pick };
