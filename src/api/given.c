/* What is known of a prompt's own tokens: their log-probabilities and ranks, each given those before. */
#include "api/endpoints.h"

#include <stdlib.h>

int loami_score_begin(loami_run *run, void (*on_ready)(void *arg), loami_fault *f)
{
    loam_err err;
    run->texts = calloc(run->n_prompts, sizeof *run->texts);
    if (!run->texts) return loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
    for (uint32_t i = 0; i < run->n_prompts; i++) run->texts[i] = (loam_tokens){ run->prompts[i].ids, run->prompts[i].n };
    loam_job_request request = {
        .kind = LOAM_JOB_SCORE,
        .texts = run->texts,
        .n_texts = run->n_prompts,
        .want_ranks = true,
        .n_top = run->request->n_prompt_logprobs,
        .priority = run->request->priority,
        .client = run->client,
        .timeout_ms = loami_deadline_ms(run->deadline_s),
        .on_ready = on_ready,
        .on_ready_arg = run,
    };
    if (loami_reply_answer_charge(run->reply, loami_job_bytes(&request, 0), f) < 0) return -1;
    if (loam_job_begin(run->hold.served->engine, &run->scoring, &request, NULL, &err) == 0) return 0;
    return err.code == LOAM_E_BUSY ? loami_fault_busy(f, run->hold.served, err.msg) : loami_fault_from(f, &err, run->shape->prompt_field);
}

void loami_score_take(loami_run *run, const loam_outcome *r)
{
    size_t place = 0;
    for (uint32_t i = 0; i < run->n_prompts; i++) {
        loami_prompt *p = &run->prompts[i];
        p->logprobs = r->floats + place;
        p->ranks = r->ranks + place;
        p->top = r->top ? r->top + place * run->request->n_prompt_logprobs : NULL;
        place += p->n - 1;
    }
}

static void put_entry(loami_buf *out, const loami_run *run, int32_t id, float logprob, uint32_t rank)
{
    loami_buf_printf(out, "\"%d\":{\"logprob\":%.6f,\"rank\":%u,\"decoded_token\":", (int)id, logprob, rank);
    loami_put_token_text(out, run->hold.served->text, id);
    loami_buf_putc(out, '}');
}

static void put_logprobs(loami_buf *out, const loami_run *run, const loami_prompt *p)
{
    uint32_t n_top = run->request->n_prompt_logprobs;
    loami_buf_puts(out, ",\"prompt_logprobs\":[null");
    for (uint32_t i = 1; i < p->n; i++) {
        const loam_logprob *top = n_top ? p->top + (size_t)(i - 1) * n_top : NULL;
        loami_buf_puts(out, ",{");
        put_entry(out, run, p->ids[i], p->logprobs[i - 1], p->ranks[i - 1]);
        for (uint32_t k = 0; k < n_top; k++) {
            if (top[k].id == p->ids[i]) continue;
            loami_buf_putc(out, ',');
            put_entry(out, run, top[k].id, top[k].logprob, k + 1);
        }
        loami_buf_putc(out, '}');
    }
    loami_buf_putc(out, ']');
}

void loami_put_given(loami_buf *out, const loami_run *run, const loami_prompt *p)
{
    if (run->request->return_token_ids) {
        loami_buf_puts(out, ",\"prompt_token_ids\":[");
        for (uint32_t i = 0; i < p->n; i++) loami_buf_printf(out, i ? ",%d" : "%d", (int)p->ids[i]);
        loami_buf_putc(out, ']');
    }
    if (run->request->show_prompt_logprobs) put_logprobs(out, run, p);
}
