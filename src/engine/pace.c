#include "engine/pace.h"

#include <math.h>

enum {
    ROWS_FIRST = 64,           /* while nothing has been measured yet */
    ROWS_GROW = 4,             /* times what a guess has held for: further it is not to be trusted */
};

static const double ALONE_S = 0.5;         /* a step without decoding: short enough for who comes or leaves meanwhile */
static const double WEIGHT = 0.3;          /* of one step: some make an opinion, one alone does not */
static const double QUICK = -0.69;         /* log of took / guess: half the time */
static const double SLOW = 0.4;            /* log likewise: half as long again */
static const double COST_LEAST_S = 1e-12;  /* so that a cost can grow again */

/* How costs relate before anything is known, in rows of a prompt; measured on a CPU and a GPU, and soon forgotten. */
static const double PRIOR[LOAMI_PACE_COSTS] = { 16, 48, 1, 1.0 / 4000, 4, 1.0 / 400 };

void loami_work_decode(loami_work *w, uint32_t n_past, uint32_t n)
{
    w->n_decode += n;
    w->decode_past += n * (n_past + 0.5 * n);
}

void loami_work_prompt(loami_work *w, uint32_t n_past, uint32_t n)
{
    w->n_prompt += n;
    w->prompt_past += n * (n_past + 0.5 * n);
}

/* Each cost's share in what w takes; their sum. */
static double shares(const double *cost, const loami_work *w, double *share)
{
    const double times[LOAMI_PACE_COSTS] = { 1, w->n_prompt > 0, w->n_prompt, w->prompt_past, w->n_decode, w->decode_past };
    double sum = 0;
    for (int i = 0; i < LOAMI_PACE_COSTS; i++) sum += share[i] = cost[i] * times[i];
    return sum;
}

double loami_pace_guess(const loami_pace *p, const loami_work *w)
{
    double share[LOAMI_PACE_COSTS];
    return shares(p->cost_s, w, share);
}

void loami_pace_learn(loami_pace *p, const loami_work *w, double took)
{
    double share[LOAMI_PACE_COSTS], square = 0;
    if (took <= 0) return;
    if (p->cost_s[0] <= 0) {
        double rows = shares(PRIOR, w, share);
        for (int i = 0; i < LOAMI_PACE_COSTS; i++) p->cost_s[i] = PRIOR[i] * took / rows;
    }
    double guess = shares(p->cost_s, w, share), wrong = log(took / guess);
    double right = wrong < QUICK ? wrong : WEIGHT * (p->slow ? wrong : fmin(wrong, SLOW));
    p->slow = wrong > SLOW;
    if (!p->slow && w->n_prompt > p->rows_tried) p->rows_tried = w->n_prompt;
    for (int i = 0; i < LOAMI_PACE_COSTS; i++) square += share[i] * share[i];
    for (int i = 0; i < LOAMI_PACE_COSTS; i++) p->cost_s[i] = fmax(COST_LEAST_S, p->cost_s[i] * exp(right * share[i] * guess / square));
}

/* What a step may take beside w: on a machine that is slow anyway, half the time for each. */
static double limit(const loami_pace *p, const loami_work *w)
{
    loami_work decodes = { .n_decode = w->n_decode, .decode_past = w->decode_past };
    return w->n_decode ? fmax(p->step_s, 2 * loami_pace_guess(p, &decodes)) : ALONE_S;
}

static bool fits(const loami_pace *p, loami_work w, uint32_t n_past, uint32_t n, double time)
{
    loami_work_prompt(&w, n_past, n);
    return loami_pace_guess(p, &w) <= time;
}

uint32_t loami_pace_fit(const loami_pace *p, const loami_work *w, uint32_t n_past, uint32_t most)
{
    uint32_t n = w->n_prompt ? 0 : LOAMI_PACE_ROWS, tried = p->rows_tried * ROWS_GROW, room = tried > ROWS_FIRST ? tried : ROWS_FIRST;
    double time = limit(p, w);
    while (n < most) {
        uint32_t next = n + LOAMI_PACE_ROWS < most ? n + LOAMI_PACE_ROWS : most;
        if (w->n_prompt + next > room || !fits(p, *w, n_past, next, time)) break;
        n = next;
    }
    return n < most ? n : most;
}
