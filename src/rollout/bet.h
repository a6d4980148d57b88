/* rollout/bet.h: is something worse on the new side? Asked after every request, at no price for asking.
 *
 * Each request was sent to the new side by a coin whose probability, its share, was fixed before. A gambler who
 * believes that bad things happen more often there bets on them at odds that are fair if they do not. Whatever
 * he does, the chance that he ever multiplies his money by 1/alpha is then at most alpha (Ville 1939), however
 * often one looks. docs/rollout.md has the mathematics and its sources. */
#ifndef LOAMI_BET_H
#define LOAMI_BET_H

#include <stdbool.h>

enum { LOAMI_BET_HEADS = 8 }; /* bold and timid gamblers */

/* They begin with half of the stake and get the other half by and by: what goes wrong late is noticed too. */
typedef struct loami_bet {
    double wealth[LOAMI_BET_HEADS];
    double trials;  /* so far */
    double highest; /* of all their wealth and what they do not have yet, so far */
} loami_bet;

void loami_bet_init(loami_bet *b);

typedef struct loami_trial {
    bool on_new, bad;
    double share;  /* the coin's probability of the new side; 1: nothing to compare with, centre is the rate */
    double centre; /* a guess of the rate of bad ones, made before; only the speed depends on it */
} loami_trial;

/* Bets against "at most `allowed` more of them are bad on the new side". */
void loami_bet_worse(loami_bet *b, const loami_trial *t, double allowed);

/* Bets against "at least `allowed` more of them are bad on the new side": wealth is proof that it is no worse. */
void loami_bet_no_worse(loami_bet *b, const loami_trial *t, double allowed);

/* The wealth now, of an initial 1. */
double loami_bet_wealth(const loami_bet *b);

#endif
