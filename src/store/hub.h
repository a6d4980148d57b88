/* store/hub.h: what the Hugging Face hub (or a mirror, or another loam) says of a model. Everything in its answers
 * is a stranger's: names, revisions and hashes are checked before they become part of a path. */
#ifndef LOAMI_HUB_H
#define LOAMI_HUB_H

#include "store/download.h"

enum { LOAMI_HUB_FILES_MAX = 10000, LOAMI_HUB_NAME_MAX = 1024, LOAMI_HUB_COMMIT = 65 };

/* Where to ask, from the environment as huggingface_hub reads it. */
typedef struct loami_hub {
    char endpoint[512];  /* HF_ENDPOINT, or https://huggingface.co; no slash at the end */
    char token[512];     /* HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HF_TOKEN_PATH, HF_HOME/token; "" = none */
    bool offline;        /* HF_HUB_OFFLINE */
} loami_hub;

int loami_hub_environment(loami_hub *out, loam_err *err);

typedef struct loami_hub_file {
    char *name;          /* "model.safetensors", "onnx/model.onnx" */
    uint64_t bytes;      /* when hash is there */
    char hash[65];       /* as loami_part_hash_ok wants it; "" = not told: loami_hub_look asks for it */
} loami_hub_file;

typedef struct loami_hub_model {
    char commit[LOAMI_HUB_COMMIT];
    loami_hub_file *files; /* [n] */
    uint32_t n;
    bool from_store;     /* said by a loam: this lies in its store and has no place in the cache of the hub */
} loami_hub_model;

/* "org/name@revision" in its parts; revision "main" where none is said. Buffers of 256 bytes each. */
int loami_hub_split(const char *spec, char id[256], char revision[256], loam_err *err);

/* Whether a file of the hub may be called so: relative, no part empty, "." or "..", printable, not too long. */
bool loami_hub_name_ok(const char *name);

/* Reads the answer of /api/models/ID/revision/REVISION. */
int loami_hub_parse(loami_hub_model *out, const char *json, size_t n, const char *what, loam_err *err);

/* Asks for it. */
int loami_hub_model_get(loami_hub_model *out, const loami_hub *h, const char *id, const char *revision,
                        const loami_fetch_options *o, loam_err *err);

/* Asks for bytes and hash of a file whose model did not tell. */
int loami_hub_look(loami_hub_file *f, const loami_hub *h, const char *id, const loami_hub_model *m,
                   const loami_fetch_options *o, loam_err *err);

/* The etag of an answer without quotes and weakness mark, "" when it is no hash. */
void loami_hub_etag(char hash[65], const char *header);

/* The address of a file, malloc'd; NULL when memory ran out. */
char *loami_hub_url(const loami_hub *h, const char *id, const char *commit, const char *name);

void loami_hub_model_free(loami_hub_model *m);

#endif
