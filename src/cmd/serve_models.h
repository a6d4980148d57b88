/* cmd/serve_models.h: which models a server has, from its command line. */
#ifndef LOAMI_SERVE_MODELS_H
#define LOAMI_SERVE_MODELS_H

#include "api/served.h"
#include "base/arena.h"
#include "cmd/cmd.h"

/* Zero is none. Strings are borrowed. */
typedef struct loami_serve_wish {
    loami_opt_list models; /* folders, or names in the store */
    const char *folder;    /* every model in it */
    loami_opt_list served; /* what clients may call the one model */
    loami_opt_list pinned; /* names of models */
    loam_options options;  /* of each */
} loami_serve_wish;

typedef struct loami_serve_models {
    loami_arena arena; /* everything below is in it */
    loami_served_config *list;
    uint32_t n;
} loami_serve_models;

/* Finds them, names them, and guesses what they take. LOAM_E_NOT_FOUND and the like say which. Free with
 * loami_serve_models_free in any case. */
int loami_serve_models_find(loami_serve_models *out, const loami_serve_wish *wish, loam_err *err);
void loami_serve_models_free(loami_serve_models *m);

#endif
