#include "file/safetensors.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/map.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    HEADER_ALIGN = 64, /* so that data starts, and mostly stays, on a cache line; the format asks for 8 */
    NAME_BYTES = 64,
};

typedef struct entry {
    const char *name;
    loam_dtype type;
    uint32_t n_dims;
    uint64_t shape[LOAMI_MAX_DIMS];
    uint64_t bytes;
    uint32_t shard;
} entry;

struct loami_writer {
    loami_arena names;
    char dir[LOAMI_PATH_MAX];
    uint64_t shard_bytes_max;
    entry *entries; /* [n] */
    uint32_t n, cap;
    loami_map by_name;
    uint32_t n_shards;  /* known after begin */
    uint32_t n_created; /* files that exist under their temporary names */
    FILE *file;         /* the shard that is being written */
    uint32_t at;        /* the entry that is being written */
    uint64_t at_bytes;  /* of it, written */
};

int loami_writer_open(loami_writer **out, const char *dir, uint64_t shard_bytes_max, loam_err *err)
{
    loami_writer *w = calloc(1, sizeof *w);
    if (!w) return loami_fail_nomem(err);
    int rc = loami_path_join(w->dir, dir, "", err);
    if (rc < 0) {
        free(w);
        return rc;
    }
    w->shard_bytes_max = shard_bytes_max;
    *out = w;
    return 0;
}

int loami_writer_add(loami_writer *w, const char *name, loam_dtype type, uint32_t n_dims,
                     const uint64_t *shape, loam_err *err)
{
    if (n_dims > LOAMI_MAX_DIMS) return loami_fail(err, LOAM_E_ARG, "%s: %u dimensions", name, n_dims);
    if (loami_map_get(&w->by_name, name, strlen(name)) != LOAMI_MAP_NONE)
        return loami_fail(err, LOAM_E_FORMAT, "%s: a tensor of this name is there already", name);
    if (w->n == w->cap) {
        uint32_t cap = w->cap ? w->cap * 2 : 64;
        entry *e = realloc(w->entries, cap * sizeof *e);
        if (!e) return loami_fail_nomem(err);
        w->entries = e;
        w->cap = cap;
    }
    entry *e = &w->entries[w->n];
    *e = (entry){ .name = loami_arena_strndup(&w->names, name, strlen(name)),
                  .type = type,
                  .n_dims = n_dims };
    e->bytes = loami_dtype_bytes(type);
    for (uint32_t i = 0; i < n_dims; i++) {
        if (shape[i] && e->bytes > INT64_MAX / shape[i])
            return loami_fail(err, LOAM_E_FORMAT, "%s: shape is too large", name);
        e->shape[i] = shape[i];
        e->bytes *= shape[i];
    }
    if (!e->name || !loami_map_put(&w->by_name, e->name, strlen(e->name), w->n)) return loami_fail_nomem(err);
    w->n++;
    return 0;
}

static void shard_name(const loami_writer *w, uint32_t shard, char out[NAME_BYTES])
{
    if (w->n_shards == 1)
        snprintf(out, NAME_BYTES, "model.safetensors");
    else
        snprintf(out, NAME_BYTES, "model-%05u-of-%05u.safetensors", shard + 1, w->n_shards);
}

/* The shard's path, final or temporary. */
static int shard_path(const loami_writer *w, uint32_t shard, bool temporary, char path[LOAMI_PATH_MAX],
                      loam_err *err)
{
    char name[NAME_BYTES], file[NAME_BYTES + 8];
    shard_name(w, shard, name);
    snprintf(file, sizeof file, "%s%s", name, temporary ? ".tmp" : "");
    return loami_path_join(path, w->dir, file, err);
}

/* The header of one shard, padded with spaces. */
static int header_of(const loami_writer *w, uint32_t shard, loami_buf *b, loam_err *err)
{
    uint64_t at = 0;
    loami_buf_puts(b, "{\"__metadata__\":{\"format\":\"mlx\"}");
    for (uint32_t i = 0; i < w->n; i++) {
        const entry *e = &w->entries[i];
        if (e->shard != shard) continue;
        json_t *name = json_string(e->name);
        char *quoted = name ? loami_json_text(name) : NULL;
        json_decref(name);
        if (!quoted) return loami_fail(err, LOAM_E_FORMAT, "tensor name is not UTF-8: %.100s", e->name);
        loami_buf_printf(b, ",%s:{\"dtype\":\"%s\",\"shape\":[", quoted, loami_dtype_name(e->type));
        free(quoted);
        for (uint32_t d = 0; d < e->n_dims; d++)
            loami_buf_printf(b, "%s%llu", d ? "," : "", (unsigned long long)e->shape[d]);
        loami_buf_printf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                         (unsigned long long)(at + e->bytes));
        at += e->bytes;
    }
    loami_buf_putc(b, '}');
    while (!b->failed && (b->len + 8) % HEADER_ALIGN) loami_buf_putc(b, ' ');
    return b->failed ? loami_fail_nomem(err) : 0;
}

static int write_failed(const loami_writer *w, uint32_t shard, loam_err *err)
{
    int e = errno;
    char name[NAME_BYTES];
    shard_name(w, shard, name);
    errno = e;
    return loami_fail_errno(err, "%s%s: cannot write", w->dir, name);
}

