#include "api/endpoints.h"
#include "api/errand.h"
#include "api/share.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WORKERS = 2, MAX_WAITING = 256 /* parses; the engine has a queue of its own behind */ };

const loami_route loami_api_routes[] = {
    { "GET", "/health", loami_api_health, true },
    { "GET", "/livez", loami_api_live, true },
    { "GET", "/readyz", loami_api_ready, true },
    { "GET", "/metrics", loami_api_metrics, true },
    { "GET", "/v1/models", loami_api_models, false },
    { "GET", "/v1/models/*", loami_api_model_one, false },
    { "POST", "/v1/chat/completions", loami_api_chat, false },
    { "POST", "/v1/completions", loami_api_completions, false },
    { "POST", "/v1/embeddings", loami_api_embeddings, false },
    { "POST", "/v1/score", loami_api_score, false },
    { "POST", "/tokenize", loami_api_tokenize, false },
    { "POST", "/detokenize", loami_api_detokenize, false },
    { "POST", "/apply-template", loami_api_template, false },
    { NULL, NULL, NULL, false },
};

int loami_api_open(loami_api **out, loami_loop *loop, const loami_api_config *config, loam_err *err)
{
    loami_api *a = calloc(1, sizeof *a);
    if (!a) return loami_fail_nomem(err);
    a->config = *config;
    a->loop = loop;
    a->opened_s = (int64_t)time(NULL);
    a->id_salt = (uint64_t)a->opened_s * 0x2545f4914f6cdd1du;
    LIST_INIT(&a->runs);
    LIST_INIT(&a->errands);
    LIST_INIT(&a->shares);
    int rc = loami_workers_open(&a->workers, loop, config->workers ? config->workers : WORKERS, MAX_WAITING,
                                err);
    if (rc < 0) loami_api_close(a);
    else *out = a;
    return rc;
}

void loami_api_close(loami_api *a)
{
    if (!a) return;
    loami_models_stop(&a->models);
    loami_workers_close(a->workers);
    loami_run_abandon_all(a);
    loami_errand_abandon_all(a);
    loami_share_abandon_all(a);
    loami_timer_clear(&a->watch);
    loami_models_close(&a->models);
    free(a);
}

int loami_api_start(loami_api *a, loam_err *err)
{
    return loami_models_open(&a->models, a->loop, &a->config.models, err);
}

bool loami_api_busy(const loami_api *a)
{
    return loami_models_busy(&a->models);
}

void loami_api_drain(loami_api *a)
{
    a->draining = true;
}

/* ---- tokens in words ---------------------------------------------------------------------------------- */

/* An id that pads the vocabulary has no bytes. */
static char *token_bytes(const loam_text *text, int32_t id, size_t *n)
{
    char *s = NULL;
    if (loam_token_bytes(text, id, &s, n, NULL) < 0) *n = 0;
    return s;
}

void loami_put_token_text(loami_buf *out, const loam_text *text, int32_t id)
{
    size_t n;
    char *s = token_bytes(text, id, &n);
    loami_json_put(out, s ? s : "", n);
    free(s);
}

void loami_put_token_bytes(loami_buf *out, const loam_text *text, int32_t id)
{
    size_t n;
    char *s = token_bytes(text, id, &n);
    loami_buf_putc(out, '[');
    for (size_t i = 0; i < n; i++) loami_buf_printf(out, "%s%d", i ? "," : "", (unsigned char)s[i]);
    loami_buf_putc(out, ']');
    free(s);
}

int loami_api_check_ready(const loami_api *a, loami_fault *f)
{
    if (a->models.ready) return 0;
    return loami_fault_set(f, 503, "loading", "", "The model is still being loaded. Try again in a moment.");
}

const char *loami_api_model(const loami_api *a, const char *model, loami_fault *f)
{
    const char *known = NULL;
    loami_models_find((loami_models *)&a->models, model, &known, f);
    return known;
}
