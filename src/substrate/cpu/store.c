#include "substrate/cpu/cpu.h"

#include <stdlib.h>

/* Few blocks live at once (a dozen or two), so a list searched for the smallest that fits is quick enough. */
typedef struct block {
    void *p;
    size_t size;
    bool used;
} block;

struct loami_store {
    block *block;
    uint32_t n, cap;
};

static void *fresh(loam_sub *s, size_t n)
{
    struct loami_store *st = s->store;
    void *p = NULL;
    if (st->n == st->cap) {
        uint32_t cap = st->cap ? 2 * st->cap : 64;
        block *b = realloc(st->block, cap * sizeof *b);
        if (!b) return NULL;
        st->block = b;
        st->cap = cap;
    }
    if (posix_memalign(&p, 64, n) != 0) return NULL;
    st->block[st->n++] = (block){ p, n, true };
    return p;
}

void *loami_store_take(loam_sub *s, size_t n)
{
    if (n < 4096) n = 4096;
    if (!s->store) s->store = calloc(1, sizeof *s->store);
    block *best = NULL;
    for (uint32_t i = 0; s->store && i < s->store->n; i++) {
        block *b = &s->store->block[i];
        if (!b->used && b->size >= n && (!best || b->size < best->size)) best = b;
    }
    if (best) best->used = true;
    void *p = best ? best->p : s->store && n <= SIZE_MAX / 2 ? fresh(s, (n + 63) & ~(size_t)63) : NULL;
    if (!p) s->failed = "out of memory in a step";
    return p;
}

void loami_store_give(loam_sub *s, const void *p)
{
    for (uint32_t i = 0; p && i < s->store->n; i++)
        if (s->store->block[i].p == p) s->store->block[i].used = false;
}

void loami_store_reset(loam_sub *s)
{
    for (uint32_t i = 0; s->store && i < s->store->n; i++) s->store->block[i].used = false;
}

void loami_store_free(loam_sub *s)
{
    for (uint32_t i = 0; s->store && i < s->store->n; i++) free(s->store->block[i].p);
    if (s->store) free(s->store->block);
    free(s->store);
    s->store = NULL;
}

size_t loami_store_bytes(const loam_sub *s)
{
    size_t n = 0;
    for (uint32_t i = 0; s->store && i < s->store->n; i++) n += s->store->block[i].size;
    return n;
}

void *loami_note(loam_sub *s, size_t n)
{
    s->notes_now += n + 64;
    if (s->notes_now > s->notes_bytes) s->notes_bytes = s->notes_now;
    void *p = loami_arena_alloc(&s->notes, n);
    if (!p) s->failed = "out of memory in a step";
    return p;
}
