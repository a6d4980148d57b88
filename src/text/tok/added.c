#include "base/utf8.h"
#include "text/tok/tok.h"
#include "text/tok/trie.h"

#include <stdlib.h>
#include <string.h>

typedef struct token {
    char *content;          /* [n] and NUL */
    size_t n;
    char *pattern;          /* [pattern_n] the normalized content; NULL: content is looked for */
    size_t pattern_n;
    uint32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
    bool replaced;          /* by a later token of the same content */
} token;

struct loami_added {
    token *list;            /* [n] */
    size_t n;
    loami_map ids;          /* content -> id */
    loami_trie tries[2];    /* of plain and of normalized tokens -> index in list */
    uint32_t *of_id;        /* [n_of_id] index + 1 of the token with this id, 0 for none */
    uint32_t n_of_id;
};

void loami_added_free(loami_added *a)
{
    if (!a) return;
    for (size_t i = 0; i < a->n; i++) {
        free(a->list[i].content);
        free(a->list[i].pattern);
    }
    free(a->list);
    free(a->of_id);
    loami_map_free(&a->ids);
    loami_trie_free(&a->tries[0]);
    loami_trie_free(&a->tries[1]);
    free(a);
}

/* ---- reading ---- */

static char *copy(const char *s, size_t n)
{
    char *p = malloc(n + 1);
    if (!p) return NULL;
    if (n) memcpy(p, s, n);
    p[n] = 0;
    return p;
}

static int read_token(token *t, const json_t *json, loam_err *err)
{
    loami_str s;
    const struct {
        const char *key;
        bool *value;
    } flags[] = {
        { "single_word", &t->single_word }, { "lstrip", &t->lstrip }, { "rstrip", &t->rstrip },
        { "normalized", &t->normalized }, { "special", &t->special },
    };
    if (!json_is_object(json)) return loami_fail(err, LOAM_E_FORMAT, "added_tokens: must be objects");
    int rc = loami_string_field(json, "added_tokens", "content", &s, err);
    for (size_t i = 0; rc >= 0 && i < sizeof flags / sizeof *flags; i++)
        rc = loami_json_bool(json, "added_tokens", flags[i].key, flags[i].value, err);
    if (rc < 0) return rc;
    t->content = copy(s.s, s.n);
    t->n = s.n;
    return t->content ? 0 : loami_fail_nomem(err);
}

static int normalize_token(token *t, const loami_normalizers *l, void *matches, loam_err *err)
{
    loami_buf bufs[2] = { { 0 }, { 0 } };
    const char *text = t->content;
    size_t n = t->n;
    bool at_start = true;
    int rc = loami_normalize(l, bufs, matches, &text, &n, &at_start, err);
    if (rc == 0 && (n != t->n || memcmp(text, t->content, n) != 0)) {
        t->pattern = copy(text, n);
        t->pattern_n = n;
        if (!t->pattern) rc = loami_fail_nomem(err);
    }
    loami_buf_free(&bufs[0]);
    loami_buf_free(&bufs[1]);
    return rc;
}

/* The token's id: one it has already, or the next free one. */
static int give_id(loami_added *a, token *t, loami_vocab *v, uint32_t *next, const char *what, loam_err *err)
{
    int32_t id = loami_added_id(a, t->content, t->n);
    if (id == LOAMI_NO_ID) id = loami_vocab_id(v, t->content, t->n);
    t->id = id == LOAMI_NO_ID ? (*next)++ : (uint32_t)id;
    int rc = loami_vocab_name(v, t->id, t->content, t->n, what, err);
    if (rc < 0) return rc;
    if (v->size > a->n_of_id) {
        uint32_t *p = realloc(a->of_id, v->size * sizeof *p);
        if (!p) return loami_fail_nomem(err);
        memset(p + a->n_of_id, 0, (v->size - a->n_of_id) * sizeof *p);
        a->of_id = p;
        a->n_of_id = v->size;
    }
    if (a->of_id[t->id]) a->list[a->of_id[t->id] - 1].replaced = true;
    a->of_id[t->id] = (uint32_t)a->n; /* t is the last of the list */
    return loami_map_put(&a->ids, t->content, t->n, t->id) ? 0 : loami_fail_nomem(err);
}

static int build_tries(loami_added *a, const char *what, loam_err *err)
{
    for (size_t i = 0; i < a->n; i++) {
        const token *t = &a->list[i];
        const char *s = t->pattern ? t->pattern : t->content;
        size_t n = t->pattern ? t->pattern_n : t->n;
        if (t->replaced || n == 0) continue;
        if (loami_trie_put(&a->tries[t->normalized], s, n, (int32_t)i, err) < 0)
            return loami_fail_in(err, "%s: added_tokens", what);
    }
    return 0;
}

/* A token is skipped in decoding when its text there is a special token's content. */
static void mark_special(const loami_added *a, loami_vocab *v)
{
    loami_map special = { 0 };
    for (size_t i = 0; i < a->n; i++)
        if (a->list[i].special) loami_map_put(&special, a->list[i].content, a->list[i].n, 1);
    for (size_t i = 0; i < a->n; i++) {
        const token *t = &a->list[i];
        const char *s = t->pattern ? t->pattern : t->content;
        if (!t->replaced)
            v->names[t->id].special = loami_map_get(&special, s, t->pattern ? t->pattern_n : t->n) == 1;
    }
    loami_map_free(&special);
}

