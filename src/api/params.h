/* api/params.h: the parameters of generation that several endpoints share, from JSON to loam_request. */
#ifndef LOAMI_PARAMS_H
#define LOAMI_PARAMS_H

#include "api/fields.h"

enum { LOAMI_MAX_CHOICES = 32, LOAMI_MAX_STOP_TOKENS = 64, LOAMI_MAX_BIAS = 1024 };

typedef struct loami_params {
    const char *model;
    uint32_t max_tokens, max_completion_tokens; /* 0 = not said */
    uint32_t min_tokens, n;
    loam_sampling how;                          /* bias is malloc'd */
    const char *stop[LOAM_MAX_STOP];
    uint32_t n_stop;
    int32_t stop_tokens[LOAMI_MAX_STOP_TOKENS];
    uint32_t n_stop_tokens;
    bool ignore_eos, stream, include_usage, keep_special, return_token_ids, want_logprobs;
    uint32_t n_logprobs;
} loami_params;

/* The rows of a field table for a struct whose first member is a loami_params. */
#define LOAMI_PARAMS_FIELDS                                                                                            \
    { .name = "model", .kind = LOAMI_F_STRING, .at = offsetof(loami_params, model) },                                  \
    { .name = "max_tokens", .kind = LOAMI_F_U32, .at = offsetof(loami_params, max_tokens), .lo = 1, .hi = 1e8 },       \
    { .name = "min_tokens", .kind = LOAMI_F_U32, .at = offsetof(loami_params, min_tokens), .lo = 0, .hi = 1e8 },       \
    { .name = "n", .kind = LOAMI_F_U32, .at = offsetof(loami_params, n), .lo = 1, .hi = LOAMI_MAX_CHOICES },           \
    { .name = "temperature", .kind = LOAMI_F_FLOAT, .at = offsetof(loami_params, how.temperature), .hi = 100 },        \
    { .name = "top_p", .kind = LOAMI_F_CUSTOM, .read = loami_read_top_p },                                             \
    { .name = "min_p", .kind = LOAMI_F_FLOAT, .at = offsetof(loami_params, how.min_p), .hi = 1 },                      \
    { .name = "top_k", .kind = LOAMI_F_CUSTOM, .read = loami_read_top_k },                                             \
    { .name = "seed", .kind = LOAMI_F_CUSTOM, .read = loami_read_seed },                                               \
    { .name = "stop", .kind = LOAMI_F_CUSTOM, .read = loami_read_stop },                                               \
    { .name = "stop_token_ids", .kind = LOAMI_F_CUSTOM, .read = loami_read_stop_tokens },                              \
    { .name = "ignore_eos", .kind = LOAMI_F_BOOL, .at = offsetof(loami_params, ignore_eos) },                          \
    { .name = "presence_penalty", .kind = LOAMI_F_FLOAT, .at = offsetof(loami_params, how.presence_penalty), .lo = -2, .hi = 2 },   \
    { .name = "frequency_penalty", .kind = LOAMI_F_FLOAT, .at = offsetof(loami_params, how.frequency_penalty), .lo = -2, .hi = 2 }, \
    { .name = "repetition_penalty", .kind = LOAMI_F_FLOAT, .at = offsetof(loami_params, how.repetition_penalty), .lo = 0.01, .hi = 100 }, \
    { .name = "logit_bias", .kind = LOAMI_F_CUSTOM, .read = loami_read_bias },                                         \
    { .name = "stream", .kind = LOAMI_F_BOOL, .at = offsetof(loami_params, stream) },                                  \
    { .name = "stream_options", .kind = LOAMI_F_CUSTOM, .read = loami_read_stream_options },                           \
    { .name = "skip_special_tokens", .kind = LOAMI_F_CUSTOM, .read = loami_read_skip_special },                        \
    { .name = "return_token_ids", .kind = LOAMI_F_BOOL, .at = offsetof(loami_params, return_token_ids) },              \
    { .name = "user", .kind = LOAMI_F_HINT, .hint_type = JSON_STRING },                                                \
    { .name = "metadata", .kind = LOAMI_F_HINT, .hint_type = JSON_OBJECT },                                            \
    { .name = "safety_identifier", .kind = LOAMI_F_HINT, .hint_type = JSON_STRING },                                   \
    { .name = "prompt_cache_key", .kind = LOAMI_F_HINT, .hint_type = JSON_STRING },                                    \
    { .name = "best_of", .kind = LOAMI_F_REFUSED, .words = "ask for n answers and choose among them" },                \
    { .name = "use_beam_search", .kind = LOAMI_F_FALSE, .words = "answers are sampled" }

int loami_read_top_p(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_top_k(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_seed(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_stop(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_stop_tokens(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_bias(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_stream_options(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_skip_special(void *params, const json_t *v, const char *where, loami_fault *f);

/* What only makes sense together. After the table. */
int loami_params_check(loami_params *p, loami_fault *f);
void loami_params_free(loami_params *p);

/* The engine's request: borrows from p. on_ready, tokens and the like are left to the caller. */
void loami_params_request(const loami_params *p, uint32_t default_max_tokens, loam_request *out);

#endif
