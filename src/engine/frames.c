#include "engine/frames.h"

#include <assert.h>
#include <stdlib.h>

bool loami_frames_open(loami_frames *f, uint32_t n)
{
    *f = (loami_frames){ .n = n, .n_free = n, .oldest = LOAMI_NO_FRAME, .newest = LOAMI_NO_FRAME };
    f->free = calloc((size_t)n + 1, sizeof *f->free);
    f->frame = calloc((size_t)n + 1, sizeof *f->frame);
    if (!f->free || !f->frame) return false;
    for (uint32_t i = 0; i < n; i++) f->free[i] = n - 1 - i;
    return true;
}

void loami_frames_close(loami_frames *f)
{
    free(f->free);
    free(f->frame);
}

uint32_t loami_frames_left(const loami_frames *f)
{
    uint32_t all = f->n_free + f->n_kept;
    return all > f->n_promised ? all - f->n_promised : 0;
}

uint32_t loami_frames_take(loami_frames *f)
{
    assert(f->n_free > 0);
    return f->free[--f->n_free];
}

void loami_frames_put(loami_frames *f, uint32_t at)
{
    assert(f->n_free < f->n && f->frame[at].pins == 0);
    f->free[f->n_free++] = at;
}

/* ---- the kept ------------------------------------------------------------------------------------------- */

static void list_remove(loami_frames *f, uint32_t at)
{
    loami_frame *x = &f->frame[at];
    *(x->older == LOAMI_NO_FRAME ? &f->oldest : &f->frame[x->older].newer) = x->newer;
    *(x->newer == LOAMI_NO_FRAME ? &f->newest : &f->frame[x->newer].older) = x->older;
    f->n_kept--;
}

static void list_append(loami_frames *f, uint32_t at)
{
    loami_frame *x = &f->frame[at];
    x->older = f->newest;
    x->newer = LOAMI_NO_FRAME;
    *(f->newest == LOAMI_NO_FRAME ? &f->oldest : &f->frame[f->newest].newer) = at;
    f->newest = at;
    f->n_kept++;
}

void loami_frames_share(loami_frames *f, uint32_t at)
{
    assert(f->frame[at].pins == 0);
    f->frame[at].pins = 1;
}

void loami_frames_pin(loami_frames *f, uint32_t at)
{
    if (f->frame[at].pins++ == 0) list_remove(f, at);
}

void loami_frames_unpin(loami_frames *f, uint32_t at)
{
    assert(f->frame[at].pins > 0);
    if (--f->frame[at].pins == 0) list_append(f, at);
}

void loami_frames_forget(loami_frames *f, uint32_t at)
{
    assert(f->frame[at].pins == 0);
    list_remove(f, at);
    loami_frames_put(f, at);
}
