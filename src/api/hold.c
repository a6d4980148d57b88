#include "api/hold.h"

#include "base/clock.h"

int loami_hold_take(loami_hold *h, loami_models *m, loami_reply *r, loami_fault *f)
{
    if (!h->body && loami_body_parse(&h->body, r, f) < 0) return -1;
    if (h->served) return 0;
    loami_served *s = h->wanted;
    /* One that is no string is the table's to refuse. */
    if (!s) s = loami_models_find(m, json_string_value(json_object_get(h->body, "model")), NULL, f);
    if (!s) return -1;
    bool held = loami_served_take(s);
    h->served = held ? s : NULL;
    h->wanted = held ? NULL : s;
    return !held;
}

static void waited(void *arg, const loami_fault *f)
{
    loami_hold *h = arg;
    loami_fault busy;
    loami_timer_clear(&h->late);
    if (!f) {
        h->served = h->wanted;
        h->wanted = NULL;
        if (loami_workers_run(h->workers, h->task)) return;
        loami_fault_set(&busy, 429, "queue_full", "",
                        "The server has too many requests waiting. Try again later.");
        f = &busy;
    }
    h->failed(h->arg, f);
}

static void on_late(void *arg)
{
    loami_fault f;
    loami_hold *h = arg;
    loami_served_unwait(&h->wait);
    loami_fault_set(&f, 408, "timeout", "", "The time that the request has is over; its model is not loaded yet.");
    h->failed(h->arg, &f);
}

int loami_hold_wait(loami_hold *h, loami_workers *workers, loami_task *task, double deadline_s,
                    void (*failed)(void *arg, const loami_fault *f), void *arg, loami_fault *f)
{
    h->workers = workers;
    h->task = task;
    h->failed = failed;
    h->arg = arg;
    h->wait = (loami_wait){ .done = waited, .arg = h };
    if (loami_served_wait(h->wanted, &h->wait, f) < 0) return -1;
    double left_s = deadline_s - loami_now_s();
    if (deadline_s > 0) loami_timer_set(h->wanted->models->loop, &h->late, left_s > 0 ? left_s : 0, on_late, h);
    return 0;
}

bool loami_hold_waits(const loami_hold *h)
{
    return h->wait.on;
}

void loami_hold_drop(loami_hold *h)
{
    loami_served_unwait(&h->wait);
    loami_timer_clear(&h->late);
    if (h->served) loami_served_release(h->served);
    json_decref(h->body);
    *h = (loami_hold){ 0 };
}
