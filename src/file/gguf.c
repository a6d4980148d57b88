#include "file/gguf.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/map.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NAME_BYTES_MAX = 1024,
    NESTING_MAX = 4,          /* lists in lists */
    KV_BYTES_MIN = 8 + 4 + 1, /* key length, kind, the smallest value: bounds counts by the file's size */
    TENSOR_BYTES_MIN = 8 + 4 + 4 + 8,
    DEFAULT_ALIGNMENT = 32,
    ALIGNMENT_MAX = 1 << 20,
    PARTS_MAX = 1000,
};

struct loami_gguf {
    loami_arena text;
    loami_mapping map; /* when opened from a path */
    const char *what;
    loami_gguf_value *values; /* [n_values] */
    uint32_t n_values;
    loami_gguf_tensor *tensors; /* [n_tensors] */
    uint32_t n_tensors;
    loami_map keys, names;
    loami_gguf **parts; /* [n_parts] the other files of a model that was split */
    uint32_t n_parts;
};

/* What is left to read. */
typedef struct cursor {
    const unsigned char *at, *begin, *end;
    const char *what;
} cursor;

/* https://github.com/ggml-org/ggml/blob/master/include/ggml.h: weights and bytes of a block. */
static const struct {
    const char *name;
    uint16_t weights, bytes;
} types[] = {
    [0] = { "F32", 1, 4 },         [1] = { "F16", 1, 2 },         [2] = { "Q4_0", 32, 18 },
    [3] = { "Q4_1", 32, 20 },      [6] = { "Q5_0", 32, 22 },      [7] = { "Q5_1", 32, 24 },
    [8] = { "Q8_0", 32, 34 },      [9] = { "Q8_1", 32, 40 },      [10] = { "Q2_K", 256, 84 },
    [11] = { "Q3_K", 256, 110 },   [12] = { "Q4_K", 256, 144 },   [13] = { "Q5_K", 256, 176 },
    [14] = { "Q6_K", 256, 210 },   [15] = { "Q8_K", 256, 292 },   [16] = { "IQ2_XXS", 256, 66 },
    [17] = { "IQ2_XS", 256, 74 },  [18] = { "IQ3_XXS", 256, 98 }, [19] = { "IQ1_S", 256, 50 },
    [20] = { "IQ4_NL", 32, 18 },   [21] = { "IQ3_S", 256, 110 },  [22] = { "IQ2_S", 256, 82 },
    [23] = { "IQ4_XS", 256, 136 }, [24] = { "I8", 1, 1 },         [25] = { "I16", 1, 2 },
    [26] = { "I32", 1, 4 },        [27] = { "I64", 1, 8 },        [28] = { "F64", 1, 8 },
    [29] = { "IQ1_M", 256, 56 },   [30] = { "BF16", 1, 2 },       [34] = { "TQ1_0", 256, 54 },
    [35] = { "TQ2_0", 256, 66 },   [39] = { "MXFP4", 32, 17 },    [40] = { "NVFP4", 64, 36 },
    [41] = { "Q1_0", 128, 18 },
};

enum { N_TYPES = sizeof types / sizeof *types };

static bool known(uint32_t type)
{
    return type < N_TYPES && types[type].name;
}

const char *loami_gguf_type_name(uint32_t type)
{
    return known(type) ? types[type].name : "?";
}

uint32_t loami_gguf_block_weights(uint32_t type)
{
    return known(type) ? types[type].weights : 0;
}

uint32_t loami_gguf_block_bytes(uint32_t type)
{
    return known(type) ? types[type].bytes : 0;
}

/* ---- reading bytes ------------------------------------------------------------------------------------- */

static uint64_t le(const unsigned char *p, unsigned n)
{
    uint64_t v = 0;
    while (n--) v = v << 8 | p[n];
    return v;
}

static int cut_off(const cursor *c, const char *where, loam_err *err)
{
    return loami_fail(err, LOAM_E_FORMAT, "%s: the file ends at byte %llu, in the middle of %s", c->what,
                      (unsigned long long)(c->end - c->begin), where);
}

static int take(cursor *c, uint64_t n, const unsigned char **out, const char *where, loam_err *err)
{
    *out = c->at;
    if (n > (uint64_t)(c->end - c->at)) return cut_off(c, where, err);
    c->at += n;
    return 0;
}

