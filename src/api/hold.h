/* api/hold.h: how a request comes to the model it names: its body is parsed on a worker, and if the model is
 * not loaded, it waits on the loop and goes to a worker again. */
#ifndef LOAMI_HOLD_H
#define LOAMI_HOLD_H

#include "api/fields.h"
#include "api/served.h"

typedef struct loami_hold {
    loami_served *served; /* held */
    loami_served *wanted; /* to be waited for; NULL once held */
    json_t *body;         /* parsed */
    loami_wait wait;
    loami_timer late;
    loami_workers *workers;
    loami_task *task; /* to run again when the model is there */
    void (*failed)(void *arg, const loami_fault *f);
    void *arg;
} loami_hold;

/* On a worker: parses the reply's body, unless it is, and takes a hold on its model. 0: held; 1: to be waited
 * for, with loami_hold_wait on the loop; -1 with f filled. */
int loami_hold_take(loami_hold *h, loami_models *m, loami_reply *r, loami_fault *f);

/* On the loop: runs task on workers again when the model is there, and calls failed if that will not be, or not
 * before deadline_s (0 = none). -1 with f filled: at once, and failed is not called. */
int loami_hold_wait(loami_hold *h, loami_workers *workers, loami_task *task, double deadline_s,
                    void (*failed)(void *arg, const loami_fault *f), void *arg, loami_fault *f);

/* It waits on the loop now. */
bool loami_hold_waits(const loami_hold *h);

/* Lets go of everything. Loop's thread. */
void loami_hold_drop(loami_hold *h);

#endif
