#include "api/errand.h"

#include <stdlib.h>

static void errand_free(loami_errand *e)
{
    LIST_REMOVE(e, next);
    loam_job_close(e->job); /* first: what it reads is cleared next */
    loami_loop_unpost(e->api->loop, &e->ready);
    if (e->kind->clear) e->kind->clear(e->state);
    free(e->state);
    loami_hold_drop(&e->hold);
    loami_buf_free(&e->out);
    free(e);
}

/* ---- ends ----------------------------------------------------------------------------------------------- */

static void end_gone(loami_errand *e)
{
    loami_errand_account(e, LOAMI_ENDED_ABORT, "gone");
    loami_reply_end(e->reply);
    errand_free(e);
}

static void end_failed(loami_errand *e)
{
    loami_errand_account(e, LOAMI_ENDED_ERROR, "error");
    loami_reply_fail(e->reply, &e->fault);
    errand_free(e);
}

static void end_well(loami_errand *e)
{
    loami_errand_account(e, LOAMI_ENDED_STOP, "stop");
    loami_reply_send(e->reply, 200, "application/json", e->out.data, e->out.len);
    errand_free(e);
}

static void fail(void *arg, const loami_fault *f)
{
    loami_errand *e = arg;
    e->fault = *f;
    end_failed(e);
}

static void on_gone(void *arg)
{
    loami_errand *e = arg;
    atomic_store(&e->gone, true);
    if (e->live || loami_hold_waits(&e->hold)) end_gone(e); /* otherwise a worker still has it */
}

void loami_errand_cancel_all(loami_api *a, const loami_fault *f)
{
    loami_errand *next;
    for (loami_errand *e = LIST_FIRST(&a->errands); e; e = next) {
        next = LIST_NEXT(e, next);
        if (loami_hold_waits(&e->hold)) fail(e, f);
        else if (e->live) loam_job_cancel(e->job);
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

/* ---- the job -------------------------------------------------------------------------------------------- */

static int fail_text(const loami_errand *e, uint32_t text, const loam_err *err, loami_fault *f)
{
    char where[48];
    snprintf(where, sizeof where, e->n_texts > 1 ? "%s[%u]" : "%s", e->field, text);
    return loami_fault_from(f, err, where);
}

static void on_ready(void *arg) /* on the engine's thread */
{
    loami_errand *e = arg;
    loami_loop_post(e->api->loop, &e->ready);
}

int loami_errand_begin(loami_errand *e, const loami_served *m, loam_job_request *request, const char *field, loami_fault *f)
{
    loam_err err;
    uint32_t failed = 0;
    e->field = field;
    e->n_texts = request->n_texts;
    for (uint32_t i = 0; i < request->n_texts; i++) e->tokens += request->texts[i].n;
    request->client = loami_reply_client(e->reply);
    request->timeout_ms = loami_deadline_ms(e->deadline_s);
    request->on_ready = on_ready;
    request->on_ready_arg = e;
    json_decref(e->hold.body); /* all of it is read */
    e->hold.body = NULL;
    loami_reply_body_done(e->reply);
    if (loami_reply_answer_charge(e->reply, loami_job_bytes(request, m->info->embed_dims), f) < 0) return -1;
    if (loam_job_begin(m->engine, &e->job, request, &failed, &err) == 0) return 0;
    return err.code == LOAM_E_BUSY ? loami_fault_busy(f, m, err.msg) : fail_text(e, failed, &err, f);
}

static void answer(void *arg) /* on a worker */
{
    loami_errand *e = arg;
    if (!atomic_load(&e->gone)) e->kind->put(e, e->hold.served, &e->outcome, &e->out);
}

static void pump(void *arg)
{
    loami_errand *e = arg;
    if (!e->live || loam_job_poll(e->job, 0) < 0) return;
    loam_job_result(e->job, &e->outcome);
    e->live = false;
    if (e->outcome.finish == LOAM_FINISH_STOP) {
        e->task.work = answer;
        e->task.again = true;
        loami_workers_run(e->api->workers, &e->task);
        return;
    }
    loam_err err = loami_end_err(e->outcome.code, e->outcome.msg);
    fail_text(e, e->outcome.failed, &err, &e->fault);
    end_failed(e);
}

/* ---- on a worker and back ------------------------------------------------------------------------------- */

static void work(void *arg)
{
    loami_errand *e = arg;
    if (atomic_load(&e->gone)) return;
    int rc = loami_hold_take(&e->hold, &e->api->models, e->reply, &e->fault);
    if (rc >= 0) e->deadline_s = loami_deadline(e->api, e->hold.body, e->header_s, loami_reply_start_s(e->reply));
    if (rc == 0) rc = e->kind->work(e, e->hold.served, e->hold.body, &e->out, &e->fault);
    e->failed = rc < 0;
}

static void done(void *arg)
{
    loami_errand *e = arg;
    if (atomic_load(&e->gone)) {
        end_gone(e);
    } else if (!e->failed && e->hold.wanted) {
        if (loami_hold_wait(&e->hold, e->api->workers, &e->task, e->deadline_s, fail, e, &e->fault) < 0) end_failed(e);
    } else if (e->failed) {
        end_failed(e);
    } else if (e->out.failed) {
        loami_fault_set(&e->fault, 503, "out_of_memory", "", "Out of memory.");
        end_failed(e);
    } else if (e->job && e->outcome.finish == LOAM_FINISH_NONE) {
        e->live = true;
        if (e->api->ending) loam_job_cancel(e->job);
        pump(e);
    } else {
        end_well(e);
    }
}

void loami_errand_open(loami_api *a, loami_reply *r, const loami_errand_kind *kind)
{
    loami_fault f;
    double header_s;
    loami_errand *e = NULL;
    if (loami_api_check_ready(a, &f) < 0 || loami_header_timeout(r, &header_s, &f) < 0) goto fail;
    e = calloc(1, sizeof *e);
    if (e) e->state = calloc(1, kind->state_size + 1);
    if (!e || !e->state) {
        free(e);
        loami_fault_set(&f, 503, "out_of_memory", "", "Out of memory.");
        goto fail;
    }
    e->api = a;
    e->reply = r;
    e->kind = kind;
    e->header_s = header_s;
    e->task = (loami_task){ .work = work, .done = done, .arg = e };
    e->ready = (loami_post){ .run = pump, .arg = e };
    atomic_init(&e->gone, false);
    LIST_INSERT_HEAD(&a->errands, e, next);
    loami_reply_watch(r, on_gone, NULL, e);
    loami_api_watch(a);
    if (loami_workers_run(a->workers, &e->task)) return;
    loami_fault_busy(&f, NULL, "The server has too many requests waiting. Try again later.");
    errand_free(e);
fail:
    loami_reply_fail(r, &f);
}
