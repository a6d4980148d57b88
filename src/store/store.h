/* store/store.h: where models lie and what they are called.
 *
 * Two places: the Hugging Face cache (shared with mlx-lm and transformers; HF_HUB_CACHE, HF_HOME/hub,
 * ~/.cache/huggingface/hub) for hub models, and LOAM_HOME/models/NAME (LOAM_HOME defaults to ~/.cache/loam)
 * for imported and converted ones. */
#ifndef LOAMI_STORE_H
#define LOAMI_STORE_H

#include "base/file.h"

/* The folder of model `name`: a path that has a '/' or exists, a store name, a Hugging Face id in the cache
 * ("org/name", "org/name@revision"), or a short name of known.h's. path[LOAMI_PATH_MAX]. LOAM_E_NOT_FOUND says where it looked and what to do. */
int loami_store_find(char *path, const char *name, loam_err *err);

/* Where a store model of this name is or would be. Names: letters, digits, . _ - and at most one '/' or ':'
 * each; no part (between those) is empty or begins with '.' or '-'. */
int loami_store_path(char *path, const char *name, loam_err *err);

/* LOAM_HOME, made if need be. */
int loami_store_home(char *path, loam_err *err);

/* The Hugging Face cache; may not exist. */
int loami_store_hub(char *path, loam_err *err);

/* "org/name" -> HUB/models--org--name; may not exist. */
int loami_store_hub_path(char *path, const char *name, loam_err *err);

/* A file that belongs to the user of the hub: what the variable says, or HF_HOME/name. May not exist. */
int loami_store_hf_file(char *path, const char *variable, const char *name, loam_err *err);

typedef struct loami_store_entry {
    const char *name, *path;
    const char *from; /* "loam" or "hf" */
    uint64_t bytes;
    int64_t changed_s; /* unix time */
} loami_store_entry;

/* Calls fn for each model in both places; a negative result stops and is returned. */
int loami_store_each(int (*fn)(void *arg, const loami_store_entry *e), void *arg, loam_err *err);

/* Removes a store model (hub models too, with all their blobs). */
int loami_store_remove(const char *name, loam_err *err);

/* A new model is made in a folder of its own and then renamed into place, so that what has the name is
 * whole. begin: refuses a bad name, and a taken one unless force; dir[LOAMI_PATH_MAX] is the new empty
 * folder. Folders left by programs that died are swept. Then either keep, which replaces what had the
 * name, or drop. */
int loami_store_begin(char *dir, const char *name, bool force, loam_err *err);
int loami_store_keep(const char *dir, const char *name, bool force, loam_err *err);
void loami_store_drop(const char *dir);

#endif
