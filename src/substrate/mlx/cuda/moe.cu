/* Which experts a row goes to, and their answers together. */

/* A warp a row: the TOP largest of logits[n] (ties: the first) and their shares. FIRST: softmax over all, then choose. */
template <typename T, int EACH, int TOP, bool FIRST, bool RENORMALISE>
static __device__ void loam_route(const T *logits, uint32_t *which, float *shares, int rows, int n)
{
    const int lane = threadIdx.x % 32, row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    float x[EACH], largest = -LOAM_INFINITY, chosen[TOP], total = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int at = lane + 32 * i;
        x[i] = at < n ? (float)logits[(long)row * n + at] : -LOAM_INFINITY;
        largest = fmaxf(largest, x[i]);
    }
    for (int d = 16; d > 0; d /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, d));
    if (FIRST) {
#pragma unroll
        for (int i = 0; i < EACH; i++) total += __expf(x[i] - largest);
        for (int d = 16; d > 0; d /= 2) total += __shfl_xor_sync(0xffffffffu, total, d);
    }
    float sum = 0;
#pragma unroll
    for (int k = 0; k < TOP; k++) {
        float best = -LOAM_INFINITY;
        int at = 0x7fffffff;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            if (x[i] > best) {
                best = x[i];
                at = lane + 32 * i;
            }
        }
        for (int d = 16; d > 0; d /= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, best, d);
            const int there = __shfl_xor_sync(0xffffffffu, at, d);
            if (other > best || (other == best && there < at)) {
                best = other;
                at = there;
            }
        }
#pragma unroll
        for (int i = 0; i < EACH; i++)
            if (lane + 32 * i == at) x[i] = -LOAM_INFINITY;
        chosen[k] = __expf(best - largest);
        sum += chosen[k];
        if (lane == 0) which[(long)row * TOP + k] = at < n ? at : 0;
    }
    const float by = !FIRST || RENORMALISE ? sum : total;
#pragma unroll
    for (int k = 0; k < TOP; k++)
        if (lane == 0) shares[(long)row * TOP + k] = chosen[k] / by;
}

/* y[row] = old[row] + sum over k of shares[row][k] * parts[k of row], at where[..] if parts were sorted. old, where may be null. */
template <typename T, int TOP>
static __device__ void loam_mix(const T *parts, const float *shares, const uint32_t *where, const T *old, T *y, int dim)
{
    using P = loam_pair<T>;
    const int row = blockIdx.y, at = (blockIdx.x * blockDim.x + threadIdx.x) * 2;
    if (at >= dim) return;
    float low = 0, high = 0;
#pragma unroll
    for (int k = 0; k < TOP; k++) {
        const long i = (long)row * TOP + k;
        const uint32_t v = *(const uint32_t *)(parts + (where ? (long)where[i] : i) * dim + at);
        low += shares[i] * P::low(v);
        high += shares[i] * P::high(v);
    }
    if (old) {
        const uint32_t v = *(const uint32_t *)(old + (long)row * dim + at);
        low += P::low(v);
        high += P::high(v);
    }
    *(uint32_t *)(y + (long)row * dim + at) = P::pack(low, high);
}