static int take_uint(cursor *c, unsigned n, uint64_t *out, const char *where, loam_err *err)
{
    const unsigned char *p;
    int rc = take(c, n, &p, where, err);
    *out = rc == 0 ? le(p, n) : 0;
    return rc;
}

/* A key or a tensor's name: NUL-terminated copy in the arena. */
static int take_name(loami_gguf *g, cursor *c, const char **out, const char *where, loam_err *err)
{
    uint64_t n;
    const unsigned char *p;
    int rc = take_uint(c, 8, &n, where, err);
    if (rc < 0) return rc;
    if (n == 0 || n > NAME_BYTES_MAX)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s of %llu bytes at byte %llu", c->what, where,
                          (unsigned long long)n, (unsigned long long)(c->at - c->begin));
    if ((rc = take(c, n, &p, where, err)) < 0) return rc;
    for (uint64_t i = 0; i < n; i++)
        if (p[i] < 0x20 || p[i] > 0x7e)
            return loami_fail(err, LOAM_E_FORMAT,
                              "%s: %s at byte %llu has a character that is not printable ASCII", c->what,
                              where, (unsigned long long)(p - c->begin));
    *out = loami_arena_strndup(&g->text, (const char *)p, (size_t)n);
    return *out ? 0 : loami_fail_nomem(err);
}

/* ---- metadata ------------------------------------------------------------------------------------------ */

/* Bytes of a fixed-size kind; 0 for strings, arrays and what is unknown. */
static unsigned kind_bytes(uint64_t kind)
{
    static const unsigned char bytes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    return kind < sizeof bytes ? bytes[kind] : 0;
}

static int skip_value(cursor *c, uint64_t kind, const char *key, int depth, loam_err *err);

static int skip_array(cursor *c, uint64_t kind, uint64_t n, const char *key, int depth, loam_err *err)
{
    const unsigned char *p;
    unsigned size = kind_bytes(kind);
    if (size) return n > UINT64_MAX / size ? cut_off(c, key, err) : take(c, n * size, &p, key, err);
    for (uint64_t i = 0; i < n; i++) {
        int rc = skip_value(c, kind, key, depth, err);
        if (rc < 0) return rc;
    }
    return 0;
}

static int skip_value(cursor *c, uint64_t kind, const char *key, int depth, loam_err *err)
{
    uint64_t n, element;
    const unsigned char *p;
    int rc;
    if (kind_bytes(kind)) return take(c, kind_bytes(kind), &p, key, err);
    if (kind == LOAMI_GGUF_STRING) {
        if ((rc = take_uint(c, 8, &n, key, err)) < 0) return rc;
        return take(c, n, &p, key, err);
    }
    if (kind != LOAMI_GGUF_ARRAY)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s: unknown type of value %llu", c->what, key,
                          (unsigned long long)kind);
    if (depth == NESTING_MAX)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s: lists nested too deeply", c->what, key);
    if ((rc = take_uint(c, 4, &element, key, err)) < 0 || (rc = take_uint(c, 8, &n, key, err)) < 0) return rc;
    return skip_array(c, element, n, key, depth + 1, err);
}

static int read_value(loami_gguf *g, cursor *c, loami_gguf_value *v, loam_err *err)
{
    uint64_t kind;
    int rc = take_name(g, c, &v->key, "a key", err);
    if (rc < 0 || (rc = take_uint(c, 4, &kind, v->key, err)) < 0) return rc;
    v->data = c->at;
    if ((rc = skip_value(c, kind, v->key, 0, err)) < 0) return rc;
    v->kind = (loami_gguf_kind)kind;
    if (kind == LOAMI_GGUF_STRING) {
        v->n = le(v->data, 8);
        v->data += 8;
    } else if (kind == LOAMI_GGUF_ARRAY) {
        v->is_array = true;
        v->kind = (loami_gguf_kind)le(v->data, 4);
        v->n = le(v->data + 4, 8);
        v->data += 12;
    }
    v->bytes = (uint64_t)(c->at - v->data);
    return 0;
}

/* Takes room for `count` things of at least `least` bytes each in the file. */
static void *room(loami_gguf *g, const cursor *c, uint64_t count, uint64_t least, size_t size,
                  const char *what, loam_err *err)
{
    if (count > (uint64_t)(c->end - c->at) / least || count > UINT32_MAX / 4) {
        loami_fail(err, LOAM_E_FORMAT,
                   "%s: says it has %llu %s, more than its size allows: cut off, or damaged", c->what,
                   (unsigned long long)count, what);
        return NULL;
    }
    void *p = loami_arena_array(&g->text, (size_t)count + 1, size);
    if (!p) loami_fail_nomem(err);
    return p;
}

