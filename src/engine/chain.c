#include "engine/chain.h"
#include "engine/sched.h"
#include "base/clock.h"

enum { STEPS_MAX = 128 };      /* then others get a turn, whatever they may have missed: a pause in so many is no loss */

/* With so many tokens of s's answer there already, a substrate can choose the next. */
static bool plain(const loam_engine *e, const loam_stream *s, uint32_t n_new)
{
    const loam_request *r = &s->request;
    return s->job == LOAMI_JOB_GENERATE && n_new > 0 && (n_new >= r->min_new || !e->text) && !r->want_logprobs && !r->n_logprobs &&
           loami_sampler_plain(&s->sampler);
}

bool loami_chain_fits(const loam_engine *e, const loam_batch *b)
{
    if (!e->machine.api->pick || b->n_rows == 0 || e->model->hidden || e->loading || e->options.speculate_tokens) return false;
    if (b->n_rows != b->n_seqs || e->work.n_prompt || b->n_seqs != e->n_running) return false;
    for (uint32_t i = 0; i < b->n_seqs; i++)
        if (!plain(e, e->step_seqs[i], e->step_seqs[i]->n_tokens - e->step_seqs[i]->n_prompt)) return false;
    return true;
}

/* Begins a step, `ahead` of those whose tokens are known. False if it can't: everybody is told. */
static bool launch(loam_engine *e, const loam_batch *b, uint32_t ahead)
{
    const loam_substrate *api = e->machine.api;
    loam_err err;
    for (uint32_t i = 0; i < b->n_seqs; i++) e->picks[i] = loami_sampler_pick(&e->step_seqs[i]->sampler, ahead);
    api->begin(e->machine.sub, b);
    api->pick(e->machine.sub, e->model->family->forward(e->model), e->picks);
    if (api->launch(e->machine.sub, &err) == 0) return true;
    loami_engine_lose(e, b->n_seqs, &err);
    return false;
}

/* Whether s can take a token beyond the one under way, and has room for its row. */
static bool goes_on(loam_engine *e, loam_stream *s, double now)
{
    uint32_t n_new = s->n_tokens - s->n_prompt + 1;
    if (atomic_load(&s->cancelled) || loami_stream_late(s, now)) return false;
    return n_new < s->request.max_new && loami_stream_room(s) > 1 && loami_sched_reach(e, s, s->n_past + 2);
}

static bool all_go_on(loam_engine *e, uint32_t n_seqs)
{
    double now = e->meter.step_at;
    for (uint32_t i = 0; i < n_seqs; i++)
        if (!goes_on(e, e->step_seqs[i], now)) return false;
    return true;
}

/* Takes the tokens of the first step under way, for those who are still there. Who ends is struck out of step_seqs; false if somebody did. */
static bool collect(loam_engine *e, const loam_batch *b)
{
    bool all = true;
    loam_err err;
    if (e->machine.api->collect(e->machine.sub, e->picked, &err) < 0) {
        loami_engine_lose(e, b->n_seqs, &err);
        return false;
    }
    for (uint32_t i = 0; i < b->n_seqs; i++) {
        loam_stream *s = e->step_seqs[i];
        loami_ring_item item = { .id = e->picked[i] };
        if (!s) continue;
        loami_sampler_drew(&s->sampler);
        loami_engine_ran(e, s, 1);
        if (loami_engine_emit(e, s, &item, NULL)) continue;
        e->step_seqs[i] = NULL;
        all = false;
    }
    for (uint32_t i = 0; i < e->n_running; i++) loami_stream_tell(e->running[i]);
    return all;
}

void loami_chain_run(loam_engine *e, const loam_batch *b)
{
    loam_batch next = *b;
    next.tokens = NULL;
    if (launch(e, b, 0)) {
        for (uint32_t n = 1; n < STEPS_MAX && loami_engine_glance(e) && all_go_on(e, b->n_seqs); n++) {
            for (uint32_t i = 0; i < b->n_seqs; i++) e->row_seqs[i].n_past++;
            if (!launch(e, &next, 1)) break;
            e->meter.steps_ahead++;
            bool all = collect(e, b);
            loami_engine_took(e);
            loami_meter_begin(&e->meter, loami_now_s(), 0);
            if (!all) break;
        }
        collect(e, b);
    }
    loami_meter_end(&e->meter, loami_now_s(), b->n_rows);
}
