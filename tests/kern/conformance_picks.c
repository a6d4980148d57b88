/* Tokens chosen on the device, and steps that go on with them before anybody has seen them. */
#include "kern/conformance_world.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 16, STEPS = 3 };

typedef struct picks {
    world w;                     /* weight 0: [vocab][vocab], the logits that follow each token */
    uint32_t rows;
    loam_pick how[STEPS][ROWS];
} picks;

static void keep_ids(side *d, const int32_t *ids, uint32_t n)
{
    float *out = realloc(d->out, (d->n_out + n) * sizeof *out);
    if (!out) {
        d->rc = LOAM_E_NOMEM;
        return;
    }
    d->out = out;
    for (uint32_t i = 0; i < n; i++) out[d->n_out++] = (float)ids[i];
}

static void collect(const picks *p, side *d)
{
    int32_t ids[ROWS];
    if (good(d)) d->rc = d->f->collect(d->s, ids, &d->err);
    if (good(d)) keep_ids(d, ids, p->rows);
}

/* The first step's tokens are given, those of the others picked by the one before; two are always under way. */
static void run_picks(world *w, side *d)
{
    picks *p = (picks *)w;
    int32_t tokens[ROWS];
    uint32_t wanted[ROWS];
    loam_seq_rows seq = { .n_rows = p->rows };
    loam_batch b = { .n_rows = p->rows, .tokens = tokens, .n_seqs = 1, .seqs = &seq, .n_wanted = p->rows, .wanted = wanted };
    for (uint32_t i = 0; i < p->rows; i++) {
        tokens[i] = (int32_t)((7 * i) % w->vocab);
        wanted[i] = i;
    }
    for (uint32_t step = 0; step < STEPS && good(d); step++) {
        d->f->begin(d->s, &b);
        d->f->pick(d->s, d->f->embed(d->s, d->w[0], 1), p->how[step]);
        d->rc = d->f->launch(d->s, &d->err);
        b.tokens = NULL;
        if (step > 0) collect(p, d);
    }
    collect(p, d);
}

/* Step by step more of what a request may ask for. */
static loam_pick pick_of(rnd *r, uint32_t step, uint32_t kind)
{
    loam_pick p = { 0 };
    if (kind == 0) return p;
    p.temperature = kind % 2 ? 1 : 0.6f;
    p.draw = (float)rnd_below(r, 1 << 20) / (1 << 20);
    if (kind == 2) p.min_p = 0.1f;
    if (kind == 3) p.top_p = 0.8f;
    if (kind == 4) p.top_k = 1 + 3 * step;
    if (kind == 5) p = (loam_pick){ p.temperature, 0.02f, 0.95f, 9, p.draw };
    if (kind == 6) p.draw = step ? 0x1.fffffep-1f : 0;
    return p;
}

void pick_cases(conformance *c)
{
    static const uint32_t vocabs[] = { 1, 2, 33, 257, 1000 };
    static const char *const kinds[] = { "greedy", "free", "min_p", "top_p", "top_k", "all", "ends", "mixed" };
    if (!c->sub->pick) return;
    for (uint32_t kind = 0; kind < 8; kind++) {
        for (uint32_t i = 0; i < 5; i++) {
            picks p = { .w = table_world(c, vocabs[i], vocabs[i]), .rows = i % 2 ? ROWS : 1 + i };
            for (uint32_t step = 0; step < STEPS; step++)
                for (uint32_t row = 0; row < p.rows; row++) p.how[step][row] = pick_of(&p.w.r, step, kind < 7 ? kind : row % 7);
            snprintf(p.w.name, sizeof p.w.name, "pick %s of %u, %u rows", kinds[kind], vocabs[i], p.rows);
            compare(c, &p.w, run_picks);
        }
    }
}
