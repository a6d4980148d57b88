#include "substrate/mlx/shim.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

enum { PAGE_TOKENS = 32 };       /* small, so that prompts that begin alike share most of their beginning */

/* ---- errors --------------------------------------------------------------------------------------------- */

static int fail(loam_err *err, int code, const char *what)
{
    if (!err) return code;
    err->code = code;
    snprintf(err->msg, sizeof err->msg, "mlx: %s", what);
    for (char *c = err->msg; *c; c++)
        if (*c == '\n') *c = ' ';
    return code;
}

/* Runs f; whatever it throws becomes err. */
template <typename F> static int guarded(loam_err *err, F f)
{
    try {
        return f();
    } catch (const std::bad_alloc &) {
        return fail(err, LOAM_E_NOMEM, "out of memory");
    } catch (const std::exception &e) {
        return fail(err, LOAM_E_MACHINE, e.what());
    } catch (...) {
        return fail(err, LOAM_E_MACHINE, "an unknown exception");
    }
}

/* The same for an operation of a step: the step is lost, `end` says why. */
template <typename F> static loam_tensor recorded(loam_sub *s, F f)
{
    loam_tensor t = LOAM_NO_TENSOR;
    loam_err err = {};
    if (!s->failed.empty()) return LOAM_NO_TENSOR;
    int rc = guarded(&err, [&] {
        t = f();
        return 0;
    });
    if (rc == 0) return t;
    s->failed = err.msg;
    s->nomem = rc == LOAM_E_NOMEM;
    return LOAM_NO_TENSOR;
}

/* ---- open ----------------------------------------------------------------------------------------------- */

/* What MLX says of the device, T() if nothing. Looked through, not looked up: MLX was compiled with another libc++ than
 * this may be, and two that hash strings differently would find nothing in each other's maps. */
template <typename T> static T device(const char *key)
{
    for (const auto &[name, value] : mx::device_info(mx::default_device()))
        if (name == key && std::holds_alternative<T>(value)) return std::get<T>(value);
    return T();
}

/* What MLX reads of the environment once, if nobody has said otherwise. CUDA graphs: with few large kernels a step they cost more than
 * they save. TF32 rounds float32 to 10 bits. */
static void prepare(bool exact)
{
    setenv("MLX_USE_CUDA_GRAPHS", "0", 0);
    if (exact) setenv("MLX_ENABLE_TF32", "0", 0);
}

static int open(loam_sub **out, const loam_sub_options *options, loam_err *err)
{
    return guarded(err, [&] {
        auto s = std::make_unique<loam_sub>();
        if (!loami_mlx_type_wish(&s->wish)) return fail(err, LOAM_E_ARG, "LOAM_MLX_TYPE must be f16, bf16 or f32");
        const char *page = getenv("LOAM_MLX_PAGE");
        s->options = *options;
        prepare(options->exact);
        s->gpu = mx::is_available(mx::Device::gpu);
        s->metal = s->gpu && mx::metal::is_available();
        s->kernels = s->gpu && !s->metal && !(getenv("LOAM_MLX_KERNELS") && atoi(getenv("LOAM_MLX_KERNELS")) == 0);
        mx::set_default_device(s->gpu ? mx::Device::gpu : mx::Device::cpu);
        s->page_tokens = page && atoi(page) > 0 ? atoi(page) : PAGE_TOKENS;
        /* What the model needs stays resident: the most that the system allows to wire. Buffers that were freed are kept
         * for the next step, but not without a limit. */
        if (size_t wired = s->metal ? device<size_t>("max_recommended_working_set_size") : 0) {
            mx::set_wired_limit(wired);
            mx::set_memory_limit(wired);
            mx::set_cache_limit(wired / 8);
        }
        if (!s->gpu) mx::disable_compile(); /* it would run a C++ compiler */
        *out = s.release();
        return 0;
    });
}

static void close(loam_sub *s)
{
    guarded(nullptr, [&] {
        delete s;
        mx::clear_cache();
        return 0;
    });
}

static void info(const loam_sub *s, loam_sub_info *out)
{
    *out = loam_sub_info();
    out->page_tokens = (uint32_t)s->page_tokens;
    out->threads = 1;
    out->rows = s->gpu ? 2048 : 512;
    bool wide = s->type ? *s->type == mx::float32 : s->options.exact;
    out->tolerance = wide ? 1e-3 : 0.3;
    guarded(nullptr, [&] {
        std::string name = s->gpu ? device<std::string>("device_name") : "cpu";
        snprintf(out->device, sizeof out->device, "%s (mlx %s)", name.empty() ? "gpu" : name.c_str(), mx::version());
        return 0;
    });
}

/* ---- a step --------------------------------------------------------------------------------------------- */

