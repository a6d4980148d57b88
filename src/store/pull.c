#include "store/pull.h"

#include "base/json.h"
#include "store/hash.h"
#include "store/hub.h"
#include "store/hubcache.h"
#include "store/known.h"
#include "store/store.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/statvfs.h>

enum { LIST_BYTES_MAX = 4 << 20, SPARE_BYTES = 32 << 20 /* for links, folders and the file system itself */ };

typedef struct pull {
    const loami_pull_options *o;
    loami_pull_result *out;
    loami_hub hub;
    loami_hub_model model;
    loami_fetch_options fetch;
    loami_hubcache cache;
    char stage[LOAMI_PATH_MAX];   /* where a store model is put together */
    loami_download_file *files;   /* [model.n], and their strings: */
    char **strings;               /* [3 * model.n] url, path, lock */
    loam_err *err;
} pull;

/* ---- which files --------------------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

bool loami_pull_wants(const char *name, bool has_model)
{
    static const char *const ends[] = { ".json", ".txt", ".jinja", ".model", ".safetensors" };
    if (strchr(name, '/')) return false;
    if (has_model && ends_with(name, ".safetensors")) return strncmp(name, "model", 5) == 0;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_with(name, ends[i])) return true;
    return false;
}

static bool matches(const char *name, const char *const *patterns, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (fnmatch(patterns[i], name, 0) == 0) return true;
    return false;
}

/* Drops the files that are not wanted. */
static int choose(pull *p)
{
    const loami_pull_options *o = p->o;
    loami_hub_model *m = &p->model;
    bool has_model = false, has_weights = false, has_gguf = false;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        const char *name = m->files[i].name;
        bool weights = ends_with(name, ".safetensors") && !strchr(name, '/');
        has_weights |= weights;
        has_model |= weights && strncmp(name, "model", 5) == 0;
        has_gguf |= ends_with(name, ".gguf");
    }
    if (!o->n_include && !has_weights)
        return loami_fail(p->err, LOAM_E_UNSUPPORTED, "%s has no .safetensors files%s", p->out->id,
                          has_gguf ? ", but GGUF: get one with --include '*.gguf' and turn it into a model with loam import"
                                   : "; --include PATTERN gets other ones");
    for (uint32_t i = 0; i < m->n; i++) {
        loami_hub_file f = m->files[i];
        bool want = o->n_include ? matches(f.name, o->include, o->n_include) : loami_pull_wants(f.name, has_model);
        if (want && !matches(f.name, o->exclude, o->n_exclude)) {
            m->files[i] = m->files[kept];
            m->files[kept++] = f;
        }
    }
    for (uint32_t i = kept; i < m->n; i++) free(m->files[i].name);
    uint32_t all = m->n;
    m->n = kept;
    return kept ? 0 : loami_fail(p->err, LOAM_E_NOT_FOUND, "%s has %u files, and none of them is wanted", p->out->id, all);
}

/* ---- what to download, and to where -------------------------------------------------------------------- */

/* The folder in which a store model is put together, the same each time, so that it can be gone on with. */
static int open_stage(pull *p)
{
    char final[LOAMI_PATH_MAX], name[300];
    int rc = loami_store_path(final, p->out->id, p->err);
    if (rc < 0) return rc;
    if (loami_dir_exists(final) && !p->o->force)
        return loami_fail(p->err, LOAM_E_ARG, "a model %s is there already; use --force to replace it", p->out->id);
    snprintf(name, sizeof name, "models/.pull-%s", p->out->id);
    for (char *c = name + 7; *c; c++)
        if (*c == '/' || *c == ':') *c = '+';
    char home[LOAMI_PATH_MAX];
    rc = loami_store_home(home, p->err);
    if (rc == 0) rc = loami_path_join(p->stage, home, name, p->err);
    return rc == 0 ? loami_dir_make(p->stage, p->err) : rc;
}

static int place_file(pull *p, uint32_t i)
{
    const loami_hub_file *f = &p->model.files[i];
    char path[LOAMI_PATH_MAX], lock[LOAMI_PATH_MAX];
    char **s = p->strings + 3 * (size_t)i;
    int rc;
    if (p->stage[0]) {
        if (strchr(f->name, '/') || ends_with(f->name, ".loam-part"))
            return loami_fail(p->err, LOAM_E_FORMAT, "%s: %s has no place in a model's folder", p->out->id, f->name);
        rc = loami_path_join(path, p->stage, f->name, p->err);
    } else {
        rc = loami_hubcache_blob(path, lock, &p->cache, f->hash, p->err);
    }
    if (rc < 0) return rc;
    s[0] = loami_hub_url(&p->hub, p->out->id, p->model.commit, f->name);
    s[1] = strdup(path);
    s[2] = p->stage[0] ? NULL : strdup(lock);
    if (!s[0] || !s[1] || (!p->stage[0] && !s[2])) return loami_fail_nomem(p->err);
    p->files[i] = (loami_download_file){ .name = f->name, .url = s[0], .path = s[1], .lock = s[2], .bytes = f->bytes, .hash = f->hash };
    p->out->bytes += f->bytes;
    return 0;
}

