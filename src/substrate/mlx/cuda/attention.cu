/* Attention of single rows over a cache in pages, and what comes before it. Cache: [tokens][n_kv][DIM]. */

/* One block has a warp for each of HEADS heads of a row of qkv[rows][(n_q + 2 n_kv) * DIM]: queries and keys are normed
 * (if NORM) and rotated. Keys and values go to row slots[row] of k and v, or to row `row` if slots is null.
 * numbers: eps, rope's scale, q_growth, q_growth_tokens. */
template <typename T, int DIM, int DIMS, bool INTERLEAVED, bool NORM, int HEADS>
static __device__ void loam_store(const T *qkv, const int *positions, const int *slots, const float *inv_freq, const T *q_norm, const T *k_norm,
                                  const float *numbers, T *q, T *k, T *v, int n_q, int n_kv)
{
    constexpr int EACH = DIM / 32;
    __shared__ float heads[HEADS][DIM];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = blockIdx.x, h = blockIdx.y * HEADS + warp;
    if (h >= n_q + 2 * n_kv) return;
    const T *from = qkv + ((long)row * (n_q + 2 * n_kv) + h) * DIM;
    const bool is_q = h < n_q, is_k = !is_q && h < n_q + n_kv;
    T *to = is_q ? q + ((long)row * n_q + h) * DIM
                 : (is_k ? k : v) + ((long)(slots ? slots[row] : row) * n_kv + (h - n_q) % n_kv) * DIM;
    float x[EACH], square = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        x[i] = (float)from[lane + 32 * i];
        square += x[i] * x[i];
    }
    if (!is_q && !is_k) {
#pragma unroll
        for (int i = 0; i < EACH; i++) to[lane + 32 * i] = from[lane + 32 * i];
        return;
    }
    if constexpr (NORM) {
        for (int d = 16; d > 0; d /= 2) square += __shfl_xor_sync(0xffffffffu, square, d);
        const float by = rsqrtf(square / DIM + numbers[0]);
#pragma unroll
        for (int i = 0; i < EACH; i++) x[i] = (float)(T)(x[i] * by * (float)(is_q ? q_norm : k_norm)[lane + 32 * i]);
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) heads[warp][lane + 32 * i] = x[i];
    __syncwarp();
    const float position = positions[row];
    const float grown = is_q && numbers[3] > 0 ? 1 + numbers[2] * logf(1 + floorf(position / numbers[3])) : 1;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int at = lane + 32 * i;
        float value = x[i];
        if constexpr (DIMS > 0) if (at < DIMS) {
            const int pair = INTERLEAVED ? at / 2 : at % (DIMS / 2);
            const bool second = INTERLEAVED ? at % 2 : at >= DIMS / 2;
            const float other = heads[warp][INTERLEAVED ? at ^ 1 : second ? at - DIMS / 2 : at + DIMS / 2];
            float sn, cs;
            sincosf(position * inv_freq[pair], &sn, &cs);
            value = (second ? value * cs + other * sn : value * cs - other * sn) * numbers[1];
        }
        to[at] = (T)(value * grown);
    }
}

/* Softmax so far: the largest score, the sum of e^(score - top), and the values weighted so. */
template <int EACH> struct loam_soft {
    float top, sum, value[EACH];
    __device__ void merge(float other_top, float other_sum, const float *other_value)
    {
        const float all = fmaxf(top, other_top), a = top == -LOAM_INFINITY ? 0 : __expf(top - all), b = other_top == -LOAM_INFINITY ? 0 : __expf(other_top - all);
        top = all;
        sum = sum * a + other_sum * b;
#pragma unroll
        for (int i = 0; i < EACH; i++) value[i] = value[i] * a + other_value[i] * b;
    }
};

/* The splits of one number of one head together, with a sink if there is one. part: the head's [splits][DIM + 2]. */
template <int DIM> static __device__ float loam_combine(const float *part, int splits, int i, const float *sink)
{
    loam_soft<1> all = { -LOAM_INFINITY, 0, { 0 } };
    for (int first = 0; first < splits; first += 8) { /* eight are loaded before any is needed */
        float top[8], sum[8], value[8];
#pragma unroll
        for (int s = 0; s < 8; s++) {
            const float *p = part + (long)min(first + s, splits - 1) * (DIM + 2);
            top[s] = first + s < splits ? __ldcg(p + DIM) : -LOAM_INFINITY;
            sum[s] = __ldcg(p + DIM + 1);
            value[s] = __ldcg(p + i);
        }
#pragma unroll
        for (int s = 0; s < 8; s++) all.merge(top[s], sum[s], &value[s]);
    }
    const float none = 0;
    if (sink) all.merge(*sink, 1, &none);
    return all.value[0] / all.sum;
}

/* Block (split, heads, row): the tokens of one split for REP heads that share a kv head. DIM / 8 lanes have a token
 * together. parts[row][head][splits][DIM + 2]: values, top, sum. Of a row and its heads the block that is done last puts the
 * splits together: y[row][head][DIM]. done: zeros, and left so. numbers: scale, softcap. sinks may be null. */
