/* substrate/cpu/x86/ahead.h: asking memory for weights before they are needed.
 *
 * Weights are read once a token, and there are more of them than caches hold: hence the non-temporal hint, without which reading
 * them was measured to take half as long again on Zen 5; presumably because what they push out of the second-level cache is
 * then written into the third.
 *
 * Kernels work on n rows at a time. Where those are short, memory is asked in its own order, whatever the order of work: that is
 * what it answers fastest. Rows so long that n of them are more than AHEAD are n streams. */
#ifndef LOAMI_AHEAD_H
#define LOAMI_AHEAD_H

#include "substrate/cpu/kern.h"

#include <immintrin.h>

enum {
    LINE = 64,
    AHEAD = 8192,               /* bytes: more than memory delivers in the time it takes to answer, and well within the first-level cache */
};

#define AHEAD_INLINE static inline __attribute__((always_inline))

AHEAD_INLINE void fetch(const uint8_t *p)
{
    _mm_prefetch((const char *)p, _MM_HINT_NTA);
}

AHEAD_INLINE void fetch_all(const uint8_t *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += LINE) fetch(p + i);
}

/* While line `at` of n rows from q on is worked on: what comes AHEAD later. */
AHEAD_INLINE void fetch_lines(const uint8_t *q, size_t row_bytes, size_t at, int n)
{
    size_t o = at + AHEAD / (size_t)n;
    if ((size_t)n * row_bytes <= AHEAD) {
        fetch_all(q + AHEAD + at * (size_t)n, LINE * (size_t)n);
        return;
    }
    if (o >= row_bytes) o += (size_t)(n - 1) * row_bytes; /* into the next n rows */
    for (int r = 0; r < n; r++) fetch(q + (size_t)r * row_bytes + o);
}

/* How many rows' scales are AHEAD bytes of codes. */
AHEAD_INLINE size_t rows_ahead(size_t row_bytes, int n)
{
    return (AHEAD + (size_t)n * row_bytes - 1) / ((size_t)n * row_bytes) * (size_t)n;
}

/* What fetch_lines takes for asked when n rows at a time are begun: the first AHEAD of codes, and their scales and biases. */
AHEAD_INLINE void fetch_first(const loami_mat *w, uint32_t row, uint32_t rows, int n)
{
    const uint8_t *q = w->data + row * w->row_bytes;
    size_t all = rows * w->row_bytes, ahead = rows_ahead(w->row_bytes, n);
    if (ahead > rows) ahead = rows;
    if ((size_t)n * w->row_bytes <= AHEAD) fetch_all(q, all < AHEAD ? all : AHEAD);
    else
        for (uint32_t r = 0; r < (uint32_t)n && r < rows; r++) fetch_all(q + r * w->row_bytes, AHEAD / (size_t)n);
    if (w->scales) fetch_all(w->scales + row * w->scale_bytes, ahead * w->scale_bytes);
    if (w->biases) fetch_all(w->biases + row * w->scale_bytes, ahead * w->scale_bytes);
}

#endif
