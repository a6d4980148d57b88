/* store/import.h: from what others made of a model to a model folder in MLX format, in the store.
 *
 * A GGUF file holds weights, settings, tokenizer and chat template in one. Import writes them as mlx-lm
 * would: model.safetensors (with its index), config.json with "quantization", tokenizer.json,
 * tokenizer_config.json, generation_config.json; and loam.json, which says where it came from and the files'
 * SHA-256. */
#ifndef LOAMI_IMPORT_H
#define LOAMI_IMPORT_H

#include "base/json.h"
#include "file/gguf.h"

/* What the caller wants to hear while it takes long. Zero is silence. */
typedef struct loami_progress {
    void *arg;
    /* done of total bytes; a negative result stops the work, which fails with LOAM_E_CANCELLED. */
    int (*step)(void *arg, uint64_t done, uint64_t total);
    /* One line for people: what was not carried over exactly. */
    void (*say)(void *arg, const char *line);
} loami_progress;

typedef struct loami_import_options {
    const char *name;  /* in the store */
    bool force;        /* replace what has the name */
    bool float_scales; /* larger, and exact for the K types too; see store/blocks.h */
    loami_progress progress;
    const char *source;       /* where it came from, for loam.json; NULL = the file's name */
    const json_t *generation; /* an object merged into generation_config.json, or NULL */
    int (*beside)(void *arg, const char *dir, loam_err *err); /* adds files to the new folder, or NULL */
    void *beside_arg;
} loami_import_options;

/* Imports a GGUF file. Nothing is left behind on failure. */
int loami_import_gguf(const char *file, const loami_import_options *o, loam_err *err);

/* From Ollama's store (OLLAMA_MODELS, ~/.ollama/models): name is "NAME[:TAG]", tag "latest" by default. The
 * parameters layer becomes generation_config.json; template and parameters are kept beside it as they are. */
int loami_import_ollama(const char *name, const loami_import_options *o, loam_err *err);

/* What to call it here: without host, and without ":latest". */
void loami_ollama_store_name(const char *name, char *out, size_t size);

/* Calls fn with "NAME:TAG" of each model there; a negative result stops and is returned. */
int loami_ollama_each(int (*fn)(void *arg, const char *name), void *arg, loam_err *err);

/* ---- the parts of an import; store/import_*.c ---------------------------------------------------------- */

/* Where a tensor of the file goes. */
typedef struct loami_target {
    char name[128];     /* without ".weight" or ".bias": "model.layers.0.self_attn.q_proj" */
    const char *suffix; /* ".weight", ".bias" or "" */
    bool skip;          /* its content is in config.json */
    uint32_t heads;     /* rows are llama.cpp's order of rotary pairs, for so many heads; 0 = they are not */
    float subtract;     /* from every number (Gemma's norms are stored as 1 + w) */
} loami_target;

typedef struct loami_arch loami_arch;

/* The architecture that the file names, refused by name if unknown. */
int loami_arch_find(const loami_arch **out, loami_gguf *g, loam_err *err);
int loami_arch_target(const loami_arch *a, const loami_gguf *g, const loami_gguf_tensor *t, loami_target *out,
                      loam_err *err);

/* config.json without "quantization"; a new reference. */
int loami_arch_config(const loami_arch *a, loami_gguf *g, json_t **out, loam_err *err);

/* tokenizer.json, tokenizer_config.json and generation_config.json into dir; the special tokens' ids into
 * config. */
int loami_import_text(loami_gguf *g, const char *dir, json_t *config, const loami_import_options *o,
                      loam_err *err);

/* dir/name as JSON, indented. */
int loami_import_json(const char *dir, const char *name, const json_t *v, loam_err *err);

#endif
