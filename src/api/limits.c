/* How long a request may take, and how much memory its answer. */
#include "api/run.h"

#include "base/clock.h"

#include <math.h>
#include <stdlib.h>

int loami_header_timeout(const loami_reply *r, double *out, loami_fault *f)
{
    const char *given = loami_reply_header(r, "X-Request-Timeout");
    char *end;
    *out = 0;
    if (!given) return 0;
    double s = strtod(given, &end);
    if (end == given || *end || !(s > 0 && s <= LOAMI_TIMEOUT_MAX_S))
        return loami_fault_set(f, 400, "invalid_value", "X-Request-Timeout",
                               "The header X-Request-Timeout must be a number of seconds, above 0 and at most %d.",
                               LOAMI_TIMEOUT_MAX_S);
    *out = s;
    return 0;
}

double loami_deadline(const loami_api *a, const json_t *body, double header_s, double arrived_s)
{
    const double said[] = { json_number_value(json_object_get(body, "timeout")), header_s, a->config.timeout_s };
    double limit_s = INFINITY;
    for (int i = 0; i < 3; i++)
        if (said[i] > 0 && said[i] < limit_s) limit_s = said[i];
    return limit_s < INFINITY ? arrived_s + limit_s : 0;
}

uint32_t loami_deadline_ms(double deadline_s)
{
    double left_ms = (deadline_s - loami_now_s()) * 1e3;
    if (deadline_s <= 0) return 0;
    return left_ms > 1 ? (uint32_t)left_ms : 1;
}

size_t loami_job_bytes(const loam_job_request *r, uint32_t embed_dims)
{
    enum { NUMBER = 14, ENTRY = 64 }; /* bytes of text: a vector's number, a token with its log-probability */
    size_t places = 0;
    if (r->kind == LOAM_JOB_EMBED) return (size_t)r->n_texts * embed_dims * (sizeof(float) + NUMBER);
    for (uint32_t i = 0; i < r->n_texts; i++) places += r->texts[i].n;
    return places * (sizeof(float) + sizeof(uint32_t) + ENTRY + (size_t)r->n_top * (sizeof(loam_logprob) + ENTRY));
}
