/* api/api.h: the HTTP API of one engine: OpenAI's shapes on one side, loam.h on the other.
 *
 * JSON stops here. Requests are parsed, rendered and tokenised on workers; answers are written on the loop's
 * thread. One file an endpoint; what they share is in run.h (a request through the engine) and fields.h. */
#ifndef LOAMI_API_H
#define LOAMI_API_H

#include "net/server.h"

typedef struct loami_api loami_api;

/* Zero is the default everywhere. Strings are borrowed. */
typedef struct loami_api_config {
    const char *const
        *names; /* [n_names] what "model" may say besides "default"; the first is the one shown */
    uint32_t n_names;
    uint32_t max_tokens;    /* of an answer whose request does not say; 0 = until the context is full */
    loam_sampling sampling; /* likewise; temperature is taken as it is */
    uint32_t workers;       /* threads that parse and tokenise; 0 = 2 */
    uint32_t keep_alive_s;       /* a silent stream gets a comment that often; 0 = 15 */
    bool lenient;           /* unknown fields are ignored, not refused */
} loami_api_config;

int loami_api_open(loami_api **out, loami_loop *loop, const loami_api_config *config, loam_err *err);

/* When the loop has stopped, before server and engine are closed. */
void loami_api_close(loami_api *a);

/* Every endpoint; their arg is the loami_api. */
extern const loami_route loami_api_routes[];

/* The engine is loaded: until then requests get 503. Loop's thread. */
void loami_api_ready(loami_api *a, loam_engine *engine);

/* The server is about to end: /health says so. */
void loami_api_drain(loami_api *a);

/* Ends every running answer with an error. */
void loami_api_cancel_all(loami_api *a);

#endif
