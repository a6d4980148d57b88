/* net/loop.h: the thread that owns every socket, and how other threads reach it.
 *
 * Everything in net/ runs on the loop's thread unless it says "any thread". Nothing there may block. Asleep
 * it costs nothing: there is no tick. */
#ifndef LOAMI_LOOP_H
#define LOAMI_LOOP_H

#include "base/err.h"

struct event;
struct event_base;

typedef struct loami_loop loami_loop;

int loami_loop_open(loami_loop **out, loam_err *err);
void loami_loop_close(loami_loop *l);

/* Runs until loami_loop_stop. */
void loami_loop_run(loami_loop *l);
void loami_loop_stop(loami_loop *l);

/* libevent's own handle, for the files of net/. */
struct event_base *loami_loop_base(loami_loop *l);

/* A call that other threads ask the loop for. The owner sets run and arg, zeroes the rest, and keeps it alive
 * until it ran or was taken back. */
typedef struct loami_post {
    void (*run)(void *arg);
    void *arg;
    struct loami_post *next; /* the loop's, as is queued */
    bool queued;
} loami_post;

/* run(arg) will be called on the loop's thread. Posting again before that changes nothing: any number of
 * tokens costs one call. Any thread. */
void loami_loop_post(loami_loop *l, loami_post *p);

/* Takes a post back: after this run is not called. Loop's thread, when nobody posts it any more. */
void loami_loop_unpost(loami_loop *l, loami_post *p);

/* A one-shot alarm. Zero-initialised is unarmed. */
typedef struct loami_timer {
    struct event *event;
} loami_timer;

/* run(arg) in that many seconds, replacing an earlier alarm; false when memory ran out. */
bool loami_timer_set(loami_loop *l, loami_timer *t, double seconds, void (*run)(void *arg), void *arg);
void loami_timer_clear(loami_timer *t);

/* run(arg) whenever the process gets that signal, until loami_timer_clear. */
bool loami_signal_watch(loami_loop *l, loami_timer *t, int number, void (*run)(void *arg), void *arg);

#endif
