/* base/file.h: files and folders. Paths are UTF-8, sizes are checked, messages name the path. */
#ifndef LOAMI_FILE_H
#define LOAMI_FILE_H

#include "base/err.h"

enum { LOAMI_PATH_MAX = 4096 };

/* A file mapped read-only. Zero-initialised is nothing. An empty file maps to data "" and size 0. */
typedef struct loami_mapping {
    const unsigned char *data;
    size_t size;
} loami_mapping;

int loami_file_map(loami_mapping *out, const char *path, loam_err *err);
void loami_file_unmap(loami_mapping *m);

/* The whole file, NUL-terminated, malloc'd. A file over limit bytes is LOAM_E_FORMAT. path "-" is stdin. */
int loami_file_read(char **data, size_t *len, const char *path, size_t limit, loam_err *err);

/* Writes to a temporary name beside path, syncs, renames: a reader sees the old file or the whole new one. */
int loami_file_write(const char *path, const void *data, size_t len, loam_err *err);

bool loami_file_exists(const char *path);
bool loami_dir_exists(const char *path);

/* mkdir -p */
int loami_dir_make(const char *path, loam_err *err);

/* rm -r; follows no links (a link is removed itself). A path that does not exist is success. */
int loami_dir_remove(const char *path, loam_err *err);

/* Calls fn for each entry's name but . and .., in alphabetical order; a negative result stops and is returned. */
int loami_dir_each(const char *path, int (*fn)(void *arg, const char *name), void *arg, loam_err *err);

/* "a/b" into out[LOAMI_PATH_MAX]; LOAM_E_ARG when it does not fit. b absolute: b alone. */
int loami_path_join(char *out, const char *a, const char *b, loam_err *err);

#endif
