/* substrate/cpu/x86/ahead.h: asking memory for weights before they are needed.
 *
 * Weights are read once a token, and there are more of them than caches hold: hence the non-temporal hint. Without it, each line
 * that they push out of the second-level cache is written into the third, and on Zen 5 reading them takes half as long again. */
#ifndef LOAMI_AHEAD_H
#define LOAMI_AHEAD_H

#include <immintrin.h>
#include <stdint.h>

enum {
    LINE = 64,
    AHEAD = 8192,               /* bytes: more than memory delivers in the time it takes to answer, and well within the first-level cache */
};

static inline __attribute__((always_inline)) void fetch(const uint8_t *p)
{
    _mm_prefetch((const char *)p, _MM_HINT_NTA);
}

/* Rows that are worked on n at a time, from p on: what lies AHEAD of the piece of `bytes` of each that begins at `at`. In the order
 * of memory, whatever the order of work. */
static inline __attribute__((always_inline)) void fetch_rows(const uint8_t *p, size_t at, size_t bytes, size_t ahead, int n)
{
    for (size_t i = 0; i < bytes * (size_t)n; i += LINE) fetch(p + ahead + at * (size_t)n + i);
}

#endif
