/* store/part.h: a file while it is being downloaded, in parts that arrive in any order.
 *
 * Beside the final PATH lies PATH.loam-part: the bytes in their places, and behind them how much of each part is
 * there, so that a download goes on where it stopped, however it stopped. Hashing follows the parts that are
 * whole from the beginning on, so that the last byte is soon followed by the verdict. One thread. */
#ifndef LOAMI_PART_H
#define LOAMI_PART_H

#include "base/file.h"

typedef struct loami_part_file {
    char path[LOAMI_PATH_MAX]; /* PATH.loam-part */
    const char *name;          /* for messages; borrowed */
    const char *hash;          /* wanted: 64 digits are SHA-256, 40 are git's of a blob, or plain SHA-1; borrowed */
    int fd;
    uint64_t bytes;            /* of the whole file */
    uint64_t part_bytes;       /* of each part but the last */
    uint32_t n;                /* parts; 0 for an empty file */
    uint64_t *done;            /* [n] bytes that are there, from the beginning of each part */
    uint64_t hashed;           /* bytes, from the beginning of the file */
    struct evp_md_ctx_st *md[2];
} loami_part_file;

/* What a hub's etag must look like to be checked: 64 or 40 small hexadecimal digits. */
bool loami_part_hash_ok(const char *hash);

/* Opens or makes the part file of path. One that is there and was of the same bytes and hash is gone on with,
 * otherwise it is begun anew in parts of part_bytes. name and hash are borrowed until the end. */
int loami_part_open(loami_part_file *out, const char *path, const char *name, uint64_t bytes, const char *hash,
                    uint64_t part_bytes, loam_err *err);

/* Closes it; what is there stays for the next time. Zero-initialised is fine. */
void loami_part_close(loami_part_file *p);

/* Forgets what is there and begins anew. */
int loami_part_reset(loami_part_file *p, uint64_t part_bytes, loam_err *err);

uint64_t loami_part_begin(const loami_part_file *p, uint32_t i); /* where part i begins in the file */
uint64_t loami_part_size(const loami_part_file *p, uint32_t i);
uint64_t loami_part_have(const loami_part_file *p);              /* bytes that are there, of all parts */

/* The next n bytes of part i. n must fit it. */
int loami_part_write(loami_part_file *p, uint32_t i, const void *data, size_t n, loam_err *err);

/* Hashes at most limit bytes more of what is there. 1: something was hashed; 0: nothing to do for now. */
int loami_part_hash(loami_part_file *p, uint64_t limit, loam_err *err);

/* Every byte is there and hashed. */
bool loami_part_whole(const loami_part_file *p);

/* The hash is as wanted. LOAM_E_FORMAT says what it is. */
int loami_part_check(loami_part_file *p, loam_err *err);

/* Gives a whole and checked file its final name. */
int loami_part_keep(loami_part_file *p, const char *path, loam_err *err);

/* Bytes of path that loami_part_open would find there. Changes nothing. */
uint64_t loami_part_found(const char *path, uint64_t bytes, const char *hash);

#endif
