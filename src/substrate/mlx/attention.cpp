#include "substrate/mlx/shim.h"

#include <algorithm>
#include <cmath>

/* ---- before the cache ----------------------------------------------------------------------------------- */

const mx::array &loami_mlx_freqs(loam_sub *s, const loam_rope *rope, bool inverse)
{
    std::vector<float> inv(rope->inv_freq, rope->inv_freq + rope->dims / 2);
    for (const auto &r : s->ropes)
        if (r.inv_freq == inv) return inverse ? r.inverse : r.freqs;
    mx::array on_device = mx::copy(mx::array(inv.begin(), { (int)inv.size() }, mx::float32)), freqs = mx::reciprocal(on_device);
    mx::eval(on_device, freqs);
    s->ropes.push_back({ std::move(inv), on_device, freqs });
    return inverse ? s->ropes.back().inverse : s->ropes.back().freqs;
}

/* x[rows][heads][1][head_dim], of which the first is row `first` of the step. */
static mx::array rotate_rows(loam_sub *s, const loam_rope *rope, const mx::array &x, int first)
{
    enum { FEW_DIMS = 32, AT_ONCE = 64 }; /* MLX 0.32 cannot launch its kernel on NVIDIA's GPUs for more rows of so few dims */
    int rows = x.shape(0), n = s->kernels && rope->dims < FEW_DIMS ? std::min<int>(rows, AT_ONCE) : rows;
    mx::array positions = n == s->positions->shape(0) ? *s->positions : mx::slice(*s->positions, { first }, { first + n });
    mx::array some = n == rows ? x : mx::slice(x, { 0, 0, 0, 0 }, { n, x.shape(1), 1, x.shape(3) });
    mx::array y = mx::fast::rope(some, (int)rope->dims, rope->interleaved, std::nullopt, 1, positions, loami_mlx_freqs(s, rope, false));
    if (n == rows) return y;
    return mx::concatenate({ y, rotate_rows(s, rope, mx::slice(x, { n, 0, 0, 0 }, x.shape()), first + n) }, 0);
}

/* x[rows][heads][head_dim], each row at a position of its own. */
static mx::array rotate(loam_sub *s, const loam_rope *rope, const mx::array &x)
{
    int dims = (int)rope->dims, dim = x.shape(-1);
    if (dims == 0) return x;
    mx::array y = mx::squeeze(rotate_rows(s, rope, mx::expand_dims(x, 2), 0), 2);
    if (rope->scale == 1) return y;
    std::vector<float> by((size_t)dim, 1.0f);
    for (int i = 0; i < dims; i++) by[(size_t)i] = rope->scale;
    return mx::multiply(y, mx::astype(mx::array(by.begin(), { dim }, mx::float32), y.dtype()));
}

/* Norms and rotates x[rows][n * head_dim] as n heads: [rows][n][head_dim]. */
static mx::array prepare(loam_sub *s, const loam_heads *heads, const loam_norm *norm, mx::array x, int n)
{
    int dim = (int)heads->head_dim;
    bool each = norm && norm->weight->cols == heads->head_dim;
    if (norm && !each) x = loami_mlx_norm(s, x, norm);
    x = mx::reshape(x, { x.shape(0), n, dim });
    if (each) x = loami_mlx_norm(s, x, norm);
    return heads->rope ? rotate(s, heads->rope, x) : x;
}

/* What each row's queries are multiplied by, as its position wants: [rows][1][1]. */
static mx::array growth_of(const loam_sub *s, const loam_heads *heads, mx::Dtype type)
{
    std::vector<float> by(s->batch->n_rows);
    for (uint32_t i = 0; i < s->batch->n_seqs; i++) {
        const loam_seq_rows *q = &s->batch->seqs[i];
        for (uint32_t r = 0; r < q->n_rows; r++)
            by[q->first_row + r] = 1 + heads->q_growth * std::log(1 + std::floor((float)(q->n_past + r) / (float)heads->q_growth_tokens));
    }
    return mx::astype(mx::array(by.begin(), { (int)by.size(), 1, 1 }, mx::float32), type);
}

