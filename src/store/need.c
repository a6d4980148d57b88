#include "store/need.h"
#include "file/windows.h"

#include <string.h>

enum {
    STEP_ROWS = 512,  /* of the engine's longest step */
    SCORED_ROWS = 64, /* of which all logits may be wanted */
    PAGE = 64,        /* tokens, of the CPU substrate */
};

typedef struct experts {
    uint32_t n, top_k, ffn; /* n 0: none */
} experts;

static int read_experts(const loami_config *c, experts *x, loam_err *err)
{
    static const char *const counts[] = { "num_experts", "num_local_experts" };
    static const char *const tops[] = { "num_experts_per_tok", "experts_per_token" };
    int rc = 0;
    *x = (experts){ .top_k = 1, .ffn = c->ffn_dim };
    for (int i = 0; rc >= 0 && i < 2; i++)
        rc = loami_json_u32(c->json, "config.json", counts[i], 0, 65536, &x->n, err);
    for (int i = 0; rc >= 0 && i < 2; i++)
        rc = loami_json_u32(c->json, "config.json", tops[i], 1, 65536, &x->top_k, err);
    if (rc >= 0)
        rc = loami_json_u32(c->json, "config.json", "moe_intermediate_size", 1, 1u << 24, &x->ffn, err);
    if (x->n && x->top_k > x->n) x->top_k = x->n;
    return rc < 0 ? rc : 0;
}

/* Bytes of so many weights: affine groups have a scale and a bias of 16 bits each, the others one scale byte.
 */
static uint64_t packed(const loami_config *c, double weights)
{
    const loami_quant_config *q = &c->quant;
    double bits = 16;
    if (q->mode == LOAM_Q_AFFINE)
        bits = q->bits + 32.0 / q->group;
    else if (q->mode != LOAM_Q_NONE)
        bits = q->bits + 8.0 / q->group;
    return (uint64_t)(weights * bits / 8);
}

/* The ordinary decoder's matrices, counted out. */
static void from_shape(loami_need *n, const loami_config *c, const experts *x)
{
    double dim = c->dim, heads = (double)c->n_heads * c->head_dim, kv = (double)c->n_kv_heads * c->head_dim;
    double attention = dim * heads * 2 + dim * kv * 2, each = 3 * dim * x->ffn;
    double all = attention + (x->n ? dim * x->n + each * x->n : each);
    double one = attention + (x->n ? dim * x->n + each * x->top_k : each);
    double norms = (2.0 * c->n_layers + 1) * dim, table = (double)c->vocab * dim;
    n->parameters = (uint64_t)(all * c->n_layers + table * (c->tied ? 1 : 2) + norms);
    n->active_parameters = (uint64_t)(one * c->n_layers + table + norms);
    n->weight_bytes = packed(c, all * c->n_layers + table * (c->tied ? 1 : 2)) + (uint64_t)(2 * norms);
    n->active_bytes = packed(c, one * c->n_layers + table) + (uint64_t)(2 * norms);
}

/* Of a tensor of stacked experts one token reads its share; of the embedding one row, unless it is the output
 * too. */
static void from_tensors(loami_need *n, const loami_info *info, const experts *x)
{
    bool own_head = false;
    double share = info->tensor_bytes ? (double)info->parameters / (double)info->tensor_bytes : 0;
    for (uint32_t k = 0; k < info->tensors; k++)
        own_head |= strstr(loami_weights_at(info->weights, k)->name, "lm_head.") != NULL;
    n->parameters = info->parameters;
    n->weight_bytes = info->tensor_bytes;
    n->active_bytes = 0;
    for (uint32_t k = 0; k < info->tensors; k++) {
        const loami_tensor_view *t = loami_weights_at(info->weights, k);
        bool stacked = x->n > 1 && t->n_dims == 3 && t->shape[0] == x->n;
        if (own_head && !info->config.tied && strstr(t->name, "embed_tokens.")) continue;
        n->active_bytes += stacked ? t->bytes / x->n * x->top_k : t->bytes;
    }
    n->active_parameters = (uint64_t)(share * (double)n->active_bytes);
}

