/* cmd/open.h: what the subcommands that run a model share: their options, opening, prompts. */
#ifndef LOAMI_OPEN_H
#define LOAMI_OPEN_H

#include "cmd/cmd.h"

#include "base/json.h"

typedef struct loami_model_opts {
    const char *model;
    loam_options engine;
} loami_model_opts;

/* Rows of an option table for a loami_model_opts o. */
#define LOAMI_MODEL_OPTS(o)                                                                                              \
    { "--model", 'm', "M", "a model folder, a name in the store, or a Hugging Face id in the cache", LOAMI_OPT_STRING,  \
      &(o).model, NULL, 0, 0 },                                                                                        \
    { "--substrate", 0, "S", "auto, cpu or reference (default auto; LOAM_SUBSTRATE)", LOAMI_OPT_STRING,                 \
      &(o).engine.substrate, NULL, 0, 0 },                                                                             \
    { "--threads", 't', "N", "compute threads (default: the physical cores)", LOAMI_OPT_U32, &(o).engine.threads, NULL, \
      1, 1024 },                                                                                                       \
    { "--context", 'c', "N", "tokens of prompt and answer together (default: the model's, at most 8192)",               \
      LOAMI_OPT_U32, &(o).engine.context_tokens, NULL, 2, 1 << 20 },                                                   \
    { "--kv-type", 0, "T", "keys and values in f16 (default) or int8: half the memory, a little less exact", LOAMI_OPT_STRING, \
      &(o).engine.kv_type, NULL, 0, 0 },                                                                               \
    { "--batch-invariant", 0, NULL, "the same text, to the last bit, whatever runs beside it: slower", LOAMI_OPT_FLAG,   \
      &(o).engine.batch_invariant, NULL, 0, 0 },                                                                       \
    { "--exact", 0, NULL, "float activations: slower, for checking", LOAMI_OPT_FLAG, &(o).engine.exact, NULL, 0, 0 }, \
    { "--speculate", 0, "N", "guess up to N tokens a step from what stood there before: the same text, sooner where it " \
      "repeats itself", LOAMI_OPT_U32, &(o).engine.speculate_tokens, NULL, 0, 32 }

/* Rows for a loam_sampling s. */
#define LOAMI_SAMPLING_OPTS(s)                                                                                         \
    { "--temp", 0, "T", "temperature; 0 = greedy", LOAMI_OPT_FLOAT, &(s).temperature, NULL, 0, 100 },                   \
    { "--top-p", 0, "P", "keep the likeliest tokens of this total probability", LOAMI_OPT_FLOAT, &(s).top_p, NULL, 0, 1 }, \
    { "--top-k", 0, "K", "keep the K likeliest tokens", LOAMI_OPT_U32, &(s).top_k, NULL, 0, 1 << 24 },                  \
    { "--min-p", 0, "P", "keep tokens at least P times as likely as the likeliest", LOAMI_OPT_FLOAT, &(s).min_p, NULL, 0, 1 }, \
    { "--repetition-penalty", 0, "X", "weaken tokens seen before; 1 = off", LOAMI_OPT_FLOAT, &(s).repetition_penalty,    \
      NULL, 0, 100 },                                                                                                  \
    { "--presence-penalty", 0, "X", "subtract X from tokens of the answer", LOAMI_OPT_FLOAT, &(s).presence_penalty, NULL, \
      -100, 100 },                                                                                                     \
    { "--frequency-penalty", 0, "X", "subtract X for each time in the answer", LOAMI_OPT_FLOAT, &(s).frequency_penalty,  \
      NULL, -100, 100 },                                                                                               \
    { "--seed", 0, "N", "same seed, same text", LOAMI_OPT_U64, &(s).seed, &(s).has_seed, 0, 0 }

/* Resolves the model's name and opens an engine. On failure prints one line and returns an exit code; 0 = open. */
int loami_cmd_open(loam_engine **out, const char *command, const loami_model_opts *o);

/* The path of model name, or prints one line and returns an exit code. path[LOAMI_PATH_MAX]. */
int loami_cmd_find(char *path, const char *command, const char *model);

/* Renders messages (borrowed) with the model's template and encodes. Returns the number of ids or LOAM_E_*. */
int loami_cmd_chat_prompt(const loam_engine *e, const json_t *messages, int32_t **ids, loam_err *err);

/* Prints a JSON object on one line and frees it; an exit code. */
int loami_cmd_print_json(json_t *o);

const char *loami_cmd_finish_name(loam_finish f); /* "stop", "length", ... */

#endif
