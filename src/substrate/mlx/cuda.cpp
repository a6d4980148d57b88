#include "substrate/mlx/shim.h"

#include <algorithm>

/* The kernels' text, as the build quoted it. */
static const char *const types =
#include "types.inc"
    ;
static const char *const products =
#include "qmm.inc"
#include "qmm_bodies.inc"
    ;
static const char *const attention =
#include "attention.inc"
    ;
static const char *const mixtures =
#include "moe.inc"
    ;

enum { ROWS_MAX = 128 };         /* of a product; with more it is faster to make the weights 16-bit floats first */

using template_args = std::vector<std::pair<std::string, mx::fast::TemplateArg>>;
using names = std::vector<std::string>;

struct launch {
    const char *name;
    names inputs, outputs;
    const char *text, *body;
    int shared_bytes;
};

/* What a launch depends on beside the inputs' contents. */
static std::pair<const char *, std::vector<int>> key_of(const launch &l, const std::vector<mx::array> &inputs, const std::vector<mx::Dtype> &types_out,
                                                        std::tuple<int, int, int> blocks, int threads, const template_args &args)
{
    auto [x, y, z] = blocks;
    std::vector<int> key = { l.shared_bytes, threads, x, y, z };
    key.reserve(key.size() + args.size() + inputs.size() + types_out.size());
    for (const auto &arg : args) {
        if (const int *n = std::get_if<int>(&arg.second)) key.push_back(*n);
        else if (const bool *b = std::get_if<bool>(&arg.second)) key.push_back(*b);
        else key.push_back((int)std::get<mx::Dtype>(arg.second).val());
    }
    for (const mx::array &a : inputs) key.push_back((int)a.dtype().val() * 8 + (int)a.ndim());
    for (const mx::Dtype &t : types_out) key.push_back((int)t.val());
    return { l.name, std::move(key) };
}

/* MLX writes out a kernel's source at every call, which takes longer than the kernel runs: its operation is made once for
 * each key and serves all later calls. */
static std::vector<mx::array> run(loam_sub *s, const launch &l, const std::vector<mx::array> &inputs, const std::vector<mx::Shape> &shapes,
                                  const std::vector<mx::Dtype> &types_out, std::tuple<int, int, int> blocks, int threads, const template_args &args)
{
    auto key = key_of(l, inputs, types_out, blocks, threads, args);
    auto at = s->made.find(key);
    if (at != s->made.end()) return mx::array::make_arrays(shapes, types_out, at->second, inputs);
    auto f = mx::fast::cuda_kernel("loam_" + std::string(l.name) + "_" + std::to_string(l.shared_bytes), l.inputs, l.outputs, l.body,
                                   std::string(types) + l.text, true, l.shared_bytes);
    auto [x, y, z] = blocks;
    std::vector<mx::array> out = f(inputs, shapes, types_out, { x * threads, y, z }, { threads, 1, 1 }, args, std::nullopt, false, {});
    s->made.emplace(std::move(key), out[0].primitive_ptr());
    return out;
}

/* Constants, once on the device. */
static const mx::array &numbers(loam_sub *s, const std::vector<float> &v)
{
    auto at = s->numbers.find(v);
    if (at != s->numbers.end()) return at->second;
    mx::array a = mx::copy(mx::array(v.begin(), { (int)v.size() }, mx::float32));
    mx::eval(a);
    return s->numbers.emplace(v, a).first->second;
}

/* In the place of what is not there. */
static const mx::array &none(loam_sub *s)
{
    if (!s->nothing) {
        s->nothing = mx::zeros({ 1 }, *s->type);
        mx::eval(*s->nothing);
    }
    return *s->nothing;
}

/* n zeros that kernels count in, and leave as they were. */
static const mx::array &done(loam_sub *s, int n)
{
    if (!s->done || s->done->shape(0) < n) {
        s->done = mx::zeros({ n }, mx::int32);
        mx::eval(*s->done);
    }
    return *s->done;
}

static bool is_half(const loam_sub *s)
{
    return *s->type == mx::float16 || *s->type == mx::bfloat16;
}

static bool divides(int a, int b)
{
    return b % a == 0;
}

/* ---- products ------------------------------------------------------------------------------------------- */

static bool fits(const loam_sub *s, const loami_mlx_part &p)
{
    int cols = p.data.shape(-1) * 32 / std::max(p.bits, 1);
    return s->kernels && is_half(s) && p.quant == LOAM_Q_AFFINE && (p.bits == 4 || p.bits == 8) && divides(p.bits == 4 ? 128 : 64, cols) && divides(p.group, cols);
}

