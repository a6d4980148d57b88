#include "substrate/mlx/shim.h"

extern "C" {
#include "base/err.h"
#include "substrate/dequant.h"
}

#include <cstdlib>
#include <cstring>
#include <unistd.h>

/* ---- bytes in ------------------------------------------------------------------------------------------- */

static mx::Dtype type_of(loam_dtype t)
{
    switch (t) {
    case LOAM_F16: return mx::float16;
    case LOAM_BF16: return mx::bfloat16;
    case LOAM_U8: return mx::uint8;
    case LOAM_U32: return mx::uint32;
    default: return mx::float32;
    }
}

/* An array over the very bytes of the mapped file where the machine can work on them: on Metal, which takes whole
 * memory pages without a copy. Empty elsewhere, and where the bytes lie at an odd address. */
static std::optional<mx::array> borrow(const loam_sub *s, const void *data, const mx::Shape &shape, mx::Dtype type)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), each = mx::size_of(type), bytes = each;
    for (int n : shape) bytes *= (size_t)n;
    uintptr_t from = (uintptr_t)data & ~(uintptr_t)(page - 1), offset = (uintptr_t)data - from;
    if (!s->metal || offset % each) return std::nullopt;
    mx::allocator::Buffer buffer = mx::allocator::make_buffer((void *)from, (offset + bytes + page - 1) / page * page);
    if (!buffer.ptr()) return std::nullopt;
    mx::array a(shape, type, nullptr, {});
    mx::Strides strides = a.strides();
    mx::array::Flags flags = a.flags();
    a.set_data(mx::allocator::Data(buffer, [](mx::allocator::Buffer b) { mx::allocator::release(b); }), bytes / each, strides, flags,
               (int64_t)offset);
    a.set_status(mx::array::available);
    return a;
}

static mx::array bring(const loam_sub *s, const void *data, const mx::Shape &shape, mx::Dtype type)
{
    std::optional<mx::array> a = borrow(s, data, shape, type);
    if (a) return *a;
    size_t bytes = mx::size_of(type);
    for (int n : shape) bytes *= (size_t)n;
    mx::allocator::Data own = mx::allocator::malloc(bytes);
    memcpy(own.buffer().raw_ptr(), data, bytes);
    return mx::array(std::move(own), shape, type);
}

/* ---- matrices ------------------------------------------------------------------------------------------- */

bool loami_mlx_type_wish(std::optional<mx::Dtype> *out)
{
    const char *wish = getenv("LOAM_MLX_TYPE");
    if (!wish || !*wish) return true;
    if (strcmp(wish, "f16") == 0) *out = mx::float16;
    else if (strcmp(wish, "bf16") == 0) *out = mx::bfloat16;
    else if (strcmp(wish, "f32") == 0) *out = mx::float32;
    return out->has_value();
}

/* The type of values: the model's own on a GPU, float32 on a CPU, which has no arithmetic for the others; unless the
 * caller or LOAM_MLX_TYPE wants another. f16 is what an M1 or M2 computes faster in than bfloat16. */
static mx::Dtype choose_type(const loam_sub *s, const loam_matrix *m)
{
    if (s->options.exact) return mx::float32;
    if (s->wish) return *s->wish;
    if (!s->gpu) return mx::float32;
    return m->type == LOAM_F16 || m->type == LOAM_F32 ? type_of(m->type) : mx::bfloat16;
}

static mx::Shape shape_of(const loam_matrix *m, uint64_t cols)
{
    mx::Shape shape;
    if (m->n_experts > 1) shape.push_back((int)m->n_experts);
    shape.push_back((int)m->rows);
    shape.push_back((int)cols);
    return shape;
}

