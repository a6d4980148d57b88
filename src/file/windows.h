/* file/windows.h: which layers look back but a window, as far as config.json tells, and what room they get beside the others. */
#ifndef LOAMI_WINDOWS_H
#define LOAMI_WINDOWS_H

#include "file/config.h"

typedef struct loami_windows {
    uint32_t n_layers;       /* that have one, where others have none; else 0 */
    uint32_t tokens;         /* the window */
} loami_windows;

/* What the families say when they bind (model/), for who has no weights to bind. */
loami_windows loami_windows_of(const loami_config *c);

/* Pages that such layers' keys and values take at once, of a sequence that has n_all pages; but for a step's rows. */
uint64_t loami_window_pages(uint32_t tokens, uint32_t page_tokens, uint64_t n_all);

/* Their room, where the others have n pages, `each` for a context and that for so many contexts: for each of n_running requests
 * its window (near_each), and for as many kept ones as contexts; and spare pages for a step's rows. */
typedef struct loami_near_room {
    uint64_t each, near_each, contexts, n_running, spare;
} loami_near_room;
uint64_t loami_near_pages(const loami_near_room *r, uint64_t n);

#endif
