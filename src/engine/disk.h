/* engine/disk.h: pages of prompts in files, for when memory has forgotten them or the program was started anew.
 *
 * One file a page, named by the hash of everything up to its end (pages.h), in a folder whose name stands for all that must
 * be the same for its bytes to mean the same: weights, config, substrate, device, type of cache, version. A file holds the
 * whole beginning as tokens, so that a hit is compared, not believed, and a checksum, so that one cut off or damaged is
 * noticed and removed. Written beside the work by a thread of its own; what it can't keep up with is not written. Files
 * have a limit in bytes; the one used longest ago goes first, later pages of a text before earlier ones.
 *
 * Several processes may use one folder: what vanishes was not there. */
#ifndef LOAMI_DISK_H
#define LOAMI_DISK_H

#include "base/err.h"

typedef struct loami_disk loami_disk;

typedef struct loami_disk_config {
    const char *dir;
    uint64_t identity;       /* of what pages depend on */
    uint64_t limit_bytes;    /* of the files together */
    uint64_t page_bytes;
    uint32_t page_tokens;
    uint32_t context_tokens; /* the longest beginning */
    void (*on_room)(void *arg); /* on a thread of its own: there is room again, after room found none */
    void *arg;
} loami_disk_config;

/* Makes the folder, looks through it. Counts what is there; the oldest go until the limit holds. */
int loami_disk_open(loami_disk **out, const loami_disk_config *c, loam_err *err);

/* Writes what was put, then closes. NULL is fine. */
void loami_disk_close(loami_disk *d);

uint64_t loami_disk_memory(const loami_disk *d);   /* bytes of its buffers */
uint64_t loami_disk_bytes(const loami_disk *d);    /* of files, at most limit_bytes */

/* Whether there is a page with this hash. Cheap. */
bool loami_disk_has(const loami_disk *d, uint64_t hash);

/* The bytes of the page that ends the beginning tokens[n_tokens] (n_tokens a multiple of page_tokens); valid until the next
 * get. NULL: it isn't there, or it is not what it should be. */
const void *loami_disk_get(loami_disk *d, uint64_t hash, uint64_t salt, const int32_t *tokens, uint32_t n_tokens);

/* Where to put the next page's bytes; NULL: the thread is busy (unless wait). Then put it: tokens are copied. */
void *loami_disk_room(loami_disk *d, bool wait);
void loami_disk_put(loami_disk *d, uint64_t hash, uint64_t salt, const int32_t *tokens, uint32_t n_tokens);

/* ---- the file, for tests and fuzzing ----------------------------------------------------------------------- */

/* Little-endian as memory has it (other machines have another identity); then n_tokens ids, then page_bytes bytes. */
typedef struct loami_disk_head {
    char magic[8];           /* "loamkv1\n" */
    uint64_t identity, hash, salt, page_bytes;
    uint32_t page_tokens, n_tokens;
    uint64_t check;          /* loami_mix from 0 of everything before and after this number */
} loami_disk_head;

/* Where in bytes[n] the page's bytes begin, if this is the file that was asked for, whole and undamaged; 0 if not. */
size_t loami_disk_check(const loami_disk_config *c, const void *bytes, size_t n, uint64_t hash, uint64_t salt, const int32_t *tokens,
                        uint32_t n_tokens);

#endif
