/* engine/meter.h: what the engine counts and measures about itself, for loam_engine_stat.
 *
 * Rates are of the last minute of work: sums that fade with the time steps take, so that an idle hour changes nothing. */
#ifndef LOAMI_METER_H
#define LOAMI_METER_H

#include "loam.h"

typedef struct loami_meter {
    loam_phase phase;
    double phase_at, step_at;  /* when the phase and the last step began */
    double turn_at;            /* the last sign of life between steps; 0: the engine sleeps */
    double step_max_s;
    uint64_t steps, steps_ahead;
    uint64_t prompt_tokens, new_tokens, prefix_queries, prefix_hits, disk_hits, preemptions, timeouts, refused;
    uint64_t drafted, drafted_right;
    uint64_t prompt_tokens_read, tokens_run, step_tokens[LOAM_STEP_SIZES];
    uint64_t finished[LOAM_FINISHES];
    double busy_s, tokens, done; /* fading: seconds in steps, rows run in them, requests finished */
} loami_meter;

/* At the start of a turn: until a step begins, or the engine is idle, it is up to something that may hang, such as reading pages
 * from a disk. */
void loami_meter_turn(loami_meter *m, double now);

/* Before a step, n_prompt of whose rows are of prompts, and after it, n rows long. */
void loami_meter_begin(loami_meter *m, double now, uint32_t n_prompt);
void loami_meter_end(loami_meter *m, double now, uint32_t n);
void loami_meter_idle(loami_meter *m, double now);
void loami_meter_finish(loami_meter *m, loam_finish finish, int code);

/* Fills in what out says about time, counts and rates; out->waiting must be set. */
void loami_meter_read(const loami_meter *m, double now, loam_engine_state *out);

#endif
