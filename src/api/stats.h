/* api/stats.h: what one model's requests took, counted as they end. The loop's thread alone, so nothing is
 * locked. */
#ifndef LOAMI_STATS_H
#define LOAMI_STATS_H

#include "net/prom.h"

/* Ascending, ended by 0: vLLM's, so that its dashboards fit. */
extern const double loami_bounds_ttft[], loami_bounds_gap[], loami_bounds_request[], loami_bounds_tokens[],
    loami_bounds_n[], loami_bounds_step[];

/* Why a request ended, as vLLM words it. */
typedef enum loami_ending {
    LOAMI_ENDED_STOP,
    LOAMI_ENDED_LENGTH,
    LOAMI_ENDED_ABORT, /* its client left */
    LOAMI_ENDED_ERROR,
    LOAMI_ENDINGS,
} loami_ending;
extern const char *const loami_ending_names[LOAMI_ENDINGS];

/* Of requests of one kind that have no answer in tokens. */
typedef struct loami_job_stats {
    loami_hist e2e;    /* of those answered well */
    uint64_t ended[LOAMI_ENDINGS];
} loami_job_stats;

typedef struct loami_stats {
    loami_hist ttft; /* from the request's arrival to its first token, seconds */
    loami_hist gap;  /* between two tokens of an answer */
    loami_hist tpot; /* decoding time over tokens but the first, of one request */
    loami_hist e2e, queue, prefill, decode, inference; /* of a request */
    loami_hist prompt_tokens, answer_tokens, n, max_tokens;
    uint64_t ended[LOAMI_ENDINGS];
    loami_job_stats embeddings, scores; /* in none of the above, but in what follows */
    uint64_t refused;  /* answered 429: too much is waiting */
    uint64_t timeouts; /* ended by their own time limit */
} loami_stats;

#endif
