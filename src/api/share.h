/* api/share.h: GET /share/...: this machine's models for another loam on the LAN, in the protocol of the Hugging Face
 * hub, so that `loam pull --from` (and huggingface_hub with HF_ENDPOINT=http://here:8000/share) can copy them.
 *
 *   /share/api/models                        [{"id", "bytes"}]
 *   /share/api/models/ID[/revision/REV]      the files with their sizes and hashes
 *   /share/ID/resolve/REV/FILE               the bytes, with ranges
 *
 * Nobody is served without a key: whoever adds these routes makes sure that the server has some. */
#ifndef LOAMI_SHARE_H
#define LOAMI_SHARE_H

#include "api/api.h"
#include "base/file.h"

typedef struct loami_share_file {
    char path[LOAMI_PATH_MAX];
    char hash[65];   /* the etag */
    char commit[65];
} loami_share_file;

/* What there is to share. Called on workers; LOAM_E_NOT_FOUND becomes a 404. Names are as the client sent them. */
typedef struct loami_share_source {
    int (*list)(loami_buf *json, loam_err *err);
    int (*model)(loami_buf *json, const char *id, const char *revision, loam_err *err);
    int (*file)(char path[LOAMI_PATH_MAX], char hash[65], char commit[65], const char *id, const char *revision,
                const char *name, loam_err *err);
} loami_share_source;

/* Their arg is the loami_api, whose config has a share. */
extern const loami_route loami_share_routes[];

/* "bytes=FROM-TO" of a file of so many bytes: 1 with *from and *n; 0: no range, all of it; -1: outside the file. */
int loami_share_range(const char *header, uint64_t bytes, uint64_t *from, uint64_t *n);

/* Ends what is left when loop and workers have stopped. */
void loami_share_abandon_all(loami_api *a);

#endif
