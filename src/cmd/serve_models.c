#include "cmd/serve_models.h"

#include "base/err.h"
#include "base/system.h"
#include "store/need.h"
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

enum {
    MODELS_MAX = 1024,    /* a folder of more is a mistake */
    NAMES_A_MODEL = 3,    /* besides those that were served explicitly */
    GUESSED_CONTEXT_TOKENS = 8192,
    PAGE_TOKENS_MOST = 64, /* of any substrate: contexts end with a page */
    SCRATCH_SPARE = 4,    /* one in so many: more than twice as far as the guess was off where it was measured */
};
static const uint64_t GUESSED_DISK = 96 << 20; /* buffers and index of the pages in files */

static char *copy(loami_serve_models *m, const char *s)
{
    return loami_arena_strndup(&m->arena, s, strlen(s));
}

/* ---- what it takes ------------------------------------------------------------------------------------ */

/* Of a model: what it takes beside its KV cache, that cache for one context, and as large as it would be
 * alone. All 0 for a folder that cannot be read so: the loading will say what is wrong with it. */
typedef struct guess {
    uint64_t fixed, one, full;
} guess;

static uint64_t context_of(const loam_options *o, const loami_need *n)
{
    uint64_t context = n->context && n->context < GUESSED_CONTEXT_TOKENS ? n->context : GUESSED_CONTEXT_TOKENS;
    return o->context_tokens ? o->context_tokens : context;
}

static guess guess_from(loami_served_config *c, const loami_info *info)
{
    const loam_options *o = &c->options;
    loami_need n;
    if (loami_need_of(&n, &info->config, info, NULL) < 0) return (guess){ 0 };
    if (o->kv_type && strcmp(o->kv_type, "int8") == 0) loami_need_int8(&n, &info->config);
    uint64_t context = context_of(o, &n), scratch = loami_need_scratch(&n, &info->config);
    uint64_t pages = (context + PAGE_TOKENS_MOST - 1) / PAGE_TOKENS_MOST * PAGE_TOKENS_MOST;
    guess g = { .full = loami_need_kv(&n, context, loam_kv_tokens((uint32_t)context, o->max_running) / context) };
    if (o->kv_bytes) g.full = o->kv_bytes;
    g.one = pages * n.kv_token_bytes;
    if (g.one > g.full) g.one = g.full;
    c->least_bytes = n.weight_bytes;
    c->bytes = n.weight_bytes + scratch + (o->kv_dir ? GUESSED_DISK : 0);
    g.fixed = c->bytes + scratch / SCRATCH_SPARE;
    return g;
}

static guess guess_one(loami_served_config *c)
{
    loami_info info;
    if (loami_info_open(&info, c->options.model, NULL) < 0) return (guess){ 0 };
    guess g = guess_from(c, &info);
    loami_info_close(&info);
    return g;
}

/* ---- shares ------------------------------------------------------------------------------------------- */

/* The largest that is not pinned; n: there is none. */
static uint32_t largest(const loami_serve_models *m, const guess *g)
{
    uint32_t best = m->n;
    for (uint32_t i = 0; i < m->n; i++)
        if (!m->list[i].pinned && (best == m->n || g[i].fixed + g[i].one > g[best].fixed + g[best].one)) best = i;
    return best;
}

/* Sums over all, or over the pinned ones and one more, if more < n. */
static guess sum_of(const loami_serve_models *m, const guess *g, bool all, uint32_t more)
{
    guess sum = { 0 };
    for (uint32_t i = 0; i < m->n; i++) {
        if (!all && !m->list[i].pinned && i != more) continue;
        sum.fixed += g[i].fixed;
        sum.one += g[i].one;
        sum.full += g[i].full;
    }
    return sum;
}

/* What one's cache may have: a context, and of what the limit leaves then, as much of its wish as all get of theirs. */
static uint64_t share(const guess *g, const guess *sum, uint64_t limit)
{
    uint64_t taken = sum->fixed + sum->one;
    double left = limit > taken ? (double)(limit - taken) : 0, wish = (double)(sum->full - sum->one);
    return g->one + (uint64_t)(left / wish * (double)(g->full - g->one));
}

/* A model that is loaded first must not take for its KV cache what another one needs. If all fit, they share; if
 * they can only take turns, the pinned ones, which never go, leave room for the largest. */
static void cap(loami_serve_models *m, const guess *g, uint64_t limit)
{
    guess sum = sum_of(m, g, true, 0);
    bool all = sum.fixed + sum.one <= limit;
    if (!all) {
        sum = sum_of(m, g, false, m->n);
        if (sum.fixed + sum.one > limit) return; /* they hardly fit themselves */
        sum = sum_of(m, g, false, largest(m, g));
    }
    for (uint32_t i = 0; i < m->n && sum.fixed + sum.full > limit; i++) {
        loam_options *o = &m->list[i].options;
        if (!o->kv_bytes && g[i].full > g[i].one && (all || m->list[i].pinned)) o->kv_bytes = share(&g[i], &sum, limit);
    }
}

static int guess_all(loami_serve_models *m, const loam_options *o, loam_err *err)
{
    guess *g = loami_arena_array(&m->arena, m->n, sizeof *g);
    if (!g) return loami_fail_nomem(err);
    for (uint32_t i = 0; i < m->n; i++) g[i] = guess_one(&m->list[i]);
    if (m->n > 1) cap(m, g, o->memory_bytes ? o->memory_bytes : loami_memory_share_bytes());
    for (uint32_t i = 0; i < m->n; i++) {
        loami_served_config *c = &m->list[i];
        if (c->bytes) c->bytes += c->options.kv_bytes ? c->options.kv_bytes : g[i].full;
    }
    return 0;
}

