#include "store/store.h"

#include "store/hub.h"
#include "store/known.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_BYTES_MAX = 200, REF_BYTES_MAX = 256 };

static const char stage_prefix[] = ".new-"; /* .new-PID-NUMBER, beside the models */

/* ---- places -------------------------------------------------------------------------------------------- */

/* $HOME/rest, or rest itself when it begins otherwise than with "~/". */
static int expand(char *path, const char *rest, loam_err *err)
{
    if (strncmp(rest, "~/", 2) != 0) return loami_path_join(path, "", rest, err);
    const char *home = getenv("HOME");
    if (!home || !*home) return loami_fail(err, LOAM_E_IO, "HOME is not set; set LOAM_HOME and HF_HOME");
    return loami_path_join(path, home, rest + 2, err);
}

/* The first of the variables that is set, with its tail; otherwise the fallback. */
static int place(char *path, const char *const vars[][2], const char *fallback, loam_err *err)
{
    for (int i = 0; vars[i][0]; i++) {
        const char *v = getenv(vars[i][0]);
        char base[LOAMI_PATH_MAX];
        if (!v || !*v) continue;
        int rc = expand(base, v, err);
        return rc < 0 ? rc : loami_path_join(path, base, vars[i][1], err);
    }
    return expand(path, fallback, err);
}

int loami_store_hub(char *path, loam_err *err)
{
    static const char *const vars[][2] = {
        { "HF_HUB_CACHE", "" }, { "HUGGINGFACE_HUB_CACHE", "" },
        { "HF_HOME", "hub" },   { "XDG_CACHE_HOME", "huggingface/hub" },
        { NULL, NULL },
    };
    return place(path, vars, "~/.cache/huggingface/hub", err);
}

int loami_store_hf_file(char *path, const char *variable, const char *name, loam_err *err)
{
    char tail[64], fallback[96];
    snprintf(tail, sizeof tail, "huggingface/%s", name);
    snprintf(fallback, sizeof fallback, "~/.cache/huggingface/%s", name);
    const char *const vars[][2] = { { variable, "" }, { "HF_HOME", name }, { "XDG_CACHE_HOME", tail }, { NULL, NULL } };
    return place(path, vars, fallback, err);
}

static int home(char *path, loam_err *err)
{
    static const char *const vars[][2] = { { "LOAM_HOME", "" }, { NULL, NULL } };
    return place(path, vars, "~/.cache/loam", err);
}

int loami_store_home(char *path, loam_err *err)
{
    int rc = home(path, err);
    return rc < 0 ? rc : loami_dir_make(path, err);
}

static int models_dir(char *path, loam_err *err)
{
    char base[LOAMI_PATH_MAX];
    int rc = home(base, err);
    return rc < 0 ? rc : loami_path_join(path, base, "models", err);
}

/* ---- names --------------------------------------------------------------------------------------------- */

static bool name_ok(const char *name)
{
    int slashes = 0, colons = 0;
    bool first = true; /* of a part */
    size_t n = strlen(name);
    if (n == 0 || n > NAME_BYTES_MAX) return false;
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        bool border = c == '/' || c == ':';
        if (c == '/') slashes++;
        if (c == ':') colons++;
        if (border ? first : !isalnum((unsigned char)c) && (first ? c != '_' : !strchr("._-", c)))
            return false;
        first = border;
    }
    return !first && slashes <= 1 && colons <= 1;
}

int loami_store_path(char *path, const char *name, loam_err *err)
{
    char models[LOAMI_PATH_MAX];
    if (!name_ok(name))
        return loami_fail(
            err, LOAM_E_ARG,
            "\"%.200s\" is no name for a model: letters, digits, '.', '_', '-', at most one '/' and one ':'",
            name);
    int rc = models_dir(models, err);
    return rc < 0 ? rc : loami_path_join(path, models, name, err);
}

/* ---- the Hugging Face cache ---------------------------------------------------------------------------- */

int loami_store_hub_path(char *path, const char *name, loam_err *err)
{
    char hub[LOAMI_PATH_MAX], folder[NAME_BYTES_MAX + 16] = "models--";
    if (!name_ok(name) || strchr(name, ':'))
        return loami_fail(err, LOAM_E_ARG, "%.200s: not a Hugging Face id", name);
    size_t at = strlen(folder);
    for (const char *c = name; *c; c++) {
        if (*c == '/') folder[at++] = '-';
        folder[at++] = *c == '/' ? '-' : *c;
    }
    folder[at] = 0;
    int rc = loami_store_hub(hub, err);
    return rc < 0 ? rc : loami_path_join(path, hub, folder, err);
}

