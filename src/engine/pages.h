/* engine/pages.h: which KV pages are free. The bytes are the substrate's. */
#ifndef LOAMI_PAGES_H
#define LOAMI_PAGES_H

#include "base/err.h"

typedef struct loami_pages {
    uint32_t *free;          /* [n_free] a stack */
    uint32_t n_free, n;
} loami_pages;

int loami_pages_open(loami_pages *p, uint32_t n, loam_err *err);
void loami_pages_close(loami_pages *p);

/* Takes n pages into out; false, and none taken, when there are not that many. */
bool loami_pages_take(loami_pages *p, uint32_t *out, uint32_t n);
void loami_pages_give(loami_pages *p, const uint32_t *pages, uint32_t n);

#endif