bool loami_mlx_cuda_can_multiply(const loam_sub *s, const loami_mlx_part &p, int rows)
{
    return rows > 0 && rows <= ROWS_MAX && p.data.ndim() == 2 && fits(s, p);
}

bool loami_mlx_cuda_can_norm(const loam_sub *s, const loam_norm *norm, int rows)
{
    return s->kernels && rows > 0 && rows <= ROWS_MAX && *s->type == mx::bfloat16 && norm->kind == LOAM_NORM_RMS && norm->weight &&
           !norm->weight->first.bias;
}

/* How a block shares out its work: see qmm.cu. */
struct shape {
    int nt, tiles, wr, wk, staged, outputs;
};

static shape shape_of(int rows, int outputs, bool gated)
{
    enum { MANY = 8192, ONE_ROW = 24832, SOME_ROWS = 66560 }; /* a row of 12,288 is staged at once */
    int nt = rows <= 8 ? 1 : rows <= 16 ? 2 : 4, staged = rows == 1 ? ONE_ROW : SOME_ROWS;
    if (gated || outputs > MANY) return { nt, 2, 2, 4, staged, gated ? 32 : 64 };
    if (nt > 1) return { nt, 2, 1, 8, staged, 32 };
    return { nt, 1, 1, 8, staged, 16 };
}

static template_args args_of(const loam_sub *s, const loami_mlx_part &p, const shape &b, int act)
{
    return { { "T", *s->type }, { "BITS", p.bits }, { "GROUP", p.group }, { "NT", b.nt }, { "TILES", b.tiles },
             { "WR", b.wr },    { "WK", b.wk },     { "ACT", act },       { "STAGED", b.staged } };
}

mx::array loami_mlx_cuda_multiply(loam_sub *s, const loami_mlx_part &p, const mx::array &x, const loam_norm *norm, int act,
                                  const mx::array *old)
{
    launch l = { "dense",
                 { "x", "w", "scales", "biases", "bias", "norm", "eps", "old" },
                 { "y" },
                 products,
                 "loam_dense<T, BITS, GROUP, NT, TILES, WR, WK, ACT, STAGED>(x, w, scales, biases, bias_shape[0] > 1 ? bias : nullptr,"
                 " norm_shape[0] > 1 ? norm : nullptr, eps, old_ndim > 1 ? old : nullptr, y, x_shape[0], w_shape[0], x_shape[1]);",
                 0 };
    const mx::array &no = none(s);
    int rows = x.shape(0), outputs = act ? p.rows / 2 : p.rows;
    shape b = shape_of(rows, outputs, act);
    l.shared_bytes = b.staged;
    mx::array weight = norm ? loami_mlx_vector(const_cast<loam_weight *>(norm->weight), norm->offset) : no;
    return run(s, l, { x, p.data, *p.scales, *p.biases, p.bias ? *p.bias : no, weight, numbers(s, { norm ? norm->eps : 0 }), old ? *old : no },
               { { rows, outputs } }, { *s->type }, { (rows + b.nt * 8 - 1) / (b.nt * 8), (outputs + b.outputs - 1) / b.outputs, 1 }, 256,
               args_of(s, p, b, act))[0];
}

/* ---- experts -------------------------------------------------------------------------------------------- */

enum { PAIRS_MAX = 128 };        /* rows times experts of each: up to here each pair on its own, beyond it sorted by expert */

bool loami_mlx_cuda_can_moe(const loam_sub *s, const loam_moe *moe)
{
    const loam_weight *gate_up = moe->gate_up, *down = moe->down;
    return gate_up->parts.size() == 1 && down->parts.size() == 1 && fits(s, gate_up->parts[0]) && fits(s, down->parts[0]) &&
           gate_up->n_experts > 1 && moe->router->rows <= 1024 && moe->top_k <= 16 && divides(2, (int)down->rows);
}

