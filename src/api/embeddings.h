/* api/embeddings.h: what POST /v1/embeddings asks for, as read from its body. */
#ifndef LOAMI_EMBEDDINGS_H
#define LOAMI_EMBEDDINGS_H

#include "api/run.h"

typedef struct loami_embedding {
    const char *model, *encoding, *pooling;
    const json_t *input;    /* these borrow from the body, and are good as long as it is */
    int32_t priority;
    float timeout_s;
    uint32_t dims;          /* that are wanted, once read */
    bool no_special, base64;
    const char *name;       /* of the model */
    loam_tokens *texts;     /* [n_texts], malloc'd like their ids */
    uint32_t n_texts, n_tokens;
} loami_embedding;

/* From zero. To be freed in any case. */
int loami_embedding_read(loami_embedding *q, const loami_api *a, const loami_served *m, const json_t *body, loami_fault *f);
void loami_embedding_free(loami_embedding *q);

#endif