static loami_mlx_part part_of(loam_sub *s, const loam_matrix *m)
{
    bool affine = m->quant == LOAM_Q_AFFINE, plain = m->quant == LOAM_Q_NONE;
    mx::array data = bring(s, m->data, shape_of(m, plain ? m->cols : (uint64_t)m->cols * m->bits / 32), plain ? type_of(m->type) : mx::uint32);
    loami_mlx_part p = { data, {}, {}, {}, (int)m->rows, m->quant, (int)m->bits, (int)m->group };
    if (plain) p.data = mx::astype(data, *s->type);
    if (!plain) p.scales = bring(s, m->scales, shape_of(m, m->cols / m->group), affine ? type_of(m->type) : mx::uint8);
    if (affine) {
        p.scales = mx::astype(*p.scales, *s->type);
        p.biases = mx::astype(bring(s, m->biases, shape_of(m, m->cols / m->group), type_of(m->type)), *s->type);
    }
    if (m->bias) {
        mx::Shape shape = { (int)m->rows };
        if (m->n_experts > 1) shape = { (int)m->n_experts, (int)m->rows };
        p.bias = mx::astype(bring(s, m->bias, shape, type_of(m->bias_type)), *s->type);
    }
    return p;
}

/* ---- joining -------------------------------------------------------------------------------------------- */

static bool alike(const loami_mlx_part &a, const loami_mlx_part &b)
{
    return a.quant == b.quant && a.bits == b.bits && a.group == b.group && a.data.dtype() == b.data.dtype();
}

static mx::array zeros_for(const loami_mlx_part &p)
{
    mx::Shape shape = p.data.shape();
    shape.pop_back();
    return mx::zeros(shape, p.scales && p.scales->dtype() != mx::uint8 ? p.scales->dtype() : p.bias ? p.bias->dtype() : mx::bfloat16);
}

/* One matrix of a's rows and then b's. A copy: for machines that had to copy anyway. */
static loami_mlx_part join(const loami_mlx_part &a, const loami_mlx_part &b, mx::Dtype type)
{
    loami_mlx_part p = a;
    p.rows += b.rows;
    p.data = mx::concatenate({ a.data, b.data }, -2);
    if (a.scales) p.scales = mx::concatenate({ *a.scales, *b.scales }, -2);
    if (a.biases) p.biases = mx::concatenate({ *a.biases, *b.biases }, -2);
    if (a.bias || b.bias) {
        mx::array first = mx::astype(a.bias ? *a.bias : zeros_for(a), type), second = mx::astype(b.bias ? *b.bias : zeros_for(b), type);
        p.bias = mx::concatenate({ first, second }, -1);
    }
    return p;
}

/* float16 ends at 65504, bfloat16 does not: a model that was recast must have stayed within. */
static int check_range(const loam_sub *s, const loam_matrix *m, const loami_mlx_part &p, loam_err *err)
{
    if (*s->type != mx::float16 || !s->wish) return 0;
    for (const std::optional<mx::array> &a : { std::optional(p.data), p.scales, p.biases, p.bias }) {
        if (!a || a->dtype() != mx::float16 || mx::all(mx::isfinite(*a)).item<bool>()) continue;
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: it has numbers that float16 does not: run without LOAM_MLX_TYPE=f16", m->name);
    }
    return 0;
}

/* A Mac whose GPU is given more than the system lets it have pages, or ends the program: refused before, with figures. */
static int check_room(const loam_sub *s, const loam_matrix *parts, uint32_t n_parts, loam_err *err)
{
    uint64_t bytes = 0, used = mx::get_active_memory(), limit = mx::get_memory_limit();
    for (uint32_t i = 0; i < n_parts; i++)
        bytes += (uint64_t)parts[i].n_experts * parts[i].rows * (loami_row_bytes(&parts[i]) + 2 * loami_scale_row_bytes(&parts[i]));
    if (!s->gpu || used + bytes <= limit) return 0;
    return loami_fail(err, LOAM_E_NOMEM, "%s: with it the weights take %.1f GB, the GPU may use %.1f GB: take a smaller model, or fewer bits", parts[0].name,
                      (double)(used + bytes) / 1e9, (double)limit / 1e9);
}

