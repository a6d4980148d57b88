/* api/params.h: the parameters of generation that several endpoints share, from JSON to loam_request. */
#ifndef LOAMI_PARAMS_H
#define LOAMI_PARAMS_H

#include "api/fields.h"

enum { LOAMI_TIMEOUT_MAX_S = 1000000, LOAMI_MAX_CHOICES = 32, LOAMI_MAX_STOP_TOKENS = 64, LOAMI_MAX_BIAS = 1024 };

typedef struct loami_params {
    const char *model;
    uint32_t max_tokens, max_completion_tokens; /* 0 = not said */
    uint32_t min_tokens, n;
    loam_sampling how; /* bias is malloc'd */
    const char *stop[LOAM_MAX_STOP];
    uint32_t n_stop;
    int32_t stop_tokens[LOAMI_MAX_STOP_TOKENS];
    uint32_t n_stop_tokens;
    bool ignore_eos, stream, include_usage, keep_special, return_token_ids, want_logprobs;
    uint32_t n_logprobs;
    bool show_prompt_logprobs, score_prompt; /* asked for by name; needed, also for an echo with logprobs */
    uint32_t n_prompt_logprobs;              /* the likeliest ones beside each token of the prompt */
    float timeout_s; /* from arrival to the last token; 0 = not said */
    int32_t priority;
    uint64_t cache_salt;
} loami_params;

/* The rows of a field table for a struct whose first member is a loami_params. */
#define LOAMI_PARAMS_FIELDS                                                                                  \
    LOAMI_FIELD(STRING, "model", loami_params, model),                                                       \
    LOAMI_RANGE(U32, "max_tokens", loami_params, max_tokens, 1, 1e8),                                        \
    LOAMI_RANGE(U32, "min_tokens", loami_params, min_tokens, 0, 1e8),                                        \
    LOAMI_RANGE(U32, "n", loami_params, n, 1, LOAMI_MAX_CHOICES),                                            \
    LOAMI_RANGE(FLOAT, "temperature", loami_params, how.temperature, 0, 100),                                \
    LOAMI_READ("top_p", loami_read_top_p),                                                                   \
    LOAMI_RANGE(FLOAT, "min_p", loami_params, how.min_p, 0, 1),                                              \
    LOAMI_READ("top_k", loami_read_top_k),                                                                   \
    LOAMI_READ("seed", loami_read_seed),                                                                     \
    LOAMI_READ("stop", loami_read_stop),                                                                     \
    LOAMI_READ("stop_token_ids", loami_read_stop_tokens),                                                    \
    LOAMI_FIELD(BOOL, "ignore_eos", loami_params, ignore_eos),                                               \
    LOAMI_RANGE(FLOAT, "presence_penalty", loami_params, how.presence_penalty, -2, 2),                       \
    LOAMI_RANGE(FLOAT, "frequency_penalty", loami_params, how.frequency_penalty, -2, 2),                     \
    LOAMI_RANGE(FLOAT, "repetition_penalty", loami_params, how.repetition_penalty, 0.01, 100),               \
    LOAMI_READ("logit_bias", loami_read_bias),                                                               \
    LOAMI_FIELD(BOOL, "stream", loami_params, stream),                                                       \
    LOAMI_READ("stream_options", loami_read_stream_options),                                                 \
    LOAMI_READ("skip_special_tokens", loami_read_skip_special),                                              \
    LOAMI_FIELD(BOOL, "return_token_ids", loami_params, return_token_ids),                                   \
    LOAMI_READ("prompt_logprobs", loami_read_prompt_logprobs),                                               \
    LOAMI_READ_AT("timeout", offsetof(loami_params, timeout_s), loami_read_timeout),                         \
    LOAMI_READ_AT("priority", offsetof(loami_params, priority), loami_read_priority),                        \
    LOAMI_READ("cache_salt", loami_read_cache_salt),                                                         \
    LOAMI_HINT("user", STRING),                                                                              \
    LOAMI_HINT("metadata", OBJECT),                                                                          \
    LOAMI_HINT("safety_identifier", STRING),                                                                 \
    LOAMI_HINT("prompt_cache_key", STRING),                                                                  \
    LOAMI_REFUSE("best_of", "ask for n answers and choose among them"),                                      \
    LOAMI_REFUSE_TRUE("use_beam_search", "answers are sampled")

int loami_read_top_p(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_top_k(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_seed(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_stop(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_stop_tokens(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_bias(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_stream_options(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_prompt_logprobs(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_timeout(void *to, const json_t *v, const char *where, loami_fault *f);  /* a float: seconds */
int loami_read_priority(void *to, const json_t *v, const char *where, loami_fault *f); /* an int32_t */
int loami_read_cache_salt(void *params, const json_t *v, const char *where, loami_fault *f);
int loami_read_skip_special(void *params, const json_t *v, const char *where, loami_fault *f);

/* What only makes sense together. After the table. */
int loami_params_check(loami_params *p, loami_fault *f);
void loami_params_free(loami_params *p);

/* The engine's request: borrows from p. on_ready, tokens and the like are left to the caller. */
void loami_params_request(const loami_params *p, uint32_t default_max_tokens, loam_request *out);

#endif
