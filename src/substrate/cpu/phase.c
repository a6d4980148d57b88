#include "substrate/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

loami_phase *loami_phase_add(loam_sub *s, loami_run_fn *run, uint32_t n, const loami_node *node)
{
    if (s->failed) return NULL;
    if (s->n_phases == s->cap_phases) {
        uint32_t cap = s->cap_phases ? 2 * s->cap_phases : 512;
        loami_phase *p = NULL;
        if (posix_memalign((void **)&p, 64, cap * sizeof *p) != 0) {
            s->failed = "out of memory in a step";
            return NULL;
        }
        if (s->phase) memcpy((void *)p, (void *)s->phase, s->n_phases * sizeof *p);
        free(s->phase);
        s->phase = p;
        s->cap_phases = cap;
    }
    loami_phase *p = &s->phase[s->n_phases++];
    memset((void *)p, 0, sizeof *p);
    p->run = run;
    p->n = n;
    p->n_ranges = s->threads < LOAMI_RANGES ? s->threads : LOAMI_RANGES;
    p->range = loami_note(s, p->n_ranges * sizeof *p->range);
    if (!p->range) {
        s->n_phases--;
        return NULL;
    }
    for (uint32_t i = 0; i < p->n_ranges; i++) {
        atomic_init(&p->range[i].next, (uint32_t)((uint64_t)n * i / p->n_ranges));
        p->range[i].end = (uint32_t)((uint64_t)n * (i + 1) / p->n_ranges);
    }
    p->node = node;
    p->y = node->data;
    p->rows = node->rows;
    return p;
}

/* Runs what is left of a phase, its own range first; returns how many chunks that was. */
static uint32_t run_phase(loam_sub *s, loami_phase *p, uint32_t thread, loami_scratch *t)
{
    uint32_t did = 0;
    for (uint32_t i = 0; i < p->n_ranges; i++) {
        loami_range *r = &p->range[(thread + i) % p->n_ranges];
        while (atomic_load_explicit(&r->next, memory_order_relaxed) < r->end) {
            uint32_t chunk = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed);
            if (chunk >= r->end) break;
            p->run(s, p, chunk, t);
            did++;
        }
    }
    return did;
}

/* Before it waits, a thread asks for what it will read first afterwards. */
static void look_ahead(const loam_sub *s, const loami_phase *p, uint32_t thread)
{
    if (!p->streams) return;
    const loami_range *r = &p->range[thread % p->n_ranges];
    uint32_t chunk = atomic_load_explicit(&r->next, memory_order_relaxed);
    if (chunk < r->end) loami_chunk_ahead(s, p, chunk);
}

/* Every thread walks all phases. One that comes late finds phases whose chunks are all taken and passes. */
static void walk(void *arg, uint32_t thread)
{
    loam_sub *s = arg;
    loami_scratch *t = &s->scratch[thread];
    for (uint32_t i = 0; i < s->n_phases; i++) {
        loami_phase *p = &s->phase[i];
        uint32_t turns = 0, did = run_phase(s, p, thread, t);
        if (did) atomic_fetch_add_explicit(&p->done, did, memory_order_acq_rel);
        if (i + 1 < s->n_phases) look_ahead(s, p + 1, thread);
        while (atomic_load_explicit(&p->done, memory_order_acquire) < p->n) loami_pool_pause(&turns);
    }
}

void loami_phases_run(loam_sub *s)
{
    if (s->n_phases) loami_pool_run(s->pool, walk, s);
}

/* Floats of a panel: codes (or floats, the larger), scales, biases. */
enum {
    PANEL_FLOATS = LOAMI_PANEL_K * LOAMI_PANEL_ROWS_MAX,
    PANEL_SCALES = LOAMI_PANEL_K / LOAMI_GROUP_MIN * LOAMI_PANEL_ROWS_MAX,
};

bool loami_scratch_fit(loam_sub *s)
{
    size_t floats = (s->need_floats + 15) & ~(size_t)15, panel = PANEL_FLOATS + 2 * PANEL_SCALES;
    size_t size = (panel + floats) * sizeof(float) + s->need_ready;
    for (uint32_t i = 0; i < s->threads; i++) {
        loami_scratch *t = &s->scratch[i];
        if (t->raw_size < size) {
            free(t->raw);
            *t = (loami_scratch){ 0 };
            if (posix_memalign(&t->raw, 64, size) != 0) {
                s->failed = "out of memory in a step";
                t->raw = NULL;
                return false;
            }
            t->raw_size = size;
        }
        float *f = t->raw;
        t->panel.floats = f;
        t->panel.codes = (uint8_t *)f;
        t->panel.scale = f + PANEL_FLOATS;
        t->panel.bias = t->panel.scale + PANEL_SCALES;
        t->floats = f + panel;
        t->ready_raw = (char *)(t->floats + floats);
        t->ready_from = NULL;
    }
    return true;
}
