/* file/safetensors.h: the tensors of a model folder, mapped read-only.
 *
 * Format: https://github.com/huggingface/safetensors (8 bytes length, JSON header, raw data). One file
 * model.safetensors, or the shards that model.safetensors.index.json names. Every offset is checked against
 * the file, its dtype and its shape before anything is handed out; overlaps, gaps that hide data, duplicate
 * names and shards outside the folder are refused. */
#ifndef LOAMI_SAFETENSORS_H
#define LOAMI_SAFETENSORS_H

#include "loam_substrate.h"

enum { LOAMI_MAX_DIMS = 8 };

typedef struct loami_tensor_view {
    const char *name;
    loam_dtype type;
    uint32_t n_dims;
    uint64_t shape[LOAMI_MAX_DIMS];
    const void *data; /* mapped; may be unaligned */
    uint64_t bytes;
    const char *file; /* which shard, for messages */
} loami_tensor_view;

typedef struct loami_weights loami_weights;

/* Maps all tensor files of a model folder. */
int loami_weights_open(loami_weights **out, const char *dir, loam_err *err);
void loami_weights_close(loami_weights *w);

/* The tensor of that name, or NULL. */
const loami_tensor_view *loami_weights_find(const loami_weights *w, const char *name);
uint32_t loami_weights_count(const loami_weights *w);
const loami_tensor_view *loami_weights_at(const loami_weights *w, uint32_t i); /* in file order */

/* The safetensors header's __metadata__ "format" and the like: value or NULL. */
const char *loami_weights_metadata(const loami_weights *w, const char *key);

uint32_t loami_dtype_bytes(loam_dtype type);
const char *loami_dtype_name(loam_dtype type); /* "BF16", as safetensors writes it */

/* Writing, in one or several shards with an index: add all tensors (name, type, shape), which fixes the
 * layout, then hand over their bytes in the same order. */
typedef struct loami_writer loami_writer;
int loami_writer_open(loami_writer **out, const char *dir, uint64_t shard_bytes_max, loam_err *err);
int loami_writer_add(loami_writer *w, const char *name, loam_dtype type, uint32_t n_dims,
                     const uint64_t *shape, loam_err *err);
int loami_writer_begin(loami_writer *w, loam_err *err); /* after the last add: headers are written */
int loami_writer_data(loami_writer *w, const void *bytes, uint64_t n,
                      loam_err *err); /* in order of add, any slicing */
int loami_writer_close(loami_writer *w,
                       loam_err *err);    /* syncs, renames into place; checks that all bytes came */
void loami_writer_abort(loami_writer *w); /* removes what was written */

#endif
