#include "file/safetensors.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/json.h"
#include "base/map.h"

#include <stdlib.h>
#include <string.h>

enum {
    HEADER_BYTES_MAX = 100000000, /* the limit of the format's own library */
    INDEX_BYTES_MAX = 100000000,
    MAX_SHARDS = 4096,
};

typedef struct shard {
    const char *file; /* name inside the folder */
    loami_mapping map;
    const unsigned char *data; /* behind the header */
    uint64_t data_bytes;
    json_t *metadata; /* "__metadata__", or NULL */
} shard;

struct loami_weights {
    loami_arena names;
    shard *shards; /* [n_shards] */
    uint32_t n_shards;
    loami_tensor_view *views; /* [n_views] shard by shard, by offset */
    uint32_t n_views, cap_views;
    loami_map by_name; /* name -> index of view */
};

static const struct {
    const char *name;
    uint32_t bytes;
} dtypes[] = {
    [LOAM_F32] = { "F32", 4 },   [LOAM_F16] = { "F16", 2 }, [LOAM_BF16] = { "BF16", 2 },
    [LOAM_I8] = { "I8", 1 },     [LOAM_U8] = { "U8", 1 },   [LOAM_I16] = { "I16", 2 },
    [LOAM_U16] = { "U16", 2 },   [LOAM_I32] = { "I32", 4 }, [LOAM_U32] = { "U32", 4 },
    [LOAM_I64] = { "I64", 8 },   [LOAM_U64] = { "U64", 8 }, [LOAM_F64] = { "F64", 8 },
    [LOAM_BOOL] = { "BOOL", 1 },
};

enum { N_DTYPES = sizeof dtypes / sizeof *dtypes };

uint32_t loami_dtype_bytes(loam_dtype type)
{
    return (unsigned)type < N_DTYPES ? dtypes[type].bytes : 0;
}

const char *loami_dtype_name(loam_dtype type)
{
    return (unsigned)type < N_DTYPES ? dtypes[type].name : "?";
}

static bool dtype_of(const char *name, loam_dtype *out)
{
    for (unsigned i = 0; i < N_DTYPES; i++) {
        if (strcmp(dtypes[i].name, name) == 0) {
            *out = (loam_dtype)i;
            return true;
        }
    }
    return false;
}

/* A non-negative JSON integer. */
static bool get_u64(const json_t *v, uint64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0) return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

static int read_shape(loami_tensor_view *t, const json_t *shape, loam_err *err)
{
    if (!json_is_array(shape))
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s: \"shape\" must be a list", t->file, t->name);
    if (json_array_size(shape) > LOAMI_MAX_DIMS)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s: %zu dimensions, at most %d are known", t->file,
                          t->name, json_array_size(shape), LOAMI_MAX_DIMS);
    t->n_dims = (uint32_t)json_array_size(shape);
    uint64_t n = loami_dtype_bytes(t->type);
    for (uint32_t i = 0; i < t->n_dims; i++) {
        if (!get_u64(json_array_get(shape, i), &t->shape[i]))
            return loami_fail(err, LOAM_E_FORMAT, "%s: %s: dimension %u is not a size", t->file, t->name, i);
        if (t->shape[i] && n > INT64_MAX / t->shape[i])
            return loami_fail(err, LOAM_E_FORMAT, "%s: %s: shape is too large", t->file, t->name);
        n *= t->shape[i];
    }
    t->bytes = n;
    return 0;
}

static int read_tensor(loami_tensor_view *t, const shard *s, const json_t *o, loam_err *err)
{
    const json_t *type = json_object_get(o, "dtype"), *span = json_object_get(o, "data_offsets");
    uint64_t begin, end;

    if (!json_is_object(o) || !json_is_string(type))
        return loami_fail(err, LOAM_E_FORMAT,
                          "%s: %s: want an object with \"dtype\", \"shape\", \"data_offsets\"", t->file,
                          t->name);
    if (!dtype_of(json_string_value(type), &t->type))
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: %s: numbers of type %.32s are not supported", t->file,
                          t->name, json_string_value(type));
    int rc = read_shape(t, json_object_get(o, "shape"), err);
    if (rc < 0) return rc;
    if (json_array_size(span) != 2 || !get_u64(json_array_get(span, 0), &begin) ||
        !get_u64(json_array_get(span, 1), &end))
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s: \"data_offsets\" must be two offsets", t->file,
                          t->name);
    if (begin > end || end > s->data_bytes)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s: bytes %llu to %llu lie outside the %llu bytes of data",
                          t->file, t->name, (unsigned long long)begin, (unsigned long long)end,
                          (unsigned long long)s->data_bytes);
    if (end - begin != t->bytes)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s: has %llu bytes, its type and shape need %llu", t->file,
                          t->name, (unsigned long long)(end - begin), (unsigned long long)t->bytes);
    t->data = s->data + begin;
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const loami_tensor_view *x = a, *y = b;
    const char *p = x->data, *q = y->data;
    if (p != q) return p < q ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* The format wants the tensors to cover the data exactly: an overlap could alias, a gap could hide
 * something. */
