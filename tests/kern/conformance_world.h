/* tests/kern/conformance_world.h: what the cases of conformance are made of. */
#ifndef CONFORMANCE_WORLD_H
#define CONFORMANCE_WORLD_H

#include "kern/conformance.h"
#include "kern/random_matrix.h"

/* A case is a function that, given a world (random numbers made once) and one side (a substrate to use them with),
 * runs steps and leaves numbers in side->out. Both sides' numbers are compared. */

enum { MAX_WEIGHTS = 64, MAX_PARTS = 4, MAX_STEPS = 8, MAX_SEQS = 8 };

typedef struct side {
    const loam_substrate *f;
    loam_sub *s;
    loam_weight *w[MAX_WEIGHTS];
    uint32_t page_tokens;
    loam_kv_config kv;
    uint32_t *pages[LOAM_KV_GROUPS][MAX_SEQS]; /* [n] of each sequence; where a group has a window, its pages come round again and again */
    float *out;                 /* [n_out] */
    size_t n_out;
    int rc;
    loam_err err;
} side;

typedef struct weight_plan {
    loam_matrix part[MAX_PARTS];
    uint32_t n_parts;
} weight_plan;

typedef struct world {
    rnd r;
    weight_plan w[MAX_WEIGHTS];
    uint32_t n_w;
    uint32_t vocab, dim;
    const char *what;
    char name[128];
    uint32_t n_layers;
    loam_kv_config kv;
    uint32_t max_tokens, max_rows; /* of a sequence; of a step, where a group has a window */
    uint32_t n_seqs;
    uint32_t page_seed;
    bool lenient;               /* extreme numbers: only that it survives and stays finite where the reference does */
    bool whole_twin;            /* the reference keeps keys and values whole, whatever kv.type says */
    double slack;               /* multiplies the tolerance */
} world;

typedef void steps_fn(world *w, side *d);

static inline bool good(const side *d)
{
    return d->rc == 0;
}

extern const matrix_kind plain_f32;

/* A world with an embedding table of floats: the way arbitrary numbers get in. */
world table_world(const conformance *c, uint32_t vocab, uint32_t dim);
uint32_t add_weight(world *w, const matrix_kind *k, uint32_t experts, uint32_t rows, uint32_t cols, bool bias);
void add_part(world *w, uint32_t weight, const matrix_kind *k, uint32_t experts, uint32_t rows, uint32_t cols, bool bias);
void free_weights(world *w);

void keep(side *d, loam_tensor t); /* its numbers go to d->out */

/* Runs steps on c->sub; compare_bits ends what it began. */
void open_and_run(side *d, conformance *c, world *w, steps_fn *steps);

/* Runs steps on the reference and on c->sub, judges, frees the weights. */
void compare(conformance *c, world *w, steps_fn *steps);

/* The last `n` numbers that a kept, from `at` before its end, must be those at the end of what b kept, unless c->sub refused. Ends both
 * and frees the weights. */
void compare_bits(conformance *c, world *w, side *a, size_t at, side *b, size_t n);

/* conformance_picks.c */
void pick_cases(conformance *c);

/* conformance_models.c */
void attend_cases(conformance *c);
void model_cases(conformance *c);
void steady_models(conformance *c);
void steady_groups(conformance *c);

#endif
