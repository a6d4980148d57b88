/* y = x W for a few rows of x and quantised W (affine, 4 or 8 bits): reading W once is all there is to it.
 *
 * Tensor cores take 16 rows of W times 8 rows of x; the weights become 16-bit floats in registers, on their way. In
 * what order k runs through a product does not matter as long as both sides agree, so each lane takes 16 consecutive
 * bytes of a row of W: of 128 (4 bits) or 64 (8 bits) inputs, a "step", lane t of a row's four has the t-th quarter.
 * A block has WR x WK warps: WR share out rows of W (TILES x 16 each), WK share out the steps. x is staged in shared
 * memory in the order in which lanes want it: slot (step, word of the lane, t), a row ends with 64 bytes of padding, so
 * that reads meet no bank twice.
 *
 * What follows the sums happens here too: a bias, adding to what was, the gated unit (ACT: W's upper half is gate), and
 * before them the norm of x: x is multiplied by the norm's weights on its way in, and the sums by 1 / rms at the end. */



template <typename T> static __device__ float loam_act(int act, float g, float u)
{
    if (act == 1) return g / (1 + __expf(-g)) * u;
    if (act == 2) return 0.5f * g * (1 + tanhf(0.7978845608028654f * (g + 0.044715f * g * g * g))) * u;
    if (act == 3) return 0.5f * g * (1 + erff(g * 0.70710678118654752f)) * u;
    g = fminf(g, 7.0f);
    u = fmaxf(-7.0f, fminf(u, 7.0f));
    return g / (1 + __expf(-1.702f * g)) * (u + 1);
}

/* The weights of one word as pairs a[]: 4 bits: (0,4) (1,5) (2,6) (3,7); 8 bits: (0,1) (2,3). */
template <typename T, int BITS> static __device__ void loam_unpack(uint32_t w, uint32_t s, uint32_t b, uint32_t a[4])
{
    using P = loam_pair<T>;
    if constexpr (BITS == 4) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t v = ((w >> 4 * i) & 0x000f000fu) | P::magic;
            a[i] = P::fma(P::fma(v, P::ones, P::minus_magic), s, b);
        }
    } else {
        float fs = P::low(s), fb = P::low(b), f[4];
#pragma unroll
        for (int i = 0; i < 4; i++) f[i] = (__uint_as_float(__byte_perm(w, 0x4b000000u, 0x7540 | i)) - 8388608.0f) * fs + fb;
        a[0] = P::pack(f[0], f[1]);
        a[1] = P::pack(f[2], f[3]);
    }
}

/* Brings steps [first, first + n) of x's rows to shared memory; what the norm needs to square[]. */
template <typename T, int BITS, int NT>
static __device__ void loam_stage(char *to, int stride, const T *x, const T *norm, int row_k, int first, int n, int rows, float square[NT])
{
    using P = loam_pair<T>;
    constexpr int EACH = BITS == 4 ? 16 : 8, WORDS = EACH / 4; /* 16-byte pieces of a step; of a lane */
    const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < NT; i++) {
        for (int r = i * 8 + warp; r < i * 8 + 8 && r < rows; r += warps) {
            for (int c = lane; c < n * EACH; c += 32) {
                uint4 v = *(const uint4 *)(x + (long)r * row_k + ((long)first * EACH + c) * 8);
                if (norm) {
                    uint4 w = *(const uint4 *)(norm + ((long)first * EACH + c) * 8);
                    uint32_t *p = (uint32_t *)&v, *q = (uint32_t *)&w;
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        float lo = P::low(p[k]), hi = P::high(p[k]);
                        square[i] += lo * lo + hi * hi;
                        p[k] = P::fma(p[k], q[k], 0x80008000u);
                    }
                }
                uint4 o = v;
                if constexpr (BITS == 4) {
                    o.x = __byte_perm(v.x, v.z, 0x5410);
                    o.y = __byte_perm(v.x, v.z, 0x7632);
                    o.z = __byte_perm(v.y, v.w, 0x5410);
                    o.w = __byte_perm(v.y, v.w, 0x7632);
                }
                int step = c / EACH, t = c % EACH / WORDS, word = c % WORDS;
                *(uint4 *)(to + r * stride + (step * EACH + word * 4 + t) * 16) = o;
            }
        }
    }
}

/* One block's part (bias, norm and old may be null): outputs [block * OUT, ..) of y[rows][outputs], W[n][k]. STAGED: bytes of shared memory to stage x in.
 * mine: bit m is set where row m is to be written. */