static int read_values(loami_gguf *g, cursor *c, uint64_t count, loam_err *err)
{
    g->values = room(g, c, count, KV_BYTES_MIN, sizeof *g->values, "metadata values", err);
    if (!g->values) return err ? err->code : LOAM_E_FORMAT;
    if (!loami_map_reserve(&g->keys, (uint32_t)count)) return loami_fail_nomem(err);
    for (uint32_t i = 0; i < count; i++) {
        loami_gguf_value *v = &g->values[i];
        int rc = read_value(g, c, v, err);
        if (rc < 0) return rc;
        if (loami_map_get(&g->keys, v->key, strlen(v->key)) != LOAMI_MAP_NONE)
            return loami_fail(err, LOAM_E_FORMAT, "%s: %s: twice in the metadata", c->what, v->key);
        if (!loami_map_put(&g->keys, v->key, strlen(v->key), i)) return loami_fail_nomem(err);
        g->n_values = i + 1;
    }
    return 0;
}

/* ---- tensors ------------------------------------------------------------------------------------------- */

static int read_shape(cursor *c, loami_gguf_tensor *t, loam_err *err)
{
    uint64_t n_dims, n = 1;
    int rc = take_uint(c, 4, &n_dims, t->name, err);
    if (rc < 0) return rc;
    if (n_dims < 1 || n_dims > LOAMI_GGUF_DIMS)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s: %llu dimensions", c->what, t->name,
                          (unsigned long long)n_dims);
    t->n_dims = (uint32_t)n_dims;
    for (uint32_t i = 0; i < LOAMI_GGUF_DIMS; i++) {
        t->shape[i] = 1;
        if (i < n_dims && (rc = take_uint(c, 8, &t->shape[i], t->name, err)) < 0) return rc;
        if (t->shape[i] == 0 || n > INT64_MAX / 8 / t->shape[i])
            return loami_fail(err, LOAM_E_FORMAT, "%s: %s: dimension %u is %llu", c->what, t->name, i,
                              (unsigned long long)t->shape[i]);
        n *= t->shape[i];
    }
    t->bytes = n; /* weights, until the type is known */
    return 0;
}

/* The offset stays in data's place until the data's start is known. */
static int read_tensor(loami_gguf *g, cursor *c, loami_gguf_tensor *t, uint64_t *offset, loam_err *err)
{
    uint64_t type;
    int rc = take_name(g, c, &t->name, "a tensor's name", err);
    if (rc < 0 || (rc = read_shape(c, t, err)) < 0 || (rc = take_uint(c, 4, &type, t->name, err)) < 0)
        return rc;
    if (type >= N_TYPES || !known((uint32_t)type))
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: %s: tensor type %llu is not known", c->what, t->name,
                          (unsigned long long)type);
    t->type = (uint32_t)type;
    if (t->shape[0] % types[type].weights)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s: rows of %llu weights are no whole blocks of %s",
                          c->what, t->name, (unsigned long long)t->shape[0], types[type].name);
    t->bytes = t->bytes / types[type].weights * types[type].bytes;
    return take_uint(c, 8, offset, t->name, err);
}

static int by_place(const void *a, const void *b)
{
    const loami_gguf_tensor *x = *(loami_gguf_tensor *const *)a, *y = *(loami_gguf_tensor *const *)b;
    return x->data < y->data ? -1 : x->data > y->data;
}

static int check_overlap(loami_gguf *g, loam_err *err)
{
    const loami_gguf_tensor **order = loami_arena_array(&g->text, g->n_tensors + 1, sizeof *order);
    if (!order) return loami_fail_nomem(err);
    for (uint32_t i = 0; i < g->n_tensors; i++) order[i] = &g->tensors[i];
    qsort(order, g->n_tensors, sizeof *order, by_place);
    for (uint32_t i = 1; i < g->n_tensors; i++)
        if (order[i - 1]->data + order[i - 1]->bytes > order[i]->data)
            return loami_fail(err, LOAM_E_FORMAT, "%s: tensors %s and %s overlap", g->what,
                              order[i - 1]->name, order[i]->name);
    return 0;
}

