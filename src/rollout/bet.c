#include "rollout/bet.h"

/* The part of what may be lost that each one stakes. */
static const double stakes[LOAMI_BET_HEADS] = { 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9 };

static const double AT_ONCE = 0.5, HALF_LATER = 500; /* trials until they got half of the rest */
static const double ENOUGH = 1e200;                 /* nobody asks for more, and doubles end at 1e308 */

static double reserve(double trials)
{
    return (1 - AT_ONCE) / (1 + trials / HALF_LATER);
}

void loami_bet_init(loami_bet *b)
{
    for (int i = 0; i < LOAMI_BET_HEADS; i++) b->wealth[i] = AT_ONCE / LOAMI_BET_HEADS;
    b->trials = 0;
    b->highest = 1;
}

double loami_bet_wealth(const loami_bet *b)
{
    double sum = reserve(b->trials);
    for (int i = 0; i < LOAMI_BET_HEADS; i++) sum += b->wealth[i];
    return sum;
}

/* score has at most the mean 0 if the claim holds, and is never below -lowest. */
static void settle(loami_bet *b, double score, double lowest)
{
    if (!(lowest > 0) || b->highest > ENOUGH) return;
    double more = (reserve(b->trials) - reserve(b->trials + 1)) / LOAMI_BET_HEADS, part = score / lowest;
    for (int i = 0; i < LOAMI_BET_HEADS; i++) b->wealth[i] = b->wealth[i] * (1 + stakes[i] * part) + more;
    b->trials++;
    double now = loami_bet_wealth(b);
    if (now > b->highest) b->highest = now;
}

/* Inverse probability weighting: its mean is the difference of the two sides' rates. */
static double difference(const loami_trial *t)
{
    double x = (t->bad ? 1 : 0) - t->centre;
    if (t->on_new) return x / t->share;
    return -x / (1 - t->share);
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

void loami_bet_worse(loami_bet *b, const loami_trial *t, double allowed)
{
    double least = t->centre / t->share, other = t->share < 1 ? (1 - t->centre) / (1 - t->share) : 0;
    settle(b, difference(t) - allowed, larger(least, other) + allowed);
}

void loami_bet_no_worse(loami_bet *b, const loami_trial *t, double allowed)
{
    double most = (1 - t->centre) / t->share, other = t->share < 1 ? t->centre / (1 - t->share) : 0;
    settle(b, allowed - difference(t), larger(most, other) - allowed);
}
