/* grammar/memo.h: a grammar's automaton at work. Where a text is in it is a set of stacks; sets that were met have a number,
 * and what a byte makes of them is remembered. So reading is a table look-up, and a mask a walk over a tree of tokens.
 *
 * What is remembered is bounded: loami_memo_clean forgets all but the states that are still in use. A set of more stacks than
 * LOAMI_MEMO_STACKS, or a stack deeper than LOAMI_MEMO_DEPTH, is cut: then less is allowed than the grammar says, and never
 * more, and what is begun can still be ended. One thread at a time. */
#ifndef LOAMI_MEMO_H
#define LOAMI_MEMO_H

#include "grammar/automaton.h"

enum {
    LOAMI_MEMO_STACKS = 512,         /* ways to read a text at once */
    LOAMI_MEMO_DEPTH = 512,          /* calls within calls: JSON parsers stop at about as many brackets */
    LOAMI_MEMO_BYTES = 8 << 20,      /* cleaned beyond */
    LOAMI_MEMO_MOST_BYTES = 32 << 20,/* within one mask; then the mask is cut */
};

#define LOAMI_STATE_NONE 0u
#define LOAMI_STATE_UNKNOWN UINT32_MAX /* not looked at yet */

/* The top of a stack and what is below. */
typedef struct loami_frame {
    uint32_t state, lo, hi;          /* of the automaton, and its counts */
    uint32_t below;                  /* frame; 0: nothing, the rule is the root */
    uint32_t depth;
} loami_frame;

typedef struct loami_stacks {
    uint32_t first, n;               /* of frames that read something, in memo.list */
    bool ends;                       /* the text may end here */
    bool leaves;                     /* the frame LOAMI_FRAME_OUTSIDE was reached: what follows depends on what is below */
    uint32_t *row;                   /* [256] states after a byte, or NULL */
} loami_stacks;

enum { LOAMI_FRAME_OUTSIDE = 1 };    /* stands for any stack */

typedef struct loami_memo {
    const loami_automaton *a;
    loami_frame *frames;             /* from 1 on */
    uint32_t n_frames, cap_frames, *frame_table, n_frame_table;
    loami_stacks *states;            /* from 1 on */
    uint32_t n_states, cap_states, *state_table, n_state_table;
    uint32_t *list;
    uint32_t n_list, cap_list;
    uint32_t n_rows;
    uint64_t work;                   /* done since open; only grows */
    bool failed;                     /* memory ran out: states of 0 may be wrong */
} loami_memo;

int loami_memo_open(loami_memo *m, const loami_automaton *a, loam_err *err);
void loami_memo_close(loami_memo *m);

/* Before the first byte. */
uint32_t loami_memo_start(loami_memo *m);
/* In this frame, with anything below. */
uint32_t loami_memo_local(loami_memo *m, uint32_t state, uint32_t lo, uint32_t hi);
/* After a byte; LOAMI_STATE_NONE: it is not allowed. */
uint32_t loami_memo_step(loami_memo *m, uint32_t state, uint8_t byte);
uint32_t loami_memo_step_token(loami_memo *m, uint32_t state, int32_t token);

size_t loami_memo_bytes(const loami_memo *m);
/* Forgets all but *roots[n], which get their new numbers. */
void loami_memo_clean(loami_memo *m, uint32_t *const *roots, uint32_t n);

#endif