static int place_tensors(loami_gguf *g, const cursor *c, const uint64_t *offsets, loam_err *err)
{
    uint32_t align = DEFAULT_ALIGNMENT;
    int rc = loami_gguf_u32(g, "general.alignment", 1, ALIGNMENT_MAX, &align, err);
    if (rc < 0) return rc;
    if (align & (align - 1))
        return loami_fail(err, LOAM_E_FORMAT, "%s: general.alignment is %u, must be a power of two", g->what,
                          align);
    uint64_t size = (uint64_t)(c->end - c->begin),
             start = ((uint64_t)(c->at - c->begin) + align - 1) & ~(uint64_t)(align - 1);
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        loami_gguf_tensor *t = &g->tensors[i];
        if (offsets[i] % align)
            return loami_fail(err, LOAM_E_FORMAT, "%s: %s: offset %llu is no multiple of %u", g->what,
                              t->name, (unsigned long long)offsets[i], align);
        if (start > size || offsets[i] > size - start || t->bytes > size - start - offsets[i])
            return loami_fail(err, LOAM_E_FORMAT,
                              "%s: %s: its %llu bytes reach beyond the end of the file: cut off, or damaged",
                              g->what, t->name, (unsigned long long)t->bytes);
        t->data = c->begin + start + offsets[i];
    }
    return check_overlap(g, err);
}

static int read_tensors(loami_gguf *g, cursor *c, uint64_t count, loam_err *err)
{
    uint64_t *offsets;
    g->tensors = room(g, c, count, TENSOR_BYTES_MIN, sizeof *g->tensors, "tensors", err);
    offsets = g->tensors ? loami_arena_array(&g->text, (size_t)count + 1, sizeof *offsets) : NULL;
    if (!offsets) return g->tensors ? loami_fail_nomem(err) : err ? err->code : LOAM_E_FORMAT;
    if (!loami_map_reserve(&g->names, (uint32_t)count)) return loami_fail_nomem(err);
    for (uint32_t i = 0; i < count; i++) {
        loami_gguf_tensor *t = &g->tensors[i];
        int rc = read_tensor(g, c, t, &offsets[i], err);
        if (rc < 0) return rc;
        if (loami_map_get(&g->names, t->name, strlen(t->name)) != LOAMI_MAP_NONE)
            return loami_fail(err, LOAM_E_FORMAT, "%s: %s: two tensors of this name", c->what, t->name);
        if (!loami_map_put(&g->names, t->name, strlen(t->name), i)) return loami_fail_nomem(err);
        g->n_tensors = i + 1;
    }
    return place_tensors(g, c, offsets, err);
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static int read_file(loami_gguf *g, const void *bytes, size_t n, loam_err *err)
{
    cursor c = { bytes, bytes, (const unsigned char *)bytes + n, g->what };
    uint64_t version, n_tensors, n_values;
    const unsigned char *magic;
    if (n < 4 || memcmp(bytes, "GGUF", 4) != 0)
        return loami_fail(err, LOAM_E_FORMAT, "%s: not a GGUF file", g->what);
    int rc = take(&c, 4, &magic, "the header", err);
    if (rc < 0 || (rc = take_uint(&c, 4, &version, "the header", err)) < 0) return rc;
    if (version != 0 && (version & 0xffff) == 0)
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: a GGUF file for big-endian machines", g->what);
    if (version != 2 && version != 3)
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: GGUF version %llu; 2 and 3 are known", g->what,
                          (unsigned long long)version);
    if ((rc = take_uint(&c, 8, &n_tensors, "the header", err)) < 0 ||
        (rc = take_uint(&c, 8, &n_values, "the header", err)) < 0)
        return rc;
    rc = read_values(g, &c, n_values, err);
    return rc < 0 ? rc : read_tensors(g, &c, n_tensors, err);
}

static int start(loami_gguf **out, const char *what, loam_err *err)
{
    loami_gguf *g = *out = calloc(1, sizeof *g);
    if (!g) return loami_fail_nomem(err);
    g->what = loami_arena_strndup(&g->text, what, strlen(what));
    if (g->what) return 0;
    loami_gguf_close(g);
    return loami_fail_nomem(err);
}

int loami_gguf_parse(loami_gguf **out, const void *bytes, size_t n, const char *what, loam_err *err)
{
    loami_gguf *g;
    int rc = start(&g, what, err);
    if (rc < 0) return rc;
    rc = read_file(g, bytes, n, err);
    if (rc < 0)
        loami_gguf_close(g);
    else
        *out = g;
    return rc;
}

