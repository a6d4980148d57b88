/* store/known.h: models that people ask for by a short name: those of the migration this began with, and their
 * shapes, so that `loam fit` can tell what they need before they are downloaded. */
#ifndef LOAMI_KNOWN_H
#define LOAMI_KNOWN_H

#include "file/config.h"

typedef struct loami_known {
    const char *name;      /* "qwen2.5-32b" */
    const char *id;        /* of the hub: "mlx-community/Qwen2.5-32B-Instruct-4bit" */
    const char *label;     /* "Qwen2.5-32B 4-bit" */
    const char *config;    /* the fields of its config.json that decide how large it is */
    const char *expected;  /* prompt and generation in tok/s that were expected of an M1 Max, or NULL */
    bool alias;            /* another name of one before: not listed */
} loami_known;

extern const loami_known loami_known_models[]; /* ends with { NULL } */

/* By short name or id, any case; NULL: not known. */
const loami_known *loami_known_find(const char *name);

#endif
