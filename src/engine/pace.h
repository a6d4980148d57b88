/* engine/pace.h: what steps cost, learnt from those that were run, and how much of a prompt fits into the next one.
 *
 *     took = step + (prompt, if there are rows of any) + row * n_prompt + look * prompt_past + token * n_decode + past * decode_past
 *
 * The six costs are never negative and know nothing of the machine. After each step every cost is corrected by as much as it had a
 * share in the guess, so steps of different kinds tell them apart. A step that was quick shows what can be done and is believed at
 * once; one that was slow may have met a compiler or a neighbour, and is believed a little, but the next one like it is. */
#ifndef LOAMI_PACE_H
#define LOAMI_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    LOAMI_PACE_COSTS = 6,
    LOAMI_PACE_ROWS = 32,                  /* of prompts in a step, whatever they cost: below, weights are read for too little */
};

/* What a step has to do. */
typedef struct loami_work {
    uint32_t n_decode, n_prompt;           /* rows */
    double decode_past, prompt_past;       /* tokens that they look back at, summed over rows */
} loami_work;

typedef struct loami_pace {
    double step_s;                         /* what a step should take at most that somebody decodes in */
    double cost_s[LOAMI_PACE_COSTS];       /* in the order above; the first is 0 while nothing is known */
    bool slow;                             /* the last step was much slower than the guess */
    uint32_t rows_tried;                   /* of prompts, in one step that was not, at most */
} loami_pace;

/* Adds n rows of a sequence that stands at n_past. */
void loami_work_decode(loami_work *w, uint32_t n_past, uint32_t n);
void loami_work_prompt(loami_work *w, uint32_t n_past, uint32_t n);

/* What a step of w will take, in seconds; 0: nobody knows yet. */
double loami_pace_guess(const loami_pace *p, const loami_work *w);

/* A step of w took so long. */
void loami_pace_learn(loami_pace *p, const loami_work *w, double took);

/* Of `most` rows of a prompt that stands at n_past, those to run beside w. The first prompt of a step gets some whatever it costs;
 * 0: the step is full. All of them, or a multiple of LOAMI_PACE_ROWS: machines prepare for each new shape. */
uint32_t loami_pace_fit(const loami_pace *p, const loami_work *w, uint32_t n_past, uint32_t most);

#endif
