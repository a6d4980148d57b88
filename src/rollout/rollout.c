#include "rollout/rollout.h"

#include <stdio.h>
#include <string.h>

const char *const loami_rollout_states[] = { "none", "warming", "running", "paused", "rolled_back", "done", NULL };

void loami_rollout_free(loami_rollout *r)
{
    json_decref(r->history);
    memset(r, 0, sizeof *r);
}

static double step_part(const loami_rollout *r, uint32_t step)
{
    return r->plan.steps[step] / 100;
}

double loami_rollout_part(const loami_rollout *r)
{
    loami_rollout_state s = r->state == LOAMI_R_PAUSED ? r->paused_in : r->state;
    switch (s) {
    case LOAMI_R_DONE: return 1;
    case LOAMI_R_RUNNING: return step_part(r, r->step);
    case LOAMI_R_WARMING: return r->step ? step_part(r, r->step - 1) : 0;
    default: return 0;
    }
}

bool loami_rollout_open(const loami_rollout *r)
{
    return r->state == LOAMI_R_WARMING || r->state == LOAMI_R_RUNNING || r->state == LOAMI_R_PAUSED;
}

/* ---- changes ------------------------------------------------------------------------------------- */

/* The event joins the history, and the change its reason. */
static int note(loami_rollout *r, int64_t now, const char *event, const char *by, const char *why,
                const char *figures, loam_err *err)
{
    json_t *e = json_pack("{sI ss si sf ss ss sI}", "at", (json_int_t)now, "event", event, "step", (int)r->step,
                          "per_cent", 100 * loami_rollout_part(r), "by", by, "why", why, "rollout",
                          (json_int_t)(r->id >> 12));
    json_t *f = NULL;
    if (figures && loami_json_parse(&f, figures, strlen(figures), "figures", NULL) == 0)
        json_object_set_new(e, "figures", f);
    if (!r->history) r->history = json_array();
    if (!e || json_array_append_new(r->history, e) < 0) return loami_fail_nomem(err);
    while (json_array_size(r->history) > LOAMI_HISTORY_MAX) json_array_remove(r->history, 0);
    snprintf(r->why, sizeof r->why, "%s", why);
    return 0;
}

static const char *about(const loami_rollout *r)
{
    static const char *const words[] = { "no rollout was ever started in this pool",
                                         "the rollout is warming its new side",
                                         "the rollout is running",
                                         "the rollout is paused",
                                         "the rollout was rolled back",
                                         "the rollout is done" };
    return words[r->state];
}

int loami_rollout_start(loami_rollout *r, const loami_plan *p, uint64_t id, int64_t now, loam_err *err)
{
    char why[400];
    if (loami_rollout_open(r))
        return loami_fail(err, LOAM_E_ARG, "%s; roll it back first, or let it end", about(r));
    r->plan = *p;
    r->state = LOAMI_R_WARMING;
    r->step = 0;
    r->id = id;
    r->started = r->step_started = now;
    snprintf(why, sizeof why, "from %s to %s", p->from.word[0], p->to.word[0]);
    return note(r, now, "start", "operator", why, NULL, err);
}

int loami_rollout_warmed(loami_rollout *r, int64_t now, loam_err *err)
{
    char why[100];
    loami_rollout_state *s = r->state == LOAMI_R_PAUSED ? &r->paused_in : &r->state;
    if (*s != LOAMI_R_WARMING) return loami_fail(err, LOAM_E_ARG, "%s", about(r));
    *s = LOAMI_R_RUNNING;
    r->step_started = now;
    snprintf(why, sizeof why, "step %u of %u: %g %%", r->step + 1, r->plan.n_steps, r->plan.steps[r->step]);
    return note(r, now, "step", "plan", why, NULL, err);
}