/* each: rows of y for one of x; 0: both are sorted by expert. */
static mx::array apply_experts(loam_sub *s, const loami_mlx_part &p, const mx::array &x, const mx::array &which, int each, int act)
{
    launch single = { "experts", { "x", "w", "scales", "biases", "bias", "which" }, { "y" }, products,
                      "loam_experts<T, BITS, GROUP, TILES, WR, WK, ACT, EACH, STAGED>(x, w, scales, biases, bias_ndim > 1 ? bias : nullptr, which, y,"
                      " w_shape[1], x_shape[1]);", 0 };
    launch sorted = { "sorted", { "x", "w", "scales", "biases", "bias", "which" }, { "y" }, products,
                      "loam_sorted<T, BITS, GROUP, NT, TILES, WR, WK, ACT, STAGED>(x, w, scales, biases, bias_ndim > 1 ? bias : nullptr, which, y,"
                      " x_shape[0], w_shape[1], x_shape[1]);", 0 };
    int pairs = which.shape(0), outputs = act ? p.rows / 2 : p.rows;
    shape b = shape_of(each ? 1 : 32, outputs, act);
    launch &l = each ? single : sorted;
    l.shared_bytes = b.staged;
    template_args args = args_of(s, p, b, act);
    args.push_back({ "EACH", std::max(each, 1) });
    return run(s, l, { x, p.data, *p.scales, *p.biases, p.bias ? *p.bias : none(s), which }, { { pairs, outputs } }, { *s->type },
               { each ? pairs : (pairs + b.nt * 8 - 1) / (b.nt * 8), (outputs + b.outputs - 1) / b.outputs, 1 }, 256, args)[0];
}

mx::array loami_mlx_cuda_moe(loam_sub *s, const loam_moe *moe, const mx::array &x, const mx::array &logits)
{
    static const launch route = { "route", { "logits" }, { "which", "shares" }, mixtures,
                                  "loam_route<T, EACH, TOP, FIRST, RENORMALISE>(logits, which, shares, logits_shape[0], logits_shape[1]);", 0 };
    static const launch mix = { "mix", { "parts", "shares", "where" }, { "y" }, mixtures,
                                "loam_mix<T, TOP>(parts, shares, SORTED ? where : nullptr, nullptr, y, parts_shape[1]);", 0 };
    int rows = x.shape(0), k = (int)moe->top_k, n = (int)moe->router->rows, dim = (int)moe->down->rows, pairs = rows * k;
    const loami_mlx_part &gate_up = moe->gate_up->parts[0], &down = moe->down->parts[0];
    std::vector<mx::array> r = run(s, route, { logits }, { { pairs }, { rows, k } }, { mx::uint32, mx::float32 }, { (rows + 3) / 4, 1, 1 }, 128,
                                   { { "T", *s->type }, { "EACH", (n + 31) / 32 }, { "TOP", k }, { "FIRST", moe->how == LOAM_ROUTE_SOFTMAX_TOPK },
                                     { "RENORMALISE", moe->renormalise } });
    mx::array which = r[0], where = which, y = x;
    bool sorts = pairs > PAIRS_MAX;
    if (sorts) {
        mx::array order = mx::argsort(which);
        where = mx::argsort(order);
        which = mx::take(which, order);
        y = mx::take(x, mx::floor_divide(order, mx::array(k, order.dtype())), 0);
    }
    y = apply_experts(s, gate_up, y, which, sorts ? 0 : k, 1 + moe->act);
    y = apply_experts(s, down, y, which, sorts ? 0 : 1, 0);
    return run(s, mix, { y, r[1], where }, { { rows, dim } }, { *s->type }, { (dim / 2 + 127) / 128, rows, 1 }, 128,
               { { "T", *s->type }, { "TOP", k }, { "SORTED", sorts } })[0];
}

/* ---- attention ------------------------------------------------------------------------------------------ */

static bool is_rms(const loam_norm *n, uint32_t cols)
{
    return n && n->kind == LOAM_NORM_RMS && n->weight && n->weight->cols == cols && !n->weight->first.bias;
}

bool loami_mlx_cuda_can_store(const loam_sub *s, const loam_heads *heads)
{
    uint32_t dim = heads->head_dim;
    bool normed = is_rms(heads->q_norm, dim) && is_rms(heads->k_norm, dim) && heads->q_norm->eps == heads->k_norm->eps;
    return s->kernels && is_half(s) && dim % 32 == 0 && dim <= 256 && (normed || (!heads->q_norm && !heads->k_norm));
}