/* ---- names -------------------------------------------------------------------------------------------- */

static bool has(const char *const *names, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

/* The names a client may use: those that were served explicitly, then as it was given here, then its
 * folder's. */
static int name_it(loami_serve_models *m, loami_served_config *c, const loami_serve_wish *wish,
                   const char *given, loam_err *err)
{
    const char **names = loami_arena_array(&m->arena, wish->served.n + NAMES_A_MODEL, sizeof *names);
    const char *path = c->options.model, *base = strrchr(path, '/');
    const char *more[] = { given[0] == '/' || given[0] == '.' ? NULL : given,
                           base && base[1] ? base + 1 : path, given };
    if (!names) return loami_fail_nomem(err);
    for (uint32_t i = 0; i < wish->served.n; i++) names[c->n_names++] = wish->served.item[i];
    for (int i = 0; i < 3; i++)
        if (more[i] && !has(names, c->n_names, more[i])) names[c->n_names++] = more[i];
    c->names = names;
    c->options.name = names[0];
    return 0;
}

/* Two models must not have one name: the second one is known by those that are left. */
static int drop_taken(loami_serve_models *m, loami_served_config *c, loam_err *err)
{
    const char **names = (const char **)(uintptr_t)c->names;
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_names; i++) {
        bool taken = false;
        for (uint32_t k = 0; &m->list[k] != c && !taken; k++)
            taken = has(m->list[k].names, m->list[k].n_names, names[i]);
        if (!taken) names[n++] = names[i];
    }
    if (n == 0) return loami_fail(err, LOAM_E_ARG, "the model %s is there twice", names[0]);
    c->n_names = n;
    c->options.name = names[0];
    return 0;
}

/* ---- finding ------------------------------------------------------------------------------------------ */

static int add(loami_serve_models *m, const loami_serve_wish *wish, const char *given, const char *path,
               loam_err *err)
{
    if (m->n == MODELS_MAX) return loami_fail(err, LOAM_E_ARG, "more than %d models", MODELS_MAX);
    loami_served_config *c = &m->list[m->n++];
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    c->options = wish->options;
    c->options.model = loami_arena_strndup(&m->arena, path, n);
    given = copy(m, given);
    if (!c->options.model || !given) return loami_fail_nomem(err);
    int rc = name_it(m, c, wish, given, err);
    if (rc == 0) rc = drop_taken(m, c, err);
    return rc;
}

/* The same folder, also by another path. */
static bool is_known(const loami_serve_models *m, const char *path)
{
    bool known = false;
    char *real = realpath(path, NULL);
    for (uint32_t i = 0; real && i < m->n && !known; i++) {
        char *other = realpath(m->list[i].options.model, NULL);
        known = other && strcmp(real, other) == 0;
        free(other);
    }
    free(real);
    return known;
}

struct search {
    loami_serve_models *models;
    const loami_serve_wish *wish;
    const char *folder, *name; /* name: of the folder itself, below the first one; or NULL */
    loam_err *err;
};

/* A model's folder has a config.json; a folder of such folders is an owner's ("org/name"). */
static int look(void *arg, const char *entry)
{
    struct search *s = arg;
    char path[LOAMI_PATH_MAX], config[LOAMI_PATH_MAX], name[LOAMI_PATH_MAX];
    int rc = loami_path_join(path, s->folder, entry, s->err);
    if (rc < 0 || entry[0] == '.' || !loami_dir_exists(path)) return rc;
    rc = loami_path_join(config, path, "config.json", s->err);
    if (rc == 0 && s->name) rc = loami_path_join(name, s->name, entry, s->err);
    if (rc < 0) return rc;
    if (is_known(s->models, path)) return 0;
    if (loami_file_exists(config)) return add(s->models, s->wish, s->name ? name : entry, path, s->err);
    if (s->name) return 0;
    struct search below = { s->models, s->wish, path, entry, s->err };
    return loami_dir_each(path, look, &below, s->err);
}

static int pin(loami_serve_models *m, const char *name, loam_err *err)
{
    for (uint32_t i = 0; i < m->n; i++) {
        if (!has(m->list[i].names, m->list[i].n_names, name)) continue;
        m->list[i].pinned = true;
        return 0;
    }
    return loami_fail(err, LOAM_E_NOT_FOUND, "--pin %s: there is no model of this name here", name);
}

int loami_serve_models_find(loami_serve_models *out, const loami_serve_wish *wish, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    loami_serve_models *m = out;
    int rc = 0;
    *m = (loami_serve_models){ 0 };
    m->list = loami_arena_array(&m->arena, MODELS_MAX, sizeof *m->list);
    if (!m->list) return loami_fail_nomem(err);
    if (wish->served.n && (wish->models.n != 1 || wish->folder))
        return loami_fail(err, LOAM_E_ARG, "--served-model-name is for a server of one model");
    for (uint32_t i = 0; rc == 0 && i < wish->models.n; i++) {
        rc = loami_store_find(path, wish->models.item[i], err);
        if (rc == 0) rc = add(m, wish, wish->models.item[i], path, err);
    }
    struct search all = { m, wish, wish->folder, NULL, err };
    if (rc == 0 && wish->folder) rc = loami_dir_each(wish->folder, look, &all, err);
    if (rc == 0 && m->n == 0)
        rc = loami_fail(err, LOAM_E_NOT_FOUND, "%s: no folder in it has a config.json", wish->folder);
    for (uint32_t i = 0; rc == 0 && i < wish->pinned.n; i++) rc = pin(m, wish->pinned.item[i], err);
    return rc == 0 ? guess_all(m, &wish->options, err) : rc;
}

void loami_serve_models_free(loami_serve_models *m)
{
    loami_arena_free(&m->arena);
}
