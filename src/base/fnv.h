/* base/fnv.h: FNV-1a (Fowler, Noll, Vo): a short hash of bytes that nobody attacks. */
#ifndef LOAMI_FNV_H
#define LOAMI_FNV_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t loami_fnv(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 1099511628211u;
    return h;
}

#endif
