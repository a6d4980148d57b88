/* POST /v1/embeddings: texts as vectors, from the loaded model's hidden states. */
#include "api/embeddings.h"
#include "api/endpoints.h"
#include "api/errand.h"
#include "api/params.h"
#include "api/prompt.h"

#include <openssl/evp.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_TEXTS = 2048,    /* OpenAI's */
    MAX_TOKENS = 300000, /* of a request, likewise */
};

static int read_input(void *to, const json_t *v, const char *where, loami_fault *f)
{
    if (!json_is_string(v) && !json_is_array(v))
        return loami_field_wrong(f, where, "a string, or an array of strings or of token ids");
    *(const json_t **)to = v;
    return 0;
}

static const loami_field fields[] = {
    LOAMI_FIELD(STRING, "model", loami_embedding, model),
    { .name = "input",
      .kind = LOAMI_F_CUSTOM,
      .at = offsetof(loami_embedding, input),
      .read = read_input,
      .required = true },
    { .name = "encoding_format",
      .kind = LOAMI_F_CHOICE,
      .at = offsetof(loami_embedding, encoding),
      .words = "float|base64" },
    { .name = "pooling", .kind = LOAMI_F_CHOICE, .at = offsetof(loami_embedding, pooling), .words = "mean|last" },
    LOAMI_RANGE(U32, "dimensions", loami_embedding, dims, 1, 1e6),
    LOAMI_READ_AT("add_special_tokens", offsetof(loami_embedding, no_special), loami_read_not),
    LOAMI_READ_AT("timeout", offsetof(loami_embedding, timeout_s), loami_read_timeout),
    LOAMI_READ_AT("priority", offsetof(loami_embedding, priority), loami_read_priority),
    LOAMI_HINT("user", STRING),
    { 0 },
};

static int read_text(loam_tokens *to, const loami_served *m, const json_t *v, const char *where, bool no_special, loami_fault *f)
{
    loam_err err;
    int32_t *ids = NULL;
    if (json_is_array(v)) {
        ids = loami_token_array(v, where, &to->n, f);
    } else {
        int n = loam_encode(m->text, json_string_value(v), json_string_length(v), no_special ? LOAM_NO_SPECIAL : 0, &ids, &err);
        if (n < 0) return loami_fault_from(f, &err, where);
        to->n = (uint32_t)n;
    }
    to->ids = ids;
    if (ids && to->n == 0) return loami_field_wrong(f, where, "text with at least one token");
    return ids ? 0 : -1;
}

static int read_texts(loami_embedding *q, const loami_served *m, loami_fault *f)
{
    char where[32];
    q->n_texts = loami_texts_count(q->input, "input", MAX_TEXTS, f);
    if (q->n_texts == 0) return -1;
    q->texts = calloc(q->n_texts, sizeof *q->texts);
    if (!q->texts) return loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
    for (uint32_t i = 0; i < q->n_texts; i++) {
        const json_t *v = loami_texts_get(q->input, "input", i, where, f);
        if (!v || read_text(&q->texts[i], m, v, where, q->no_special, f) < 0) return -1;
        q->n_tokens += q->texts[i].n;
        if (q->n_tokens > MAX_TOKENS)
            return loami_fault_set(f, 400, "invalid_value", "input", "'input' has more than %d tokens together.", MAX_TOKENS);
    }
    return 0;
}

int loami_embedding_read(loami_embedding *q, const loami_api *a, const loami_served *m, const json_t *body, loami_fault *f)
{
    uint32_t all = m->info->embed_dims;
    if (loami_fields_read(fields, body, "", a->config.lenient, q, f) < 0 || !(q->name = loami_api_model(a, q->model, f))) return -1;
    if (q->dims > all)
        return loami_fault_set(f, 400, "invalid_value", "dimensions", "'dimensions' can be at most %u: the model has no more.", all);
    if (q->dims == 0) q->dims = all;
    q->base64 = q->encoding && strcmp(q->encoding, "base64") == 0;
    return read_texts(q, m, f);
}

void loami_embedding_free(loami_embedding *q)
{
    for (uint32_t i = 0; q->texts && i < q->n_texts; i++) free((void *)q->texts[i].ids);
    free(q->texts);
}

/* The first n numbers of a vector of length 1 are scaled to be one again (Matryoshka, Kusupati et al. 2022). */
static void cut(float *to, const float *v, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)v[i] * v[i];
    for (uint32_t i = 0; i < n; i++) to[i] = sum > 0 ? (float)(v[i] / sqrt(sum)) : v[i];
}

static void put_vector(loami_buf *out, const float *v, uint32_t n, bool base64)
{
    if (!base64) {
        for (uint32_t i = 0; i < n; i++) loami_buf_printf(out, "%s%.9g", i ? "," : "[", v[i]);
        loami_buf_putc(out, ']');
        return;
    }
    size_t bytes = n * sizeof *v, chars = (bytes + 2) / 3 * 4;
    if (!loami_buf_reserve(out, chars + 3)) return;
    loami_buf_putc(out, '"');
    EVP_EncodeBlock((unsigned char *)out->data + out->len, (const unsigned char *)v, (int)bytes);
    out->len += chars;
    loami_buf_putc(out, '"');
}

static int embed(loami_errand *e, const loami_served *m, const json_t *body, loami_buf *out, loami_fault *f)
{
    loami_embedding *q = e->state;
    (void)out;
    if (loami_embedding_read(q, e->api, m, body, f) < 0) return -1;
    loam_job_request request = {
        .kind = LOAM_JOB_EMBED,
        .texts = q->texts,
        .n_texts = q->n_texts,
        .pooling = !q->pooling ? LOAM_POOL_MODEL : q->pooling[0] == 'm' ? LOAM_POOL_MEAN : LOAM_POOL_LAST,
        .priority = q->priority,
    };
    return loami_errand_begin(e, m, &request, "input", f);
}

static void put(loami_errand *e, const loami_served *m, const loam_outcome *r, loami_buf *out)
{
    const loami_embedding *q = e->state;
    uint32_t all_dims = m->info->embed_dims;
    float *some = malloc(q->dims * sizeof *some);
    out->failed |= !some;
    loami_buf_puts(out, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; some && i < q->n_texts; i++) {
        const float *v = r->floats + (size_t)i * all_dims;
        if (q->dims < all_dims) cut(some, v, q->dims);
        loami_buf_printf(out, "%s{\"object\":\"embedding\",\"index\":%u,\"embedding\":", i ? "," : "", i);
        put_vector(out, q->dims < all_dims ? some : v, q->dims, q->base64);
        loami_buf_putc(out, '}');
    }
    loami_buf_puts(out, "],\"model\":");
    loami_json_put(out, q->name, strlen(q->name));
    loami_buf_printf(out, ",\"usage\":{\"prompt_tokens\":%u,\"total_tokens\":%u}}", q->n_tokens, q->n_tokens);
    free(some);
}

static void clear(void *state)
{
    loami_embedding_free(state);
}

void loami_api_embeddings(loami_reply *r, void *api)
{
    static const loami_errand_kind kind = { sizeof(loami_embedding), embed, put, clear, offsetof(loami_stats, embeddings) };
    loami_errand_open(api, r, &kind);
}
