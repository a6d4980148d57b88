#include "text/tok/trie.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_NODES = 1 << 24 }; /* node numbers have 24 bits in a slot */

static size_t slot_of(const loami_trie *t, uint64_t key)
{
    return (size_t)((key * 0x9e3779b97f4a7c15u) >> 24) & t->mask;
}

static uint64_t key_of(uint32_t node, unsigned char byte)
{
    return (uint64_t)node << 8 | byte;
}

static void place(loami_trie *t, uint64_t slot)
{
    size_t i = slot_of(t, slot >> 32);
    while (t->slots[i]) i = (i + 1) & t->mask;
    t->slots[i] = slot;
}

static bool reserve(loami_trie *t)
{
    if (t->n_nodes < t->cap_nodes) return true;
    uint32_t cap = t->cap_nodes ? t->cap_nodes * 2 : 256;
    int32_t *values = realloc(t->values, cap * sizeof *values);
    if (!values) return false;
    t->values = values;
    uint64_t *slots = calloc((size_t)cap * 2, sizeof *slots), *old = t->slots;
    if (!slots) return false;
    size_t n = old ? t->mask + 1 : 0;
    t->slots = slots;
    t->mask = (size_t)cap * 2 - 1;
    t->cap_nodes = cap;
    for (size_t i = 0; i < n; i++)
        if (old[i]) place(t, old[i]);
    free(old);
    return true;
}

static uint32_t add_node(loami_trie *t)
{
    t->values[t->n_nodes] = -1;
    return t->n_nodes++;
}

int loami_trie_put(loami_trie *t, const char *key, size_t n, int32_t value, loam_err *err)
{
    if (n == 0 || n > LOAMI_TRIE_KEY_MAX)
        return loami_fail(err, LOAM_E_FORMAT, "a token of %zu bytes (from 1 to %d are allowed): \"%.40s...\"",
                          n, LOAMI_TRIE_KEY_MAX, key);
    uint32_t node = LOAMI_TRIE_ROOT;
    if (!reserve(t)) return loami_fail_nomem(err);
    if (t->n_nodes == 0) add_node(t);
    t->first[(unsigned char)key[0]] = true;
    for (size_t i = 0; i < n; i++) {
        uint32_t child = loami_trie_step(t, node, (unsigned char)key[i]);
        if (!child) {
            if (t->n_nodes == MAX_NODES)
                return loami_fail(err, LOAM_E_FORMAT, "a vocabulary with more than %d prefixes", MAX_NODES);
            if (!reserve(t)) return loami_fail_nomem(err);
            child = add_node(t);
            place(t, key_of(node, (unsigned char)key[i]) << 32 | child);
        }
        node = child;
    }
    t->values[node] = value;
    return 0;
}

uint32_t loami_trie_step(const loami_trie *t, uint32_t node, unsigned char byte)
{
    uint64_t key = key_of(node, byte);
    for (size_t i = slot_of(t, key); t->slots[i]; i = (i + 1) & t->mask)
        if (t->slots[i] >> 32 == key) return (uint32_t)t->slots[i];
    return 0;
}

size_t loami_trie_longest(const loami_trie *t, const char *text, size_t n, int32_t *value)
{
    size_t longest = 0;
    uint32_t node = LOAMI_TRIE_ROOT;
    if (!n || !t->first[(unsigned char)text[0]]) return 0;
    for (size_t i = 0; i < n; i++) {
        node = loami_trie_step(t, node, (unsigned char)text[i]);
        if (!node) break;
        if (t->values[node] < 0) continue;
        longest = i + 1;
        *value = t->values[node];
    }
    return longest;
}

void loami_trie_free(loami_trie *t)
{
    free(t->slots);
    free(t->values);
    *t = (loami_trie){ 0 };
}
