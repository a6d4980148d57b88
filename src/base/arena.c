#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64, BLOCK = 64 * 1024 };

struct loami_arena_block {
    struct loami_arena_block *next;
    size_t cap;
    void *raw;             /* what free wants */
};

/* The header sits at the start of the block's own memory, padded to ALIGN. */
static char *bytes_of(struct loami_arena_block *b)
{
    return (char *)b + ALIGN;
}

static struct loami_arena_block *block_new(size_t cap)
{
    char *raw = malloc(cap + 2 * ALIGN);
    if (!raw) return NULL;
    struct loami_arena_block *b = (void *)(((uintptr_t)raw + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
    *b = (struct loami_arena_block){ .cap = cap, .raw = raw };
    return b;
}

void *loami_arena_alloc(loami_arena *a, size_t n)
{
    if (n > SIZE_MAX / 2) return NULL;
    n = (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    while (!a->at || a->at->cap - a->used < n) {
        struct loami_arena_block *next = a->at ? a->at->next : a->first;
        if (!next || next->cap < n) {
            struct loami_arena_block *b = block_new(n > BLOCK ? n : BLOCK);
            if (!b) return NULL;
            b->next = next;
            if (a->at) a->at->next = b;
            else a->first = b;
            next = b;
        }
        a->at = next;
        a->used = 0;
    }
    void *p = bytes_of(a->at) + a->used;
    a->used += n;
    return memset(p, 0, n);
}

void *loami_arena_array(loami_arena *a, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / 2 / size) return NULL;
    return loami_arena_alloc(a, count * size);
}

char *loami_arena_strndup(loami_arena *a, const char *s, size_t n)
{
    if (n == SIZE_MAX) return NULL;
    char *p = loami_arena_alloc(a, n + 1);
    if (p && n) memcpy(p, s, n);
    return p;
}

loami_arena_mark loami_arena_save(const loami_arena *a)
{
    return (loami_arena_mark){ a->at, a->used };
}

void loami_arena_restore(loami_arena *a, loami_arena_mark m)
{
    a->at = m.at;
    a->used = m.used;
}

void loami_arena_free(loami_arena *a)
{
    for (struct loami_arena_block *b = a->first, *next; b; b = next) {
        next = b->next;
        free(b->raw);
    }
    *a = (loami_arena){ 0 };
}
