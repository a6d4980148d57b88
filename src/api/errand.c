#include "api/errand.h"

#include <stdlib.h>

static void errand_free(loami_errand *e)
{
    LIST_REMOVE(e, next);
    loami_hold_drop(&e->hold);
    loami_buf_free(&e->out);
    free(e);
}

static void work(void *arg)
{
    loami_errand *e = arg;
    int rc = loami_hold_take(&e->hold, &e->api->models, e->reply, &e->fault);
    if (rc == 0) rc = e->work(e, e->hold.served, e->hold.body, &e->out, &e->fault);
    e->failed = rc < 0;
    if (e->failed || !e->out.failed) return;
    e->failed = true;
    loami_fault_set(&e->fault, 503, "out_of_memory", "", "Out of memory.");
}

static void on_gone(void *arg)
{
    loami_errand *e = arg;
    atomic_store(&e->gone, true);
}

static void fail(void *arg, const loami_fault *f)
{
    loami_errand *e = arg;
    loami_reply_fail(e->reply, f);
    errand_free(e);
}

static void done(void *arg)
{
    loami_errand *e = arg;
    if (e->tokens > 0) {
        loami_reply_charge(e->reply, e->tokens);
        loami_reply_note(e->reply, "prompt_tokens", e->tokens);
    }
    if (!e->failed && e->hold.wanted) {
        if (loami_hold_wait(&e->hold, e->workers, &e->task, fail, e, &e->fault) < 0) fail(e, &e->fault);
    } else if (e->failed) {
        fail(e, &e->fault);
    } else {
        loami_reply_send(e->reply, 200, "application/json", e->out.data, e->out.len);
        errand_free(e);
    }
}

void loami_errand_open(loami_api *a, loami_workers *workers, loami_reply *r, loami_errand_work *to_do)
{
    loami_fault f;
    loami_errand *e = NULL;
    if (loami_api_check_ready(a, &f) < 0) goto fail;
    e = calloc(1, sizeof *e);
    if (!e) {
        loami_fault_set(&f, 503, "out_of_memory", "", "Out of memory.");
        goto fail;
    }
    e->api = a;
    e->reply = r;
    e->work = to_do;
    e->workers = workers;
    e->task = (loami_task){ .work = work, .done = done, .arg = e };
    atomic_init(&e->gone, false);
    LIST_INSERT_HEAD(&a->errands, e, next);
    loami_reply_watch(r, on_gone, NULL, e);
    loami_api_watch(a);
    if (loami_workers_run(workers, &e->task)) return;
    loami_fault_set(&f, 429, "queue_full", "", "The server has too many requests waiting. Try again later.");
    errand_free(e);
fail:
    loami_reply_fail(r, &f);
}

void loami_errand_fail_waiting(loami_api *a, const loami_fault *f)
{
    loami_errand *next;
    for (loami_errand *e = LIST_FIRST(&a->errands); e; e = next) {
        next = LIST_NEXT(e, next);
        if (loami_hold_waits(&e->hold)) fail(e, f);
    }
}

void loami_errand_abandon_all(loami_api *a)
{
    while (!LIST_EMPTY(&a->errands)) {
        loami_errand *e = LIST_FIRST(&a->errands);
        loami_reply_end(e->reply);
        errand_free(e);
    }
}
