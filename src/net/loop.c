#include "net/loop.h"

#include <event2/event.h>
#include <event2/thread.h>
#include <pthread.h>
#include <stdlib.h>

enum { POSTS_A_TURN = 256 }; /* then sockets get their turn */

struct loami_loop {
    struct event_base *base;
    struct event *wake;
    pthread_mutex_t lock; /* guards the queue */
    loami_post *first, **last;
};

static loami_post *pop(loami_loop *l)
{
    pthread_mutex_lock(&l->lock);
    loami_post *p = l->first;
    if (p) {
        l->first = p->next;
        if (!l->first) l->last = &l->first;
        p->queued = false;
    }
    pthread_mutex_unlock(&l->lock);
    return p;
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    loami_loop *l = arg;
    (void)fd, (void)what;
    for (int i = 0; i < POSTS_A_TURN; i++) {
        loami_post *p = pop(l);
        if (!p) return;
        p->run(p->arg);
    }
    event_active(l->wake, EV_READ, 0);
}

/* Sockets change what they wait for several times a turn: one system call for all of it. */
static struct event_base *new_base(void)
{
    struct event_config *config = event_config_new();
    if (!config) return NULL;
    event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

int loami_loop_open(loami_loop **out, loam_err *err)
{
    loami_loop *l = calloc(1, sizeof *l);
    if (!l) return loami_fail_nomem(err);
    pthread_mutex_init(&l->lock, NULL);
    l->last = &l->first;
    if (evthread_use_pthreads() == 0) l->base = new_base();
    if (l->base) l->wake = event_new(l->base, -1, EV_PERSIST, on_wake, l);
    if (!l->wake) {
        loami_loop_close(l);
        return loami_fail(err, LOAM_E_IO, "the event loop cannot start");
    }
    *out = l;
    return 0;
}

void loami_loop_close(loami_loop *l)
{
    if (!l) return;
    if (l->wake) event_free(l->wake);
    if (l->base) event_base_free(l->base);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

void loami_loop_run(loami_loop *l)
{
    event_base_loop(l->base, EVLOOP_NO_EXIT_ON_EMPTY);
}

void loami_loop_stop(loami_loop *l)
{
    event_base_loopbreak(l->base);
}

struct event_base *loami_loop_base(loami_loop *l)
{
    return l->base;
}

void loami_loop_post(loami_loop *l, loami_post *p)
{
    bool wake = false;
    pthread_mutex_lock(&l->lock);
    if (!p->queued) {
        p->queued = true;
        p->next = NULL;
        wake = !l->first;
        *l->last = p;
        l->last = &p->next;
    }
    pthread_mutex_unlock(&l->lock);
    if (wake) event_active(l->wake, EV_READ, 0);
}

void loami_loop_unpost(loami_loop *l, loami_post *p)
{
    pthread_mutex_lock(&l->lock);
    if (p->queued) {
        loami_post **at = &l->first;
        while (*at != p) at = &(*at)->next;
        *at = p->next;
        if (!*at) l->last = at;
        p->queued = false;
    }
    pthread_mutex_unlock(&l->lock);
}

/* libevent hands over the event's own argument only, so the timer carries its call in a small box behind it.
 */
struct alarm {
    void (*run)(void *arg);
    void *arg;
};

static void on_alarm(evutil_socket_t fd, short what, void *arg)
{
    struct alarm *a = arg;
    (void)fd, (void)what;
    a->run(a->arg);
}

bool loami_timer_set(loami_loop *l, loami_timer *t, double seconds, void (*run)(void *arg), void *arg)
{
    struct timeval tv = { (time_t)seconds, (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6) };
    if (!t->event) {
        struct alarm *a = malloc(sizeof *a);
        t->event = a ? evtimer_new(l->base, on_alarm, a) : NULL;
        if (!t->event) {
            free(a);
            return false;
        }
    }
    *(struct alarm *)event_get_callback_arg(t->event) = (struct alarm){ run, arg };
    return evtimer_add(t->event, &tv) == 0;
}

bool loami_signal_watch(loami_loop *l, loami_timer *t, int number, void (*run)(void *arg), void *arg)
{
    struct alarm *a = malloc(sizeof *a);
    if (!a) return false;
    *a = (struct alarm){ run, arg };
    t->event = evsignal_new(l->base, number, on_alarm, a);
    if (t->event && evsignal_add(t->event, NULL) == 0) return true;
    if (t->event) event_free(t->event);
    t->event = NULL;
    free(a);
    return false;
}

void loami_timer_clear(loami_timer *t)
{
    if (!t->event) return;
    struct alarm *a = event_get_callback_arg(t->event);
    event_free(t->event);
    free(a);
    t->event = NULL;
}