struct only_arg {
    char name[256];
    int n;
};

static int see_snapshot(void *arg, const char *name)
{
    struct only_arg *o = arg;
    if (o->n++ == 0) snprintf(o->name, sizeof o->name, "%s", name);
    return 0;
}

/* The commit that refs/REVISION names, in name[256]; 0 when there is no such file. */
static int read_ref(char *name, const char *repo, const char *revision, loam_err *err)
{
    char ref[LOAMI_PATH_MAX], rel[320], *text = NULL;
    size_t n;
    snprintf(rel, sizeof rel, "refs/%s", revision);
    int rc = loami_path_join(ref, repo, rel, err);
    if (rc < 0 || !loami_file_exists(ref)) return rc;
    if ((rc = loami_file_read(&text, &n, ref, REF_BYTES_MAX, err)) < 0) return rc;
    text[strcspn(text, " \r\n")] = 0;
    snprintf(name, 256, "%s", text);
    free(text);
    if (!name_ok(name) || strpbrk(name, "/:"))
        return loami_fail(err, LOAM_E_FORMAT, "%s: does not name a snapshot", ref);
    return 1;
}

/* The snapshot that the revision names, by refs/REVISION or as a commit. Where neither refs/main is there, the only
 * one there is. */
static int snapshot_of(char *path, const char *repo, const char *revision, loam_err *err)
{
    char dir[LOAMI_PATH_MAX];
    struct only_arg only = { .n = 1 };
    bool main = strcmp(revision, "main") == 0;
    int rc = loami_path_join(dir, repo, "snapshots", err);
    if (rc == 0) rc = read_ref(only.name, repo, revision, err);
    if (rc < 0) return rc;
    bool named = rc == 1;
    if (!named && main) {
        only.n = 0;
        if (!loami_dir_exists(dir)) return loami_fail(err, LOAM_E_NOT_FOUND, "%s: has no snapshot", repo);
        if ((rc = loami_dir_each(dir, see_snapshot, &only, err)) < 0) return rc;
    } else if (!named) {
        snprintf(only.name, sizeof only.name, "%s", revision);
    }
    if (only.n != 1)
        return loami_fail(err, LOAM_E_NOT_FOUND, "%s: refs/main is missing, and there are %d snapshots", repo, only.n);
    if ((rc = loami_path_join(path, dir, only.name, err)) < 0) return rc;
    if (loami_dir_exists(path) && !strchr(only.name, '/')) return 0;
    return !named && !main ? loami_fail(err, LOAM_E_NOT_FOUND, "%s: no revision %s is here", repo, revision)
                            : loami_fail(err, LOAM_E_NOT_FOUND, "%s: the snapshot is missing; download it again", path);
}

/* ---- finding ------------------------------------------------------------------------------------------- */

static bool has_config(const char *dir)
{
    char path[LOAMI_PATH_MAX];
    return loami_path_join(path, dir, "config.json", NULL) == 0 && loami_file_exists(path);
}

/* In the store, or in the cache of the hub. 1: found; 0: not there. */
static int find_named(char *path, const char *name, loam_err *err)
{
    char repo[LOAMI_PATH_MAX], id[256], revision[256];
    int rc = 0;
    if (name_ok(name)) {
        rc = loami_store_path(path, name, err);
        if (rc < 0 || loami_dir_exists(path)) return rc < 0 ? rc : 1;
    }
    if (strchr(name, ':') || loami_hub_split(name, id, revision, NULL) < 0) return 0;
    rc = loami_store_hub_path(repo, id, err);
    if (rc < 0 || !loami_dir_exists(repo)) return rc;
    rc = snapshot_of(path, repo, revision, err);
    return rc < 0 ? rc : 1;
}

