#include "substrate/cpu/pool.h"
#include "base/clock.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    SPIN_NS = 100 * 1000,   /* after a job: about the time a sampler takes, so that decoding needs no wake-up */
    YIELD_TURNS = 2000,     /* about 50 us: whoever is waited for has lost its core by then */
};

/* job: bit 0 open, bits 1..15 threads inside, the rest counts jobs. One word, so that "still open" and "I am in"
 * are one decision. */
#define OPEN   1ull
#define INSIDE 2ull
#define JOB    (1ull << 16)

struct worker {
    pthread_t thread;
    loami_pool *pool;
    uint32_t index;
};

struct loami_pool {
    _Alignas(64) atomic_ullong job;
    _Alignas(64) atomic_uint asleep;
    loami_pool_fn *fn;      /* written while the job is closed and empty */
    void *arg;
    pthread_mutex_t lock;   /* guards sleeping: whoever opens a job while asleep > 0 signals under it */
    pthread_cond_t wake;
    bool stop;
    uint32_t n_workers;
    struct worker worker[];
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

void loami_pool_pause(uint32_t *turns)
{
    if (++*turns < YIELD_TURNS) relax();
    else sched_yield();
}

/* Waits for a job other than the one seen last; 0 when the pool closes. */
static unsigned long long next_job(loami_pool *p, unsigned long long seen)
{
    int64_t until = loami_now_ns() + SPIN_NS;
    for (uint32_t i = 0;; i++) {
        unsigned long long job = atomic_load_explicit(&p->job, memory_order_acquire);
        if ((job & OPEN) && job / JOB != seen) return job;
        relax();
        if (i % 64 == 63 && loami_now_ns() > until) break;
    }
    unsigned long long job;
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->asleep, 1);
    while (job = atomic_load(&p->job), !p->stop && !((job & OPEN) && job / JOB != seen)) pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->asleep, 1);
    if (p->stop) job = 0;
    pthread_mutex_unlock(&p->lock);
    return job;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    loami_pool *p = w->pool;
    unsigned long long seen = 0, job;
    while ((job = next_job(p, seen)) != 0) {
        seen = job / JOB;
        while ((job & OPEN) && job / JOB == seen)
            if (atomic_compare_exchange_weak(&p->job, &job, job + INSIDE)) {
                p->fn(p->arg, w->index);
                atomic_fetch_sub_explicit(&p->job, INSIDE, memory_order_release);
                break;
            }
    }
    return NULL;
}

void loami_pool_run(loami_pool *p, loami_pool_fn *fn, void *arg)
{
    uint32_t turns = 0;
    p->fn = fn;
    p->arg = arg;
    atomic_fetch_add(&p->job, JOB + OPEN);
    if (atomic_load(&p->asleep)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
    fn(arg, 0);
    atomic_fetch_sub(&p->job, OPEN);
    while (atomic_load_explicit(&p->job, memory_order_acquire) & (JOB - INSIDE)) loami_pool_pause(&turns);
}

int loami_pool_open(loami_pool **out, uint32_t n_threads, loam_err *err)
{
    enum { MAX_THREADS = 1024 };
    uint32_t n = n_threads < 1 ? 0 : n_threads > MAX_THREADS ? MAX_THREADS - 1 : n_threads - 1;
    loami_pool *p = NULL;
    if (posix_memalign((void **)&p, 64, sizeof *p + n * sizeof p->worker[0]) != 0) return loami_fail_nomem(err);
    *p = (loami_pool){ .n_workers = 0 };
    atomic_init(&p->job, JOB);
    atomic_init(&p->asleep, 0);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    for (uint32_t i = 0; i < n; i++) {
        p->worker[i] = (struct worker){ .pool = p, .index = i + 1 };
        if (pthread_create(&p->worker[i].thread, NULL, work, &p->worker[i]) != 0) {
            loami_pool_close(p);
            return loami_fail(err, LOAM_E_NOMEM, "cannot start %u compute threads", n);
        }
        p->n_workers++;
    }
    *out = p;
    return 0;
}

void loami_pool_close(loami_pool *p)
{
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (uint32_t i = 0; i < p->n_workers; i++) pthread_join(p->worker[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
