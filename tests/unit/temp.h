/* tests/unit/temp.h: a folder of its own for a test, and files in it. Stops the program when the system
 * won't. */
#ifndef TESTS_TEMP_H
#define TESTS_TEMP_H

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A new empty folder under TMPDIR; free it with temp_remove. */
static inline char *temp_make(void)
{
    const char *base = getenv("TMPDIR");
    char *dir = malloc(LOAMI_PATH_MAX);
    if (!dir) abort();
    snprintf(dir, LOAMI_PATH_MAX, "%s/loam-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(dir)) {
        perror(dir);
        exit(1);
    }
    return dir;
}

static inline void temp_remove(char *dir)
{
    loami_dir_remove(dir, NULL);
    free(dir);
}

static inline void temp_write(const char *dir, const char *name, const void *data, size_t n)
{
    char path[LOAMI_PATH_MAX];
    loam_err err;
    if (loami_path_join(path, dir, name, &err) < 0 || loami_file_write(path, data, n, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
}

#endif
