/* tests/unit/gate.h: holding the engine of ask.h. */
#ifndef TESTS_GATE_H
#define TESTS_GATE_H

#include "ask.h"

#include <pthread.h>

/* A request whose on_ready does what no real one may: it keeps the engine thread until the test lets go. So everything
 * submitted meanwhile is there at once. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool held, open;
    loam_stream *s;
} gate;

static inline void at_gate(void *arg)
{
    gate *g = arg;
    pthread_mutex_lock(&g->lock);
    g->held = true;
    pthread_cond_broadcast(&g->change);
    while (!g->open) pthread_cond_wait(&g->change, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static inline void gate_make(gate *g)
{
    *g = (gate){ .held = false };
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->change, NULL);
}

/* Until some on_ready is at the gate. */
static inline void gate_wait(gate *g)
{
    pthread_mutex_lock(&g->lock);
    while (!g->held) pthread_cond_wait(&g->change, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static inline void gate_close(gate *g, loam_engine *e)
{
    gate_make(g);
    g->s = submit(e, "G", (loam_request){ .max_new = 1, .ignore_eos = true, .on_ready = at_gate, .on_ready_arg = g });
    gate_wait(g);
}

static inline void gate_open(gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->change);
    pthread_mutex_unlock(&g->lock);
}

static inline void gate_free(gate *g)
{
    loam_stream_close(g->s);
    pthread_mutex_destroy(&g->lock);
    pthread_cond_destroy(&g->change);
}

#endif
