#include "substrate/mlx/shim.h"

#include <algorithm>
#include <cmath>

/* ---- choosing tokens: loam_pick ------------------------------------------------------------------------- */

/* One number of each row's: [rows][1]. */
template <typename F> static mx::array column(const loam_pick *how, int rows, F f)
{
    std::vector<float> v((size_t)rows);
    for (int i = 0; i < rows; i++) v[(size_t)i] = f(how[i]);
    return mx::array(v.begin(), { rows, 1 }, mx::float32);
}

static bool warm(const loam_pick &p)
{
    return p.temperature > 0;
}

static bool cut_by_mass(const loam_pick &p)
{
    return p.top_p > 0 && p.top_p < 1;
}

static bool cut(const loam_pick &p)
{
    return p.top_k || cut_by_mass(p);
}

template <typename F> static bool any(const loam_pick *how, int rows, F f)
{
    return std::any_of(how, how + rows, f);
}

/* Of weights, descending, the least that stays: [rows][1]. */
static mx::array limit(const loam_pick *how, const mx::array &weights)
{
    int rows = weights.shape(0), n = weights.shape(1);
    mx::array sorted = mx::negative(mx::sort(mx::negative(weights), 1)), zero(0.0f);
    mx::array few = column(how, rows, [n](const loam_pick &p) { return p.top_k ? (float)p.top_k : (float)n; });
    mx::array in = mx::less(mx::expand_dims(mx::arange(0, n, mx::float32), 0), few);
    mx::array kept = mx::where(in, sorted, zero), sums = mx::cumsum(kept, 1);
    mx::array enough = mx::multiply(column(how, rows, [](const loam_pick &p) { return cut_by_mass(p) ? p.top_p : 2; }),
                                    mx::slice(sums, { 0, n - 1 }, { rows, n }));
    mx::array needed = mx::logical_and(in, mx::less(mx::subtract(sums, kept), enough));
    return mx::min(mx::where(needed, sorted, mx::array(INFINITY)), 1, true);
}

/* The id at which the running sum of a row's weights passes its draw. */
static mx::array draw(const loam_pick *how, const mx::array &weights)
{
    int rows = weights.shape(0), n = weights.shape(1);
    mx::array sums = mx::cumsum(weights, 1), all = mx::slice(sums, { 0, n - 1 }, { rows, n });
    mx::array mark = mx::multiply(column(how, rows, [](const loam_pick &p) { return p.draw; }), all);
    mx::array passed = mx::logical_or(mx::greater(sums, mark), mx::greater_equal(sums, all)); /* rounding may put the mark at the end */
    return mx::argmax(mx::astype(passed, mx::int32), 1);
}

void loami_mlx_pick(loam_sub *s, loam_tensor x, const loam_pick *how)
{
    loami_mlx_value *v = loami_mlx_take(s, x);
    int rows = v->rows;
    mx::array logits = mx::astype(loami_mlx_whole(s, v), mx::float32), best = mx::argmax(logits, 1);
    if (any(how, rows, warm)) {
        mx::array heat = column(how, rows, [](const loam_pick &p) { return warm(p) ? p.temperature : 1; }), zero(0.0f);
        mx::array weights = mx::exp(mx::divide(mx::subtract(logits, mx::max(logits, 1, true)), heat));
        if (any(how, rows, [](const loam_pick &p) { return p.min_p > 0; }))
            weights = mx::where(mx::greater_equal(weights, column(how, rows, [](const loam_pick &p) { return p.min_p; })), weights, zero);
        if (any(how, rows, cut)) weights = mx::where(mx::greater_equal(weights, limit(how, weights)), weights, zero);
        mx::array hot = column(how, rows, [](const loam_pick &p) { return warm(p) ? 1.0f : 0.0f; });
        best = mx::where(mx::squeeze(mx::greater(hot, zero), 1), draw(how, weights), best);
    }
    s->pick = mx::astype(best, mx::int32);
}
