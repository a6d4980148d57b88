/* Session: a session stays with one backend while that is there. Requests without one go where the load is
 * least. */
#include "gateway/policy.h"

static uint32_t pick(const loami_bid *bids, uint32_t n, const loami_wish *wish)
{
    uint32_t order[64];
    if (!wish->session) return loami_policy_tokens.pick(bids, n, wish);
    loami_policy_rank(bids, n, wish->session, order);
    return order[0];
}

const loami_policy loami_policy_session = { "session", "one backend for each session", pick };
