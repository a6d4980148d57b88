#include "engine/pages.h"

#include <assert.h>
#include <stdlib.h>

int loami_pages_open(loami_pages *p, uint32_t n, loam_err *err)
{
    p->free = malloc(((size_t)n + 1) * sizeof *p->free);
    if (!p->free) return loami_fail_nomem(err);
    p->n = p->n_free = n;
    for (uint32_t i = 0; i < n; i++) p->free[i] = n - 1 - i;
    return 0;
}

void loami_pages_close(loami_pages *p)
{
    free(p->free);
    *p = (loami_pages){ 0 };
}

bool loami_pages_take(loami_pages *p, uint32_t *out, uint32_t n)
{
    if (n > p->n_free) return false;
    for (uint32_t i = 0; i < n; i++) out[i] = p->free[--p->n_free];
    return true;
}

void loami_pages_give(loami_pages *p, const uint32_t *pages, uint32_t n)
{
    assert(p->n_free + n <= p->n);
    for (uint32_t i = n; i > 0; i--) p->free[p->n_free++] = pages[i - 1];
}
