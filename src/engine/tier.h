/* engine/tier.h: between the tree of pages and the files of disk.h: what goes out, what comes back, and when. Engine
 * thread only, between steps. All do nothing in an engine without a kv_dir. */
#ifndef LOAMI_TIER_H
#define LOAMI_TIER_H

#include "engine/engine.h"

/* Opens e->disk if the options name a folder. Needs model, substrate and context. */
int loami_tier_open(loam_engine *e, const loam_kv_config *kv, loam_err *err);

/* Gives what is not written yet a last chance, and closes. */
void loami_tier_close(loam_engine *e);

/* Reads pages that go on where s stands, which holds nothing but nodes of the tree; true: there are more, but the time that
 * a step may lose is over. */
bool loami_tier_restore(loam_engine *e, loam_stream *s);

/* Hands new pages to the writing thread, as many as it takes. */
void loami_tier_save(loam_engine *e);

#endif
