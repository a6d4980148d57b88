/* store/usage.h: what models take on the disk, with what unfinished downloads left. */
#ifndef LOAMI_USAGE_H
#define LOAMI_USAGE_H

#include "base/file.h"

typedef struct loami_usage {
    const char *name, *path;
    const char *from;          /* "loam" or "hf" */
    uint64_t bytes;            /* on the disk: a blob that two revisions share counts once */
    uint64_t unfinished_bytes; /* of downloads that did not end; part of bytes */
} loami_usage;

/* Calls fn for each model in both places, whole or not; a negative result stops and is returned. */
int loami_usage_each(int (*fn)(void *arg, const loami_usage *u), void *arg, loam_err *err);

/* Removes what loam pull left unfinished and nobody is at work on. *bytes = how much. */
int loami_usage_clean(uint64_t *bytes, loam_err *err);

#endif
