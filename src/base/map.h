/* base/map.h: a hash table from byte strings to 32-bit numbers, made once and read often. Zero-initialised is
 * empty. Keys are borrowed: they must outlive the map. */
#ifndef LOAMI_MAP_H
#define LOAMI_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOAMI_MAP_NONE UINT32_MAX

typedef struct loami_map_slot {
    const char *key;
    uint32_t len, value, hash;
} loami_map_slot;

typedef struct loami_map {
    loami_map_slot *slots;   /* [cap], a power of two, key NULL = free */
    uint32_t cap, count;
    uint64_t seed;           /* of the hash, so that nobody can choose keys that collide */
} loami_map;

/* Room for n keys at once; false when memory ran out. */
bool loami_map_reserve(loami_map *m, uint32_t n);

/* Adds or replaces; value must not be LOAMI_MAP_NONE. False when memory ran out. */
bool loami_map_put(loami_map *m, const char *key, size_t len, uint32_t value);

/* The value, or LOAMI_MAP_NONE. */
uint32_t loami_map_get(const loami_map *m, const char *key, size_t len);
void loami_map_free(loami_map *m);

#endif
