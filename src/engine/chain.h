/* engine/chain.h: decoding without a pause between steps, on substrates that choose tokens themselves (loam_substrate's
 * pick, launch, collect).
 *
 * Otherwise a device waits after each step until its logits have been read, a token chosen, and the next step prepared. Here
 * the next step is begun while this one runs, as long as the same sequences go on: until one ends, somebody kicks, a
 * reader lags behind, or pages would have to be taken from somebody. A step that was begun too much is left unread.
 * Guessing ahead (draft.h) needs to see each token, so with it there are no chains. */
#ifndef LOAMI_CHAIN_H
#define LOAMI_CHAIN_H

#include "engine/engine.h"

/* Whether b is a step of a chain: all who run decode, one row each, and what they want of a token a substrate can do. */
bool loami_chain_fits(const loam_engine *e, const loam_batch *b);

/* Runs b and the steps after it. As after a single step, all who ended are gone from running. */
void loami_chain_run(loam_engine *e, const loam_batch *b);

#endif
