/* store/pull.h: getting a model from the hub, a mirror of it, or another loam, into the place where it is looked
 * for. */
#ifndef LOAMI_PULL_H
#define LOAMI_PULL_H

#include "store/download.h"

/* Zero is the default. Strings are borrowed. */
typedef struct loami_pull_options {
    const char *from;              /* another loam: "http://peer:8080"; NULL = the hub */
    const char *key;               /* its API key, or NULL */
    bool force;                    /* replace a model of that name in the store (from another loam only) */
    const char *const *include;    /* [n_include] patterns of files; none = what a model needs */
    const char *const *exclude;    /* [n_exclude] patterns of files to leave out */
    uint32_t n_include, n_exclude;
    loami_download_options download;
    void (*say)(void *arg, const char *line); /* a note worth reading; may be NULL */
    void *arg;
} loami_pull_options;

typedef struct loami_pull_result {
    char id[256], revision[256], commit[65];
    char path[LOAMI_PATH_MAX];     /* the folder */
    uint64_t bytes, fetched;       /* of all files; of those that were not there */
    uint32_t files;
} loami_pull_result;

/* name: "org/name", "org/name@revision", or a short name; from another loam also a name of its store. What came is
 * kept when it fails or is stopped, and gone on with the next time. */
int loami_pull(loami_pull_result *out, const char *name, const loami_pull_options *o, loam_err *err);

/* Calls fn with the name and size of each model that another loam shares. */
int loami_pull_list(const char *from, const char *key, int (*fn)(void *arg, const char *name, uint64_t bytes), void *arg,
                    const loami_fetch_options *o, loam_err *err);

/* Whether a model needs this file, when nobody said which: those of its own folder that hold weights, text or
 * settings. has_model: there are weights called model*.safetensors, and others are the same ones again. */
bool loami_pull_wants(const char *name, bool has_model);

#endif