int loami_rollout_promote(loami_rollout *r, int64_t now, const char *by, const char *figures, loam_err *err)
{
    char why[100];
    if (r->state != LOAMI_R_RUNNING && r->state != LOAMI_R_PAUSED)
        return loami_fail(err, LOAM_E_ARG, "%s; only a running one can be promoted", about(r));
    if (r->state == LOAMI_R_PAUSED && r->paused_in == LOAMI_R_WARMING)
        return loami_fail(err, LOAM_E_ARG, "%s while its new side warms up; resume it first", about(r));
    r->step_started = now;
    if (r->step + 1 == r->plan.n_steps) {
        r->state = LOAMI_R_DONE;
        return note(r, now, "done", by, "the last step was passed", figures, err);
    }
    r->step++;
    r->state = LOAMI_R_WARMING;
    snprintf(why, sizeof why, "on to step %u of %u: %g %%", r->step + 1, r->plan.n_steps, r->plan.steps[r->step]);
    return note(r, now, "promote", by, why, figures, err);
}

int loami_rollout_pause(loami_rollout *r, int64_t now, loam_err *err)
{
    if (r->state != LOAMI_R_RUNNING && r->state != LOAMI_R_WARMING)
        return loami_fail(err, LOAM_E_ARG, "%s; only a running one can be paused", about(r));
    r->paused_in = r->state;
    r->state = LOAMI_R_PAUSED;
    return note(r, now, "pause", "operator", "the share stays as it is", NULL, err);
}

int loami_rollout_resume(loami_rollout *r, int64_t now, loam_err *err)
{
    if (r->state != LOAMI_R_PAUSED)
        return loami_fail(err, LOAM_E_ARG, "%s; only a paused one can be resumed", about(r));
    r->state = r->paused_in;
    return note(r, now, "resume", "operator", "the plan goes on", NULL, err);
}

int loami_rollout_back(loami_rollout *r, int64_t now, const char *by, const char *why, const char *figures,
                       loam_err *err)
{
    if (r->state == LOAMI_R_NONE || r->state == LOAMI_R_ROLLED_BACK)
        return loami_fail(err, LOAM_E_ARG, "%s", about(r));
    r->state = LOAMI_R_ROLLED_BACK;
    r->step_started = now;
    return note(r, now, "rollback", by, why, figures, err);
}

int loami_rollout_forget(loami_rollout *r, int64_t now, loam_err *err)
{
    if (r->state != LOAMI_R_ROLLED_BACK && r->state != LOAMI_R_DONE)
        return loami_fail(err, LOAM_E_ARG, "%s; only one that ended can be forgotten", about(r));
    r->state = LOAMI_R_NONE;
    r->step_started = now;
    return note(r, now, "forget", "operator", "the pool is as its configuration says", NULL, err);
}

/* ---- judging ------------------------------------------------------------------------------------- */

loami_advice loami_rollout_advise(const loami_rollout *r, const loami_judge *j, uint64_t requests, double open_s,
                                  char *why, size_t n)
{
    loami_metric which = 0;
    char words[300];
    loami_verdict v = loami_judge_verdict(j, &which);
    why[0] = 0;
    if (!loami_rollout_open(r)) return LOAMI_STAY;
    loami_judge_words(j, which, words, sizeof words);
    if (v == LOAMI_WORSE) {
        snprintf(why, n, "%s", words);
        return LOAMI_GO_BACK;
    }
    if (r->state == LOAMI_R_PAUSED) {
        snprintf(why, n, "paused");
    } else if (r->state == LOAMI_R_WARMING) {
        snprintf(why, n, "warming the new side");
    } else if (requests < r->plan.min_requests) {
        snprintf(why, n, "%llu of %u requests", (unsigned long long)requests, r->plan.min_requests);
    } else if (open_s < r->plan.min_time_s) {
        snprintf(why, n, "%.0f of %.0f seconds", open_s, r->plan.min_time_s);
    } else if (v == LOAMI_DOUBT) {
        snprintf(why, n, "in doubt about %s", words);
    } else if (j->gate.prove && !loami_judge_all_proven(j)) {
        snprintf(why, n, "not yet proven to be no worse");
    } else {
        return LOAMI_GO_ON;
    }
    return LOAMI_STAY;
}
