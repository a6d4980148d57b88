#include "substrate/mlx/shim.h"

enum { SORT_FROM = 64 };         /* rows times experts of each: from here on experts are visited in order */

static const char *const modes[] = { "", "affine", "mxfp4", "mxfp8", "nvfp4" };

/* The arguments after mode differ between versions of MLX: a scale for the whole tensor came in. */
template <typename... A> static mx::array call_gather_qmm(bool sorted, A &&...args)
{
    if constexpr (requires { mx::gather_qmm(args..., std::optional<mx::array>(), sorted); })
        return mx::gather_qmm(args..., std::optional<mx::array>(), sorted);
    else return mx::gather_qmm(args..., sorted);
}

/* x[..][1][cols] times expert which[..]. */
static mx::array apply(const loami_mlx_part &p, const mx::array &x, const mx::array &which, bool sorted)
{
    using maybe = std::optional<mx::array>;
    mx::array y = p.quant == LOAM_Q_NONE
                      ? mx::gather_mm(x, mx::swapaxes(p.data, -1, -2), maybe(), maybe(which), sorted)
                      : call_gather_qmm(sorted, x, p.data, *p.scales, p.biases, maybe(), maybe(which), true, std::optional<int>(p.group),
                                        std::optional<int>(p.bits), std::string(modes[p.quant]));
    return p.bias ? mx::add(y, mx::expand_dims(mx::take(*p.bias, which, 0), -2)) : y;
}

/* Of each row the top_k experts and their shares: [rows][top_k] both. */
static std::pair<mx::array, mx::array> route(const loam_moe *moe, const mx::array &logits)
{
    int n = logits.shape(-1), k = (int)moe->top_k;
    bool all_first = moe->how == LOAM_ROUTE_SOFTMAX_TOPK;
    mx::array p = all_first ? mx::softmax(logits, -1, true) : logits;
    mx::array which = mx::slice(mx::argpartition(p, n - k, -1), { 0, n - k }, { p.shape(0), n });
    p = mx::take_along_axis(p, which, -1);
    if (!all_first) p = mx::softmax(p, -1, true);
    if (moe->renormalise) p = mx::divide(p, mx::sum(p, -1, true));
    return { which, p };
}

static mx::array experts(const loam_moe *moe, const mx::array &x, const mx::array &which, bool sorted)
{
    std::vector<mx::array> both;
    for (const loami_mlx_part &p : moe->gate_up->parts) both.push_back(apply(p, x, which, sorted));
    auto [gate, up] = loami_mlx_halves(both);
    return apply(moe->down->parts[0], loami_mlx_act(moe->act, gate, up), which, sorted);
}

loam_tensor loami_mlx_moe(loam_sub *s, loam_tensor x, const loam_moe *moe)
{
    loami_mlx_value *v = loami_mlx_take(s, x);
    int rows = v->rows, k = (int)moe->top_k, dim = (int)moe->down->rows;
    mx::array in = loami_mlx_whole(s, v);
    if (rows == 0) return loami_mlx_new(s, 0, { in });
    mx::array logits = loami_mlx_multiply(s, in, nullptr, moe->router, nullptr)[0];
    if (loami_mlx_cuda_can_moe(s, moe)) return loami_mlx_new(s, rows, { loami_mlx_cuda_moe(s, moe, in, logits) });
    auto [which, p] = route(moe, mx::astype(logits, mx::float32));
    mx::array y = in;
    if (rows * k < SORT_FROM) {
        y = mx::squeeze(experts(moe, mx::expand_dims(in, { 1, 2 }), which, false), 2);
    } else {
        mx::array flat = mx::flatten(which), order = mx::argsort(flat);
        mx::array rows_of = mx::floor_divide(order, mx::array(k, order.dtype()));
        y = experts(moe, mx::expand_dims(mx::take(in, rows_of, 0), 1), mx::take(flat, order), true);
        y = mx::reshape(mx::take(mx::squeeze(y, 1), mx::argsort(order), 0), { rows, k, dim });
    }
    p = mx::astype(mx::expand_dims(p, -1), y.dtype());
    return loami_mlx_new(s, rows, { mx::sum(mx::multiply(y, p), 1) });
}
