#include "substrate/mlx/shim.h"

#include <cmath>

static const char *const modes[] = { "", "affine", "mxfp4", "mxfp8", "nvfp4" };

static mx::array like(float x, const mx::array &a)
{
    return mx::array(x, a.dtype());
}

/* ---- matrices ------------------------------------------------------------------------------------------- */

/* Whether a GPU of NVIDIA multiplies by weights made floats before: from so many rows on that is faster, as MLX's kernels for quantised
 * ones are not made for its large matrix units. For several rows those of MLX 0.32 give wrong numbers where a row is one group, and in
 * float32 ask for more shared memory than there is. */
static bool dequantises(const loam_sub *s, const loami_mlx_part &p, const mx::array &x)
{
    enum { FROM = 129 };
    int rows = x.shape(0);
    return s->kernels && rows > 1 && (rows >= FROM || x.dtype() == mx::float32 || p.scales->shape(-1) == 1);
}

mx::array loami_mlx_apply(const loam_sub *s, const loami_mlx_part &p, const mx::array &x)
{
    bool plain = p.quant == LOAM_Q_NONE;
    if (plain || dequantises(s, p, x)) {
        mx::array w = mx::transpose(plain ? p.data : mx::dequantize(p.data, *p.scales, p.biases, p.group, p.bits, modes[p.quant], std::nullopt, x.dtype()));
        return p.bias ? mx::addmm(*p.bias, x, w) : mx::matmul(x, w);
    }
    mx::array y = mx::quantized_matmul(x, p.data, *p.scales, p.biases, true, p.group, p.bits, modes[p.quant]);
    return p.bias ? mx::add(y, *p.bias) : y;
}

std::vector<mx::array> loami_mlx_multiply(loam_sub *s, const mx::array &x, const loam_norm *norm, const loam_weight *w, const mx::array *old)
{
    std::vector<mx::array> out;
    bool ours = w->parts.size() == 1 && loami_mlx_cuda_can_multiply(s, w->parts[0], x.shape(0));
    if (ours) return { loami_mlx_cuda_multiply(s, w->parts[0], x, norm, 0, old) };
    mx::array in = norm ? loami_mlx_norm(s, x, norm) : x;
    for (const loami_mlx_part &p : w->parts) out.push_back(loami_mlx_apply(s, p, in));
    if (old) return { mx::add(*old, out.size() == 1 ? out[0] : mx::concatenate(out, 1)) };
    return out;
}

loam_tensor loami_mlx_linear(loam_sub *s, loam_tensor x, const loam_weight *w)
{
    loami_mlx_value *v = loami_mlx_take(s, x);
    int rows = v->rows;
    if (rows == 0) return loami_mlx_new(s, 0, { mx::zeros({ 0, (int)w->rows }, *s->type) });
    bool normed = v->parts.empty() && !v->linear; /* a norm still pending may go along */
    const loam_norm *norm = normed ? v->norm : nullptr;
    mx::array in = normed ? *v->x : loami_mlx_whole(s, v);
    if (w->parts.size() == 1 && loami_mlx_cuda_can_multiply(s, w->parts[0], rows)) return loami_mlx_new_pending(s, in, norm, w);
    if (norm) in = loami_mlx_whole(s, v);
    return loami_mlx_new(s, rows, loami_mlx_multiply(s, in, nullptr, w, nullptr));
}

loam_tensor loami_mlx_embed(loam_sub *s, const loam_weight *table, float scale)
{
    mx::array x = loami_mlx_rows(s, table->parts[0], *s->tokens);
    if (scale != 1) x = mx::multiply(x, like(scale, x));
    return loami_mlx_new(s, (int)s->batch->n_rows, { x });
}

loam_tensor loami_mlx_gather(loam_sub *s, loam_tensor x)
{
    loami_mlx_value *v = loami_mlx_take(s, x);
    int n = (int)s->batch->n_wanted, cols = v->cols;
    mx::array in = loami_mlx_whole(s, v);
    if (n == in.shape(0)) return loami_mlx_new(s, n, { in });
    if (n == 0) return loami_mlx_new(s, 0, { mx::zeros({ 0, cols }, in.dtype()) });
    return loami_mlx_new(s, n, { mx::take(in, *s->wanted, 0) });
}

/* ---- rows ----------------------------------------------------------------------------------------------- */

mx::array loami_mlx_norm(loam_sub *s, const mx::array &x, const loam_norm *norm)
{
    loam_weight *w = const_cast<loam_weight *>(norm->weight);
    std::optional<mx::array> weight, bias;
    if (w) weight = loami_mlx_vector(w, norm->offset);
    if (w) bias = loami_mlx_vector_bias(s, w);
    if (norm->kind == LOAM_NORM_LAYER) return mx::fast::layer_norm(x, weight, bias, norm->eps);
    mx::array y = mx::fast::rms_norm(x, weight, norm->eps);
    return bias ? mx::add(y, *bias) : y;
}

loam_tensor loami_mlx_norm_op(loam_sub *s, loam_tensor x, const loam_norm *norm)
{
    loami_mlx_value *v = loami_mlx_take(s, x);
    int rows = v->rows;
    mx::array in = loami_mlx_whole(s, v);
    if (loami_mlx_cuda_can_norm(s, norm, rows)) return loami_mlx_new_pending(s, in, norm, nullptr);
    return loami_mlx_new(s, rows, { rows ? loami_mlx_norm(s, in, norm) : in });
}