static void make_real(loam_weight *w)
{
    std::vector<mx::array> all;
    for (loami_mlx_part &p : w->parts) {
        all.push_back(p.data);
        if (p.scales) all.push_back(*p.scales);
        if (p.biases) all.push_back(*p.biases);
        if (p.bias) all.push_back(*p.bias);
    }
    mx::eval(std::move(all));
}

static int check(const loam_matrix *parts, uint32_t n_parts, loam_err *err)
{
    uint64_t rows = 0;
    for (uint32_t i = 0; i < n_parts; i++) {
        int rc = loami_matrix_check(&parts[i], err);
        if (rc < 0) return rc;
        if (parts[i].cols != parts[0].cols || parts[i].n_experts != parts[0].n_experts)
            return loami_fail(err, LOAM_E_FORMAT, "%s: its shape does not go with %s", parts[i].name, parts[0].name);
        rows += parts[i].rows;
    }
    if (rows > INT32_MAX || parts[0].cols > INT32_MAX || parts[0].n_experts > INT32_MAX)
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: %llu rows are too many for mlx", parts[0].name, (unsigned long long)rows);
    return 0;
}

int loami_mlx_weight(loam_sub *s, loam_weight **out, const loam_matrix *parts, uint32_t n_parts, loam_err *err)
{
    int rc = check(parts, n_parts, err);
    if (rc == 0) rc = check_room(s, parts, n_parts, err);
    if (rc < 0) return rc;
    if (!s->type) s->type = choose_type(s, &parts[0]);
    auto w = std::make_unique<loam_weight>();
    w->n_experts = parts[0].n_experts;
    w->cols = parts[0].cols;
    w->first = parts[0];
    for (uint32_t i = 0; i < n_parts; i++) {
        loami_mlx_part p = part_of(s, &parts[i]);
        if ((rc = check_range(s, &parts[i], p, err)) < 0) return rc;
        w->rows += parts[i].rows;
        bool joins = !s->metal && !w->parts.empty() && alike(w->parts.back(), p);
        if (joins) w->parts.back() = join(w->parts.back(), p, *s->type);
        else w->parts.push_back(std::move(p));
    }
    make_real(w.get());
    *out = w.get();
    s->weights.push_back(std::move(w));
    return 0;
}

/* ---- as numbers ----------------------------------------------------------------------------------------- */

mx::array loami_mlx_vector(loam_weight *w, float offset)
{
    if (w->vector && w->vector_offset == offset) return *w->vector;
    mx::array v = mx::reshape(w->parts[0].data, { -1 });
    if (offset != 0) v = mx::astype(mx::add(mx::astype(v, mx::float32), mx::array(offset)), w->parts[0].data.dtype());
    mx::eval(v);
    w->vector = v;
    w->vector_offset = offset;
    return v;
}

/* A norm has as many of them as inputs, not outputs. */
std::optional<mx::array> loami_mlx_vector_bias(loam_sub *s, loam_weight *w)
{
    if (w->vector_bias || !w->first.bias) return w->vector_bias;
    w->vector_bias = mx::astype(bring(s, w->first.bias, { (int)w->cols }, type_of(w->first.bias_type)), *s->type);
    mx::eval(*w->vector_bias);
    return w->vector_bias;
}

static const char *mode_name(loam_quant q)
{
    static const char *const names[] = { "", "affine", "mxfp4", "mxfp8", "nvfp4" };
    return names[q];
}

mx::array loami_mlx_rows(const loam_sub *s, const loami_mlx_part &p, const mx::array &which)
{
    mx::array data = mx::take(p.data, which, 0);
    if (p.quant == LOAM_Q_NONE) return data;
    std::optional<mx::array> biases;
    if (p.biases) biases = mx::take(*p.biases, which, 0);
    return mx::dequantize(data, mx::take(*p.scales, which, 0), biases, p.group, p.bits, mode_name(p.quant), std::nullopt, *s->type);
}