static int check_cover(const shard *s, const loami_tensor_view *t, uint32_t n, loam_err *err)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t begin = (uint64_t)((const unsigned char *)t[i].data - s->data);
        if (begin != at)
            return loami_fail(err, LOAM_E_FORMAT, "%s: %s: %s before byte %llu of the data", s->file,
                              t[i].name, begin < at ? "overlaps the tensor" : "leaves a gap",
                              (unsigned long long)(begin < at ? at : begin));
        at += t[i].bytes;
    }
    if (at != s->data_bytes)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %llu bytes after the last tensor", s->file,
                          (unsigned long long)(s->data_bytes - at));
    return 0;
}

static int check_metadata(const shard *s, const json_t *m, loam_err *err)
{
    const char *key;
    json_t *v;
    if (json_is_null(m)) return 0; /* as MLX writes it when there is none */
    if (!json_is_object(m))
        return loami_fail(err, LOAM_E_FORMAT, "%s: \"__metadata__\" must be an object", s->file);
    json_object_foreach((json_t *)m, key, v)
        if (!json_is_string(v))
            return loami_fail(err, LOAM_E_FORMAT, "%s: \"__metadata__\": \"%.64s\" must be a string", s->file,
                              key);
    return 0;
}

static int reserve_views(loami_weights *w, size_t more, loam_err *err)
{
    if (more > UINT32_MAX / 4 - w->n_views) return loami_fail(err, LOAM_E_FORMAT, "too many tensors");
    uint32_t need = w->n_views + (uint32_t)more;
    if (need <= w->cap_views) return 0;
    loami_tensor_view *v = realloc(w->views, need * sizeof *v);
    if (!v || !loami_map_reserve(&w->by_name, need)) {
        if (v) w->views = v;
        return loami_fail_nomem(err);
    }
    w->views = v;
    w->cap_views = need;
    return 0;
}

static int read_header(loami_weights *w, shard *s, const json_t *header, loam_err *err)
{
    const char *key;
    json_t *v;
    if (!json_is_object(header))
        return loami_fail(err, LOAM_E_FORMAT, "%s: the header is not a JSON object", s->file);
    int rc = reserve_views(w, json_object_size(header), err);
    if (rc < 0) return rc;

    uint32_t first = w->n_views;
    json_object_foreach((json_t *)header, key, v) {
        if (strcmp(key, "__metadata__") == 0) {
            if ((rc = check_metadata(s, v, err)) < 0) return rc;
            s->metadata = json_incref(v);
            continue;
        }
        loami_tensor_view *t = &w->views[w->n_views];
        *t = (loami_tensor_view){ .name = loami_arena_strndup(&w->names, key, strlen(key)), .file = s->file };
        if (!t->name) return loami_fail_nomem(err);
        if ((rc = read_tensor(t, s, v, err)) < 0) return rc;
        w->n_views++;
    }
    qsort(w->views + first, w->n_views - first, sizeof *w->views, by_offset);
    for (uint32_t i = first; i < w->n_views; i++) {
        const loami_tensor_view *t = &w->views[i];
        uint32_t twin = loami_map_get(&w->by_name, t->name, strlen(t->name));
        if (twin != LOAMI_MAP_NONE)
            return loami_fail(err, LOAM_E_FORMAT, "%s: %s: is in %s already", t->file, t->name,
                              w->views[twin].file);
        if (!loami_map_put(&w->by_name, t->name, strlen(t->name), i)) return loami_fail_nomem(err);
    }
    return check_cover(s, w->views + first, w->n_views - first, err);
}

static int open_shard(loami_weights *w, shard *s, const char *dir, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    json_t *header = NULL;
    int rc = loami_path_join(path, dir, s->file, err);
    if (rc < 0 || (rc = loami_file_map(&s->map, path, err)) < 0) return rc;
    if (s->map.size < 8) return loami_fail(err, LOAM_E_FORMAT, "%s: too short for a safetensors file", path);

    uint64_t n = 0;
    for (int i = 7; i >= 0; i--) n = n << 8 | s->map.data[i];
    if (n > s->map.size - 8)
        return loami_fail(
            err, LOAM_E_FORMAT,
            "%s: says its header has %llu bytes, the file has %zu: not a safetensors file, or cut off", path,
            (unsigned long long)n, s->map.size);
    if (n > HEADER_BYTES_MAX)
        return loami_fail(err, LOAM_E_FORMAT, "%s: header of %llu bytes is too large", path,
                          (unsigned long long)n);
    s->data = s->map.data + 8 + n;
    s->data_bytes = s->map.size - 8 - n;
    rc = loami_json_parse(&header, (const char *)s->map.data + 8, (size_t)n, path, err);
    if (rc == 0) rc = read_header(w, s, header, err);
    json_decref(header);
    return rc;
}

