#include "grammar/vocab.h"

#include <stdlib.h>
#include <string.h>

void loami_vocab_close(loami_vocab *v)
{
    if (!v) return;
    for (uint32_t i = 0; i < v->n_special; i++) free(v->spelling[i]);
    free(v->spelling);
    free(v->special);
    free(v->nodes);
    free(v->same);
    free(v->at);
    free(v->bytes);
    free(v->ends);
    free(v);
}

static bool add_special(loami_vocab *v, int32_t id, char *spelling)
{
    if ((v->n_special & (v->n_special + 1)) == 0) { /* full at 0, 1, 3, 7, ... */
        size_t cap = (size_t)v->n_special * 2 + 1;
        int32_t *ids = realloc(v->special, cap * sizeof *ids);
        if (ids) v->special = ids;
        char **words = realloc(v->spelling, cap * sizeof *words);
        if (words) v->spelling = words;
        if (!ids || !words) return false;
    }
    v->special[v->n_special] = id;
    v->spelling[v->n_special++] = spelling;
    return true;
}

static bool add_bytes(loami_vocab *v, const char *bytes, size_t n, size_t *cap, size_t *len)
{
    if (*len + n > *cap) {
        size_t more = (*cap + n) * 2 + 4096;
        char *p = more < UINT32_MAX ? realloc(v->bytes, more) : NULL;
        if (!p) return false;
        v->bytes = p;
        *cap = more;
    }
    memcpy(v->bytes + *len, bytes, n);
    *len += n;
    return true;
}

static bool read_tokens(loami_vocab *v, const loami_vocab_source *from)
{
    size_t cap = 0, len = 0;
    for (uint32_t id = 0; id < v->n_tokens; id++) {
        char *bytes = NULL;
        size_t n = 0;
        bool special = false;
        v->at[id] = (uint32_t)len;
        v->same[id] = -1;
        if (from->token(from->arg, (int32_t)id, &bytes, &n, &special) < 0) return false;
        if (special && bytes) {
            if (!add_special(v, (int32_t)id, bytes)) {
                free(bytes);
                return false;
            }
            continue;
        }
        bool ok = !bytes || n == 0 || n > LOAMI_TOKEN_BYTES || add_bytes(v, bytes, n, &cap, &len);
        free(bytes);
        if (!ok) return false;
    }
    v->at[v->n_tokens] = (uint32_t)len;
    return true;
}

/* A token in the order of its bytes, so that sorting needs no global. */
typedef struct entry {
    const char *bytes;
    uint32_t n;
    int32_t id;
} entry;

static int by_bytes(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    int c = memcmp(x->bytes, y->bytes, x->n < y->n ? x->n : y->n);
    if (c) return c;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Nodes from sorted tokens. path[d]: the open node of depth d. */
static void make_tree(loami_vocab *v, const entry *e, uint32_t n)
{
    uint32_t path[LOAMI_TOKEN_BYTES + 1], depth = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t common = 0;
        if (i)
            while (common < e[i].n && common < e[i - 1].n && e[i].bytes[common] == e[i - 1].bytes[common])
                common++;
        if (i && common == e[i].n && common == e[i - 1].n) {
            int32_t *end = &v->nodes[path[depth]].token;
            while (*end >= 0) end = &v->same[*end];
            *end = e[i].id;
            continue;
        }
        for (; depth > common; depth--) v->nodes[path[depth]].skip = v->n_nodes - path[depth];
        while (depth < e[i].n) {
            uint8_t byte = (uint8_t)e[i].bytes[depth++];
            path[depth] = v->n_nodes;
            v->nodes[v->n_nodes++] = (loami_vocab_node){ .token = -1, .byte = byte, .depth = (uint8_t)depth };
        }
        v->nodes[path[depth]].token = e[i].id;
    }
    memset(v->absent, true, sizeof v->absent);
    for (uint32_t i = 0; i < v->n_nodes; i++) v->absent[v->nodes[i].byte] = false;
    for (; depth > 0; depth--) v->nodes[path[depth]].skip = v->n_nodes - path[depth];
}

static bool sort_tokens(loami_vocab *v)
{
    uint32_t n = 0;
    size_t total = v->at[v->n_tokens];
    entry *e = malloc((v->n_tokens + 1) * sizeof *e);
    v->nodes = malloc((total + 1) * sizeof *v->nodes);
    for (uint32_t id = 0; e && id < v->n_tokens; id++)
        if (v->at[id + 1] > v->at[id])
            e[n++] = (entry){ v->bytes + v->at[id], v->at[id + 1] - v->at[id], (int32_t)id };
    if (e && v->nodes) {
        qsort(e, n, sizeof *e, by_bytes);
        make_tree(v, e, n);
        loami_vocab_node *fit = realloc(v->nodes, (v->n_nodes + 1) * sizeof *fit);
        if (fit) v->nodes = fit;
    }
    free(e);
    return e && v->nodes;
}

int loami_vocab_open(loami_vocab **out, const loami_vocab_source *source, loam_err *err)
{
    loami_vocab *v = calloc(1, sizeof *v);
    if (!v) return loami_fail_nomem(err);
    v->n_tokens = source->n_tokens;
    v->n_words = (v->n_tokens + 63) / 64;
    v->same = malloc((v->n_tokens + 1) * sizeof *v->same);
    v->at = malloc((v->n_tokens + 1) * sizeof *v->at);
    v->ends = malloc((source->n_ends + 1) * sizeof *v->ends);
    if (!v->same || !v->at || !v->ends || !read_tokens(v, source) || !sort_tokens(v)) {
        loami_vocab_close(v);
        return loami_fail_nomem(err);
    }
    for (uint32_t i = 0; i < source->n_ends; i++)
        if (source->ends[i] >= 0 && (uint32_t)source->ends[i] < v->n_tokens)
            v->ends[v->n_ends++] = source->ends[i];
    *out = v;
    return 0;
}

int32_t loami_vocab_special(const loami_vocab *v, const char *text, size_t n)
{
    for (uint32_t i = 0; i < v->n_special; i++)
        if (strlen(v->spelling[i]) == n && memcmp(v->spelling[i], text, n) == 0) return v->special[i];
    return -1;
}

bool loami_vocab_is_end(const loami_vocab *v, int32_t id)
{
    for (uint32_t i = 0; i < v->n_ends; i++)
        if (v->ends[i] == id) return true;
    return false;
}