/* Files of the same bytes are one blob: it is downloaded once. Returns how many are left. */
static uint32_t drop_twins(loami_download_file *f, uint32_t n)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool twin = false;
        for (uint32_t k = 0; k < kept && !twin; k++) twin = strcmp(f[k].path, f[i].path) == 0;
        if (!twin) f[kept++] = f[i];
    }
    return kept;
}

static int check_space(pull *p, const char *dir, uint64_t missing)
{
    struct statvfs fs;
    p->out->fetched = missing;
    if (!missing || statvfs(dir, &fs) < 0) return 0; /* then writing will tell */
    uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (free_bytes > missing && free_bytes - missing >= SPARE_BYTES) return 0;
    return loami_fail(p->err, LOAM_E_IO,
                      "%s needs %.1f GB more, and the disk of %.200s has %.1f GB free: loam rm makes room, %s names another place",
                      p->out->id, (double)missing * 1e-9, dir, (double)free_bytes * 1e-9,
                      p->stage[0] ? "LOAM_HOME" : "HF_HUB_CACHE");
}

static int get_files(pull *p)
{
    loami_hub_model *m = &p->model;
    int rc = 0;
    p->files = calloc((size_t)m->n + 1, sizeof *p->files);
    p->strings = calloc(3 * ((size_t)m->n + 1), sizeof *p->strings);
    if (!p->files || !p->strings) return loami_fail_nomem(p->err);
    for (uint32_t i = 0; rc == 0 && i < m->n; i++)
        if (!m->files[i].hash[0]) rc = loami_hub_look(&m->files[i], &p->hub, p->out->id, m, &p->fetch, p->err);
    for (uint32_t i = 0; rc == 0 && i < m->n; i++) rc = place_file(p, i);
    if (rc < 0) return rc;
    uint32_t n = drop_twins(p->files, m->n);
    rc = check_space(p, p->stage[0] ? p->stage : p->cache.repo, loami_download_missing(p->files, n));
    loami_download_options o = p->o->download;
    o.fetch = p->fetch;
    return rc == 0 ? loami_download(p->files, n, &o, p->err) : rc;
}

/* ---- the two places ------------------------------------------------------------------------------------ */

static int into_cache(pull *p)
{
    const loami_hub_model *m = &p->model;
    char rel[80];
    int rc = loami_hubcache_open(&p->cache, p->out->id, p->err);
    if (rc == 0) rc = get_files(p);
    for (uint32_t i = 0; rc == 0 && i < m->n; i++)
        rc = loami_hubcache_link(&p->cache, m->commit, m->files[i].name, m->files[i].hash, p->err);
    if (rc == 0) rc = loami_hubcache_ref(&p->cache, p->out->revision, m->commit, p->err);
    snprintf(rel, sizeof rel, "snapshots/%s", m->commit);
    return rc == 0 ? loami_path_join(p->out->path, p->cache.repo, rel, p->err) : rc;
}

/* loam.json as loami_hash_write would make it: every hash has just been checked. */
static int write_list(pull *p)
{
    char path[LOAMI_PATH_MAX];
    json_t *files = json_object();
    for (uint32_t i = 0; i < p->model.n; i++) {
        const loami_hub_file *f = &p->model.files[i];
        json_object_set_new(files, f->name, json_pack("{s:I,s:s}", "bytes", (json_int_t)f->bytes, "sha256", f->hash));
    }
    json_t *o = json_pack("{s:i,s:s,s:o}", "version", 1, "source", p->o->from, "files", files);
    char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
    int rc = text ? loami_path_join(path, p->stage, "loam.json", p->err) : loami_fail_nomem(p->err);
    if (rc == 0) rc = loami_file_write(path, text, strlen(text), p->err);
    free(text);
    json_decref(o);
    return rc;
}

static int into_store(pull *p)
{
    int rc = open_stage(p);
    for (uint32_t i = 0; rc == 0 && i < p->model.n; i++)
        if (strlen(p->model.files[i].hash) != 64)
            rc = loami_fail(p->err, LOAM_E_FORMAT, "%s: %s comes without its SHA-256", p->out->id, p->model.files[i].name);
    if (rc == 0) rc = get_files(p);
    if (rc == 0) rc = write_list(p);
    if (rc == 0) rc = loami_store_keep(p->stage, p->out->id, p->o->force, p->err);
    return rc == 0 ? loami_store_path(p->out->path, p->out->id, p->err) : rc;
}

/* ---- pulling ------------------------------------------------------------------------------------------- */

static int peer(loami_hub *h, const char *from, const char *key, loam_err *err)
{
    size_t n = strlen(from);
    *h = (loami_hub){ .offline = false };
    while (n && from[n - 1] == '/') n--;
    if (n + 8 >= sizeof h->endpoint || (strncasecmp(from, "http://", 7) != 0 && strncasecmp(from, "https://", 8) != 0))
        return loami_fail(err, LOAM_E_ARG, "--from %.100s: must be the address of a loam, as http://peer:8000", from);
    snprintf(h->endpoint, sizeof h->endpoint, "%.*s/share", (int)n, from);
    if (!key) return 0;
    for (const char *c = key; *c; c++)
        if (*c <= ' ' || *c >= 0x7f) return loami_fail(err, LOAM_E_ARG, "the key must be one word of letters and digits");
    if (strlen(key) >= sizeof h->token) return loami_fail(err, LOAM_E_ARG, "the key is too long");
    strcpy(h->token, key);
    return 0;
}

