/* A rollout's state, and the judge's memory beside it. */
#include "rollout/rollout.h"

#include <stdlib.h>

static void judge(const char *text, size_t size)
{
    loami_gate gate;
    loami_judge j;
    json_t *v = NULL;
    loami_buf b = { 0 };
    loam_err err;
    if (loami_json_parse(&v, text, size, "judge", &err) < 0) return;
    loami_gate_default(&gate);
    loami_judge_init(&j, &gate);
    if (loami_judge_read(&j, v, "judge", &err) == 0) {
        loami_outcome o = { .share = 0.5, .on_new = true, .ttft_s = 1, .whole = true, .finish = LOAMI_END_STOP };
        for (int i = 0; i < 300; i++) {
            o.on_new = i % 2;
            loami_judge_add(&j, &o);
        }
        loami_judge_verdict(&j, NULL);
        loami_judge_write(&j, &b);
        loami_buf_free(&b);
    }
    json_decref(v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    loami_rollout r, again;
    loami_buf b = { 0 };
    loam_err err;
    judge((const char *)data, size);
    if (loami_rollout_parse(&r, (const char *)data, size, "state", &err) < 0) return 0;
    double part = loami_rollout_part(&r);
    if (!(part >= 0 && part <= 1)) abort();
    loami_rollout_write(&r, &b);
    if (b.failed || loami_rollout_parse(&again, b.data, b.len, "again", &err) < 0) abort();
    if (again.state != r.state || again.step != r.step || again.id != r.id || loami_rollout_part(&again) != part) abort();
    loami_rollout_free(&again);
    if (loami_rollout_open(&r)) loami_rollout_back(&r, 5, "fuzz", "why", NULL, &err);
    loami_rollout_free(&r);
    loami_buf_free(&b);
    return 0;
}
