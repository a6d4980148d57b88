/* api/endpoints.h: the handlers of api.c's route table, one file each, and what they write alike. */
#ifndef LOAMI_ENDPOINTS_H
#define LOAMI_ENDPOINTS_H

#include "api/run.h"

loami_handler loami_api_chat, loami_api_completions, loami_api_health, loami_api_live, loami_api_ready,
    loami_api_metrics, loami_api_models, loami_api_model_one, loami_api_tokenize, loami_api_detokenize, loami_api_template, loami_api_score,
    loami_api_embeddings;

/* For tests: what the two endpoints do before the engine. */
extern const loami_shape loami_chat_shape, loami_text_shape;

/* One token's text as a JSON string, and its bytes as an array of numbers. */
void loami_put_token_text(loami_buf *out, const loam_text *text, int32_t id);
void loami_put_token_bytes(loami_buf *out, const loam_text *text, int32_t id);

#endif
