/* cmd/compare_page.h: two servers side by side as an HTML page. */
#ifndef LOAMI_COMPARE_PAGE_H
#define LOAMI_COMPARE_PAGE_H

#include "cmd/asker.h"

/* B's times as a factor of A's. */
typedef struct loami_ratio {
    double mean, lowest, highest, limit; /* NAN where it cannot be told; the bounds: with 95 % confidence each */
    uint32_t n;                  /* pairs */
    bool fine;
} loami_ratio;

typedef struct loami_compared {
    char *server[2], *model[2];
    loami_prompt *prompts; /* [n_prompts] */
    uint32_t n_prompts;
    loami_ask *asks; /* [n][2] A, B */
    uint32_t n, failed[2], both, same;
    loami_ratio ttft, token;
    bool errors_fine, no_worse;
} loami_compared;

const char *loami_ratio_words(const loami_ratio *r);
void loami_compare_page(loami_buf *out, const loami_compared *c);

#endif
