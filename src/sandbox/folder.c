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

static int add(adding *a, const char *path)
{
    char *real = realpath(path, NULL);
    if (!real) return 0; /* a link to nowhere: whoever opens it will say so */
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
