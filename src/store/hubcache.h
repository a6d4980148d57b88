/* store/hubcache.h: the folder of one model in the Hugging Face cache, laid out as huggingface_hub does it:
 *
 *   HUB/models--ORG--NAME/blobs/ETAG                 the bytes, named by hash
 *                        /snapshots/COMMIT/FILE      a link to ../../blobs/ETAG
 *                        /refs/REVISION              the commit
 *   HUB/.locks/models--ORG--NAME/ETAG.lock           flock'd while the blob is being made */
#ifndef LOAMI_HUBCACHE_H
#define LOAMI_HUBCACHE_H

#include "base/file.h"

typedef struct loami_hubcache {
    char repo[LOAMI_PATH_MAX], locks[LOAMI_PATH_MAX];
} loami_hubcache;

/* The folders of model id, made if need be. */
int loami_hubcache_open(loami_hubcache *out, const char *id, loam_err *err);

/* Paths of a blob and of its lock, [LOAMI_PATH_MAX]. */
int loami_hubcache_blob(char *path, char *lock, const loami_hubcache *c, const char *etag, loam_err *err);

/* Makes snapshots/commit/name lead to the blob, in one step whatever was there. */
int loami_hubcache_link(const loami_hubcache *c, const char *commit, const char *name, const char *etag, loam_err *err);

/* Writes refs/revision; nothing for a revision that is the commit itself. */
int loami_hubcache_ref(const loami_hubcache *c, const char *revision, const char *commit, loam_err *err);

#endif
