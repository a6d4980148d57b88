/* engine/frames.h: numbered places for KV pages. A frame is free; or its taker's alone; or pinned by some; or pinned by
 * nobody and kept, until its place is needed: those are in order of last use. Promises are only counted. */
#ifndef LOAMI_FRAMES_H
#define LOAMI_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#define LOAMI_NO_FRAME UINT32_MAX

typedef struct loami_frame {
    uint32_t pins;
    uint32_t older, newer;     /* among the kept */
} loami_frame;

typedef struct loami_frames {
    uint32_t n, n_free, n_kept, n_promised;
    uint32_t *free;            /* [n_free] a stack */
    loami_frame *frame;        /* [n] */
    uint32_t oldest, newest;   /* of the kept, or LOAMI_NO_FRAME */
} loami_frames;

bool loami_frames_open(loami_frames *f, uint32_t n); /* false: no memory; close anyway */
void loami_frames_close(loami_frames *f);

uint32_t loami_frames_left(const loami_frames *f);     /* free or kept, and not promised */
uint32_t loami_frames_take(loami_frames *f);           /* a free one, for the taker alone; there must be one */
void loami_frames_put(loami_frames *f, uint32_t at);   /* back: it is free again */

void loami_frames_share(loami_frames *f, uint32_t at); /* the taker's alone, from now on pinned once */
void loami_frames_pin(loami_frames *f, uint32_t at);   /* one pinned or kept */
void loami_frames_unpin(loami_frames *f, uint32_t at); /* by the last: kept, as the newest */
void loami_frames_forget(loami_frames *f, uint32_t at); /* one kept is free */

#endif