mx::array loami_mlx_cuda_store(loam_sub *s, const mx::array &qkv, uint32_t layer, const loam_heads *heads)
{
    /* In place, where no operation of MLX's reads the cache in this step: those know nothing of the write. */
    static const launch l = { "store",
                              { "qkv", "positions", "slots", "inv_freq", "q_norm", "k_norm", "numbers", "k_cache", "v_cache" },
                              { "q", "k", "v" },
                              attention,
                              "loam_store<T, DIM, DIMS, INTERLEAVED, NORM, 4>(qkv, positions, IN_PLACE ? slots : nullptr, inv_freq, q_norm, k_norm, numbers, q,"
                              " IN_PLACE ? const_cast<T *>(k_cache) : k, IN_PLACE ? const_cast<T *>(v_cache) : v, N_Q, N_KV);",
                              0 };
    const mx::array &no = none(s);
    const loam_rope *rope = heads->rope && heads->rope->dims ? heads->rope : nullptr;
    int rows = qkv.shape(0), n_q = (int)heads->n_q, n_kv = (int)heads->n_kv, dim = (int)heads->head_dim;
    bool in_place = s->n_single_rows == rows && loami_mlx_cuda_can_attend(s, heads), normed = heads->q_norm;
    loami_mlx_cache &c = s->cache.at(layer);
    mx::array q_norm = normed ? loami_mlx_vector(const_cast<loam_weight *>(heads->q_norm->weight), heads->q_norm->offset) : no;
    mx::array k_norm = normed ? loami_mlx_vector(const_cast<loam_weight *>(heads->k_norm->weight), heads->k_norm->offset) : no;
    const mx::array &constants = numbers(s, { normed ? heads->q_norm->eps : 0, rope ? rope->scale : 1, heads->q_growth, (float)heads->q_growth_tokens });
    mx::Shape kv = in_place ? mx::Shape{ 1 } : mx::Shape{ rows, n_kv, dim };
    std::vector<mx::array> r = run(s, l, { qkv, *s->positions, *s->group[loami_kv_group_of(&s->kv, layer)].slots, rope ? loami_mlx_freqs(s, rope, true) : constants, q_norm, k_norm, constants,
                                        in_place ? *c.k : no, in_place ? *c.v : no },
                                   { { rows, n_q, dim }, kv, kv }, { *s->type, *s->type, *s->type }, { rows, (n_q + 2 * n_kv + 3) / 4, 1 }, 128,
                                   { { "T", *s->type }, { "DIM", dim }, { "DIMS", rope ? (int)rope->dims : 0 }, { "INTERLEAVED", rope && rope->interleaved },
                                     { "NORM", normed }, { "IN_PLACE", in_place }, { "N_Q", n_q }, { "N_KV", n_kv } });
    if (!in_place) loami_mlx_cache_write(s, layer, r[1], r[2]);
    return r[0];
}

bool loami_mlx_cuda_can_attend(const loam_sub *s, const loam_heads *heads)
{
    uint32_t dim = heads->head_dim;
    return s->kernels && is_half(s) && (dim == 32 || dim == 64 || dim == 128 || dim == 256);
}

mx::array loami_mlx_cuda_attend(loam_sub *s, const mx::array &q, uint32_t layer, const loam_heads *heads, const loam_attn *attn)
{
    static const launch l = { "attend", { "q", "k_cache", "v_cache", "pages", "lengths", "numbers", "sinks", "done" }, { "parts", "y" }, attention,
                              "loam_attend<T, DIM, REP, PAGE, 4, CAPPED>(q, k_cache, v_cache, pages, lengths, numbers, SINKS ? sinks : nullptr,"
                              " const_cast<int *>(done), parts, y, N_Q, N_KV, pages_shape[0] / lengths_shape[0], WINDOW, gridDim.x);", 0 };
    enum { BLOCKS = 528, TOKENS = 64, SPLITS_MAX = 64 }; /* about four blocks a multiprocessor; a split is worth so many tokens */
    int rows = q.shape(0), n_q = (int)heads->n_q, n_kv = (int)heads->n_kv, dim = (int)heads->head_dim, rep = n_q / n_kv;
    int most = attn->window ? std::min(s->longest, (int)attn->window) : s->longest;
    while (rep > 8) rep = rep % 2 ? 1 : rep / 2;
    int splits = std::min({ (most + TOKENS - 1) / TOKENS, (BLOCKS + rows * (n_q / rep) - 1) / (rows * (n_q / rep)), (int)SPLITS_MAX });
    const loami_mlx_cache &c = s->cache.at(layer);
    const mx::array &constants = numbers(s, { attn->scale, attn->softcap });
    mx::array sinks = attn->sinks ? loami_mlx_vector(const_cast<loam_weight *>(attn->sinks), 0) : none(s);
    std::vector<mx::array> r = run(s, l, { q, *c.k, *c.v, *s->group[loami_kv_group_of(&s->kv, layer)].pages, *s->lengths, constants, sinks, done(s, rows * (n_q / rep)) },
                                   { { rows, n_q, splits, dim + 2 }, { rows, n_q * dim } }, { mx::float32, *s->type }, { splits, n_q / rep, rows }, 128,
                                   { { "T", *s->type }, { "DIM", dim }, { "REP", rep }, { "PAGE", s->page_tokens }, { "CAPPED", attn->softcap != 0 },
                                     { "SINKS", attn->sinks != nullptr }, { "N_Q", n_q }, { "N_KV", n_kv }, { "WINDOW", (int)attn->window } });
    return r[1];
}