int loami_store_find(char *path, const char *name, loam_err *err)
{
    char models[LOAMI_PATH_MAX], hub[LOAMI_PATH_MAX];
    if (!*name) return loami_fail(err, LOAM_E_ARG, "the model's name is empty");
    if (loami_dir_exists(name) && (strchr(name, '/') || has_config(name)))
        return loami_path_join(path, "", name, err);
    int rc = find_named(path, name, err);
    const loami_known *known = rc == 0 ? loami_known_find(name) : NULL;
    if (known) rc = find_named(path, known->id, err);
    if (rc != 0) return rc < 0 ? rc : 0;
    if ((rc = models_dir(models, err)) < 0 || (rc = loami_store_hub(hub, err)) < 0) return rc;
    if (known)
        return loami_fail(err, LOAM_E_NOT_FOUND, "%s is not here yet: loam pull %.100s gets it (%s)", known->name, name,
                          known->id);
    return loami_fail(
        err, LOAM_E_NOT_FOUND,
        "no model %.200s: not a folder, not in %.100s, not in %.100s (loam ls lists what is there%s)", name,
        models, hub, strchr(name, '/') && name[0] != '/' && name[0] != '.' ? ", loam pull gets more" : "");
}

/* ---- listing ------------------------------------------------------------------------------------------- */

struct each {
    int (*fn)(void *arg, const loami_store_entry *e);
    void *arg;
    const char *dir; /* the folder that is listed */
    const char *org; /* "org" while its models are listed, or NULL */
    loam_err *err;
};

struct size_arg {
    const char *dir;
    uint64_t bytes;
    loam_err *err;
};

/* Adds the sizes of the files below; a link counts as what it points to. */
static int add_size(void *arg, const char *name)
{
    struct size_arg *a = arg;
    char path[LOAMI_PATH_MAX];
    struct stat st;
    int rc = loami_path_join(path, a->dir, name, a->err);
    if (rc < 0) return rc;
    if (stat(path, &st) < 0) return 0;
    if (S_ISREG(st.st_mode)) a->bytes += (uint64_t)st.st_size;
    if (!S_ISDIR(st.st_mode) || (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))) return 0;
    struct size_arg below = { path, 0, a->err };
    rc = loami_dir_each(path, add_size, &below, a->err);
    a->bytes += below.bytes;
    return rc;
}

static int report(const struct each *w, const char *name, const char *path, const char *from)
{
    struct size_arg size = { path, 0, w->err };
    struct stat st;
    int rc = loami_dir_each(path, add_size, &size, w->err);
    if (rc < 0) return rc;
    if (stat(path, &st) < 0) return loami_fail_errno(w->err, "%s", path);
    return w->fn(w->arg, &(loami_store_entry){ name, path, from, size.bytes, (int64_t)st.st_mtime });
}

static int list_store(void *arg, const char *entry)
{
    struct each *w = arg;
    char path[LOAMI_PATH_MAX], name[2 * NAME_BYTES_MAX];
    snprintf(name, sizeof name, "%s%s%s", w->org ? w->org : "", w->org ? "/" : "", entry);
    int rc = loami_path_join(path, w->dir, entry, w->err);
    if (rc < 0 || !name_ok(name) || !loami_dir_exists(path)) return rc;
    if (has_config(path)) return report(w, name, path, "loam");
    if (w->org) return 0;
    struct each below = *w;
    below.dir = path;
    below.org = entry;
    return loami_dir_each(path, list_store, &below, w->err);
}

static int list_hub(void *arg, const char *entry)
{
    struct each *w = arg;
    char repo[LOAMI_PATH_MAX], path[LOAMI_PATH_MAX], name[2 * NAME_BYTES_MAX];
    if (strncmp(entry, "models--", 8) != 0 || strlen(entry) > NAME_BYTES_MAX) return 0;
    snprintf(name, sizeof name, "%s", entry + 8);
    char *dashes = strstr(name, "--");
    if (dashes) {
        *dashes = '/';
        memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
    }
    int rc = loami_path_join(repo, w->dir, entry, w->err);
    if (rc < 0 || !name_ok(name) || snapshot_of(path, repo, "main", NULL) < 0 || !has_config(path)) return rc;
    return report(w, name, path, "hf");
}

int loami_store_each(int (*fn)(void *arg, const loami_store_entry *e), void *arg, loam_err *err)
{
    char dir[LOAMI_PATH_MAX];
    struct each w = { .fn = fn, .arg = arg, .dir = dir, .err = err };
    int rc = models_dir(dir, err);
    if (rc == 0 && loami_dir_exists(dir)) rc = loami_dir_each(dir, list_store, &w, err);
    if (rc == 0) rc = loami_store_hub(dir, err);
    if (rc == 0 && loami_dir_exists(dir)) rc = loami_dir_each(dir, list_hub, &w, err);
    return rc;
}