loam_tensor loami_mlx_add(loam_sub *s, loam_tensor x, loam_tensor y, float y_scale)
{
    mx::array a = loami_mlx_whole(s, loami_mlx_take(s, x));
    loami_mlx_value *v = loami_mlx_take(s, y);
    if (v->parts.empty() && v->linear && y_scale == 1) return loami_mlx_new(s, v->rows, loami_mlx_multiply(s, *v->x, v->norm, v->linear, &a));
    mx::array b = loami_mlx_whole(s, v);
    if (y_scale != 1) b = mx::multiply(b, like(y_scale, b));
    return loami_mlx_new(s, a.shape(0), { mx::add(a, b) });
}

loam_tensor loami_mlx_cap(loam_sub *s, loam_tensor x, float scale, float cap)
{
    mx::array a = loami_mlx_whole(s, loami_mlx_take(s, x));
    if (scale != 1) a = mx::multiply(a, like(scale, a));
    if (cap != 0) a = mx::multiply(mx::tanh(mx::divide(a, like(cap, a))), like(cap, a));
    return loami_mlx_new(s, a.shape(0), { a });
}

/* ---- gated units ---------------------------------------------------------------------------------------- */

using arrays = std::vector<mx::array>;

static arrays silu(const arrays &in)
{
    return { mx::multiply(mx::multiply(in[0], mx::sigmoid(in[0])), in[1]) };
}

static arrays gelu(const arrays &in)
{
    const mx::array &g = in[0];
    mx::array erf = mx::erf(mx::multiply(g, like((float)M_SQRT1_2, g)));
    return { mx::multiply(mx::multiply(mx::multiply(g, mx::add(erf, like(1, g))), like(0.5f, g)), in[1]) };
}

static arrays gelu_tanh(const arrays &in)
{
    const mx::array &g = in[0];
    mx::array cube = mx::multiply(mx::multiply(g, g), g);
    mx::array t = mx::tanh(mx::multiply(mx::add(g, mx::multiply(cube, like(0.044715f, g))), like(0.7978845608028654f, g)));
    return { mx::multiply(mx::multiply(mx::multiply(g, mx::add(t, like(1, g))), like(0.5f, g)), in[1]) };
}

static arrays swiglu_oai(const arrays &in) /* gpt-oss: clamped at 7, sigmoid of 1.702 g, up shifted by one */
{
    mx::array g = mx::minimum(in[0], like(7, in[0]));
    mx::array u = mx::clip(in[1], like(-7, in[1]), like(7, in[1]));
    return { mx::multiply(mx::multiply(g, mx::sigmoid(mx::multiply(g, like(1.702f, g)))), mx::add(u, like(1, u))) };
}

/* Each is one kernel where MLX compiles (on a GPU). */
mx::array loami_mlx_act(loam_act act, const mx::array &gate, const mx::array &up)
{
    static const auto fused_silu = mx::compile(silu, true), fused_gelu = mx::compile(gelu, true),
                      fused_tanh = mx::compile(gelu_tanh, true), fused_oai = mx::compile(swiglu_oai, true);
    switch (act) {
    case LOAM_ACT_SILU: return fused_silu({ gate, up })[0];
    case LOAM_ACT_GELU: return fused_gelu({ gate, up })[0];
    case LOAM_ACT_GELU_TANH: return fused_tanh({ gate, up })[0];
    case LOAM_ACT_SWIGLU_OAI: return fused_oai({ gate, up })[0];
    }
    throw std::runtime_error("an activation that the seam does not have");
}

/* Gate and up, whether they are two arrays or the halves of one. */
std::pair<mx::array, mx::array> loami_mlx_halves(const arrays &parts)
{
    if (parts.size() == 2 && parts[0].shape(-1) == parts[1].shape(-1)) return { parts[0], parts[1] };
    arrays halves = mx::split(parts.size() == 1 ? parts[0] : mx::concatenate(parts, -1), 2, -1);
    return { halves[0], halves[1] };
}

loam_tensor loami_mlx_glu(loam_sub *s, loam_tensor x, const loam_weight *gate_up, loam_act act)
{
    loami_mlx_value *v = loami_mlx_take(s, x);
    int rows = v->rows;
    if (rows == 0) return loami_mlx_new(s, 0, { mx::zeros({ 0, (int)gate_up->rows / 2 }, *s->type) });
    bool ours = gate_up->parts.size() == 1 && loami_mlx_cuda_can_multiply(s, gate_up->parts[0], rows);
    bool normed = ours && v->parts.empty() && !v->linear;
    const loam_norm *norm = normed ? v->norm : nullptr;
    mx::array in = normed ? *v->x : loami_mlx_whole(s, v);
    if (ours) return loami_mlx_new(s, rows, { loami_mlx_cuda_multiply(s, gate_up->parts[0], in, norm, 1 + act, nullptr) });
    auto [gate, up] = loami_mlx_halves(loami_mlx_multiply(s, in, nullptr, gate_up, nullptr));
    return loami_mlx_new(s, rows, { loami_mlx_act(act, gate, up) });
}
