/* rollout/split.h: which side a conversation belongs to, and what is remembered of that.
 *
 * A side is drawn when a conversation opens, and kept. Draws are random, with a probability that leans against
 * what has gone wrong so far: over any 10,000 requests the share is met to a few of them, however many requests
 * a conversation has. */
#ifndef LOAMI_SPLIT_H
#define LOAMI_SPLIT_H

#include "base/err.h"

typedef enum loami_side { LOAMI_SIDE_NONE, LOAMI_SIDE_OLD, LOAMI_SIDE_NEW, LOAMI_SIDE_BOTH } loami_side;

/* Since the step began. */
typedef struct loami_split {
    uint64_t n[2];  /* requests; [1]: the new side's */
    uint64_t draws; /* conversations */
    double missing; /* draws that the new side should have got beyond those it got */
} loami_split;

/* The probability of the new side for the next draw, when `part` of the requests is wanted there. */
double loami_split_share(const loami_split *s, double part);

/* The draw was made with that share. */
void loami_split_drawn(loami_split *s, double part, loami_side side);

/* The side for a number 0 <= u < 1: below share is new. The same u moves to the new side when the share grows, and
 * never back. */
loami_side loami_split_draw(double share, double u);
void loami_split_count(loami_split *s, loami_side side);

/* ---- memory ---------------------------------------------------------------------------------------------- */

enum { LOAMI_SIDES_MAX = 1 << 20 }; /* conversations; beyond, those that were silent longest are forgotten */

/* A table from a conversation's hash to its side, with a file behind it: every change is written before the
 * request goes on, so a killed process knows it again. Single thread. */
typedef struct loami_sides loami_sides;

typedef struct loami_seat {
    loami_side side;
    uint8_t requests; /* so far, at most 255 */
    uint32_t used_s;  /* when last; unix time */
    float share;      /* the draw's probability of the new side; 0: nothing was drawn */
} loami_seat;

/* path NULL: no file. A file that ends in the middle of a record, or has others that were damaged, loses those. */
int loami_sides_open(loami_sides **out, const char *path, loam_err *err);
void loami_sides_close(loami_sides *s);

/* False when the key is unknown. */
bool loami_sides_get(const loami_sides *s, uint64_t key, loami_seat *out);
void loami_sides_put(loami_sides *s, uint64_t key, const loami_seat *seat);
uint32_t loami_sides_count(const loami_sides *s);

/* Conversations of that side that were used since then. */
uint32_t loami_sides_alive(const loami_sides *s, loami_side side, uint32_t since_s);

/* Forgets all. */
int loami_sides_clear(loami_sides *s, loam_err *err);

#endif
