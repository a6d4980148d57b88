/* gateway/shift.h: a rollout at work: which side a request goes to, what its outcome tells, and what is replayed
 * and mirrored beside it. The plan, the split and the judge are in rollout/; docs/rollout.md tells all of it. */
#ifndef LOAMI_SHIFT_H
#define LOAMI_SHIFT_H

#include "gateway/gw.h"
#include "rollout/rollout.h"
#include "rollout/split.h"

enum {
    LOAMI_RECENT = 32,                 /* prefixes kept for warming */
    LOAMI_RECENT_BYTES = 128 << 10,    /* of one request */
    LOAMI_SHADOWS_KEPT = 512,          /* results, for the report */
    LOAMI_SHADOW_BYTES = 256 << 10,    /* of one request, and of one answer */
};

/* A request that can be sent again. */
typedef struct loami_recent {
    uint64_t prefix;
    const loami_gw_endpoint *endpoint;
    char *model; /* or NULL */
    char *body;  /* [n_body] */
    size_t n_body;
} loami_recent;

typedef struct loami_shadow_result {
    float logprob;         /* of the old side's text under the new model, a token; 1 = not known */
    float length_ratio;    /* the new side's text by the old one's */
    float common;          /* part of the old side's text that the new one's begins with */
    bool greedy, same;     /* temperature 0; the same text */
    bool checked, valid[2]; /* JSON was asked for; whose is valid: [1] the new side's */
} loami_shadow_result;

typedef struct loami_shadows {
    uint64_t sent, failed, over_budget, scored;
    uint64_t greedy, same, checked, valid[2];
    double logprob, length_ratio, common; /* sums */
    uint64_t n_length;
    loami_shadow_result kept[LOAMI_SHADOWS_KEPT];
    uint32_t n_kept, at;
} loami_shadows;

typedef struct loami_replay loami_replay;       /* one request being replayed */
typedef struct loami_shadow_job loami_shadow_job; /* one request being mirrored */

struct loami_shift {
    loami_gateway *gw;
    const char *pool; /* interned */
    char *path;       /* of its file; NULL: it lives in memory alone */
    loami_rollout r;
    loami_judge judge;
    loami_split split;
    loami_sides *sides;
    uint64_t served[2];      /* in this step, by side: [1] the new one */
    uint64_t failures[2];
    double open_s, looked_s; /* how long the step has been running; when that was brought up to date */
    bool unsaved;            /* the state could not be written */
    bool dirty;              /* the counts changed since they were written */
    bool retired;            /* a successor owns the files */
    int64_t file_ns;         /* when retired: of the state that was read last */
    uint32_t version;        /* counts what changes the sides of members */
    double written_s;
    char advice[512];
    loami_timer timer;

    loami_recent recent[LOAMI_RECENT];
    uint32_t n_recent, recent_at;
    struct loami_warming {
        LIST_HEAD(, loami_replay) running;
        uint32_t n_running, next, sent, failed; /* next: of recent, times the side's backends */
        loami_side side;
        double until_s;
        bool on;
    } warming;
    double warmed_s; /* the old side, while it has no weight */

    loami_shadows shadows;
    LIST_HEAD(, loami_shadow_job) mirrored;
    uint32_t n_mirrored;
    double shadow_tokens, shadow_s; /* left in the budget; when that was computed */
    LIST_ENTRY(loami_shift) next;
};

/* ---- shift.c ----------------------------------------------------------------------------------------------- */

/* The one of that pool, made and read from its file when it is new. NULL with err filled. */
loami_shift *loami_shift_of(loami_gateway *gw, const loami_gw_config *c, const char *pool, loam_err *err);
void loami_shift_free(loami_shift *s);
void loami_shift_retire(loami_gateway *gw);

/* Which side its members are on, after a change of the configuration or the plan. */
void loami_shift_members(loami_pool *p);

/* After a successor took over: what it does with the rollout holds here too. */
void loami_shift_follow(loami_shift *s);

/* The pool of that shift in the newest configuration, or NULL. */
loami_pool *loami_shift_pool(const loami_shift *s);

/* An operator's wish, or a gate's: 0, or words. hard: in-flight answers move too; *moved and *left count them. */
int loami_shift_start(loami_shift *s, const loami_plan *plan, loam_err *err);
int loami_shift_promote(loami_shift *s, loam_err *err);
int loami_shift_pause(loami_shift *s, bool on, loam_err *err);
int loami_shift_forget(loami_shift *s, loam_err *err);
int loami_shift_back(loami_shift *s, const char *by, const char *why, loam_err *err);
void loami_shift_evict(loami_shift *s, uint32_t *moved, uint32_t *left);

/* Looks at the verdict now and does what it says. */
void loami_shift_look(loami_shift *s);

/* What is known, as JSON: for the admin page and for the history. */
void loami_shift_figures(const loami_shift *s, loami_buf *out);

/* ---- shift_side.c: which side ------------------------------------------------------------------------------ */

void loami_shift_enter(loami_exchange *x);
loami_side loami_shift_side(loami_pool *p, const loami_exchange *x);
bool loami_shift_spills(const loami_pool *p, loami_side from);
void loami_shift_remember(loami_exchange *x); /* its answer is complete: the conversation may go on */

/* ---- shift_outcome.c --------------------------------------------------------------------------------------- */

void loami_shift_leave(loami_exchange *x, int status);
void loami_shift_keep_whole(loami_exchange *x, loami_span object); /* of an answer that came whole */

/* ---- shift_warm.c ------------------------------------------------------------------------------------------ */

void loami_shift_note_recent(loami_exchange *x);
void loami_shift_warm(loami_shift *s, loami_side side);
void loami_shift_warm_stop(loami_shift *s);
void loami_shift_recent_free(loami_shift *s);

/* ---- shift_shadow.c ---------------------------------------------------------------------------------------- */

void loami_shift_mirror(loami_exchange *x);
void loami_shift_mirror_stop(loami_shift *s);
void loami_shadows_write(const loami_shadows *h, loami_buf *out);
void loami_shadows_read(loami_shadows *h, const json_t *v);

/* A request of ours to a backend: body as it is. */
loami_call *loami_shift_call(loami_shift *s, const loami_backend *b, const char *path, const loami_buf *body,
                             double total_s, bool (*data)(void *arg, const char *bytes, size_t n),
                             void (*done)(void *arg, loami_call_fate fate, int status, const char *msg), void *arg);

/* A client's body for a request of ours: not streamed, the backend's word for the model, and at most that many tokens
 * (0: as it says). */
void loami_shift_retell(loami_buf *out, const char *body, size_t n, const loami_backend *b, const char *model,
                        uint32_t max_tokens);

/* ---- shift_admin.c ----------------------------------------------------------------------------------------- */

void loami_admin_rollout(loami_reply *r, void *gw);
void loami_admin_rollout_order(loami_reply *r, void *gw);
void loami_shift_write(const loami_shift *s, loami_buf *out, bool full);

#endif
