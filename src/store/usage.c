#include "store/usage.h"

#include "store/store.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct walk {
    const char *dir;
    uint64_t bytes, unfinished;
    bool clean;            /* remove what loam left unfinished */
    const char *locks;     /* where the locks of this model's blobs lie */
    uint64_t cleaned;
    loam_err *err;
} walk;

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n > m && strcmp(s + n - m, end) == 0;
}

/* Removes a part file unless its lock is held. */
static void clean(walk *w, const char *path, const char *name, uint64_t bytes)
{
    char lock[LOAMI_PATH_MAX], file[300];
    int fd = -1;
    snprintf(file, sizeof file, "%.*s.lock", (int)(strlen(name) - strlen(".loam-part")), name);
    if (w->locks && loami_path_join(lock, w->locks, file, NULL) == 0) fd = open(lock, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0)
        if (unlink(path) == 0) w->cleaned += bytes;
    if (fd >= 0) close(fd);
}

static int add(void *arg, const char *name)
{
    walk *w = arg;
    char path[LOAMI_PATH_MAX];
    struct stat st;
    int rc = loami_path_join(path, w->dir, name, w->err);
    if (rc < 0 || lstat(path, &st) < 0) return rc;
    if (S_ISDIR(st.st_mode)) {
        walk below = *w;
        below.dir = path;
        rc = loami_dir_each(path, add, &below, w->err);
        w->bytes = below.bytes;
        w->unfinished = below.unfinished;
        w->cleaned = below.cleaned;
        return rc;
    }
    if (!S_ISREG(st.st_mode)) return 0;
    uint64_t bytes = (uint64_t)st.st_blocks * 512;
    w->bytes += bytes;
    if (ends_with(name, ".loam-part") || ends_with(name, ".incomplete")) w->unfinished += bytes;
    if (w->clean && ends_with(name, ".loam-part") && strlen(name) < 256) clean(w, path, name, bytes);
    return 0;
}

typedef struct each {
    int (*fn)(void *arg, const loami_usage *u);
    void *arg;
    bool clean;
    uint64_t cleaned;
    char dir[LOAMI_PATH_MAX];
    loam_err *err;
} each;

static int measure(each *e, const char *name, const char *path, const char *from, const char *locks, bool unfinished)
{
    walk w = { .dir = path, .clean = e->clean, .locks = locks, .err = e->err };
    int rc = loami_dir_each(path, add, &w, e->err);
    e->cleaned += w.cleaned;
    if (rc < 0 || !e->fn) return rc;
    return e->fn(e->arg, &(loami_usage){ name, path, from, w.bytes, unfinished ? w.bytes : w.unfinished });
}

static int one_of_hub(void *arg, const char *entry)
{
    each *e = arg;
    char name[512], path[LOAMI_PATH_MAX], locks[LOAMI_PATH_MAX], rel[600];
    if (strncmp(entry, "models--", 8) != 0 || strlen(entry) > 300) return 0;
    snprintf(name, sizeof name, "%s", entry + 8);
    char *dashes = strstr(name, "--");
    if (dashes) {
        *dashes = '/';
        memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
    }
    snprintf(rel, sizeof rel, ".locks/%s", entry);
    int rc = loami_path_join(path, e->dir, entry, e->err);
    if (rc == 0) rc = loami_path_join(locks, e->dir, rel, e->err);
    return rc < 0 || !loami_dir_exists(path) ? rc : measure(e, name, path, "hf", locks, false);
}

static int one_of_store(void *arg, const loami_store_entry *s)
{
    return strcmp(s->from, "loam") == 0 ? measure(arg, s->name, s->path, "loam", NULL, false) : 0;
}

/* Copies from another loam that did not end. */
static int one_stage(void *arg, const char *entry)
{
    each *e = arg;
    char path[LOAMI_PATH_MAX];
    if (strncmp(entry, ".pull-", 6) != 0) return 0;
    int rc = loami_path_join(path, e->dir, entry, e->err);
    if (rc < 0 || !loami_dir_exists(path)) return rc;
    if ((rc = measure(e, entry + 6, path, "loam", NULL, true)) < 0 || !e->clean) return rc;
    return loami_dir_remove(path, e->err);
}

static int run(each *e)
{
    char home[LOAMI_PATH_MAX];
    int rc = loami_store_home(home, e->err);
    if (rc == 0 && e->fn) rc = loami_store_each(one_of_store, e, e->err);
    if (rc == 0) rc = loami_path_join(e->dir, home, "models", e->err);
    if (rc == 0 && loami_dir_exists(e->dir)) rc = loami_dir_each(e->dir, one_stage, e, e->err);
    if (rc == 0) rc = loami_store_hub(e->dir, e->err);
    if (rc == 0 && loami_dir_exists(e->dir)) rc = loami_dir_each(e->dir, one_of_hub, e, e->err);
    return rc;
}

int loami_usage_each(int (*fn)(void *arg, const loami_usage *u), void *arg, loam_err *err)
{
    each e = { .fn = fn, .arg = arg, .err = err };
    return run(&e);
}

int loami_usage_clean(uint64_t *bytes, loam_err *err)
{
    each e = { .clean = true, .err = err };
    int rc = run(&e);
    *bytes = e.cleaned;
    return rc;
}
