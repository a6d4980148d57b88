/* store/need.h: what memory a model needs, told without loading it, and how fast memory lets it be. */
#ifndef LOAMI_NEED_H
#define LOAMI_NEED_H

#include "store/info.h"

typedef struct loami_need {
    uint64_t parameters;
    uint64_t weight_bytes; /* all weights */
    uint64_t active_bytes; /* of them, read for one token of decode */
    uint64_t active_parameters;
    uint64_t kv_token_bytes; /* of the KV cache, a token, in 16 bits; loami_need_int8 makes it those in 8 */
    uint64_t near_token_bytes; /* of them, those of layers with a window, where others have none */
    uint32_t window;         /* that, or 0 */
    uint64_t row_bytes;      /* of intermediate results, a row of a step */
    uint32_t context;        /* the model's longest; 0 = not stated */
} loami_need;

/* From config.json, and from the tensors themselves where info is not NULL (whose config c is). LOAM_E_FORMAT
 * when the config's numbers are impossible. */
int loami_need_of(loami_need *out, const loami_config *c, const loami_info *info, loam_err *err);

/* With a KV cache of 8 bits. */
void loami_need_int8(loami_need *n, const loami_config *c);

/* Bytes of a KV cache for so many contexts of so many tokens, and, about, of the intermediate results of the engine's longest
 * step. */
uint64_t loami_need_kv(const loami_need *n, uint64_t context_tokens, uint64_t contexts);
uint64_t loami_need_scratch(const loami_need *n, const loami_config *c);

/* Tokens a second that reading memory at so many bytes a second allows, with so many tokens in the cache. */
double loami_need_decode(const loami_need *n, double bytes_per_s, uint64_t tokens);

#endif