template <typename T, int DIM, int REP, int PAGE, int WARPS, bool CAPPED>
static __device__ void loam_attend(const T *q, const T *k_cache, const T *v_cache, const int *pages, const int *lengths, const float *numbers,
                                   const T *sinks, int *done, float *parts, T *y, int n_q, int n_kv, int n_pages, int window, int splits)
{
    using P = loam_pair<T>;
    constexpr int LANES = DIM / 8, TOKENS = 32 / LANES, AHEAD = 4; /* loads that are under way at once */
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, sub = lane / LANES, at = lane % LANES * 8;
    const int head = blockIdx.y * REP, kv = head / (n_q / n_kv), row = blockIdx.z, split = blockIdx.x;
    const int end = lengths[row], begin = window && end > window ? end - window : 0;
    const int each = (end - begin + splits - 1) / splits, from = begin + split * each, to = min(end, from + each);
    const int *page = pages + (long)row * n_pages;
    float query[REP][8];
    loam_soft<8> soft[REP];
#pragma unroll
    for (int r = 0; r < REP; r++) {
        const uint4 v = *(const uint4 *)(q + ((long)row * n_q + head + r) * DIM + at);
        const uint32_t *p = (const uint32_t *)&v;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            query[r][2 * i] = P::low(p[i]) * numbers[0];
            query[r][2 * i + 1] = P::high(p[i]) * numbers[0];
        }
        soft[r].top = -LOAM_INFINITY;
        soft[r].sum = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) soft[r].value[i] = 0;
    }
    for (int base = from; base < to; base += AHEAD * WARPS * TOKENS) {
        uint4 kw[AHEAD], vw[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            const int token = base + (u * WARPS + warp) * TOKENS + sub, where = token < to ? token : from;
            const long offset = (((long)page[where / PAGE] * PAGE + where % PAGE) * n_kv + kv) * DIM + at;
            kw[u] = *(const uint4 *)(k_cache + offset);
            vw[u] = *(const uint4 *)(v_cache + offset);
        }
#pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            const bool real = base + (u * WARPS + warp) * TOKENS + sub < to;
            const uint32_t *kp = (const uint32_t *)&kw[u], *vp = (const uint32_t *)&vw[u];
            float value[8];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                value[2 * i] = P::low(vp[i]);
                value[2 * i + 1] = P::high(vp[i]);
            }
#pragma unroll
            for (int r = 0; r < REP; r++) {
                float score = 0;
#pragma unroll
                for (int i = 0; i < 4; i++) score += query[r][2 * i] * P::low(kp[i]) + query[r][2 * i + 1] * P::high(kp[i]);
#pragma unroll
                for (int d = LANES / 2; d > 0; d /= 2) score += __shfl_xor_sync(0xffffffffu, score, d);
                if (CAPPED) score = numbers[1] * tanhf(score / numbers[1]);
                if (!real) continue;
                const float top = fmaxf(soft[r].top, score), old = __expf(soft[r].top - top), p = __expf(score - top);
                soft[r].top = top;
                soft[r].sum = soft[r].sum * old + p;
#pragma unroll
                for (int i = 0; i < 8; i++) soft[r].value[i] = soft[r].value[i] * old + p * value[i];
            }
        }
    }
    __shared__ float merged[WARPS][REP][DIM + 2];
#pragma unroll
    for (int r = 0; r < REP; r++) {
#pragma unroll
        for (int d = LANES; d < 32; d *= 2) {
            float other[8];
            const float top = __shfl_xor_sync(0xffffffffu, soft[r].top, d), sum = __shfl_xor_sync(0xffffffffu, soft[r].sum, d);
#pragma unroll
            for (int i = 0; i < 8; i++) other[i] = __shfl_xor_sync(0xffffffffu, soft[r].value[i], d);
            soft[r].merge(top, sum, other);
        }
        if (sub == 0) {
#pragma unroll
            for (int i = 0; i < 8; i++) merged[warp][r][at + i] = soft[r].value[i];
            if (at == 0) merged[warp][r][DIM] = soft[r].top, merged[warp][r][DIM + 1] = soft[r].sum;
        }
    }
    __syncthreads();
    for (int o = threadIdx.x; o < REP * DIM; o += WARPS * 32) {
        const int r = o / DIM, i = o % DIM;
        loam_soft<1> all = { -LOAM_INFINITY, 0, { 0 } };
#pragma unroll
        for (int w = 0; w < WARPS; w++) all.merge(merged[w][r][DIM], merged[w][r][DIM + 1], &merged[w][r][i]);
        float *out = parts + (((long)row * n_q + head + r) * splits + split) * (DIM + 2);
        out[i] = all.value[0];
        if (i == 0) out[DIM] = all.top, out[DIM + 1] = all.sum;
    }
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        int *mine = done + row * gridDim.y + blockIdx.y;
        last = atomicAdd(mine, 1) == splits - 1;
        if (last) *mine = 0;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    for (int o = threadIdx.x; o < REP * DIM; o += WARPS * 32) {
        const int h = head + o / DIM;
        const float sink = sinks ? (float)sinks[h] : 0;
        y[((long)row * n_q + h) * DIM + o % DIM] = (T)loam_combine<DIM>(parts + ((long)row * n_q + h) * splits * (DIM + 2), splits, o % DIM, sinks ? &sink : nullptr);
    }
}
