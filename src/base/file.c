#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int loami_file_map(loami_mapping *out, const char *path, loam_err *err)
{
    int rc = 0;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer must not hold us up */
    if (fd < 0) return loami_fail_errno(err, "%s", path);
    if (fstat(fd, &st) < 0) {
        rc = loami_fail_errno(err, "%s", path);
    } else if (!S_ISREG(st.st_mode)) {
        rc = loami_fail(err, LOAM_E_FORMAT, "%s: not a regular file", path);
    } else if (st.st_size == 0) {
        *out = (loami_mapping){ (const unsigned char *)"", 0 };
    } else {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) rc = loami_fail_errno(err, "%s: cannot map", path);
        else *out = (loami_mapping){ p, (size_t)st.st_size };
    }
    close(fd);
    return rc;
}

void loami_file_unmap(loami_mapping *m)
{
    if (m->size) munmap((void *)m->data, m->size);
    *m = (loami_mapping){ 0 };
}

int loami_file_read(char **data, size_t *len, const char *path, size_t limit, loam_err *err)
{
    bool in = strcmp(path, "-") == 0;
    FILE *f = in ? stdin : fopen(path, "rb");
    char *p = NULL;
    size_t n = 0, cap = 0;
    int rc = 0;

    if (!f) return loami_fail_errno(err, "%s", path);
    for (;;) {
        if (n == cap) {
            cap = cap ? cap * 2 : 16384;
            char *q = realloc(p, cap + 1);
            if (!q) {
                rc = loami_fail_nomem(err);
                goto out;
            }
            p = q;
        }
        size_t got = fread(p + n, 1, cap - n, f);
        if (got == 0) break;
        n += got;
        if (n > limit) {
            rc = loami_fail(err, LOAM_E_FORMAT, "%s: larger than the %zu bytes allowed", in ? "standard input" : path, limit);
            goto out;
        }
    }
    if (ferror(f)) {
        rc = loami_fail_errno(err, "%s: cannot read", in ? "standard input" : path);
        goto out;
    }
    p[n] = 0;
    *data = p;
    *len = n;
    p = NULL;
out:
    free(p);
    if (!in) fclose(f);
    return rc;
}

static int write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t k = write(fd, p, n < (1u << 30) ? n : (1u << 30));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return -1;
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

int loami_file_write(const char *path, const void *data, size_t len, loam_err *err)
{
    char tmp[LOAMI_PATH_MAX];
    int k = snprintf(tmp, sizeof tmp, "%s.tmp.%ld", path, (long)getpid());
    if (k < 0 || (size_t)k >= sizeof tmp) return loami_fail(err, LOAM_E_ARG, "path too long: %.100s...", path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return loami_fail_errno(err, "%s", tmp);
    int rc = 0;
    if (write_all(fd, data, len) < 0 || fsync(fd) < 0) rc = loami_fail_errno(err, "%s: cannot write", tmp);
    if (close(fd) < 0 && rc == 0) rc = loami_fail_errno(err, "%s: cannot write", tmp);
    if (rc == 0 && rename(tmp, path) < 0) rc = loami_fail_errno(err, "%s", path);
    if (rc < 0) unlink(tmp);
    return rc;
}

bool loami_file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool loami_dir_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int loami_dir_make(const char *path, loam_err *err)
{
    char p[LOAMI_PATH_MAX];
    if (!path[0]) return loami_fail(err, LOAM_E_ARG, "an empty path cannot be made a folder");
    int rc = loami_path_join(p, path, "", err);
    if (rc < 0) return rc;
    for (char *slash = p + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        if (mkdir(p, 0755) < 0 && errno != EEXIST) return loami_fail_errno(err, "%s: cannot make folder", p);
        *slash = '/';
    }
    return loami_dir_exists(path) ? 0 : loami_fail(err, LOAM_E_IO, "%s: not a folder", path);
}

int loami_dir_each(const char *path, int (*fn)(void *arg, const char *name), void *arg, loam_err *err)
{
    struct dirent **list = NULL;
    int n = scandir(path, &list, NULL, alphasort), rc = 0;
    if (n < 0) return loami_fail_errno(err, "%s", path);
    for (int i = 0; i < n; i++) {
        const char *name = list[i]->d_name;
        if (rc >= 0 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0) rc = fn(arg, name);
        free(list[i]);
    }
    free(list);
    return rc < 0 ? rc : 0;
}

struct remove_arg {
    const char *dir;
    loam_err *err;
};

static int remove_entry(void *arg, const char *name)
{
    struct remove_arg *a = arg;
    char p[LOAMI_PATH_MAX];
    int rc = loami_path_join(p, a->dir, name, a->err);
    return rc < 0 ? rc : loami_dir_remove(p, a->err);
}

int loami_dir_remove(const char *path, loam_err *err)
{
    struct remove_arg a = { path, err };
    struct stat st;
    if (lstat(path, &st) < 0) return errno == ENOENT ? 0 : loami_fail_errno(err, "%s", path);
    if (!S_ISDIR(st.st_mode)) return unlink(path) < 0 ? loami_fail_errno(err, "%s: cannot remove", path) : 0;
    int rc = loami_dir_each(path, remove_entry, &a, err);
    if (rc < 0) return rc;
    return rmdir(path) < 0 ? loami_fail_errno(err, "%s: cannot remove", path) : 0;
}

int loami_path_join(char *out, const char *a, const char *b, loam_err *err)
{
    bool alone = b[0] == '/' || a[0] == 0;
    bool slash = !alone && a[strlen(a) - 1] != '/';
    int n = snprintf(out, LOAMI_PATH_MAX, "%s%s%s", alone ? "" : a, slash ? "/" : "", b);
    if (n < 0 || n >= LOAMI_PATH_MAX) return loami_fail(err, LOAM_E_ARG, "path too long: %.100s...", a);
    return 0;
}
