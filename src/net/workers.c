#include "net/workers.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum {
    STACK_BYTES = 8 << 20
}; /* for JSON nested as deeply as jansson takes it; macOS gives 512 KiB by itself */

struct loami_workers {
    loami_loop *loop;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t some;
    loami_task *first, **last;
    uint32_t n_queued, max_queued;
    bool closing;
    uint32_t n_threads;
    pthread_t thread[];
};

static void *work(void *arg)
{
    loami_workers *w = arg;
    pthread_mutex_lock(&w->lock);
    while (!w->closing) {
        loami_task *task = w->first;
        if (!task) {
            pthread_cond_wait(&w->some, &w->lock);
            continue;
        }
        w->first = task->next;
        if (!w->first) w->last = &w->first;
        w->n_queued--;
        pthread_mutex_unlock(&w->lock);
        task->work(task->arg);
        loami_loop_post(w->loop, &task->back);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

int loami_workers_open(loami_workers **out, loami_loop *loop, uint32_t n, uint32_t max_queued, loam_err *err)
{
    loami_workers *w = calloc(1, sizeof *w + n * sizeof w->thread[0]);
    if (!w) return loami_fail_nomem(err);
    w->loop = loop;
    w->last = &w->first;
    w->max_queued = max_queued;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->some, NULL);

    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigset_t all, before; /* signals are the loop's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (w->n_threads < n && pthread_create(&w->thread[w->n_threads], &attr, work, w) == 0) w->n_threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (w->n_threads == 0) {
        loami_workers_close(w);
        return loami_fail(err, LOAM_E_IO, "cannot start a thread");
    }
    *out = w;
    return 0;
}

void loami_workers_close(loami_workers *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    pthread_cond_broadcast(&w->some);
    pthread_mutex_unlock(&w->lock);
    for (uint32_t i = 0; i < w->n_threads; i++) pthread_join(w->thread[i], NULL);
    pthread_cond_destroy(&w->some);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

bool loami_workers_run(loami_workers *w, loami_task *task)
{
    bool room;
    task->back = (loami_post){ .run = task->done, .arg = task->arg };
    task->next = NULL;
    pthread_mutex_lock(&w->lock);
    room = task->again || w->n_queued < w->max_queued;
    if (room) {
        *w->last = task;
        w->last = &task->next;
        w->n_queued++;
        pthread_cond_signal(&w->some);
    }
    pthread_mutex_unlock(&w->lock);
    return room;
}
