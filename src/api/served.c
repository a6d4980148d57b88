#include "api/served.h"

#include "base/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WAITS = 256 };
static const double FAILED_AGAIN_S = 5; /* so long a failed loading is the answer to whoever asks again */

static void advance(loami_models *m);
static void arm_ttl(loami_models *m, double in_s);
static loami_served *victim(loami_models *m, const loami_served *except);

const char *loami_served_state_name(loami_served_state s)
{
    static const char *const names[] = { "not-loaded", "loading",   "loading",
                                         "loaded",     "unloading", "unloading" };
    return names[s];
}

uint64_t loami_served_bytes(const loami_served *s)
{
    loam_engine_state e;
    if (!s->info) return 0;
    loam_engine_stat(s->engine, &e);
    return s->info->weight_bytes + s->info->kv_bytes + e.scratch_bytes;
}

static void set_state(loami_served *s, loami_served_state to)
{
    pthread_mutex_lock(&s->models->lock);
    s->state = to;
    pthread_mutex_unlock(&s->models->lock);
    s->changed_s = loami_now_s();
}

uint32_t loami_served_holds(const loami_served *s)
{
    pthread_mutex_lock(&s->models->lock);
    uint32_t n = s->holds;
    pthread_mutex_unlock(&s->models->lock);
    return n;
}

/* ---- waiting ------------------------------------------------------------------------------------------ */

static loami_wait *next_wait(loami_served *s)
{
    loami_wait *w = TAILQ_FIRST(&s->waits);
    if (w) loami_served_unwait(w);
    return w;
}

static void fail_waits(loami_served *s, const loami_fault *f)
{
    for (loami_wait *w; (w = next_wait(s));) w->done(w->arg, f);
}

static void serve_waits(loami_served *s)
{
    for (loami_wait *w; (w = TAILQ_FIRST(&s->waits)) && loami_served_take(s);) {
        loami_served_unwait(w);
        w->done(w->arg, NULL);
    }
}

static void put_fault(loami_fault *f, const loami_served *s)
{
    if (s->err.code == LOAM_E_NOMEM)
        loami_fault_set(f, 503, "out_of_memory", "model", "%s", s->err.msg);
    else
        loami_fault_set(f, 500, "model_load_failed", "model", "The model could not be loaded: %s",
                        s->err.msg);
}

/* ---- loading and unloading ---------------------------------------------------------------------------- */

static void load(void *arg) /* on the loader's thread */
{
    loami_served *s = arg;
    s->loaded = loam_engine_open(&s->engine, &s->options, &s->err);
}

static void start_is_over(loami_models *m, int rc, const loam_err *err)
{
    if (m->ready) return;
    m->ready = rc == 0;
    m->config.started(m->config.arg, rc, err);
}

static void one_started(loami_models *m)
{
    if (m->n_starting && --m->n_starting == 0) start_is_over(m, 0, NULL);
}

static void on_loaded(void *arg)
{
    loami_served *s = arg;
    loami_models *m = s->models;
    loami_fault f;
    m->busy = false;
    if (s->loaded == LOAM_E_NOMEM && s->options.memory_bytes && victim(m, s)) { /* not beside the others */
        s->bytes = s->options.memory_bytes + 1;
        TAILQ_INSERT_HEAD(&m->queue, s, queue);
        set_state(s, LOAMI_SERVED_QUEUED);
    } else if (s->loaded < 0) {
        m->load_failures++;
        s->failed_s = loami_now_s();
        set_state(s, LOAMI_SERVED_NOT_LOADED);
        if (m->n_starting) {
            start_is_over(m, s->loaded, &s->err);
            return;
        }
        put_fault(&f, s);
        fail_waits(s, &f);
    } else {
        m->loads++;
        s->failed_s = 0;
        s->text = loam_engine_text(s->engine);
        s->info = loam_engine_info(s->engine);
        s->known = *s->info;
        s->bytes = loami_served_bytes(s);
        s->used_s = loami_now_s();
        set_state(s, LOAMI_SERVED_LOADED);
        one_started(m);
        serve_waits(s);
        if (m->config.ttl_s && !s->config->pinned) arm_ttl(m, m->config.ttl_s);
    }
    advance(m);
}

static void unload(void *arg) /* on the loader's thread */
{
    loami_served *s = arg;
    loam_engine_close(s->engine);
}

