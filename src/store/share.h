/* store/share.h: the models here, as another loam asks for them (api/share.h says how). Only files whose hashes are on
 * record: blobs of the hub's cache, whose names they are, and those that a store model's loam.json lists. */
#ifndef LOAMI_STORE_SHARE_H
#define LOAMI_STORE_SHARE_H

#include "base/buf.h"
#include "base/file.h"

/* [{"id": "org/name", "bytes": n}, ...] */
int loami_store_share_list(loami_buf *json, loam_err *err);

/* What the hub's API says of a model: {"id", "sha", "siblings": [{"rfilename", "size", "blobId" or "lfs"}]}. */
int loami_store_share_model(loami_buf *json, const char *id, const char *revision, loam_err *err);

/* Where one of its files lies, its hash and the model's commit. id, revision and name are a stranger's. */
int loami_store_share_file(char path[LOAMI_PATH_MAX], char hash[65], char commit[65], const char *id, const char *revision,
                           const char *name, loam_err *err);

#endif