static int open_one(loami_gguf **out, const char *path, loam_err *err)
{
    loami_gguf *g;
    int rc = start(&g, path, err);
    if (rc < 0) return rc;
    rc = loami_file_map(&g->map, path, err);
    if (rc == 0) rc = read_file(g, g->map.data, g->map.size, err);
    if (rc < 0)
        loami_gguf_close(g);
    else
        *out = g;
    return rc;
}

/* Opens part i of n, "NAME-00002-of-00003.gguf" beside the first. */
static int open_part(loami_gguf *g, uint32_t i, uint32_t n, loam_err *err)
{
    char path[LOAMI_PATH_MAX], end[40];
    uint32_t number = 0;
    size_t len = strlen(g->what), n_end = (size_t)snprintf(end, sizeof end, "-%05u-of-%05u.gguf", 1u, n);
    if (len <= n_end || len >= sizeof path || strcmp(g->what + len - n_end, end) != 0)
        return loami_fail(err, LOAM_E_FORMAT,
                          "%s: is the first of %u files, and its name does not end with %s", g->what, n, end);
    snprintf(path, sizeof path, "%.*s-%05u-of-%05u.gguf", (int)(len - n_end), g->what, i + 1, n);
    int rc = open_one(&g->parts[g->n_parts], path, err);
    if (rc < 0) return rc;
    rc = loami_gguf_u32(g->parts[g->n_parts++], "split.no", 0, UINT32_MAX, &number, err);
    if (rc >= 0 && number != i)
        rc = loami_fail(err, LOAM_E_FORMAT, "%s: says it is file %u, not %u", path, number + 1, i + 1);
    return rc < 0 ? rc : 0;
}

/* The tensors of all files, as if they were in the first. */
static int join_parts(loami_gguf *g, loam_err *err)
{
    size_t n = g->n_tensors;
    for (uint32_t i = 0; i < g->n_parts; i++) n += g->parts[i]->n_tensors;
    loami_gguf_tensor *all = loami_arena_array(&g->text, n + 1, sizeof *all);
    if (!all) return loami_fail_nomem(err);
    memcpy(all, g->tensors, g->n_tensors * sizeof *all);
    g->tensors = all;
    for (uint32_t i = 0; i < g->n_parts; i++) {
        for (uint32_t k = 0; k < g->parts[i]->n_tensors; k++) {
            const loami_gguf_tensor *t = &g->parts[i]->tensors[k];
            if (loami_gguf_find(g, t->name))
                return loami_fail(err, LOAM_E_FORMAT, "%s: %s: is in another file of this model too",
                                  g->parts[i]->what, t->name);
            all[g->n_tensors] = *t;
            if (!loami_map_put(&g->names, t->name, strlen(t->name), g->n_tensors++))
                return loami_fail_nomem(err);
        }
    }
    return 0;
}

/* Opens the other files, when this is the first of several (llama-gguf-split). */
static int add_parts(loami_gguf *g, loam_err *err)
{
    uint32_t n = 1, number = 0;
    int rc = loami_gguf_u32(g, "split.count", 0, PARTS_MAX, &n, err);
    if (rc >= 0) rc = loami_gguf_u32(g, "split.no", 0, UINT32_MAX, &number, err);
    if (rc < 0 || n < 2) return rc < 0 ? rc : 0;
    if (number != 0)
        return loami_fail(err, LOAM_E_ARG, "%s: is file %u of %u; give the first", g->what, number + 1, n);
    g->parts = calloc(n, sizeof *g->parts);
    rc = g->parts ? 0 : loami_fail_nomem(err);
    for (uint32_t i = 1; rc == 0 && i < n; i++) rc = open_part(g, i, n, err);
    return rc < 0 ? rc : join_parts(g, err);
}

int loami_gguf_open(loami_gguf **out, const char *path, loam_err *err)
{
    loami_gguf *g;
    int rc = open_one(&g, path, err);
    if (rc < 0) return rc;
    rc = add_parts(g, err);
    if (rc < 0)
        loami_gguf_close(g);
    else
        *out = g;
    return rc;
}

void loami_gguf_close(loami_gguf *g)
{
    if (!g) return;
    loami_map_free(&g->keys);
    loami_map_free(&g->names);
    for (uint32_t i = 0; i < g->n_parts; i++) loami_gguf_close(g->parts[i]);
    free(g->parts);
    loami_file_unmap(&g->map);
    loami_arena_free(&g->text);
    free(g);
}