static void enqueue(loami_served *s)
{
    TAILQ_INSERT_TAIL(&s->models->queue, s, queue);
    set_state(s, LOAMI_SERVED_QUEUED);
}

static void on_unloaded(void *arg)
{
    loami_served *s = arg;
    s->models->busy = false;
    s->models->unloads++;
    s->engine = NULL;
    set_state(s, LOAMI_SERVED_NOT_LOADED);
    if (!TAILQ_EMPTY(&s->waits)) enqueue(s);
    advance(s->models);
}

static void begin(loami_served *s, loami_served_state state, void (*work)(void *arg), void (*done)(void *arg))
{
    s->models->busy = true;
    set_state(s, state);
    s->task = (loami_task){ .work = work, .done = done, .arg = s };
    loami_workers_run(s->models->loader, &s->task); /* has room: there is one at a time */
}

/* Counters only grow, whatever happens to the engine. */
static void remember(loami_served *s)
{
    loam_engine_state e, *g = &s->gone;
    loam_engine_stat(s->engine, &e);
    g->prompt_tokens += e.prompt_tokens;
    g->new_tokens += e.new_tokens;
    g->prompt_tokens_read += e.prompt_tokens_read;
    g->tokens_run += e.tokens_run;
    for (int i = 0; i < LOAM_STEP_SIZES; i++) g->step_tokens[i] += e.step_tokens[i];
    g->prefix_queries += e.prefix_queries;
    g->prefix_hits += e.prefix_hits;
    g->disk_hits += e.disk_hits;
    g->preemptions += e.preemptions;
    g->speculated += e.speculated;
    g->speculated_right += e.speculated_right;
    g->steps += e.steps;
    g->steps_ahead += e.steps_ahead;
}

static void begin_unload(loami_served *s)
{
    remember(s);
    s->text = NULL;
    s->info = NULL;
    begin(s, LOAMI_SERVED_UNLOADING, unload, on_unloaded);
}

/* Stops it taking requests; true when nobody has a hold on it. */
static bool leave(loami_served *s)
{
    set_state(s, LOAMI_SERVED_LEAVING);
    return loami_served_holds(s) == 0;
}

/* ---- who goes ----------------------------------------------------------------------------------------- */

static bool takes_memory(const loami_served *s)
{
    return s->state >= LOAMI_SERVED_LOADING;
}

/* Bytes of all that are loaded or on their way, except one; or of those alone that are pinned. */
static uint64_t taken(const loami_models *m, const loami_served *except, bool pinned)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->config.n_models; i++) {
        const loami_served *s = &m->list[i];
        if (s == except || !takes_memory(s) || (pinned && !s->config->pinned)) continue;
        uint64_t now = loami_served_bytes(s);
        sum += now > s->bytes ? now : s->bytes;
    }
    return sum;
}

static bool over(const loami_models *m, uint64_t bytes)
{
    return m->config.memory_bytes && bytes > m->config.memory_bytes;
}

/* The one to go next: nobody's before somebody's, then the one used longest ago. NULL: all are pinned. */
static loami_served *victim(loami_models *m, const loami_served *except)
{
    loami_served *best = NULL;
    bool best_held = false;
    for (uint32_t i = 0; i < m->config.n_models; i++) {
        loami_served *s = &m->list[i];
        if (s == except || s->state != LOAMI_SERVED_LOADED || s->config->pinned) continue;
        bool held = loami_served_holds(s) > 0;
        bool better = !best || (best_held && !held) || (best_held == held && s->used_s < best->used_s);
        if (!better) continue;
        best = s;
        best_held = held;
    }
    return best;
}

static loami_served *find_state(loami_models *m, loami_served_state state)
{
    for (uint32_t i = 0; i < m->config.n_models; i++)
        if (m->list[i].state == state) return &m->list[i];
    return NULL;
}

static double mib(uint64_t bytes)
{
    return (double)bytes / 1048576;
}

