/* rollout/rollout.h: one pool's way from its old side to the new one: plan, state, history, and the file they
 * live in.
 *
 *     warming -> running -> (warming -> running)... -> done
 *                  |  paused                            |
 *                  +------------> rolled_back <---------+     (either is forgotten -> none)
 *
 * Every change is in the file, whole and synced, before anything acts on it. */
#ifndef LOAMI_ROLLOUT_H
#define LOAMI_ROLLOUT_H

#include "rollout/judge.h"

enum {
    LOAMI_STEPS_MAX = 32,
    LOAMI_WORDS_MAX = 64, /* backends or labels of one side */
    LOAMI_NAME_BYTES = 64,
    LOAMI_HISTORY_MAX = 500, /* events; the oldest are forgotten */
};

typedef enum loami_rollout_state {
    LOAMI_R_NONE, /* there never was one */
    LOAMI_R_WARMING,
    LOAMI_R_RUNNING,
    LOAMI_R_PAUSED,
    LOAMI_R_ROLLED_BACK,
    LOAMI_R_DONE,
    LOAMI_R_STATES
} loami_rollout_state;
extern const char *const loami_rollout_states[];

/* What stays on one side. */
typedef enum loami_sticky { LOAMI_STICKY_CONVERSATION, LOAMI_STICKY_SESSION, LOAMI_STICKY_KEY } loami_sticky;
extern const char *const loami_stickies[]; /* NULL at the end */

typedef struct loami_words {
    char word[LOAMI_WORDS_MAX][LOAMI_NAME_BYTES];
    uint32_t n;
} loami_words;

typedef struct loami_plan {
    char pool[LOAMI_NAME_BYTES];
    loami_words from, to;
    double steps[LOAMI_STEPS_MAX]; /* per cent, rising; the last is 100 */
    uint32_t n_steps;
    uint32_t min_requests; /* of the new side, in a step */
    double min_time_s;     /* of a step */
    loami_sticky sticky;
    double idle_s;         /* a session that was silent for so long may be drawn anew */
    bool warm;             /* replay prefixes before a side gets weight */
    double shadow;         /* share of the requests that is mirrored, 0 to 1 */
    uint32_t shadow_running;       /* at once */
    uint32_t shadow_tokens_minute; /* of the answers mirrored */
    loami_gate gate;
} loami_plan;

typedef struct loami_rollout {
    loami_plan plan;
    loami_rollout_state state;
    loami_rollout_state paused_in; /* what goes on after resume: warming or running */
    uint32_t step;                 /* index into plan.steps */
    uint64_t id;                   /* the draw of this rollout: another one draws otherwise */
    int64_t started, step_started; /* unix time */
    char why[400];                 /* of the last change */
    json_t *history;               /* array of events, oldest first; or NULL */
} loami_rollout;

void loami_rollout_free(loami_rollout *r); /* its history; it is zero after */

/* The plan from what an operator asked for: {"pool","from","to","steps":[..],"min_requests","min_time_s","gate":{},
 * "sticky","idle_s","warm","shadow","shadow_running","shadow_tokens_per_minute"}; absent ones by default. */
int loami_plan_read(loami_plan *p, const json_t *v, const char *what, loam_err *err);
void loami_plan_write(const loami_plan *p, loami_buf *out); /* members of an object, without its brackets */

/* The part of requests that goes to the new side: 0 to 1. */
double loami_rollout_part(const loami_rollout *r);
bool loami_rollout_open(const loami_rollout *r); /* warming, running or paused: it can still go both ways */

/* ---- changes: 0, or LOAM_E_ARG in words for the operator ------------------------------------------------- */

/* by: "operator", or "gate NAME". figures: JSON of what was known then, or NULL. */
int loami_rollout_start(loami_rollout *r, const loami_plan *p, uint64_t id, int64_t now, loam_err *err);
int loami_rollout_warmed(loami_rollout *r, int64_t now, loam_err *err);
int loami_rollout_promote(loami_rollout *r, int64_t now, const char *by, const char *figures, loam_err *err);
int loami_rollout_pause(loami_rollout *r, int64_t now, loam_err *err);
int loami_rollout_resume(loami_rollout *r, int64_t now, loam_err *err);
int loami_rollout_back(loami_rollout *r, int64_t now, const char *by, const char *why, const char *figures,
                       loam_err *err);

/* Of one that ended: the pool is as its configuration says again; the history stays. */
int loami_rollout_forget(loami_rollout *r, int64_t now, loam_err *err);

/* ---- judging --------------------------------------------------------------------------------------------- */

typedef enum loami_advice { LOAMI_STAY, LOAMI_GO_ON, LOAMI_GO_BACK } loami_advice;

/* What is to be done now, and why, in words. requests: of the new side in this step (mirrored ones in a step of 0 %);
 * open_s: how long the step has been running. */
loami_advice loami_rollout_advise(const loami_rollout *r, const loami_judge *j, uint64_t requests, double open_s,
                                  char *why, size_t n);

/* ---- the file -------------------------------------------------------------------------------------------- */

void loami_rollout_write(const loami_rollout *r, loami_buf *out);
int loami_rollout_parse(loami_rollout *r, const char *text, size_t n, const char *what, loam_err *err);

/* Written beside it, synced, renamed, the folder synced: it is there when this returns 0. */
int loami_rollout_save(const loami_rollout *r, const char *path, loam_err *err);

/* For what may be lost with the machine's power, but not with the process: whole or as before, not synced. */
void loami_rollout_checkpoint(const char *path, const void *bytes, size_t n);

/* No file: state LOAMI_R_NONE. */
int loami_rollout_load(loami_rollout *r, const char *path, loam_err *err);

#endif