loam_tensor loami_mlx_new(loam_sub *s, int rows, std::vector<mx::array> parts)
{
    int cols = 0;
    for (const mx::array &a : parts) {
        int each = 1;
        for (size_t i = 1; i < a.ndim(); i++) each *= a.shape((int)i);
        cols += each;
    }
    s->values.push_back({ std::move(parts), rows, cols, false, {}, nullptr, nullptr });
    return (loam_tensor)(s->values.size() - 1);
}

loam_tensor loami_mlx_new_pending(loam_sub *s, const mx::array &x, const loam_norm *norm, const loam_weight *linear)
{
    s->values.push_back({ {}, x.shape(0), linear ? (int)linear->rows : x.shape(1), false, x, norm, linear });
    return (loam_tensor)(s->values.size() - 1);
}

loami_mlx_value *loami_mlx_take(loam_sub *s, loam_tensor t)
{
    if (t >= s->values.size()) throw std::runtime_error("an operation was given a tensor of no step");
    s->values[t].taken = true;
    return &s->values[t];
}

mx::array loami_mlx_whole(loam_sub *s, loami_mlx_value *v)
{
    std::vector<mx::array> flat;
    if (v->parts.empty()) {
        if (v->linear) v->parts = loami_mlx_multiply(s, *v->x, v->norm, v->linear, nullptr);
        else v->parts = { loami_mlx_norm(s, *v->x, v->norm) };
    }
    for (const mx::array &a : v->parts) flat.push_back(a.ndim() == 2 ? a : mx::reshape(a, { a.shape(0), -1 }));
    return flat.size() == 1 ? flat[0] : mx::concatenate(flat, 1);
}

static void begin(loam_sub *s, const loam_batch *b)
{
    s->values.clear();
    s->read.clear();
    s->masks.clear();
    s->seqs.clear();
    s->failed.clear();
    s->pick.reset();
    if (b->tokens) s->under_way.clear();
    s->batch = b;
    recorded(s, [&] {
        loami_mlx_cache_begin(s);
        return LOAM_NO_TENSOR;
    });
}

/* Everything that can still be read. What was an operation's input only is let go of, so that its memory serves the operations
 * after it. */
static std::vector<mx::array> readable(loam_sub *s)
{
    std::vector<mx::array> wanted;
    for (loami_mlx_value &v : s->values) {
        bool kept = !v.taken && v.rows > 0;
        s->read.push_back(kept ? mx::contiguous(mx::astype(loami_mlx_whole(s, &v), mx::float32)) : mx::array(0.0f));
        if (kept) wanted.push_back(s->read.back());
        v.parts.clear();
        v.x.reset();
    }
    return wanted;
}

/* What the step leaves: wanted, and the cache. */
static std::vector<mx::array> with_cache(loam_sub *s, std::vector<mx::array> wanted)
{
    s->masks.clear();
    s->seqs.clear();
    for (loami_mlx_cache &c : s->cache) {
        if (c.k && c.k->status() == mx::array::unscheduled) wanted.push_back(*c.k);
        if (c.v && c.v->status() == mx::array::unscheduled) wanted.push_back(*c.v);
    }
    return wanted;
}

/* Runs f, which evaluates. If anything of the step failed, nothing of it is left. */
template <typename F> static int finish(loam_sub *s, loam_err *err, F f)
{
    s->batch = nullptr;
    recorded(s, [&] {
        f();
        return LOAM_NO_TENSOR;
    });
    if (s->failed.empty()) return 0;
    guarded(nullptr, [&] {
        s->values.clear();
        s->read.clear();
        loami_mlx_cache_rollback(s);
        return 0;
    });
    if (err) {
        err->code = s->nomem ? LOAM_E_NOMEM : LOAM_E_MACHINE;
        snprintf(err->msg, sizeof err->msg, "%s", s->failed.c_str());
    }
    return s->nomem ? LOAM_E_NOMEM : LOAM_E_MACHINE;
}

static int end(loam_sub *s, loam_err *err)
{
    return finish(s, err, [&] { mx::eval(with_cache(s, readable(s))); });
}

static int launch(loam_sub *s, loam_err *err)
{
    return finish(s, err, [&] {
        if (!s->pick) throw std::runtime_error("a step was launched that picks nothing");
        s->values.clear();
        mx::async_eval(with_cache(s, { *s->pick }));
        s->under_way.push_back(*s->pick);
    });
}

static int collect(loam_sub *s, int32_t *tokens, loam_err *err)
{
    return guarded(err, [&] {
        if (s->under_way.empty()) throw std::runtime_error("no step is under way");
        mx::array first = s->under_way.front();
        s->under_way.pop_front();
        first.eval();
        memcpy(tokens, first.data<int32_t>(), first.nbytes());
        return 0;
    });
}

static const float *read(loam_sub *s, loam_tensor x, uint32_t *rows, uint32_t *cols)
{
    const float *data = nullptr;
    if (!s->failed.empty() || x >= s->values.size() || x >= s->read.size() || s->values[x].taken) return nullptr;
    guarded(nullptr, [&] {
        data = s->read[x].data<float>();
        return 0;
    });
    if (rows) *rows = (uint32_t)s->values[x].rows;
    if (cols) *cols = (uint32_t)s->values[x].cols;
    return data;
}