/* Columns of the joined projection: its own part, or a slice. */
static mx::array columns(loam_sub *s, loami_mlx_value *v, int part, int from, int n)
{
    if (v->parts.size() == 3 && v->parts[(size_t)part].shape(1) == n) return v->parts[(size_t)part];
    return mx::slice(loami_mlx_whole(s, v), { 0, from }, { v->rows, from + n });
}

loam_tensor loami_mlx_store(loam_sub *s, loam_tensor qkv, uint32_t layer, const loam_heads *heads)
{
    loami_mlx_value *v = loami_mlx_take(s, qkv);
    int rows = v->rows, dim = (int)heads->head_dim, nq = (int)heads->n_q * dim, nkv = (int)heads->n_kv * dim;
    if (loami_mlx_cuda_can_store(s, heads)) return loami_mlx_new(s, rows, { loami_mlx_cuda_store(s, loami_mlx_whole(s, v), layer, heads) });
    mx::array q = prepare(s, heads, heads->q_norm, columns(s, v, 0, 0, nq), (int)heads->n_q);
    if (heads->q_growth_tokens) q = mx::multiply(q, growth_of(s, heads, q.dtype()));
    mx::array k = prepare(s, heads, heads->k_norm, columns(s, v, 1, nq, nkv), (int)heads->n_kv);
    mx::array values = mx::reshape(columns(s, v, 2, nq + nkv, nkv), { rows, (int)heads->n_kv, dim });
    loami_mlx_cache_write(s, layer, k, values);
    return loami_mlx_new(s, rows, { q });
}

/* ---- attention ------------------------------------------------------------------------------------------ */

/* Which of keys [from, n_past + n_rows) each of a sequence's rows may see; one array for all layers. */
static mx::array mask_of(loam_sub *s, const loami_mlx_seq &q, int from, int window)
{
    std::vector<int> key = { q.n_rows, q.n_past, from, window };
    auto at = s->masks.find(key);
    if (at != s->masks.end()) return at->second;
    int end = q.n_past + q.n_rows;
    mx::array row = mx::expand_dims(mx::arange(q.n_past, end, mx::int32), 1), col = mx::expand_dims(mx::arange(from, end, mx::int32), 0);
    mx::array mask = mx::less_equal(col, row);
    if (window) mask = mx::logical_and(mask, mx::greater(col, mx::subtract(row, mx::array(window))));
    s->masks.emplace(key, mask);
    return mask;
}

/* Attention with capped scores, which MLX has no operation for. q[1][n_q][rows][dim], k and v[1][n_kv][keys][dim]. */
static mx::array capped(const mx::array &q, const mx::array &k, const mx::array &v, const loam_attn *attn,
                        const std::optional<mx::array> &mask, const std::optional<mx::array> &sinks)
{
    int n_q = q.shape(1), rows = q.shape(2), dim = q.shape(3), n_kv = k.shape(1), keys = k.shape(2);
    mx::array cap(attn->softcap);
    mx::array grouped = mx::reshape(q, { 1, n_kv, n_q / n_kv, rows, dim });
    mx::array scores = mx::astype(mx::matmul(grouped, mx::swapaxes(mx::expand_dims(k, 2), -1, -2)), mx::float32);
    scores = mx::multiply(mx::tanh(mx::divide(mx::multiply(scores, mx::array(attn->scale)), cap)), cap);
    if (mask) scores = mx::where(*mask, scores, mx::array(-INFINITY));
    if (sinks) {
        mx::array sink = mx::reshape(mx::astype(*sinks, mx::float32), { 1, n_kv, n_q / n_kv, 1, 1 });
        scores = mx::concatenate({ scores, mx::broadcast_to(sink, { 1, n_kv, n_q / n_kv, rows, 1 }) }, -1);
    }
    scores = mx::softmax(scores, -1, true);
    if (sinks) scores = mx::slice(scores, { 0, 0, 0, 0, 0 }, { 1, n_kv, n_q / n_kv, rows, keys });
    return mx::reshape(mx::matmul(mx::astype(scores, v.dtype()), mx::expand_dims(v, 2)), { 1, n_q, rows, dim });
}

