#include "cmd/serve_models.h"

#include "base/err.h"
#include "store/info.h"
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

enum {
    MODELS_MAX = 1024,    /* a folder of more is a mistake */
    NAMES_A_MODEL = 3,    /* besides those that were served explicitly */
    GUESSED_CONTEXT_TOKENS = 8192,
};
static const uint64_t GUESSED_SCRATCH = 64 << 20;

static char *copy(loami_serve_models *m, const char *s)
{
    return loami_arena_strndup(&m->arena, s, strlen(s));
}

/* ---- what it takes ------------------------------------------------------------------------------------ */

/* A folder that cannot be read so has no guess: the loading will say what is wrong with it. */
static void guess(loami_served_config *c)
{
    loami_info info;
    if (loami_info_open(&info, c->options.model, NULL) < 0) return;
    const loami_config *g = &info.config;
    uint64_t context = g->context && g->context < GUESSED_CONTEXT_TOKENS ? g->context
                                                                         : GUESSED_CONTEXT_TOKENS;
    uint64_t token = (uint64_t)2 * 2 * g->n_layers * g->n_kv_heads * g->head_dim; /* K and V, 16 bits */
    uint64_t kv = c->options.kv_bytes;
    if (c->options.context_tokens) context = c->options.context_tokens;
    if (!kv) kv = token * loam_kv_tokens((uint32_t)context, c->options.max_running);
    c->least_bytes = info.tensor_bytes;
    c->bytes = info.tensor_bytes + kv + GUESSED_SCRATCH;
    loami_info_close(&info);
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
    for (uint32_t i = 0; rc == 0 && i < m->n; i++) guess(&m->list[i]);
    return rc;
}

void loami_serve_models_free(loami_serve_models *m)
{
    loami_arena_free(&m->arena);
}