/* As the CPU substrate lays heads out: padded to 16, each with a scale. */
static uint64_t kv_bytes(const loami_config *c, uint32_t n_layers, uint32_t bytes)
{
    uint64_t head = ((uint64_t)c->head_dim + 15) / 16 * 16;
    return 2ull * n_layers * c->n_kv_heads * (head * bytes + sizeof(float));
}

/* What the CPU substrate keeps of a row in the widest places of a step with a context of 8192, fitted to what two shapes
 * take once their engine has rehearsed its largest steps (SmolLM2-135M, Qwen2.5-1.5B; a tenth off or less). Most of it
 * are attention's partial sums, much the same for all. Experts are counted, not measured. */
static uint64_t row_bytes(const loami_config *c, const experts *x)
{
    enum { ATTENTION = 12000 };
    uint64_t ffn = x->n ? (uint64_t)x->ffn * x->top_k : c->ffn_dim;
    return sizeof(float) * (ATTENTION + 5ull * c->dim + ffn / 3 + (x->n ? 5ull * x->top_k * c->dim : 0));
}

static void of_cache(loami_need *n, const loami_config *c, uint32_t bytes)
{
    loami_windows w = loami_windows_of(c);
    n->kv_token_bytes = kv_bytes(c, c->n_layers, bytes);
    n->near_token_bytes = kv_bytes(c, w.n_layers, bytes);
    n->window = w.tokens;
}

int loami_need_of(loami_need *out, const loami_config *c, const loami_info *info, loam_err *err)
{
    experts x;
    loami_need n = { .context = c->context };
    int rc = read_experts(c, &x, err);
    if (rc < 0) return rc;
    if (info)
        from_tensors(&n, info, &x);
    else
        from_shape(&n, c, &x);
    of_cache(&n, c, 2);
    n.row_bytes = row_bytes(c, &x);
    *out = n;
    return 0;
}

void loami_need_int8(loami_need *n, const loami_config *c)
{
    of_cache(n, c, 1);
}

uint64_t loami_need_kv(const loami_need *n, uint64_t context_tokens, uint64_t contexts)
{
    uint64_t most = (1ull << 62) / (n->kv_token_bytes + 1), tokens = context_tokens, near;
    if (!contexts || context_tokens > most / contexts) return contexts ? 1ull << 62 : 0;
    tokens *= contexts;
    if (!n->near_token_bytes) return tokens * n->kv_token_bytes;
    loami_near_room r = { .each = (context_tokens + PAGE - 1) / PAGE, .contexts = contexts, .n_running = contexts, .spare = STEP_ROWS / PAGE };
    r.near_each = loami_window_pages(n->window, PAGE, r.each);
    if (r.near_each == r.each) return tokens * n->kv_token_bytes; /* then the engine keeps everything together */
    near = loami_near_pages(&r, r.each * contexts) * PAGE;
    return tokens * (n->kv_token_bytes - n->near_token_bytes) + near * n->near_token_bytes;
}

/* What one token's attention reads of so many before it. */
static uint64_t read_bytes(const loami_need *n, uint64_t tokens)
{
    uint64_t near = n->window && tokens > n->window ? n->window : tokens;
    return tokens * (n->kv_token_bytes - n->near_token_bytes) + near * n->near_token_bytes;
}

uint64_t loami_need_scratch(const loami_need *n, const loami_config *c)
{
    return STEP_ROWS * n->row_bytes + SCORED_ROWS * sizeof(float) * (uint64_t)c->vocab;
}

double loami_need_decode(const loami_need *n, double bytes_per_s, uint64_t tokens)
{
    double bytes = (double)n->active_bytes + (double)read_bytes(n, tokens);
    return bytes > 0 ? bytes_per_s / bytes : 0;
}
