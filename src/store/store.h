/* store/store.h: where models lie and what they are called.
 *
 * Two places: the Hugging Face cache (shared with mlx-lm and transformers; HF_HUB_CACHE, HF_HOME/hub,
 * ~/.cache/huggingface/hub) for hub models, and LOAM_HOME/models/NAME (LOAM_HOME defaults to ~/.cache/loam) for
 * imported and converted ones. */
#ifndef LOAMI_STORE_H
#define LOAMI_STORE_H

#include "base/file.h"

/* The folder of model `name`: a path that has a '/' or exists, a store name, or a Hugging Face id in the cache.
 * path[LOAMI_PATH_MAX]. LOAM_E_NOT_FOUND says where it looked and what to do. */
int loami_store_find(char *path, const char *name, loam_err *err);

/* Where a store model of this name is or would be. Names: letters, digits, . _ - and at most one '/' or ':' each;
 * no component of dots alone. */
int loami_store_path(char *path, const char *name, loam_err *err);

/* LOAM_HOME, made if need be. */
int loami_store_home(char *path, loam_err *err);

typedef struct loami_store_entry {
    const char *name, *path;
    const char *from;          /* "loam" or "hf" */
    uint64_t bytes;
    int64_t changed_s;         /* unix time */
} loami_store_entry;

/* Calls fn for each model in both places. */
int loami_store_each(int (*fn)(void *arg, const loami_store_entry *e), void *arg, loam_err *err);

/* Removes a store model (hub models too, with all their blobs). */
int loami_store_remove(const char *name, loam_err *err);

#endif
