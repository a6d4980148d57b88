#include "base/file.h"
#include "sandbox/sandbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct adding {
    loami_sandbox_rules *rules;
    const char *folder;
    loam_err *err;
} adding;

static bool is_there(const loami_sandbox_rules *r, const char *path)
{
    for (uint32_t i = 0; i < r->n_read; i++)
        if (strcmp(r->read[i], path) == 0) return true;
    return false;
}

/* The Hugging Face cache keeps all files of a model in a folder of its own, blobs: one name for all of them.
 */
static void shorten(char *real)
{
    static const char blobs[] = "/blobs";
    char *slash = strrchr(real, '/');
    size_t n = slash ? (size_t)(slash - real) : 0, tail = sizeof blobs - 1;
    if (n > tail && memcmp(slash - tail, blobs, tail) == 0) *slash = 0;
}

static int add(adding *a, const char *path)
{
    char *real = realpath(path, NULL);
    if (!real) return 0; /* a link to nowhere: whoever opens it will say so */
    shorten(real);
    if (is_there(a->rules, real)) {
        free(real);
        return 0;
    }
    if (a->rules->n_read == LOAMI_SANDBOX_PATHS) {
        free(real);
        return loami_fail(a->err, LOAM_E_UNSUPPORTED, "%s: too many links to name each (%d at most)",
                          a->folder, LOAMI_SANDBOX_PATHS);
    }
    a->rules->read[a->rules->n_read++] = real;
    return 0;
}

static int add_link(void *arg, const char *name)
{
    adding *a = arg;
    char path[LOAMI_PATH_MAX];
    struct stat st;
    if (snprintf(path, sizeof path, "%s/%s", a->folder, name) >= (int)sizeof path) return 0;
    return lstat(path, &st) == 0 && S_ISLNK(st.st_mode) ? add(a, path) : 0;
}

int loami_sandbox_add_folder(loami_sandbox_rules *r, const char *folder, loam_err *err)
{
    adding a = { r, folder, err };
    int rc = add(&a, folder);
    return rc == 0 && loami_dir_exists(folder) ? loami_dir_each(folder, add_link, &a, err) : rc;
}