static int add_shard(loami_weights *w, const char *file, loam_err *err)
{
    for (uint32_t i = 0; i < w->n_shards; i++)
        if (strcmp(w->shards[i].file, file) == 0) return 0;
    if (w->n_shards == MAX_SHARDS)
        return loami_fail(err, LOAM_E_FORMAT, "more than %d tensor files", MAX_SHARDS);
    shard *s = realloc(w->shards, (w->n_shards + 1) * sizeof *s);
    if (!s) return loami_fail_nomem(err);
    w->shards = s;
    s[w->n_shards] = (shard){ .file = loami_arena_strndup(&w->names, file, strlen(file)) };
    if (!s[w->n_shards].file) return loami_fail_nomem(err);
    w->n_shards++;
    return 0;
}

static bool is_tensor_file(const char *name)
{
    size_t n = strlen(name), m = strlen(".safetensors");
    return n > m && strcmp(name + n - m, ".safetensors") == 0 && !strchr(name, '/') && name[0] != '.';
}

/* Shards in the order in which the index names them first. */
static int add_indexed(loami_weights *w, const json_t *map, const char *path, loam_err *err)
{
    const char *key;
    json_t *v;
    if (!json_is_object(map))
        return loami_fail(err, LOAM_E_FORMAT, "%s: \"weight_map\" must be an object", path);
    json_object_foreach((json_t *)map, key, v) {
        if (!json_is_string(v) || !is_tensor_file(json_string_value(v)))
            return loami_fail(err, LOAM_E_FORMAT,
                              "%s: %.100s: must name a .safetensors file in the same folder", path, key);
        int rc = add_shard(w, json_string_value(v), err);
        if (rc < 0) return rc;
    }
    return 0;
}

static int check_indexed(const loami_weights *w, const json_t *map, const char *path, loam_err *err)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)map, key, v) {
        const loami_tensor_view *t = loami_weights_find(w, key);
        if (!t || strcmp(t->file, json_string_value(v)) != 0)
            return loami_fail(err, LOAM_E_FORMAT, "%s: tensor %.100s is not in %s", path, key,
                              json_string_value(v));
    }
    return 0;
}

struct find_arg {
    loami_weights *w;
    loam_err *err;
};

static int find_entry(void *arg, const char *name)
{
    struct find_arg *a = arg;
    return strncmp(name, "model", 5) == 0 && is_tensor_file(name) ? add_shard(a->w, name, a->err) : 0;
}

int loami_weights_open(loami_weights **out, const char *dir, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    json_t *index = NULL, *map = NULL;
    loami_weights *w = calloc(1, sizeof *w);
    int rc = w ? loami_path_join(path, dir, "model.safetensors.index.json", err) : loami_fail_nomem(err);
    if (rc < 0) goto out;

    if (loami_file_exists(path)) {
        if ((rc = loami_json_load(&index, path, INDEX_BYTES_MAX, err)) < 0) goto out;
        map = json_object_get(index, "weight_map");
        rc = add_indexed(w, map, path, err);
    } else {
        struct find_arg a = { w, err };
        rc = loami_dir_each(dir, find_entry, &a, err);
    }
    if (rc < 0) goto out;
    if (w->n_shards == 0) {
        rc = loami_fail(err, LOAM_E_NOT_FOUND, "%s: has no model.safetensors", dir);
        goto out;
    }
    for (uint32_t i = 0; i < w->n_shards; i++)
        if ((rc = open_shard(w, &w->shards[i], dir, err)) < 0) goto out;
    if (map && (rc = check_indexed(w, map, path, err)) < 0) goto out;
    *out = w;
    w = NULL;
out:
    json_decref(index);
    loami_weights_close(w);
    return rc;
}

void loami_weights_close(loami_weights *w)
{
    if (!w) return;
    for (uint32_t i = 0; i < w->n_shards; i++) {
        json_decref(w->shards[i].metadata);
        loami_file_unmap(&w->shards[i].map);
    }
    free(w->shards);
    free(w->views);
    loami_map_free(&w->by_name);
    loami_arena_free(&w->names);
    free(w);
}

const loami_tensor_view *loami_weights_find(const loami_weights *w, const char *name)
{
    uint32_t i = loami_map_get(&w->by_name, name, strlen(name));
    return i == LOAMI_MAP_NONE ? NULL : &w->views[i];
}

uint32_t loami_weights_count(const loami_weights *w)
{
    return w->n_views;
}

const loami_tensor_view *loami_weights_at(const loami_weights *w, uint32_t i)
{
    return i < w->n_views ? &w->views[i] : NULL;
}

const char *loami_weights_metadata(const loami_weights *w, const char *key)
{
    for (uint32_t i = 0; i < w->n_shards; i++) {
        const char *v = json_string_value(json_object_get(w->shards[i].metadata, key));
        if (v) return v;
    }
    return NULL;
}