template <typename T, int BITS, int GROUP, int NT, int TILES, int WR, int WK, int ACT, int STAGED>
static __device__ void loam_qmm(const T *x, const uint32_t *w, const T *scales, const T *biases, const T *bias, const T *norm, float eps,
                                const T *old, T *y, int rows, int n, int k, int block, unsigned mine)
{
    using P = loam_pair<T>;
    constexpr int STEP = BITS == 4 ? 128 : 64, EACH = STEP / 8, LANE = STEP / 4; /* inputs; pieces of x; inputs a lane */
    constexpr int COLS = NT * 8, OUT = WR * TILES * 16;
    static_assert(WR * WK == 8, "a warp a row of x is what staging counts on");
    static_assert(!ACT || TILES == 2, "a tile of gate and one of up");
    extern __shared__ uint4 loam_shared[];
    char *staged = (char *)loam_shared;
    __shared__ float inverse[COLS];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4, wr = warp % WR, wk = warp / WR;
    const int steps = k / STEP, chunk = min(steps, (STAGED / rows - 64) / (STEP * 2)), stride = chunk * STEP * 2 + 64;
    const int out = ACT ? n / 2 : n;
    float acc[TILES][NT][4] = {}, square[NT] = {};

    int row[TILES];              /* of W: this lane's g-th of each tile; the tile's other half is 8 further */
#pragma unroll
    for (int i = 0; i < TILES; i++)
        row[i] = ACT ? i * out + block * WR * 16 + wr * 16 + g : block * OUT + (wr * TILES + i) * 16 + g;

    for (int first = 0; first < steps; first += chunk) {
        int here = min(chunk, steps - first);
        uint4 a[TILES][2];
        uint32_t s[TILES][2], b[TILES][2];
        auto fetch = [&](int step) {
#pragma unroll
            for (int i = 0; i < TILES; i++) {
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    int r = row[i] + 8 * h;
                    long at = (long)(first + step) * STEP + t * LANE, q = (long)(r < n ? r : 0) * k + at;
                    a[i][h] = loam_stream((const char *)w + q * BITS / 8);
                    s[i][h] = loam_twice(scales + q / GROUP);
                    b[i][h] = loam_twice(biases + q / GROUP);
                }
            }
        };
        int step = wk;
        if (step < here) fetch(step);
        if (first) __syncthreads();
        loam_stage<T, BITS, NT>(staged, stride, x, norm, k, first, here, rows, square);
        __syncthreads();
        for (; step < here; step += WK) {
            uint4 now[TILES][2];
            uint32_t ns[TILES][2], nb[TILES][2];
#pragma unroll
            for (int i = 0; i < TILES; i++) {
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    now[i][h] = a[i][h];
                    ns[i][h] = s[i][h];
                    nb[i][h] = b[i][h];
                }
            }
            if (step + WK < here) fetch(step + WK);
#pragma unroll
            for (int j = 0; j < EACH / 4; j++) {
                uint4 bx[NT];
#pragma unroll
                for (int m = 0; m < NT; m++) {
                    bx[m] = make_uint4(0, 0, 0, 0);
                    if (m * 8 + g < rows) bx[m] = *(const uint4 *)(staged + (m * 8 + g) * stride + (step * EACH + j * 4 + t) * 16);
                }
#pragma unroll
                for (int i = 0; i < TILES; i++) {
                    uint32_t top[4], low[4];
                    if constexpr (BITS == 4) {
                        loam_unpack<T, 4>(((const uint32_t *)&now[i][0])[j], ns[i][0], nb[i][0], top);
                        loam_unpack<T, 4>(((const uint32_t *)&now[i][1])[j], ns[i][1], nb[i][1], low);
                    } else {
                        loam_unpack<T, 8>(((const uint32_t *)&now[i][0])[2 * j], ns[i][0], nb[i][0], top);
                        loam_unpack<T, 8>(((const uint32_t *)&now[i][0])[2 * j + 1], ns[i][0], nb[i][0], top + 2);
                        loam_unpack<T, 8>(((const uint32_t *)&now[i][1])[2 * j], ns[i][1], nb[i][1], low);
                        loam_unpack<T, 8>(((const uint32_t *)&now[i][1])[2 * j + 1], ns[i][1], nb[i][1], low + 2);
                    }
#pragma unroll
                    for (int m = 0; m < NT; m++) {
                        P::mma(acc[i][m], top[0], low[0], top[1], low[1], bx[m].x, bx[m].y);
                        P::mma(acc[i][m], top[2], low[2], top[3], low[3], bx[m].z, bx[m].w);
                    }
                }
            }
        }
    }

    /* The warps that shared out the steps add up: [WK][OUT][COLS], over what was staged. */
    __syncthreads();
    float *sums = (float *)loam_shared;
#pragma unroll
    for (int i = 0; i < TILES; i++) {
#pragma unroll
        for (int m = 0; m < NT; m++) {
            float *to = sums + ((wk * WR + wr) * TILES + i) * 16 * COLS + m * 8 + 2 * t;
            to[g * COLS] = acc[i][m][0];
            to[g * COLS + 1] = acc[i][m][1];
            to[(g + 8) * COLS] = acc[i][m][2];
            to[(g + 8) * COLS + 1] = acc[i][m][3];
        }
    }
    if (norm) {
#pragma unroll
        for (int i = 0; i < NT; i++) {
            for (int d = 16; d > 0; d /= 2) square[i] += __shfl_xor_sync(0xffffffffu, square[i], d);
            if (lane == 0 && warp < 8) inverse[i * 8 + warp] = rsqrtf(square[i] / k + eps);
        }
    }
    __syncthreads();
    constexpr int EACH_OUT = ACT ? WR * 16 : OUT;
    for (int o = threadIdx.x; o < EACH_OUT * COLS; o += blockDim.x) {
        int m = o / EACH_OUT, at = o % EACH_OUT, to = block * EACH_OUT + at;
        if (m >= rows || to >= out || !(mine >> m & 1)) continue;
        int local = ACT ? at / 16 * TILES * 16 + at % 16 : at;
        float v = 0, u = 0;
        for (int p = 0; p < WK; p++) {
            v += sums[(p * OUT + local) * COLS + m];
            if (ACT) u += sums[(p * OUT + local + 16) * COLS + m];
        }
        if (norm) v *= inverse[m], u *= inverse[m];
        if (bias) v += (float)bias[to];
        if (bias && ACT) u += (float)bias[out + to];
        if (ACT) v = loam_act<T>(ACT, v, u);
        if (old) v += (float)old[(long)m * out + to];
        y[(long)m * out + to] = (T)v;
    }
}
