/* api/api.h: the HTTP API of a server's models: OpenAI's shapes on one side, loam.h on the other.
 *
 * JSON stops here. Requests are parsed, rendered and tokenised on workers; answers are written on the loop's
 * thread. One file an endpoint; what they share is in run.h (a request through the engine) and fields.h. */
#ifndef LOAMI_API_H
#define LOAMI_API_H

#include "api/served.h"

typedef struct loami_api loami_api;

/* Zero is the default everywhere. Strings are borrowed. */
typedef struct loami_api_config {
    loami_models_config models; /* started tells that requests are answered from now on, or never will be */
    uint32_t max_tokens;    /* of an answer whose request does not say; 0 = until the context is full */
    loam_sampling sampling; /* likewise; temperature is taken as it is */
    uint32_t workers;       /* threads that parse and tokenise; 0 = 2 */
    uint32_t keep_alive_s;       /* a silent stream gets a comment that often; 0 = 15 */
    bool lenient;           /* unknown fields are ignored, not refused */
    bool log_prompts;       /* the access log has prompts and answers */
    uint32_t timeout_s;     /* of a request, from its arrival to its last token, if it does not say less; 0 = none */
    uint32_t stall_s;       /* a step of an engine that takes longer: the server is not healthy; 0 = 60 */
    void (*on_stall)(void *arg, const char *model, double step_s); /* it does; loop's thread; may be NULL */
    void *stall_arg;
    const struct loami_share_source *share; /* share.h; NULL = its routes are not used */
} loami_api_config;

int loami_api_open(loami_api **out, loami_loop *loop, const loami_api_config *config, loam_err *err);

/* When the loop has stopped, before server and engine are closed. */
void loami_api_close(loami_api *a);

/* Every endpoint; their arg is the loami_api. */
extern const loami_route loami_api_routes[];

/* Loads what belongs to the start; until config.models.started was called, requests get 503. Loop's thread. */
int loami_api_start(loami_api *a, loam_err *err);

/* What the first loaded model runs on; NULL while none is. */
const char *loami_api_device(const loami_api *a);

/* A model is being loaded or unloaded, which nothing can hurry: closing waits for it. */
bool loami_api_busy(const loami_api *a);

/* A step of some engine takes longer than stall_s. Loop's thread. */
bool loami_api_stalled(const loami_api *a);

/* The server is about to end: /health says so. */
void loami_api_drain(loami_api *a);

/* Ends every running answer with an error. */
void loami_api_cancel_all(loami_api *a);

#endif