/* One sequence's rows of q[rows][n_q][head_dim]: [rows][n_q * head_dim]. */
static mx::array attend_seq(loam_sub *s, const loami_mlx_seq &seq, const mx::array &q, uint32_t layer, const loam_attn *attn)
{
    const loami_mlx_cache &c = s->cache.at(layer);
    const loami_mlx_place &at = seq.at[loami_kv_group_of(&s->kv, layer)];
    int n_q = q.shape(1), dim = q.shape(2), end = seq.n_past + seq.n_rows, window = (int)attn->window;
    int from = (int)loami_window_from(attn->window, (uint32_t)seq.n_past);
    bool slides = window && end > window; /* some row does not see all keys before it */
    mx::array k = loami_mlx_cache_view(*c.k, at, from, end), v = loami_mlx_cache_view(*c.v, at, from, end);
    mx::array rows = mx::slice(q, { seq.first, 0, 0 }, { seq.first + seq.n_rows, n_q, dim });
    rows = mx::expand_dims(mx::transpose(rows, { 1, 0, 2 }), 0);
    std::optional<mx::array> mask, sinks;
    if (seq.n_rows > 1 && (slides || attn->softcap != 0)) mask = mask_of(s, seq, from, slides ? window : 0);
    if (attn->sinks) sinks = loami_mlx_vector(const_cast<loam_weight *>(attn->sinks), 0);
    mx::array o = attn->softcap != 0 ? capped(rows, k, v, attn, mask, sinks)
                                     : mx::fast::scaled_dot_product_attention(rows, k, v, attn->scale, mask ? "array" : seq.n_rows > 1 ? "causal" : "",
                                                                              mask, sinks);
    return mx::reshape(mx::transpose(mx::squeeze(o, 0), { 1, 0, 2 }), { seq.n_rows, n_q * dim });
}

/* While few rows are run, the machine is as quick as the graph grows: it starts on the first layers before the last are
 * there. Many rows keep it busy anyway, and would keep their memory; so does the step before, if it is under way. */
static void start_early(const loam_sub *s, uint32_t layer, const mx::array &x)
{
    enum { ROWS = 64, EVERY = 4 };
    if (s->gpu && s->batch->tokens && s->batch->n_rows <= ROWS && layer % EVERY == 0) mx::async_eval(x);
}

loam_tensor loami_mlx_attend(loam_sub *s, loam_tensor q, uint32_t layer, const loam_heads *heads, const loam_attn *attn)
{
    loami_mlx_value *v = loami_mlx_take(s, q);
    int rows = v->rows, n_q = (int)heads->n_q, dim = (int)heads->head_dim;
    mx::array in = mx::reshape(loami_mlx_whole(s, v), { rows, n_q, dim });
    std::vector<mx::array> out;
    size_t first = 0;
    if (s->n_single && loami_mlx_cuda_can_attend(s, heads)) {
        mx::array single = s->n_single_rows == rows ? in : mx::slice(in, { 0, 0, 0 }, { s->n_single_rows, n_q, dim });
        out.push_back(loami_mlx_cuda_attend(s, single, layer, heads, attn));
        first = (size_t)s->n_single;
    }
    for (size_t i = first; i < s->seqs.size(); i++) out.push_back(attend_seq(s, s->seqs[i], in, layer, attn));
    mx::array all = out.size() == 1 ? out[0] : mx::concatenate(out, 0);
    start_early(s, layer, all);
    return loami_mlx_new(s, rows, { all });
}
