#include "text/tok/tok.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ids are indices of a table, so they may not lie far beyond the number of tokens: a small file could ask for
 * any amount of memory. Real vocabularies have a few holes. */
static bool id_fits(uint64_t id, uint64_t tokens)
{
    return id < 65536 + 16 * tokens;
}

void loami_spans_put(loami_spans *s, size_t start, size_t end)
{
    if (start == end || s->failed) return;
    if (s->len == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 64;
        loami_span *p = realloc(s->data, cap * sizeof *p);
        if (!p) {
            s->failed = true;
            return;
        }
        s->data = p;
        s->cap = cap;
    }
    s->data[s->len++] = (loami_span){ (uint32_t)start, (uint32_t)end };
}

bool loami_ids_reserve(loami_ids *ids, size_t more)
{
    if (more <= ids->cap - ids->len) return true;
    size_t cap = ids->cap < 64 ? 64 : ids->cap;
    while (cap - ids->len < more) {
        if (cap > SIZE_MAX / 4 / sizeof *ids->data) return false;
        cap *= 2;
    }
    int32_t *p = realloc(ids->data, cap * sizeof *p);
    if (!p) return false;
    ids->data = p;
    ids->cap = cap;
    return true;
}

bool loami_ids_put(loami_ids *ids, int32_t id)
{
    if (!loami_ids_reserve(ids, 1)) return false;
    ids->data[ids->len++] = id;
    return true;
}

/* Room for ids below size. */
static bool grow(loami_vocab *v, uint32_t size)
{
    if (size <= v->size) return true;
    loami_token_name *p = realloc(v->names, size * sizeof *p);
    if (!p) return false;
    memset(p + v->size, 0, (size - v->size) * sizeof *p);
    v->names = p;
    v->size = size;
    return true;
}

int loami_vocab_build(loami_vocab *v, const loami_tok_source *src, const char *what, loam_err *err)
{
    size_t bytes = 0;
    uint32_t last = 0;
    for (size_t i = 0; i < src->n_vocab; i++) {
        bytes += src->vocab[i].token.n + 1;
        if (src->vocab[i].id > last) last = src->vocab[i].id;
    }
    if (!id_fits(last, src->n_vocab))
        return loami_fail(err, LOAM_E_FORMAT, "%s: token id %u in a vocabulary of %zu tokens", what, last,
                          src->n_vocab);
    v->blob = malloc(bytes + 1);
    if (!v->blob || (src->n_vocab && !grow(v, last + 1)) ||
        !loami_map_reserve(&v->map, (uint32_t)src->n_vocab))
        return loami_fail_nomem(err);

    char *p = v->blob;
    for (size_t i = 0; i < src->n_vocab; i++) {
        const loami_vocab_entry *e = &src->vocab[i];
        if (e->token.n) memcpy(p, e->token.s, e->token.n);
        p[e->token.n] = 0;
        v->names[e->id] = (loami_token_name){ p, (uint32_t)e->token.n, false };
        if (!loami_map_put(&v->map, p, e->token.n, e->id)) return loami_fail_nomem(err);
        p += e->token.n + 1;
    }
    v->count = src->scored ? (uint32_t)src->n_vocab : v->map.count;
    return 0;
}

int32_t loami_vocab_id(const loami_vocab *v, const char *s, size_t n)
{
    uint32_t id = loami_map_get(&v->map, s, n);
    return id == LOAMI_MAP_NONE ? LOAMI_NO_ID : (int32_t)id;
}

int loami_vocab_name(loami_vocab *v, uint32_t id, const char *s, size_t n, const char *what, loam_err *err)
{
    if (!id_fits(id, v->size))
        return loami_fail(err, LOAM_E_FORMAT, "%s: token id %u in a vocabulary of %u", what, id, v->size);
    if (!grow(v, id + 1)) return loami_fail_nomem(err);
    v->names[id].s = s;
    v->names[id].n = (uint32_t)n;
    return 0;
}

void loami_vocab_free(loami_vocab *v)
{
    free(v->names);
    free(v->blob);
    loami_map_free(&v->map);
    *v = (loami_vocab){ 0 };
}

/* ---- bytes ---- */

const uint16_t loami_byte_chars[256] = {
#define SHIFTED(n) 0x100 + (n)
#define SAME4(b) (b), (b) + 1, (b) + 2, (b) + 3
#define SAME16(b) SAME4(b), SAME4((b) + 4), SAME4((b) + 8), SAME4((b) + 12)
#define SHIFTED4(n) SHIFTED(n), SHIFTED((n) + 1), SHIFTED((n) + 2), SHIFTED((n) + 3)
#define SHIFTED16(n) SHIFTED4(n), SHIFTED4((n) + 4), SHIFTED4((n) + 8), SHIFTED4((n) + 12)
    SHIFTED16(0),  SHIFTED16(16), SHIFTED(32),  0x21,         0x22,         0x23,         SAME4(0x24),
    SAME4(0x28),   SAME4(0x2c),   SAME16(0x30), SAME16(0x40), SAME16(0x50), SAME16(0x60), SAME4(0x70),
    SAME4(0x74),   SAME4(0x78),   0x7c,         0x7d,         0x7e,         SHIFTED(33),  SHIFTED16(34),
    SHIFTED16(50), SHIFTED(66),   0xa1,         0xa2,         0xa3,         SAME4(0xa4),  SAME4(0xa8),
    0xac,          SHIFTED(67),   0xae,         0xaf,         SAME16(0xb0), SAME16(0xc0), SAME16(0xd0),
    SAME16(0xe0),  SAME16(0xf0),
};

int loami_byte_of_char(uint32_t cp)
{
    if (cp < 0x100) return loami_byte_chars[cp] == cp ? (int)cp : -1;
    if (cp > 0x143) return -1;
    cp -= 0x100;
    return cp < 33 ? (int)cp : cp == 33 ? 0x7f : cp < 67 ? (int)cp - 34 + 0x80 : 0xad;
}

void loami_byte_tokens(const loami_vocab *v, int32_t ids[256])
{
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        ids[b] = loami_vocab_id(v, name, 6);
    }
}
