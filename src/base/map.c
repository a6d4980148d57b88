#include "base/map.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a from a seed, with a final mix so that the low bits are good. */
static uint32_t hash_of(const loami_map *m, const char *s, size_t n)
{
    uint64_t h = 14695981039346656037u ^ m->seed;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return (uint32_t)(h ^ h >> 32);
}

/* The slot that holds the key, or the free one where it belongs. */
static loami_map_slot *slot_of(const loami_map *m, const char *key, size_t len, uint32_t hash)
{
    for (uint32_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        loami_map_slot *s = &m->slots[i];
        if (!s->key || (s->hash == hash && s->len == len && memcmp(s->key, key, len) == 0)) return s;
    }
}

static bool grow(loami_map *m, uint32_t cap)
{
    loami_map old = *m;
    loami_map_slot *slots = calloc(cap, sizeof *slots);
    if (!slots) return false;
    if (!old.slots) m->seed = (uint64_t)(uintptr_t)slots * 0x9e3779b97f4a7c15u ^ (uint64_t)loami_now_ns();
    m->slots = slots;
    m->cap = cap;
    for (uint32_t i = 0; i < old.cap; i++)
        if (old.slots[i].key) *slot_of(m, old.slots[i].key, old.slots[i].len, old.slots[i].hash) = old.slots[i];
    free(old.slots);
    return true;
}

bool loami_map_reserve(loami_map *m, uint32_t n)
{
    uint32_t cap = 16;
    if (n > 1u << 29) return false;
    while (cap / 2 < n) cap *= 2;
    return cap <= m->cap || grow(m, cap);
}

bool loami_map_put(loami_map *m, const char *key, size_t len, uint32_t value)
{
    if (len > UINT32_MAX || !loami_map_reserve(m, m->count + 1)) return false;
    uint32_t hash = hash_of(m, key, len);
    loami_map_slot *s = slot_of(m, key, len, hash);
    if (!s->key) m->count++;
    *s = (loami_map_slot){ key, (uint32_t)len, value, hash };
    return true;
}

uint32_t loami_map_get(const loami_map *m, const char *key, size_t len)
{
    if (!m->cap || len > UINT32_MAX) return LOAMI_MAP_NONE;
    loami_map_slot *s = slot_of(m, key, len, hash_of(m, key, len));
    return s->key ? s->value : LOAMI_MAP_NONE;
}

void loami_map_free(loami_map *m)
{
    free(m->slots);
    *m = (loami_map){ 0 };
}
