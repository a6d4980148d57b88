/* engine/sched.h: who runs, and what the next step is made of.
 *
 * Admission: by priority; then those who were sent back; then by what their client has had (shares.h); then first come,
 * first served. The first in this order starts when pages for its longest answer are there (with `overcommit`: for
 * its prompt), and nobody overtakes it meanwhile. After seven starts that passed over somebody less urgent who had come
 * before, the eighth is theirs, who then counts as urgent as those: priority has a floor, and nobody waits for ever.
 *
 * A sequence whose reader lags by its whole ring gives its place and pages up to those who wait, and comes back when half
 * the ring is free; if nobody waits, it stays.
 *
 * A step: a row of every sequence that decodes, then pieces of prompts, as many rows as fit into the time that a step may
 * take (pace.h). Among prompts of one priority, and in every eighth step among all, each is due when as many prompt tokens
 * have been run as were run when it came plus its own: a short one passes a long one, and none waits for ever. A client's
 * prompts are due one after another.
 *
 * Prompts that begin like one that is being run now wait for it and share its pages; the same prompt once more shares
 * everything, and copies the last page when it goes its own way (n > 1). */
#ifndef LOAMI_SCHED_H
#define LOAMI_SCHED_H

#include "engine/engine.h"

/* Under the engine's lock: lets go those who waited in vain, starts others. */
void loami_sched_admit(loam_engine *e, double now);

/* The rows of the next step. */
loam_batch loami_sched_plan(loam_engine *e);

/* Pages for the first n_tokens of s. False: there are none left that could be taken without harm to others. */
bool loami_sched_reach(loam_engine *e, loam_stream *s, uint32_t n_tokens);

/* s has run rows: its full pages are there for others, and those that no layer looks back at are given up. */
void loami_sched_passed(loam_engine *e, loam_stream *s);

/* Of n_tokens, those whose pages may be shared: where all layers have a window, later ones are given up too soon. */
uint32_t loami_sched_shared(const loam_engine *e, uint32_t n_tokens);

/* Takes s out of running: it ends, or goes back to waiting. Nobody follows it any more. */
void loami_sched_leave(loam_engine *e, loam_stream *s);

/* After s has run its prompt, before its token is chosen: those with the same prompt stand where it stands, too. Calls
 * fn for each. */
void loami_sched_twins(loam_engine *e, loam_stream *s, bool (*fn)(loam_engine *e, loam_stream *twin, const float *row), const float *row);

#endif