/* ---- making and removing ------------------------------------------------------------------------------- */

/* Removes the folder "org" of "org/name" when it is empty. */
static void remove_org(const char *path, const char *name)
{
    char org[LOAMI_PATH_MAX];
    if (!strchr(name, '/') || loami_path_join(org, path, "", NULL) < 0) return;
    *strrchr(org, '/') = 0; /* the slash that join put */
    *strrchr(org, '/') = 0;
    rmdir(org);
}

int loami_store_remove(const char *name, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    int rc = loami_store_path(path, name, err);
    if (rc < 0) return rc;
    if (loami_dir_exists(path)) {
        if (!has_config(path))
            return loami_fail(err, LOAM_E_NOT_FOUND, "%s: holds no config.json, so it is no model", path);
        rc = loami_dir_remove(path, err);
        if (rc == 0) remove_org(path, name);
        return rc;
    }
    if (strchr(name, ':') || (rc = loami_store_hub_path(path, name, err)) < 0 || !loami_dir_exists(path))
        return rc < 0 ? rc
                      : loami_fail(err, LOAM_E_NOT_FOUND,
                                   "no model %.200s in the store (loam ls lists what is there)", name);
    return loami_dir_remove(path, err);
}

struct sweep_arg {
    const char *dir;
};

static int sweep(void *arg, const char *name)
{
    struct sweep_arg *a = arg;
    char path[LOAMI_PATH_MAX];
    if (strncmp(name, stage_prefix, strlen(stage_prefix)) != 0) return 0;
    long pid = strtol(name + strlen(stage_prefix), NULL, 10);
    if (pid > 0 && (kill((pid_t)pid, 0) == 0 || errno != ESRCH)) return 0;
    if (loami_path_join(path, a->dir, name, NULL) == 0) loami_dir_remove(path, NULL);
    return 0;
}

static int taken(const char *name, loam_err *err)
{
    return loami_fail(err, LOAM_E_ARG,
                      "a model %s is there already; use --force to replace it, or another --name", name);
}

int loami_store_begin(char *dir, const char *name, bool force, loam_err *err)
{
    char models[LOAMI_PATH_MAX], path[LOAMI_PATH_MAX], own[64];
    int rc = loami_store_path(path, name, err);
    if (rc < 0) return rc;
    if (loami_dir_exists(path) && !has_config(path))
        return loami_fail(err, LOAM_E_ARG,
                          "%s is the first half of other models' names; choose another --name", name);
    if (loami_dir_exists(path) && !force) return taken(name, err);
    if ((rc = models_dir(models, err)) < 0 || (rc = loami_dir_make(models, err)) < 0) return rc;
    loami_dir_each(models, sweep, &(struct sweep_arg){ models }, NULL);
    for (int i = 0; i < 1000; i++) {
        snprintf(own, sizeof own, "%s%ld-%d", stage_prefix, (long)getpid(), i);
        if ((rc = loami_path_join(dir, models, own, err)) < 0) return rc;
        if (mkdir(dir, 0755) == 0) return 0;
        if (errno != EEXIST) break;
    }
    return loami_fail_errno(err, "%s: cannot make folder", dir);
}

int loami_store_keep(const char *dir, const char *name, bool force, loam_err *err)
{
    char path[LOAMI_PATH_MAX], parent[LOAMI_PATH_MAX], old[LOAMI_PATH_MAX + 8];
    int rc = loami_store_path(path, name, err);
    if (rc < 0) return rc;
    memcpy(parent, path, sizeof parent);
    *strrchr(parent, '/') = 0;
    if ((rc = loami_dir_make(parent, err)) < 0) return rc;

    bool replace = loami_dir_exists(path);
    if (replace && !force) return taken(name, err);
    snprintf(old, sizeof old, "%s-old", dir);
    if (replace && rename(path, old) < 0) return loami_fail_errno(err, "%s", path);
    if (rename(dir, path) < 0) {
        rc = loami_fail_errno(err, "%s", path);
        if (replace) rename(old, path);
        return rc;
    }
    if (replace) loami_dir_remove(old, NULL);
    return 0;
}

void loami_store_drop(const char *dir)
{
    loami_dir_remove(dir, NULL);
}
