#include "engine/shares.h"

#include <assert.h>
#include <stdlib.h>

enum { REMEMBERED = 256 };     /* clients that have no request now: who leaves and comes back finds its debts again */

int loami_shares_open(loami_shares *s, uint32_t n, loam_err *err)
{
    s->cap = n + REMEMBERED;
    s->share = calloc(s->cap, sizeof *s->share);
    return s->share ? 0 : loami_fail_nomem(err);
}

void loami_shares_close(loami_shares *s)
{
    free(s->share);
    *s = (loami_shares){ 0 };
}

/* A place for a client not known: a new one, or that of the absent one that had least. */
static loami_share *place(loami_shares *s)
{
    loami_share *least = NULL;
    if (s->n < s->cap) return &s->share[s->n++];
    for (uint32_t i = 0; i < s->n; i++)
        if (!s->share[i].n_requests && (!least || s->share[i].got < least->got)) least = &s->share[i];
    assert(least);
    return least;
}

loami_share *loami_shares_join(loami_shares *s, uint64_t client)
{
    loami_share *mine = NULL, *least = NULL;
    for (uint32_t i = 0; i < s->n; i++) {
        loami_share *c = &s->share[i];
        if (c->client == client) mine = c;
        if (c->n_requests && (!least || c->got < least->got)) least = c;
    }
    if (!mine) {
        mine = place(s);
        *mine = (loami_share){ .client = client };
    }
    if (mine->n_requests++ == 0 && least && least->got > mine->got) mine->got = least->got;
    return mine;
}

void loami_shares_leave(loami_share *share)
{
    assert(share->n_requests > 0);
    share->n_requests--;
}
