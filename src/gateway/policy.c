#include "gateway/policy.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

const loami_policy *const loami_policies[] = {
    &loami_policy_tokens, &loami_policy_round_robin, &loami_policy_weighted,
    &loami_policy_prefix, &loami_policy_session,     NULL,
};

const loami_policy *loami_policy_find(const char *name)
{
    for (const loami_policy *const *p = loami_policies; *p; p++)
        if (strcmp((*p)->name, name) == 0) return *p;
    return NULL;
}

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t loami_hash(const void *bytes, uint64_t n, uint64_t seed)
{
    const unsigned char *s = bytes;
    uint64_t h = mix(seed + n + 0x9e3779b97f4a7c15u);
    for (; n >= 8; s += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, s, 8);
        h = mix(h ^ word) + 0x9e3779b97f4a7c15u;
    }
    for (; n; s++, n--) h = mix(h ^ *s) + 0x9e3779b97f4a7c15u;
    return mix(h);
}

uint32_t loami_policy_turns(const loami_bid *bids, uint32_t n, bool by_weight)
{
    double total = 0;
    uint32_t best = 0;
    for (uint32_t i = 0; i < n; i++) {
        double share = (by_weight ? bids[i].weight : 1) * bids[i].ramp;
        *bids[i].current += share;
        total += share;
        if (*bids[i].current > *bids[best].current + 1e-9) best = i;
    }
    *bids[best].current -= total;
    return best;
}

void loami_policy_rank(const loami_bid *bids, uint32_t n, uint64_t key, uint32_t *order)
{
    double score[64];
    for (uint32_t i = 0; i < n; i++) {
        double u = ((double)(mix(key ^ mix(bids[i].name_hash)) >> 11) + 1) * 0x1p-53;
        double s = bids[i].weight / -log(u); /* not by its ramp, which would move keys back and forth */
        uint32_t k = i;
        for (; k > 0 && score[k - 1] < s; k--) {
            score[k] = score[k - 1];
            order[k] = order[k - 1];
        }
        score[k] = s;
        order[k] = i;
    }
}
