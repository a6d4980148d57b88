#include "engine/engine.h"
#include "base/clock.h"

void loami_sched_admit(loam_engine *e)
{
    double now = loami_now_s();
    bool blocked = false;
    for (loam_stream **at = &e->waiting; *at;) {
        loam_stream *s = *at;
        bool cancelled = atomic_load(&s->cancelled);
        bool fits = !cancelled && !blocked && e->n_running < e->max_running &&
                    loami_pages_take(e->pages, &s->holding, s->tokens, s->n_tokens);
        if (!cancelled && !fits) {
            blocked = true; /* first come, first served: a small one does not overtake. Cancelled ones still go */
            at = &s->next;
            continue;
        }
        if (!(*at = s->next)) e->waiting_end = at;
        e->n_waiting--;
        if (cancelled) {
            loami_stream_finish(s, LOAM_FINISH_CANCELLED, LOAM_E_CANCELLED, "cancelled");
            continue;
        }
        s->admitted_s = now;
        s->n_past = s->n_cached = s->holding.n_shared * e->sub_info.page_tokens;
        e->running[e->n_running++] = s;
    }
}

static bool decodes(const loam_stream *s)
{
    return s->n_past + 1 == s->n_tokens && s->n_past > 0;
}

/* Adds the next n rows of s to the batch. */
static void take_rows(loam_engine *e, loam_batch *b, loam_stream *s, uint32_t n)
{
    uint32_t first = b->n_rows;
    for (uint32_t i = 0; i < n; i++) {
        e->row_tokens[first + i] = s->tokens[s->n_past + i];
        bool last = s->n_past + i + 1 == s->n_tokens;
        bool every = s->job == LOAMI_JOB_SCORE || (s->job == LOAMI_JOB_EMBED && !s->out.last_only);
        if (last || every) e->row_wanted[b->n_wanted++] = first + i;
    }
    s->n_rows = n;
    e->row_seqs[b->n_seqs] = (loam_seq_rows){ first, n, s->n_past, s->holding.pages };
    e->step_seqs[b->n_seqs++] = s;
    b->n_rows += n;
}

/* The rows of those whose step gives what e->model->hidden says. */
static loam_batch plan(loam_engine *e)
{
    loam_batch b = { .tokens = e->row_tokens, .seqs = e->row_seqs, .wanted = e->row_wanted };
    bool hidden = e->model->hidden, beside = false;
    for (uint32_t i = 0; i < e->n_running; i++) {
        loam_stream *s = e->running[i];
        s->n_rows = 0;
        if (s->job != LOAMI_JOB_GENERATE || !decodes(s) || loami_stream_full(s)) continue;
        beside = true;
        if (!hidden) take_rows(e, &b, s, 1);
    }
    uint32_t room = beside ? ROWS_BESIDE_DECODE : ROWS_MAX;
    for (uint32_t i = 0; i < e->n_running && room > 0; i++) {
        loam_stream *s = e->running[i];
        if ((s->job == LOAMI_JOB_EMBED) != hidden || (s->job == LOAMI_JOB_GENERATE && decodes(s))) continue;
        uint32_t n = s->n_tokens - s->n_past;
        if (s->job == LOAMI_JOB_SCORE && n > ROWS_SCORED) n = ROWS_SCORED;
        if (n > room) n = room;
        take_rows(e, &b, s, n);
        room -= n;
    }
    return b;
}

loam_batch loami_sched_plan(loam_engine *e)
{
    e->model->hidden = !e->model->hidden;
    loam_batch b = plan(e);
    if (b.n_rows) return b;
    e->model->hidden = !e->model->hidden;
    return plan(e);
}