int loami_added_parse(loami_added **out, const json_t *json, loami_vocab *v, const loami_normalizers *l,
                      const char *what, loam_err *err)
{
    uint32_t next = v->count;
    loami_added *a = calloc(1, sizeof *a);
    void *matches = loami_matches_state();
    int rc = a && matches ? 0 : loami_fail_nomem(err);
    if (rc == 0 && json && !json_is_null(json) && !json_is_array(json))
        rc = loami_fail(err, LOAM_E_FORMAT, "%s: \"added_tokens\" must be an array", what);
    size_t n = rc == 0 ? json_array_size(json) : 0;
    if (n && !(a->list = calloc(n, sizeof *a->list))) rc = loami_fail_nomem(err);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        token *t = &a->list[a->n++];
        rc = read_token(t, json_array_get(json, i), err);
        if (rc < 0) loami_fail_in(err, "%s", what);
        if (rc == 0 && t->n == 0) {
            free(t->content);
            *t = (token){ 0 };
            a->n--;
            continue;
        }
        if (rc == 0 && t->normalized) rc = normalize_token(t, l, matches, err);
        if (rc == 0) rc = give_id(a, t, v, &next, what, err);
    }
    if (rc == 0) rc = build_tries(a, what, err);
    loami_matches_state_free(matches);
    if (rc < 0) {
        loami_added_free(a);
        return rc;
    }
    mark_special(a, v);
    *out = a;
    return 0;
}

int32_t loami_added_id(const loami_added *a, const char *s, size_t n)
{
    uint32_t id = loami_map_get(&a->ids, s, n);
    return id == LOAMI_MAP_NONE ? LOAMI_NO_ID : (int32_t)id;
}

const char *loami_added_spelling(const loami_added *a, uint32_t id, size_t *n)
{
    if (id >= a->n_of_id || !a->of_id[id]) return NULL;
    const token *t = &a->list[a->of_id[id] - 1];
    *n = t->pattern_n;
    return t->pattern;
}

/* ---- finding ---- */

/* The leftmost match from i on, the longest of those. */
static size_t next_match(const loami_trie *t, const char *s, size_t n, size_t i, int32_t *index)
{
    for (; i < n; i++) {
        if (!t->first[(unsigned char)s[i]]) continue;
        size_t len = loami_trie_longest(t, s + i, n - i, index);
        if (len) return i;
    }
    return n;
}

static bool word_before(const char *s, size_t at)
{
    uint32_t cp;
    size_t i = at;
    if (at == 0) return false;
    do i--;
    while (i > 0 && ((unsigned char)s[i] & 0xc0) == 0x80);
    loami_utf8_next(s + i, at - i, &cp);
    return loami_uni_is_word(cp);
}

static bool word_after(const char *s, size_t n, size_t at)
{
    uint32_t cp;
    if (at == n) return false;
    loami_utf8_next(s + at, n - at, &cp);
    return loami_uni_is_word(cp);
}

static size_t spaces_before(const char *s, size_t at)
{
    while (at > 0) {
        size_t i = at - 1;
        uint32_t cp;
        while (i > 0 && ((unsigned char)s[i] & 0xc0) == 0x80) i--;
        loami_utf8_next(s + i, at - i, &cp);
        if (!loami_uni_is_space(cp)) break;
        at = i;
    }
    return at;
}

static size_t spaces_after(const char *s, size_t n, size_t at)
{
    while (at < n) {
        uint32_t cp;
        size_t len = loami_utf8_next(s + at, n - at, &cp);
        if (!loami_uni_is_space(cp)) break;
        at += len;
    }
    return at;
}

int loami_added_split(const loami_added *a, bool normalized, const char *s, size_t n, loami_added_on *on,
                      void *arg, loam_err *err)
{
    const loami_trie *trie = &a->tries[normalized];
    size_t done = 0, at = 0;
    while (trie->n_nodes && at < n) {
        int32_t index = 0;
        size_t start = next_match(trie, s, n, at, &index);
        if (start == n) break;
        const token *t = &a->list[index];
        size_t end = start + (t->pattern ? t->pattern_n : t->n);
        at = end; /* matches do not overlap, whatever white space they take besides */
        if (t->single_word && (word_before(s, start) || word_after(s, n, end))) continue;
        if (t->lstrip) {
            size_t left = spaces_before(s, start);
            start = left > done ? left : done;
        }
        if (t->rstrip) end = spaces_after(s, n, end);
        int rc = done < start ? on(arg, LOAMI_NO_ID, done, start, err) : 0;
        if (rc == 0) rc = on(arg, (int32_t)t->id, start, end, err);
        if (rc < 0) return rc;
        done = end;
    }
    return done < n ? on(arg, LOAMI_NO_ID, done, n, err) : 0;
}
