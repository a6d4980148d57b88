/* What is known of a prompt's own tokens: their log-probabilities and ranks, each given those before. */
#include "api/endpoints.h"

#include <stdlib.h>

static int score(loami_run *run, loami_prompt *p, loami_fault *f)
{
    uint32_t n_top = run->request->n_prompt_logprobs;
    loam_err err;
    if (p->n < 2) return 0;
    size_t n = p->n - 1;
    p->logprobs = malloc(n * sizeof *p->logprobs);
    p->ranks = malloc(n * sizeof *p->ranks);
    p->top = calloc(n * n_top + 1, sizeof *p->top);
    if (!p->logprobs || !p->ranks || !p->top) return loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
    if (loam_score_top(run->hold.served->engine, p->ids, p->n, n_top, p->logprobs, p->ranks, p->top, &err) < 0)
        return loami_fault_from(f, &err, run->shape->prompt_field);
    return 0;
}

int loami_score_prompts(loami_run *run, loami_fault *f)
{
    for (uint32_t i = 0; i < run->n_prompts; i++) {
        if (atomic_load(&run->gone)) return loami_fault_set(f, 503, "cancelled", "", "The client left.");
        if (score(run, &run->prompts[i], f) < 0) return -1;
    }
    return 0;
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
        const loam_logprob *top = p->top + (size_t)(i - 1) * n_top;
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
