/* base/mix.h: a quick 64-bit hash of many bytes: to notice damage and to tell apart things that nobody forges. */
#ifndef LOAMI_MIX_H
#define LOAMI_MIX_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t loami_mix_word(uint64_t h, uint64_t w)
{
    h = (h ^ w) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

/* Goes on from h; the number of bytes counts too. */
static inline uint64_t loami_mix(uint64_t h, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint64_t w;
    for (size_t left = n; left >= 8; left -= 8, p += 8) {
        memcpy(&w, p, 8);
        h = loami_mix_word(h, w);
    }
    w = 0;
    memcpy(&w, p, n % 8);
    return loami_mix_word(loami_mix_word(h, w), n);
}

#endif