/* ---- looking up ---------------------------------------------------------------------------------------- */

const char *loami_gguf_what(const loami_gguf *g)
{
    return g->what;
}

uint32_t loami_gguf_count(const loami_gguf *g)
{
    return g->n_tensors;
}

const loami_gguf_tensor *loami_gguf_at(const loami_gguf *g, uint32_t i)
{
    return i < g->n_tensors ? &g->tensors[i] : NULL;
}

const loami_gguf_tensor *loami_gguf_find(const loami_gguf *g, const char *name)
{
    uint32_t i = loami_map_get(&g->names, name, strlen(name));
    return i == LOAMI_MAP_NONE ? NULL : &g->tensors[i];
}

const loami_gguf_value *loami_gguf_get(const loami_gguf *g, const char *key)
{
    uint32_t i = loami_map_get(&g->keys, key, strlen(key));
    return i == LOAMI_MAP_NONE ? NULL : &g->values[i];
}

static double number(loami_gguf_kind kind, const unsigned char *p)
{
    uint64_t u = le(p, kind_bytes(kind));
    uint32_t u32 = (uint32_t)u;
    float f;
    double d;
    switch (kind) {
    case LOAMI_GGUF_I8: return (int8_t)u;
    case LOAMI_GGUF_I16: return (int16_t)u;
    case LOAMI_GGUF_I32: return (int32_t)u;
    case LOAMI_GGUF_I64: return (double)(int64_t)u;
    case LOAMI_GGUF_F32: return memcpy(&f, &u32, 4), f;
    case LOAMI_GGUF_F64: return memcpy(&d, &u, 8), d;
    default: return (double)u;
    }
}

double loami_gguf_number(const loami_gguf_value *array, uint64_t i)
{
    unsigned size = kind_bytes(array->kind);
    return size ? number(array->kind, array->data + i * size) : NAN;
}

const char *loami_gguf_next(const unsigned char **at, uint64_t *len)
{
    const unsigned char *s = *at + 8;
    *len = le(*at, 8);
    *at = s + *len;
    return (const char *)s;
}

static int wrong(const loami_gguf *g, const char *key, const char *want, loam_err *err)
{
    return loami_fail(err, LOAM_E_FORMAT, "%s: %s must be %s", g->what, key, want);
}

int loami_gguf_double(const loami_gguf *g, const char *key, double lo, double hi, double *out, loam_err *err)
{
    const loami_gguf_value *v = loami_gguf_get(g, key);
    if (!v) return 0;
    if (v->is_array || !kind_bytes(v->kind) || v->kind == LOAMI_GGUF_BOOL)
        return wrong(g, key, "a number", err);
    double d = number(v->kind, v->data);
    if (!(d >= lo && d <= hi))
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s is %g, must be from %g to %g", g->what, key, d, lo, hi);
    *out = d;
    return 1;
}

int loami_gguf_u32(const loami_gguf *g, const char *key, uint32_t lo, uint32_t hi, uint32_t *out,
                   loam_err *err)
{
    const loami_gguf_value *v = loami_gguf_get(g, key);
    double d;
    if (v && (v->kind == LOAMI_GGUF_F32 || v->kind == LOAMI_GGUF_F64))
        return wrong(g, key, "a whole number", err);
    int rc = loami_gguf_double(g, key, lo, hi, &d, err);
    if (rc > 0) *out = (uint32_t)d;
    return rc;
}

int loami_gguf_bool(const loami_gguf *g, const char *key, bool *out, loam_err *err)
{
    const loami_gguf_value *v = loami_gguf_get(g, key);
    if (!v) return 0;
    if (v->is_array || v->kind != LOAMI_GGUF_BOOL) return wrong(g, key, "true or false", err);
    *out = v->data[0] != 0;
    return 1;
}

int loami_gguf_string(loami_gguf *g, const char *key, const char **out, loam_err *err)
{
    const loami_gguf_value *v = loami_gguf_get(g, key);
    if (!v) return 0;
    if (v->is_array || v->kind != LOAMI_GGUF_STRING || memchr(v->data, 0, (size_t)v->n))
        return wrong(g, key, "a text", err);
    const char *s = loami_arena_strndup(&g->text, (const char *)v->data, (size_t)v->n);
    if (!s) return loami_fail_nomem(err);
    *out = s;
    return 1;
}
