#include "store/merges.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

typedef struct merge {
    float score;
    uint32_t left, right; /* ids */
    uint32_t token;       /* what they make */
    uint16_t left_chars, right_chars;
} merge;

typedef struct merge_list {
    merge *data;
    size_t n, cap;
} merge_list;

enum { TOKEN_CHARS_MAX = 1000 };

static bool add(merge_list *l, merge m)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4096;
        merge *p = realloc(l->data, cap * sizeof *p);
        if (!p) return false;
        l->data = p;
        l->cap = cap;
    }
    l->data[l->n++] = m;
    return true;
}

static int compare(uint32_t a, uint32_t b)
{
    return a < b ? -1 : a > b;
}

static int by_rank(const void *a, const void *b)
{
    const merge *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->left_chars != y->left_chars) return compare(y->left_chars, x->left_chars);
    if (x->right_chars != y->right_chars) return compare(y->right_chars, x->right_chars);
    if (x->token != y->token) return compare(x->token, y->token);
    return x->left != y->left ? compare(x->left, y->left) : compare(x->right, y->right);
}

/* All cuts of one token. */
static bool add_cuts(merge_list *l, const char *s, uint32_t id, float score, const loami_map *ids)
{
    size_t n = strlen(s), chars = 0, at = 0;
    uint32_t cp;
    for (size_t i = 0; i < n; chars++) i += loami_utf8_next(s + i, n - i, &cp);
    if (chars > TOKEN_CHARS_MAX) return true;
    for (size_t k = 1; k < chars; k++) {
        at += loami_utf8_next(s + at, n - at, &cp);
        uint32_t left = loami_map_get(ids, s, at),
                 right = left == LOAMI_MAP_NONE ? left : loami_map_get(ids, s + at, n - at);
        if (right == LOAMI_MAP_NONE) continue;
        if (!add(l, (merge){ score, left, right, id, (uint16_t)k, (uint16_t)(chars - k) })) return false;
    }
    return true;
}

int loami_merges_from_scores(json_t *out, const char *const *token, const uint8_t *type,
                             const loami_gguf_value *scores, uint32_t n, uint8_t normal, const loami_map *ids,
                             loam_err *err)
{
    merge_list l = { 0 };
    int rc = 0;
    for (uint32_t i = 0; i < n && rc == 0; i++)
        if (type[i] == normal && !add_cuts(&l, token[i], i, (float)loami_gguf_number(scores, i), ids))
            rc = loami_fail_nomem(err);
    if (l.n) qsort(l.data, l.n, sizeof *l.data, by_rank);
    bool pairs = false; /* the readers of tokenizer.json want all of one kind */
    for (size_t i = 0; i < l.n && !pairs; i++) pairs = strchr(token[l.data[i].token], ' ') != NULL;
    for (size_t i = 0; i < l.n && rc == 0; i++) {
        const char *left = token[l.data[i].left], *right = token[l.data[i].right];
        json_t *pair = pairs ? json_pack("[s,s]", left, right) : json_sprintf("%s %s", left, right);
        if (json_array_append_new(out, pair) < 0) rc = loami_fail_nomem(err);
    }
    free(l.data);
    return rc;
}