/* Even alone beside the pinned ones it is too large. */
static void refuse(loami_served *s)
{
    loami_models *m = s->models;
    loami_fault f;
    loami_fail(&s->err, LOAM_E_NOMEM,
               "The model '%.100s' takes %.0f MiB and more; of the memory limit of %.0f MiB, pinned models "
               "take %.0f.",
               s->config->names[0], mib(s->config->least_bytes), mib(m->config.memory_bytes),
               mib(taken(m, s, true)));
    s->failed_s = loami_now_s();
    m->load_failures++;
    set_state(s, LOAMI_SERVED_NOT_LOADED);
    if (m->n_starting) {
        start_is_over(m, LOAM_E_NOMEM, &s->err);
        return;
    }
    put_fault(&f, s);
    fail_waits(s, &f);
}

/* Makes room for s. True: there is. False: somebody is on the way out, or s was refused. */
static bool make_room(loami_served *s)
{
    loami_models *m = s->models;
    uint64_t kept = taken(m, s, true), limit = m->config.memory_bytes;
    if (over(m, kept + s->config->least_bytes)) {
        TAILQ_REMOVE(&m->queue, s, queue);
        refuse(s);
        advance(m);
        return false;
    }
    if (limit && s->bytes > limit - kept) s->bytes = limit - kept;
    if (!over(m, taken(m, s, false) + s->bytes)) return true;
    if (find_state(m, LOAMI_SERVED_LEAVING)) return false;
    loami_served *v = victim(m, s);
    if (!v) return true; /* what is left must do */
    if (leave(v)) begin_unload(v);
    return false;
}

/* A model may turn out larger than was guessed. */
static void shed(loami_models *m)
{
    if (!over(m, taken(m, NULL, false)) || find_state(m, LOAMI_SERVED_LEAVING)) return;
    loami_served *v = victim(m, NULL);
    if (v && leave(v)) begin_unload(v);
}

/* The engine keeps to what the others leave. */
static void fit_options(loami_served *s)
{
    uint64_t limit = s->models->config.memory_bytes, others = taken(s->models, s, false);
    s->options = s->config->options;
    if (limit) s->options.memory_bytes = limit > others ? limit - others : 1;
}

/* The first of the queue that somebody still waits for. */
static loami_served *wanted_next(loami_models *m)
{
    loami_served *s;
    while ((s = TAILQ_FIRST(&m->queue)) && !m->n_starting && TAILQ_EMPTY(&s->waits)) {
        TAILQ_REMOVE(&m->queue, s, queue);
        set_state(s, LOAMI_SERVED_NOT_LOADED);
    }
    return s;
}

/* The one thing that is to be done next. */
static void advance(loami_models *m)
{
    if (m->busy || m->closing) return;
    for (uint32_t i = 0; i < m->config.n_models; i++) {
        loami_served *s = &m->list[i];
        if (s->state != LOAMI_SERVED_LEAVING || loami_served_holds(s)) continue;
        begin_unload(s);
        return;
    }
    loami_served *s = wanted_next(m);
    if (!s) {
        shed(m);
    } else if (make_room(s)) {
        TAILQ_REMOVE(&m->queue, s, queue);
        fit_options(s);
        begin(s, LOAMI_SERVED_LOADING, load, on_loaded);
    }
}

/* ---- time to live ------------------------------------------------------------------------------------- */

static void on_ttl(void *arg);

static void arm_ttl(loami_models *m, double in_s)
{
    if (!m->ttl_armed) m->ttl_armed = loami_timer_set(m->loop, &m->ttl_timer, in_s, on_ttl, m);
}

static void on_ttl(void *arg)
{
    loami_models *m = arg;
    double now = loami_now_s(), next = INFINITY;
    m->ttl_armed = false;
    for (uint32_t i = 0; i < m->config.n_models; i++) {
        loami_served *s = &m->list[i];
        if (s->state != LOAMI_SERVED_LOADED || s->config->pinned || loami_served_holds(s)) continue;
        double left = s->used_s + m->config.ttl_s - now;
        if (left > 0.001)
            next = left < next ? left : next;
        else if (!leave(s))
            set_state(s, LOAMI_SERVED_LOADED); /* somebody came in between */
    }
    advance(m);
    if (next < INFINITY) arm_ttl(m, next);
}

/* ---- what requests do --------------------------------------------------------------------------------- */

