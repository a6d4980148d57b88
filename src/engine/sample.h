/* engine/sample.h: choosing the next token from logits.
 *
 * Order: bias, repetition, presence and frequency penalties, then what a grammar forbids, temperature, min_p, top_k, top_p, and a draw from
 * what is left, in order of id. Equal logits are ordered by id, so that the same seed gives the same text everywhere the
 * logits are the same. */
#ifndef LOAMI_SAMPLE_H
#define LOAMI_SAMPLE_H

#include "grammar/grammar.h"
#include "loam_substrate.h"

typedef struct loami_candidate {
    float weight;             /* proportional to its probability */
    int32_t id;
} loami_candidate;

typedef struct loami_sampler {
    loam_sampling how;        /* how.bias is the request's */
    uint64_t seed, n_draws;   /* the n-th draw is a function of seed and n alone */
    uint32_t vocab;
    uint32_t *seen;           /* [n_seen] ids in prompt or answer, each once; with penalties only */
    uint32_t n_seen;
    uint32_t *count;          /* [vocab] 1 + times in the answer; 0 = not seen at all */
    loami_matcher *matcher;   /* of the grammar, or NULL */
    uint64_t *mask;           /* room for one of its masks */
} loami_sampler;

/* Prepares for a request; allocates only if there are penalties. */
int loami_sampler_open(loami_sampler *s, const loam_sampling *how, uint32_t vocab, loam_err *err);
void loami_sampler_close(loami_sampler *s);

/* From now on only what keeps to g is chosen. After open. */
int loami_sampler_keep_to(loami_sampler *s, loam_grammar *g, loam_err *err);
/* The grammar's text is complete: nothing may follow. */
bool loami_sampler_over(const loami_sampler *s);

void loami_sampler_prompt(loami_sampler *s, const int32_t *ids, uint32_t n); /* counts for repetition_penalty */
void loami_sampler_accept(loami_sampler *s, int32_t id);                      /* a token of the answer */

/* Whether a substrate can choose for s as it is: no penalties, no bias, no grammar. */
bool loami_sampler_plain(const loami_sampler *s);
/* How, for the draw that comes `ahead` draws after the next; and that the next is done. */
loam_pick loami_sampler_pick(const loami_sampler *s, uint32_t ahead);
void loami_sampler_drew(loami_sampler *s);

/* Chooses from logits[vocab]; where bias, penalties, a grammar or bans change them, in spare[vocab]. banned[n_banned] are never
 * chosen; scratch[vocab]. -1: the grammar leaves no token. */
int32_t loami_sample(loami_sampler *s, const float *logits, float *spare, const int32_t *banned, uint32_t n_banned, loami_candidate *scratch);

/* The largest logit, ties to the smaller id. NaN is never the largest; all NaN gives 0. */
int32_t loami_argmax(const float *logits, uint32_t n);

/* ln of the sum of e^logit: subtract it from a logit to get its log-probability. */
double loami_log_sum_exp(const float *logits, uint32_t n);

/* How many tokens are likelier than id, and itself: 1 = the likeliest. */
uint32_t loami_rank(const float *logits, uint32_t vocab, int32_t id);

/* The k most likely of logits, most likely first: out[k]. scratch[vocab]. */
void loami_top_logprobs(const float *logits, uint32_t vocab, loam_logprob *out, uint32_t k, loami_candidate *scratch);

#endif
