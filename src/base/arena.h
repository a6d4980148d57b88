/* base/arena.h: memory that is given back all at once. Zero-initialised is empty. Not thread-safe. */
#ifndef LOAMI_ARENA_H
#define LOAMI_ARENA_H

#include <stddef.h>

struct loami_arena_block;

typedef struct loami_arena {
    struct loami_arena_block *first, *at; /* blocks are kept by reset and used again */
    size_t used;                          /* in block `at` */
} loami_arena;

typedef struct loami_arena_mark {
    struct loami_arena_block *at;
    size_t used;
} loami_arena_mark;

/* n bytes, aligned to 64, zeroed; NULL when memory ran out. */
void *loami_arena_alloc(loami_arena *a, size_t n);

/* count * size with the product checked. */
void *loami_arena_array(loami_arena *a, size_t count, size_t size);

/* A copy of n bytes and a NUL. */
char *loami_arena_strndup(loami_arena *a, const char *s, size_t n);

loami_arena_mark loami_arena_save(const loami_arena *a);
void loami_arena_restore(loami_arena *a, loami_arena_mark m); /* frees what was allocated since */
void loami_arena_free(loami_arena *a);

#endif