/* ---- the table ------------------------------------------------------------------------------------------ */

static int weight(loam_sub *s, loam_weight **out, const loam_matrix *parts, uint32_t n_parts, loam_err *err)
{
    return guarded(err, [&] { return loami_mlx_weight(s, out, parts, n_parts, err); });
}

static uint64_t kv_page_bytes(const loam_sub *s, const loam_kv_config *c, uint32_t group)
{
    return 2ull * loami_kv_layers(c, group) * c->n_kv * c->head_dim * (uint64_t)s->page_tokens * mx::size_of(s->type.value_or(mx::bfloat16));
}

static int kv_open(loam_sub *s, const loam_kv_config *config, uint64_t *bytes, loam_err *err)
{
    return guarded(err, [&] { return loami_mlx_kv_open(s, config, bytes, err); });
}

static void kv_copy(loam_sub *s, uint32_t group, uint32_t dst, uint32_t src, uint32_t n_tokens)
{
    guarded(nullptr, [&] {
        loami_mlx_kv_copy(s, group, dst, src, n_tokens);
        return 0;
    });
}

static bool kv_read(loam_sub *s, uint32_t group, uint32_t page, void *bytes)
{
    return guarded(nullptr, [&] {
        loami_mlx_kv_read(s, group, page, bytes);
        return 0;
    }) == 0;
}

static bool kv_write(loam_sub *s, uint32_t group, uint32_t page, const void *bytes)
{
    return guarded(nullptr, [&] {
        loami_mlx_kv_write(s, group, page, bytes);
        return 0;
    }) == 0;
}

static loam_tensor embed(loam_sub *s, const loam_weight *table, float scale)
{
    return recorded(s, [&] { return loami_mlx_embed(s, table, scale); });
}

static loam_tensor norm(loam_sub *s, loam_tensor x, const loam_norm *n)
{
    return recorded(s, [&] { return loami_mlx_norm_op(s, x, n); });
}

static loam_tensor linear(loam_sub *s, loam_tensor x, const loam_weight *w)
{
    return recorded(s, [&] { return loami_mlx_linear(s, x, w); });
}

static loam_tensor glu(loam_sub *s, loam_tensor x, const loam_weight *gate_up, loam_act act)
{
    return recorded(s, [&] { return loami_mlx_glu(s, x, gate_up, act); });
}

static loam_tensor add(loam_sub *s, loam_tensor x, loam_tensor y, float y_scale)
{
    return recorded(s, [&] { return loami_mlx_add(s, x, y, y_scale); });
}

static loam_tensor cap(loam_sub *s, loam_tensor x, float scale, float limit)
{
    return recorded(s, [&] { return loami_mlx_cap(s, x, scale, limit); });
}

static loam_tensor store(loam_sub *s, loam_tensor qkv, uint32_t layer, const loam_heads *heads)
{
    return recorded(s, [&] { return loami_mlx_store(s, qkv, layer, heads); });
}

static loam_tensor attend(loam_sub *s, loam_tensor q, uint32_t layer, const loam_heads *heads, const loam_attn *attn)
{
    return recorded(s, [&] { return loami_mlx_attend(s, q, layer, heads, attn); });
}

static loam_tensor moe(loam_sub *s, loam_tensor x, const loam_moe *m)
{
    return recorded(s, [&] { return loami_mlx_moe(s, x, m); });
}

static loam_tensor gather(loam_sub *s, loam_tensor x)
{
    return recorded(s, [&] { return loami_mlx_gather(s, x); });
}

static void pick(loam_sub *s, loam_tensor x, const loam_pick *how)
{
    recorded(s, [&] {
        loami_mlx_pick(s, x, how);
        return LOAM_NO_TENSOR;
    });
}

static const loam_substrate seam = {
    .abi = LOAM_SUBSTRATE_ABI,
    .name = "mlx",
    .open = open,
    .close = close,
    .info = info,
    .weight = weight,
    .kv_page_bytes = kv_page_bytes,
    .kv_open = kv_open,
    .kv_copy = kv_copy,
    .kv_read = kv_read,
    .kv_write = kv_write,
    .begin = begin,
    .embed = embed,
    .norm = norm,
    .linear = linear,
    .glu = glu,
    .add = add,
    .cap = cap,
    .store = store,
    .attend = attend,
    .moe = moe,
    .gather = gather,
    .end = end,
    .rehearse = nullptr,
    .pick = pick,
    .launch = launch,
    .collect = collect,
    .read = read,
};

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED const loam_substrate *loam_substrate_entry(void)
{
    return &seam;
}

EXPORTED bool loam_substrate_suits(void)
{
    bool gpu = false;
    guarded(nullptr, [&] {
        gpu = mx::is_available(mx::Device::gpu);
        return 0;
    });
    return gpu;
}
