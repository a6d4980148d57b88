#include "grammar/grammar.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

typedef struct entry {
    loam_grammar *grammar;
    loam_grammar_kind kind;
    uint64_t hash;
    char *source;
    size_t n;
    TAILQ_ENTRY(entry) used; /* last used first */
} entry;

struct loami_grammar_cache {
    pthread_mutex_t lock;
    TAILQ_HEAD(entries, entry) entries;
    uint32_t n_entries;
};

int loami_grammar_cache_open(loami_grammar_cache **out, loam_err *err)
{
    loami_grammar_cache *c = calloc(1, sizeof *c);
    if (!c) return loami_fail_nomem(err);
    pthread_mutex_init(&c->lock, NULL);
    TAILQ_INIT(&c->entries);
    *out = c;
    return 0;
}

static void drop(loami_grammar_cache *c, entry *e)
{
    TAILQ_REMOVE(&c->entries, e, used);
    c->n_entries--;
    loami_grammar_unref(e->grammar);
    free(e->source);
    free(e);
}

void loami_grammar_cache_close(loami_grammar_cache *c)
{
    if (!c) return;
    while (!TAILQ_EMPTY(&c->entries)) drop(c, TAILQ_FIRST(&c->entries));
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static uint64_t hash_of(const char *s, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return h;
}

static loam_grammar *find(loami_grammar_cache *c, loam_grammar_kind kind, uint64_t hash, const char *source,
                          size_t n)
{
    entry *e;
    TAILQ_FOREACH(e, &c->entries, used)
    {
        if (e->hash != hash || e->kind != kind || e->n != n || memcmp(e->source, source, n) != 0) continue;
        TAILQ_REMOVE(&c->entries, e, used);
        TAILQ_INSERT_HEAD(&c->entries, e, used);
        return loami_grammar_ref(e->grammar);
    }
    return NULL;
}

/* Keeps it if there is memory; the oldest go when there are too many, or too large ones. */
static void keep(loami_grammar_cache *c, const entry *what)
{
    entry *e = malloc(sizeof *e), *before;
    char *source = malloc(what->n + 1);
    if (!e || !source) {
        free(e);
        free(source);
        return;
    }
    *e = *what;
    e->source = memcpy(source, what->source, what->n);
    loami_grammar_ref(e->grammar);
    TAILQ_INSERT_HEAD(&c->entries, e, used);
    c->n_entries++;
    size_t bytes = 0;
    uint32_t n = 0;
    for (e = TAILQ_FIRST(&c->entries); e; e = before) {
        before = TAILQ_NEXT(e, used);
        bytes += e->n + loami_grammar_bytes(e->grammar);
        if (n++ && (n > LOAMI_CACHE_GRAMMARS || bytes > LOAMI_CACHE_BYTES)) drop(c, e);
    }
}

int loami_grammar_cache_get(loami_grammar_cache *c, loam_grammar **out, const loami_vocab *v,
                            loam_grammar_kind kind, const char *source, size_t n, loam_err *err)
{
    uint64_t hash = hash_of(source, n);
    pthread_mutex_lock(&c->lock);
    loam_grammar *g = find(c, kind, hash, source, n);
    pthread_mutex_unlock(&c->lock);
    if (!g) {
        int rc = loami_grammar_open(&g, v, kind, source, n, err);
        if (rc < 0) return rc;
        pthread_mutex_lock(&c->lock);
        keep(c, &(entry){ .grammar = g, .kind = kind, .hash = hash, .source = (char *)source, .n = n });
        pthread_mutex_unlock(&c->lock);
    }
    *out = g;
    return 0;
}
