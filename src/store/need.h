/* store/need.h: what memory a model needs, told without loading it, and how fast memory lets it be. */
#ifndef LOAMI_NEED_H
#define LOAMI_NEED_H

#include "store/info.h"

typedef struct loami_need {
    uint64_t parameters;
    uint64_t weight_bytes;    /* all weights */
    uint64_t active_bytes;    /* of them, read for one token of decode */
    uint64_t active_parameters;
    uint64_t kv_token_bytes;  /* of the KV cache, a token, in 16 bits */
    uint64_t row_bytes;       /* of intermediate results, a row of a step */
    uint32_t context;         /* the model's longest; 0 = not stated */
} loami_need;

/* From config.json, and from the tensors themselves where info is not NULL (whose config c is). LOAM_E_FORMAT when
 * the config's numbers are impossible. */
int loami_need_of(loami_need *out, const loami_config *c, const loami_info *info, loam_err *err);

/* Bytes of a KV cache of so many tokens, of the intermediate results of the engine's longest step, and of all. */
uint64_t loami_need_kv(const loami_need *n, uint64_t tokens);
uint64_t loami_need_scratch(const loami_need *n, const loami_config *c, uint32_t parallel);

/* Tokens a second that reading memory at so many bytes a second allows, with so many tokens in the cache. */
double loami_need_decode(const loami_need *n, double bytes_per_s, uint64_t tokens);

#endif
