#include "store/hubcache.h"

#include "store/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int loami_hubcache_open(loami_hubcache *out, const char *id, loam_err *err)
{
    char path[LOAMI_PATH_MAX], hub[LOAMI_PATH_MAX];
    static const char *const folders[] = { "blobs", "snapshots", "refs" };
    int rc = loami_store_hub(hub, err);
    if (rc == 0) rc = loami_store_hub_path(out->repo, id, err);
    for (int i = 0; rc == 0 && i < 3; i++) {
        rc = loami_path_join(path, out->repo, folders[i], err);
        if (rc == 0) rc = loami_dir_make(path, err);
    }
    if (rc == 0) rc = loami_path_join(path, hub, ".locks", err);
    if (rc == 0) rc = loami_path_join(out->locks, path, strrchr(out->repo, '/') + 1, err);
    return rc == 0 ? loami_dir_make(out->locks, err) : rc;
}

int loami_hubcache_blob(char *path, char *lock, const loami_hubcache *c, const char *etag, loam_err *err)
{
    char name[96];
    snprintf(name, sizeof name, "blobs/%s", etag);
    int rc = loami_path_join(path, c->repo, name, err);
    snprintf(name, sizeof name, "%s.lock", etag);
    return rc == 0 ? loami_path_join(lock, c->locks, name, err) : rc;
}

static int make_parent(const char *path, loam_err *err)
{
    char dir[LOAMI_PATH_MAX];
    snprintf(dir, sizeof dir, "%s", path);
    *strrchr(dir, '/') = 0;
    return loami_dir_make(dir, err);
}

int loami_hubcache_link(const loami_hubcache *c, const char *commit, const char *name, const char *etag, loam_err *err)
{
    char rel[LOAMI_PATH_MAX], path[LOAMI_PATH_MAX], tmp[LOAMI_PATH_MAX], target[LOAMI_PATH_MAX] = "../../", old[LOAMI_PATH_MAX];
    size_t n = 6;
    for (const char *s = name; (s = strchr(s, '/')) && n + 3 < sizeof target - 80; s++, n += 3) memcpy(target + n, "../", 4);
    snprintf(target + n, sizeof target - n, "blobs/%s", etag);
    if (snprintf(rel, sizeof rel, "snapshots/%s/%s", commit, name) >= (int)sizeof rel)
        return loami_fail(err, LOAM_E_ARG, "path too long: %.100s...", name);
    int rc = loami_path_join(path, c->repo, rel, err);
    if (rc == 0) rc = make_parent(path, err);
    if (rc < 0) return rc;
    ssize_t k = readlink(path, old, sizeof old - 1);
    if (k > 0) {
        old[k] = 0;
        if (strcmp(old, target) == 0) return 0;
    }
    if (snprintf(tmp, sizeof tmp, "%s.%ld.tmp", path, (long)getpid()) >= (int)sizeof tmp)
        return loami_fail(err, LOAM_E_ARG, "path too long: %.100s...", path);
    unlink(tmp);
    if (symlink(target, tmp) < 0) return loami_fail_errno(err, "%s: cannot make a link", tmp);
    if (rename(tmp, path) == 0) return 0;
    rc = loami_fail_errno(err, "%s", path);
    unlink(tmp);
    return rc;
}

int loami_hubcache_ref(const loami_hubcache *c, const char *revision, const char *commit, loam_err *err)
{
    char rel[320], path[LOAMI_PATH_MAX];
    if (strcmp(revision, commit) == 0) return 0;
    snprintf(rel, sizeof rel, "refs/%s", revision);
    int rc = loami_path_join(path, c->repo, rel, err);
    if (rc == 0) rc = make_parent(path, err);
    return rc == 0 ? loami_file_write(path, commit, strlen(commit), err) : rc;
}