static int take_name(pull *p, const char *name)
{
    const loami_known *known = p->o->from ? NULL : loami_known_find(name);
    loami_pull_result *out = p->out;
    char path[LOAMI_PATH_MAX];
    if (known && p->o->say && strcasecmp(known->id, name) != 0) {
        char line[400];
        snprintf(line, sizeof line, "%s is %s", name, known->id);
        p->o->say(p->o->arg, line);
    }
    if (!p->o->from) return loami_hub_split(known ? known->id : name, out->id, out->revision, p->err);
    if (!strchr(name, ':')) return loami_hub_split(name, out->id, out->revision, p->err);
    int rc = loami_store_path(path, name, p->err); /* a name of the other's store */
    if (rc < 0) return rc;
    snprintf(out->id, sizeof out->id, "%s", name);
    snprintf(out->revision, sizeof out->revision, "main");
    return 0;
}

/* Without the network: what is here, or nothing. */
static int offline(pull *p)
{
    char name[520];
    loam_err why;
    snprintf(name, sizeof name, "%s@%s", p->out->id, p->out->revision);
    if (loami_store_find(p->out->path, name, &why) == 0) return 0;
    return loami_fail(p->err, LOAM_E_NOT_FOUND, "HF_HUB_OFFLINE is set, and %s is not here: %.300s", name, why.msg);
}

static int run(pull *p, const char *name)
{
    const loami_pull_options *o = p->o;
    int rc = take_name(p, name);
    if (rc == 0) rc = o->from ? peer(&p->hub, o->from, o->key, p->err) : loami_hub_environment(&p->hub, p->err);
    if (rc < 0) return rc;
    if (p->hub.offline) return offline(p);
    p->fetch = o->download.fetch;
    if (p->hub.token[0]) p->fetch.token = p->hub.token;
    rc = loami_hub_model_get(&p->model, &p->hub, p->out->id, p->out->revision, &p->fetch, p->err);
    if (rc == 0) rc = choose(p);
    if (rc < 0) return rc;
    if (p->model.from_store && !o->from)
        return loami_fail(p->err, LOAM_E_FORMAT, "%s: this is no model of the hub", p->out->id);
    if (!p->model.from_store && strchr(p->out->id, ':'))
        return loami_fail(p->err, LOAM_E_FORMAT, "%s: no model of the hub is called so", p->out->id);
    p->out->files = p->model.n;
    memcpy(p->out->commit, p->model.commit, sizeof p->out->commit);
    return p->model.from_store ? into_store(p) : into_cache(p);
}

int loami_pull(loami_pull_result *out, const char *name, const loami_pull_options *o, loam_err *err)
{
    loam_err own;
    pull *p = calloc(1, sizeof *p);
    if (!p) return loami_fail_nomem(err);
    *out = (loami_pull_result){ .bytes = 0 };
    p->o = o;
    p->out = out;
    p->err = err ? err : &own;
    int rc = run(p, name);
    for (size_t i = 0; p->strings && i < 3 * (size_t)p->model.n; i++) free(p->strings[i]);
    free(p->strings);
    free(p->files);
    loami_hub_model_free(&p->model);
    free(p);
    return rc;
}

int loami_pull_list(const char *from, const char *key, int (*fn)(void *arg, const char *name, uint64_t bytes), void *arg,
                    const loami_fetch_options *o, loam_err *err)
{
    loami_hub h;
    loami_answer a;
    loami_fetch_options f = *o;
    char url[600];
    json_t *root, *v;
    size_t i;
    int rc = peer(&h, from, key, err);
    if (rc < 0) return rc;
    if (h.token[0]) f.token = h.token;
    snprintf(url, sizeof url, "%s/api/models", h.endpoint);
    if ((rc = loami_fetch(&a, url, false, LIST_BYTES_MAX, &f, err)) < 0) return rc;
    if (a.status != 200)
        rc = loami_fail(err, LOAM_E_IO, "%s answers %d: %s", from, a.status,
                        a.status == 401   ? "it wants an API key; set LOAM_API_KEY"
                        : a.status == 404 ? "it shares no models; it must run with --share-models"
                                          : "is this a loam?");
    if (rc == 0) rc = loami_json_parse(&root, a.body.data ? a.body.data : "", a.body.len, from, err);
    loami_answer_free(&a);
    if (rc < 0) return rc;
    json_array_foreach(root, i, v) {
        const char *name = json_string_value(json_object_get(v, "id"));
        json_int_t bytes = json_integer_value(json_object_get(v, "bytes"));
        if (rc == 0 && name && loami_hub_name_ok(name) && bytes >= 0) rc = fn(arg, name, (uint64_t)bytes);
    }
    json_decref(root);
    return rc;
}
