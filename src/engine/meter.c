#include "engine/meter.h"

#include <math.h>
#include <string.h>

static const double FADE_S = 60;       /* a minute: long enough to see requests end, short enough to follow the load */
static const double RETRY_MAX_S = 600;
static const double GUESS_TOKENS = 256; /* of a request, while none has finished yet */

static void enter(loami_meter *m, double now, loam_phase phase)
{
    if (m->phase != phase || m->phase_at == 0) m->phase_at = now;
    m->phase = phase;
}

void loami_meter_turn(loami_meter *m, double now)
{
    m->turn_at = now;
}

void loami_meter_begin(loami_meter *m, double now, uint32_t n_prompt)
{
    enter(m, now, n_prompt ? LOAM_PHASE_PREFILL : LOAM_PHASE_DECODE);
    m->step_at = m->turn_at = now;
}

/* Where a step of n tokens is counted. */
static uint32_t size_of(uint32_t n)
{
    uint32_t i = 0;
    for (uint32_t most = 1; n > most && i < LOAM_STEP_SIZES - 1; most = most == 1 ? 8 : 2 * most) i++;
    return i;
}

void loami_meter_end(loami_meter *m, double now, uint32_t n)
{
    double took = now - m->step_at, fade = exp(-took / FADE_S);
    if (took > m->step_max_s) m->step_max_s = took;
    m->busy_s = m->busy_s * fade + took;
    m->tokens = m->tokens * fade + n;
    m->done *= fade;
    m->turn_at = now;          /* a long step is not held against what comes after it */
    m->steps++;
    m->tokens_run += n;
    m->step_tokens[size_of(n)]++;
}

void loami_meter_idle(loami_meter *m, double now)
{
    enter(m, now, LOAM_PHASE_IDLE);
    m->turn_at = 0;
}

void loami_meter_finish(loami_meter *m, loam_finish finish, int code)
{
    m->finished[finish]++;
    if (code == LOAM_E_TIMEOUT) m->timeouts++;
    m->done++;
}

/* Half the queue will have been served by then: a place is free, and not only for the first who comes back. */
static double retry(const loami_meter *m, uint32_t waiting)
{
    double each = m->done > 0.5 ? m->busy_s / m->done : m->tokens > 0 ? GUESS_TOKENS * m->busy_s / m->tokens : 1;
    double s = ceil(0.5 * waiting * each);
    return s < 1 ? 1 : s > RETRY_MAX_S ? RETRY_MAX_S : s;
}

void loami_meter_read(const loami_meter *m, double now, loam_engine_state *out)
{
    out->phase = m->phase;
    out->phase_s = m->phase_at > 0 ? now - m->phase_at : 0;
    out->step_s = m->turn_at > 0 ? now - m->turn_at : 0; /* of a step, or of the turn that has not come to one */
    out->step_max_s = m->step_max_s;
    out->steps = m->steps;
    out->steps_ahead = m->steps_ahead;
    out->prompt_tokens = m->prompt_tokens;
    out->new_tokens = m->new_tokens;
    out->prompt_tokens_read = m->prompt_tokens_read;
    out->tokens_run = m->tokens_run;
    memcpy(out->step_tokens, m->step_tokens, sizeof out->step_tokens);
    out->prefix_queries = m->prefix_queries;
    out->prefix_hits = m->prefix_hits;
    out->disk_hits = m->disk_hits;
    out->preemptions = m->preemptions;
    out->speculated = m->drafted;
    out->speculated_right = m->drafted_right;
    memcpy(out->finished, m->finished, sizeof out->finished);
    out->timeouts = m->timeouts;
    out->refused = m->refused;
    out->tokens_per_s = m->busy_s > 0 ? m->tokens / m->busy_s : 0;
    out->retry_s = retry(m, out->waiting);
}
