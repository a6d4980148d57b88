/* api/served.h: the models of a server: which are loaded, who uses them, and which one goes when memory runs short.
 *
 * A request takes a hold on its model and lets go of it at its end; a model that is held is never unloaded. One that
 * is not there is waited for: it is loaded on a thread of its own, so that nobody else's stream waits. What does not
 * fit beside the others under the memory limit makes the one go that was used longest ago; if that is in use, it
 * takes no new requests, ends those it has, and goes then, so that no model can keep another one out. */
#ifndef LOAMI_SERVED_H
#define LOAMI_SERVED_H

#include "api/stats.h"
#include "net/server.h"
#include "net/workers.h"

#include <pthread.h>
#include <sys/queue.h>

/* One model to serve. Strings are borrowed. */
typedef struct loami_served_config {
    const char *const *names; /* [n_names] what "model" may say; the first one is shown */
    uint32_t n_names;
    loam_options options;
    uint64_t bytes;           /* guessed, that it will take when loaded; 0 = unknown until it was */
    uint64_t least_bytes;     /* it cannot take less than these: its weights */
    bool pinned;              /* loaded at the start, never unloaded */
} loami_served_config;

typedef enum loami_served_state {
    LOAMI_SERVED_NOT_LOADED,
    LOAMI_SERVED_QUEUED,    /* somebody waits for it; it waits for memory, or for another one's loading */
    LOAMI_SERVED_LOADING,
    LOAMI_SERVED_LOADED,
    LOAMI_SERVED_LEAVING,   /* ends the requests it has, takes no more */
    LOAMI_SERVED_UNLOADING,
} loami_served_state;

/* A request that waits for a model. The owner keeps it alive until done was called or it was taken back. */
typedef struct loami_wait {
    void (*done)(void *arg, const loami_fault *f); /* f NULL: loaded, and a hold on it is the waiter's */
    void *arg;
    struct loami_served *on; /* NULL: not waiting */
    TAILQ_ENTRY(loami_wait) next;
} loami_wait;

typedef struct loami_served {
    const loami_served_config *config;
    struct loami_models *models;

    /* constant while somebody has a hold */
    loam_engine *engine;
    const loam_text *text;       /* its */
    const loam_model_info *info; /* its */

    /* under the lock of models */
    loami_served_state state;
    uint32_t holds;

    /* the loop's */
    uint64_t bytes;     /* that it takes, or took, or may take */
    loam_options options; /* of the loading: the configured ones within the memory that is left */
    double used_s;      /* when the last hold ended, or it was loaded */
    double changed_s;   /* when it came into its state */
    loam_err err;       /* of the last loading, if that failed */
    double failed_s;    /* when; 0 = it did not */
    loami_task task;    /* loading or unloading */
    int loaded;         /* its result */
    loam_model_info known; /* from when it was loaded last: numbers alone are good; 0 tokens of
                              context = never yet */
    loami_stats stats;
    loam_engine_state gone; /* sums of counters of its engines that were closed */
    TAILQ_HEAD(loami_waits, loami_wait) waits;
    uint32_t n_waits;
    TAILQ_ENTRY(loami_served) queue; /* while QUEUED */
} loami_served;

typedef struct loami_models_config {
    const loami_served_config *models; /* [n_models] the first one is the default */
    uint32_t n_models;
    bool lazy;             /* the first one is not loaded at the start either, unless it is pinned */
    uint64_t memory_bytes; /* all that are loaded; 0 = no limit */
    uint32_t ttl_s;        /* a model that nobody used for so long goes; 0 = none does */
    uint32_t max_waits;    /* requests that may wait for models; 0 = 256 */
    /* Loop's thread. All that the start asked for is loaded, or one could not be. */
    void (*started)(void *arg, int rc, const loam_err *err);
    void *arg;
} loami_models_config;

typedef struct loami_models {
    loami_models_config config;
    loami_loop *loop;
    loami_workers *loader;  /* one thread */
    pthread_mutex_t lock;
    loami_served *list;     /* [config.n_models] */
    bool ready, busy;       /* the start is over; the loader works */
    bool ttl_armed, closing;
    uint32_t n_starting;    /* models that the start still waits for */
    uint32_t n_waits;
    uint64_t loads, unloads, load_failures;
    loami_timer ttl_timer;
    TAILQ_HEAD(loami_queue, loami_served) queue;
} loami_models;

/* Loads what belongs to the start; config.started follows, in any case. */
int loami_models_open(loami_models *m, loami_loop *loop, const loami_models_config *config, loam_err *err);

/* Nothing is loaded or unloaded any more. */
void loami_models_stop(loami_models *m);

/* When loop and workers have stopped: nobody holds anything any more. Waits for a loading to end. */
void loami_models_close(loami_models *m);

/* A model is being loaded or unloaded, which nothing can hurry. */
bool loami_models_busy(const loami_models *m);

/* The model that is known by name, and in *known (may be NULL) the name as configured; NULL and "default" mean the
 * first one. NULL with f filled (404). Any thread. */
loami_served *loami_models_find(loami_models *m, const char *name, const char **known, loami_fault *f);

/* A hold on a loaded model; false: it has to be waited for. Any thread. */
bool loami_served_take(loami_served *s);
void loami_served_release(loami_served *s); /* loop's thread */
uint32_t loami_served_holds(const loami_served *s);

/* Has it loaded if need be; done is called later, or never if this is not 0 (f filled: too many wait, or it could not
 * be loaded a moment ago). Loop's thread, like the rest. */
int loami_served_wait(loami_served *s, loami_wait *w, loami_fault *f);
void loami_served_unwait(loami_wait *w);

/* What it takes in memory now, by its engine's account; 0 when it is not loaded. Loop's thread. */
uint64_t loami_served_bytes(const loami_served *s);

const char *loami_served_state_name(loami_served_state s); /* "loaded", ... */

#endif
