/* What a run took: into the statistics of its model, and into the request's line of the access log. */
#include "api/errand.h"

#include "base/clock.h"

#include <string.h>

loami_counts loami_run_counts(const loami_run *run)
{
    loami_counts n = { 0 };
    uint32_t k = 0;            /* choices lie prompt by prompt */
    for (uint32_t i = 0; i < run->n_prompts; i++) {
        const loami_prompt *p = &run->prompts[i];
        uint64_t least = k < run->n_choices ? p->n : 0;
        for (; k < run->n_choices && run->choices[k].prompt == p; k++) {
            const loam_result *r = &run->choices[k].result;
            if (r->cached_tokens < least) least = r->cached_tokens;
            n.new += r->new_tokens;
        }
        n.prompt += p->n;
        n.cached += least;
    }
    return n;
}

void loami_run_account_token(loami_choice *c, const loam_token *t)
{
    loami_run *run = c->run;
    loami_stats *s = &run->hold.served->stats;
    if (c->answering) {
        loami_hist_add(&s->gap, loami_bounds_gap, t->gap_s);
        return;
    }
    c->answering = true;
    double ttft_s = loami_now_s() - run->arrived_s;
    loami_hist_add(&s->ttft, loami_bounds_ttft, ttft_s);
    if (run->ttft_s == 0) run->ttft_s = ttft_s;
}

static void account_choice(loami_stats *s, const loami_choice *c)
{
    const loam_result *r = &c->result;
    if (r->finish == LOAM_FINISH_NONE) return; /* its client left, and the engine has not told its times yet */
    loami_hist_add(&s->queue, loami_bounds_request, r->queue_s);
    if (!c->answering) return;
    loami_hist_add(&s->prefill, loami_bounds_request, r->prefill_s);
    loami_hist_add(&s->decode, loami_bounds_request, r->decode_s);
    loami_hist_add(&s->inference, loami_bounds_request, r->prefill_s + r->decode_s);
    loami_hist_add(&s->answer_tokens, loami_bounds_tokens, r->new_tokens);
    if (r->new_tokens > 1) loami_hist_add(&s->tpot, loami_bounds_gap, r->decode_s / (r->new_tokens - 1));
}

static void account_request(const loami_run *run, loami_ending ending)
{
    loami_stats *s = &run->hold.served->stats;
    s->ended[ending]++;
    s->timeouts += ending == LOAMI_ENDED_ERROR && run->fault.status == 408;
    for (uint32_t i = 0; i < run->n_prompts; i++)
        loami_hist_add(&s->prompt_tokens, loami_bounds_tokens, run->prompts[i].n);
    for (uint32_t i = 0; i < run->n_choices; i++) account_choice(s, &run->choices[i]);
    loami_hist_add(&s->n, loami_bounds_n, run->request->n);
    if (run->request->max_tokens)
        loami_hist_add(&s->max_tokens, loami_bounds_tokens, run->request->max_tokens);
    if (ending == LOAMI_ENDED_STOP || ending == LOAMI_ENDED_LENGTH)
        loami_hist_add(&s->e2e, loami_bounds_request, loami_now_s() - run->arrived_s);
}

static void note(const loami_run *run, const char *finish)
{
    loami_counts n = loami_run_counts(run);
    double queue_s = 0, prefill_s = 0, decode_s = 0;
    bool told = false;
    for (uint32_t i = 0; i < run->n_choices; i++) {
        const loam_result *r = &run->choices[i].result;
        told |= r->finish != LOAM_FINISH_NONE;
        if (r->queue_s > queue_s) queue_s = r->queue_s;
        if (r->prefill_s > prefill_s) prefill_s = r->prefill_s;
        if (r->decode_s > decode_s) decode_s = r->decode_s;
    }
    loami_reply_charge(run->reply, (double)(n.prompt + n.new));
    loami_reply_note_text(run->reply, "model", run->hold.served->config->names[0]);
    loami_reply_note(run->reply, "prompt_tokens", (double)n.prompt);
    loami_reply_note(run->reply, "cached_tokens", (double)n.cached);
    loami_reply_note(run->reply, "new_tokens", (double)n.new);
    if (told) {
        loami_reply_note(run->reply, "queue_s", queue_s);
        loami_reply_note(run->reply, "prefill_s", prefill_s);
        loami_reply_note(run->reply, "decode_s", decode_s);
    }
    if (run->ttft_s > 0) loami_reply_note(run->reply, "ttft_s", run->ttft_s);
    loami_reply_note_text(run->reply, "finish", finish);
}

static void log_texts(const loami_run *run)
{
    for (uint32_t i = 0; i < run->n_prompts; i++)
        if (run->prompts[i].text)
            loami_reply_log_text(run->reply, "prompt", run->prompts[i].text, strlen(run->prompts[i].text));
}

void loami_run_account(loami_run *run, loami_ending ending, const char *finish)
{
    if (!run->hold.served) return;
    if (run->fault.status == 429) run->hold.served->stats.refused++;
    bool refused = run->n_choices == 0 || (run->n_choices == 1 && !run->choices[0].stream && !run->choices[0].done);
    if (refused && !run->scoring) return;
    account_request(run, ending);
    note(run, finish);
    if (run->api->config.log_prompts) log_texts(run);
}

void loami_errand_account(const loami_errand *e, loami_ending ending, const char *finish)
{
    double total_s = loami_now_s() - loami_reply_start_s(e->reply);
    if (!e->hold.served) return;
    loami_stats *s = &e->hold.served->stats;
    s->refused += e->fault.status == 429;
    if (!e->job) return;
    loami_job_stats *jobs = (loami_job_stats *)((char *)s + e->kind->stats_at);
    jobs->ended[ending]++;
    s->timeouts += ending == LOAMI_ENDED_ERROR && e->fault.status == 408;
    if (ending == LOAMI_ENDED_STOP) loami_hist_add(&jobs->e2e, loami_bounds_request, total_s);
    loami_reply_charge(e->reply, e->tokens);
    loami_reply_note_text(e->reply, "model", e->hold.served->config->names[0]);
    loami_reply_note(e->reply, "prompt_tokens", e->tokens);
    if (e->outcome.finish != LOAM_FINISH_NONE) {
        loami_reply_note(e->reply, "queue_s", e->outcome.queue_s);
        loami_reply_note(e->reply, "prefill_s", e->outcome.run_s);
    }
    loami_reply_note_text(e->reply, "finish", finish);
}