static int start_shard(loami_writer *w, uint32_t shard, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    loami_buf b = { 0 };
    unsigned char size[8];
    int rc = shard_path(w, shard, true, path, err);
    if (rc < 0 || (rc = header_of(w, shard, &b, err)) < 0) goto out;
    for (int i = 0; i < 8; i++) size[i] = (unsigned char)((uint64_t)b.len >> 8 * i);
    w->file = fopen(path, "wb");
    if (w->file) w->n_created = shard + 1;
    if (!w->file || fwrite(size, 1, 8, w->file) != 8 || fwrite(b.data, 1, b.len, w->file) != b.len)
        rc = write_failed(w, shard, err);
out:
    loami_buf_free(&b);
    return rc;
}

static int end_shard(loami_writer *w, uint32_t shard, loam_err *err)
{
    int rc = fflush(w->file) != 0 || fsync(fileno(w->file)) != 0 ? write_failed(w, shard, err) : 0;
    if (fclose(w->file) != 0 && rc == 0) rc = write_failed(w, shard, err);
    w->file = NULL;
    return rc;
}

int loami_writer_begin(loami_writer *w, loam_err *err)
{
    uint64_t bytes = 0;
    if (w->n == 0) return loami_fail(err, LOAM_E_ARG, "no tensors to write");
    for (uint32_t i = 0; i < w->n; i++) {
        entry *e = &w->entries[i];
        if (i && w->shard_bytes_max && e->bytes + bytes > w->shard_bytes_max) {
            w->n_shards++;
            bytes = 0;
        }
        e->shard = w->n_shards;
        bytes += e->bytes;
    }
    w->n_shards++;
    return start_shard(w, 0, err);
}

int loami_writer_data(loami_writer *w, const void *bytes, uint64_t n, loam_err *err)
{
    const char *p = bytes;
    while (n) {
        while (w->at < w->n && w->at_bytes == w->entries[w->at].bytes) {
            w->at++;
            w->at_bytes = 0;
        }
        if (w->at == w->n) return loami_fail(err, LOAM_E_ARG, "more data than the tensors have");
        const entry *e = &w->entries[w->at];
        while (e->shard >= w->n_created) {
            int rc = end_shard(w, w->n_created - 1, err);
            if (rc < 0 || (rc = start_shard(w, w->n_created, err)) < 0) return rc;
        }
        uint64_t k = e->bytes - w->at_bytes < n ? e->bytes - w->at_bytes : n;
        if (fwrite(p, 1, (size_t)k, w->file) != k) return write_failed(w, e->shard, err);
        w->at_bytes += k;
        p += k;
        n -= k;
    }
    return 0;
}

/* model.safetensors.index.json, which mlx-lm writes for a single file too. */
static int write_index(const loami_writer *w, loam_err *err)
{
    char path[LOAMI_PATH_MAX], name[NAME_BYTES];
    uint64_t bytes = 0;
    json_t *map = json_object(), *root = NULL;
    char *text = NULL;
    for (uint32_t i = 0; i < w->n; i++) {
        bytes += w->entries[i].bytes;
        shard_name(w, w->entries[i].shard, name);
        json_object_set_new(map, w->entries[i].name, json_string(name));
    }
    root = json_pack("{s:{s:I},s:o}", "metadata", "total_size", (json_int_t)bytes, "weight_map", map);
    if (root) text = json_dumps(root, JSON_INDENT(4) | JSON_SORT_KEYS);
    int rc = text ? loami_path_join(path, w->dir, "model.safetensors.index.json", err)
                  : loami_fail_nomem(err);
    if (rc == 0) rc = loami_file_write(path, text, strlen(text), err);
    free(text);
    json_decref(root);
    return rc;
}

static void free_writer(loami_writer *w)
{
    free(w->entries);
    loami_map_free(&w->by_name);
    loami_arena_free(&w->names);
    free(w);
}

int loami_writer_close(loami_writer *w, loam_err *err)
{
    int rc = 0;
    while (w->at < w->n && w->at_bytes == w->entries[w->at].bytes) {
        w->at++;
        w->at_bytes = 0;
    }
    if (w->at < w->n || !w->file)
        rc = loami_fail(err, LOAM_E_ARG, "%s: data is missing",
                        w->at < w->n ? w->entries[w->at].name : "tensors");
    while (rc == 0 && w->n_created < w->n_shards) { /* shards of empty tensors alone */
        rc = end_shard(w, w->n_created - 1, err);
        if (rc == 0) rc = start_shard(w, w->n_created, err);
    }
    if (rc == 0) rc = end_shard(w, w->n_shards - 1, err);
    for (uint32_t i = 0; rc == 0 && i < w->n_shards; i++) {
        char from[LOAMI_PATH_MAX], to[LOAMI_PATH_MAX];
        rc = shard_path(w, i, true, from, err);
        if (rc == 0) rc = shard_path(w, i, false, to, err);
        if (rc == 0 && rename(from, to) < 0) rc = loami_fail_errno(err, "%s", to);
    }
    if (rc == 0) rc = write_index(w, err);
    if (rc < 0)
        loami_writer_abort(w);
    else
        free_writer(w);
    return rc;
}

void loami_writer_abort(loami_writer *w)
{
    char path[LOAMI_PATH_MAX];
    if (!w) return;
    if (w->file) fclose(w->file);
    for (uint32_t i = 0; i < w->n_created; i++)
        if (shard_path(w, i, true, path, NULL) == 0) unlink(path);
    free_writer(w);
}