loami_served *loami_models_find(loami_models *m, const char *name, const char **known, loami_fault *f)
{
    if (!name || strcmp(name, "default") == 0) {
        if (known) *known = m->list[0].config->names[0];
        return &m->list[0];
    }
    for (uint32_t i = 0; i < m->config.n_models; i++) {
        const loami_served_config *c = m->list[i].config;
        for (uint32_t k = 0; k < c->n_names; k++) {
            if (strcmp(name, c->names[k]) != 0) continue;
            if (known) *known = c->names[k];
            return &m->list[i];
        }
    }
    loami_fault_set(f, 404, "model_not_found", "model",
                    "The model '%.200s' does not exist; this server has '%.200s'%s.", name,
                    m->list[0].config->names[0], m->config.n_models > 1 ? " and more: see /v1/models" : "");
    return NULL;
}

bool loami_served_take(loami_served *s)
{
    pthread_mutex_lock(&s->models->lock);
    bool loaded = s->state == LOAMI_SERVED_LOADED;
    if (loaded) s->holds++;
    pthread_mutex_unlock(&s->models->lock);
    return loaded;
}

void loami_served_release(loami_served *s)
{
    loami_models *m = s->models;
    pthread_mutex_lock(&m->lock);
    bool last = --s->holds == 0;
    pthread_mutex_unlock(&m->lock);
    s->used_s = loami_now_s();
    if (!last) return;
    if (s->state == LOAMI_SERVED_LEAVING)
        advance(m);
    else if (m->config.ttl_s && !s->config->pinned)
        arm_ttl(m, m->config.ttl_s);
}

int loami_served_wait(loami_served *s, loami_wait *w, loami_fault *f)
{
    loami_models *m = s->models;
    if (s->failed_s > 0 && s->state == LOAMI_SERVED_NOT_LOADED &&
        loami_now_s() - s->failed_s < FAILED_AGAIN_S) {
        put_fault(f, s);
        return -1;
    }
    if (m->n_waits >= (m->config.max_waits ? m->config.max_waits : WAITS))
        return loami_fault_set(f, 429, "queue_full", "",
                               "%u requests wait for models to be loaded. Try again later.", m->n_waits);
    w->on = s;
    TAILQ_INSERT_TAIL(&s->waits, w, next);
    s->n_waits++;
    m->n_waits++;
    if (s->state == LOAMI_SERVED_NOT_LOADED) enqueue(s);
    if (s->state == LOAMI_SERVED_LOADED)
        serve_waits(s); /* it came meanwhile */
    else
        advance(m);
    return 0;
}

void loami_served_unwait(loami_wait *w)
{
    loami_served *s = w->on;
    if (!s) return;
    TAILQ_REMOVE(&s->waits, w, next);
    s->n_waits--;
    s->models->n_waits--;
    w->on = NULL;
}

/* ---- open and close ----------------------------------------------------------------------------------- */

int loami_models_open(loami_models *m, loami_loop *loop, const loami_models_config *config, loam_err *err)
{
    m->config = *config;
    m->loop = loop;
    TAILQ_INIT(&m->queue);
    pthread_mutex_init(&m->lock, NULL);
    m->list = calloc(config->n_models, sizeof *m->list);
    if (!m->list) return loami_fail_nomem(err);
    for (uint32_t i = 0; i < config->n_models; i++) {
        loami_served *s = &m->list[i];
        s->config = &config->models[i];
        s->models = m;
        s->bytes = s->config->bytes;
        TAILQ_INIT(&s->waits);
    }
    int rc = loami_workers_open(&m->loader, loop, 1, 1, err);
    if (rc < 0) return rc;
    for (uint32_t i = 0; i < config->n_models; i++) {
        loami_served *s = &m->list[i];
        if (!s->config->pinned && (i > 0 || config->lazy)) continue;
        m->n_starting++;
        enqueue(s);
    }
    if (m->n_starting == 0) start_is_over(m, 0, NULL);
    advance(m);
    return 0;
}

void loami_models_close(loami_models *m)
{
    if (!m->list) return;
    loami_workers_close(m->loader);
    loami_timer_clear(&m->ttl_timer);
    for (uint32_t i = 0; i < m->config.n_models; i++)
        if (m->list[i].state != LOAMI_SERVED_UNLOADING) loam_engine_close(m->list[i].engine);
    free(m->list);
    pthread_mutex_destroy(&m->lock);
}

void loami_models_stop(loami_models *m)
{
    m->closing = true;
}

bool loami_models_busy(const loami_models *m)
{
    return m->busy;
}
