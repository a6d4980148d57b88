/* What the kernels begin with; MLX writes their heads. */

/* Blocks (tiles of x's rows, outputs): those that share rows of W run side by side. */
template <typename T, int BITS, int GROUP, int NT, int TILES, int WR, int WK, int ACT, int STAGED>
static __device__ void loam_dense(const T *x, const uint32_t *w, const T *scales, const T *biases, const T *bias, const T *norm,
                                  const float *eps, const T *old, T *y, int m, int n, int k)
{
    const int first = blockIdx.x * NT * 8, rows = min(NT * 8, m - first);
    const long at = (long)first * (ACT ? n / 2 : n);
    loam_qmm<T, BITS, GROUP, NT, TILES, WR, WK, ACT, STAGED>(x + (long)first * k, w, scales, biases, bias, norm,
                                                                      norm ? eps[0] : 0, old ? old + at : nullptr, y + at, rows, n, k, blockIdx.y, ~0u);
}

/* Row i of y is expert which[i] applied to row i / EACH of x. Blocks (i, outputs). */
template <typename T, int BITS, int GROUP, int TILES, int WR, int WK, int ACT, int EACH, int STAGED>
static __device__ void loam_experts(const T *x, const uint32_t *w, const T *scales, const T *biases, const T *bias, const uint32_t *which,
                                    T *y, int n, int k)
{
    const long e = which[blockIdx.x], rows = e * n;
    loam_qmm<T, BITS, GROUP, 1, TILES, WR, WK, ACT, STAGED>(
        x + (long)(blockIdx.x / EACH) * k, w + rows * k / 32 * BITS, scales + rows * k / GROUP, biases + rows * k / GROUP,
        bias ? bias + rows : nullptr, nullptr, 0, nullptr, y + (long)blockIdx.x * (ACT ? n / 2 : n), 1, n, k, blockIdx.y, ~0u);
}

/* The same for many rows, sorted by expert: a tile of rows is gone through once for each expert in it. */
template <typename T, int BITS, int GROUP, int NT, int TILES, int WR, int WK, int ACT, int STAGED>
static __device__ void loam_sorted(const T *x, const uint32_t *w, const T *scales, const T *biases, const T *bias, const uint32_t *which,
                                   T *y, int m, int n, int k)
{
    const int first = blockIdx.x * NT * 8, rows = min(NT * 8, m - first);
    const long at = (long)first * (ACT ? n / 2 : n);
    for (int i = 0, j; i < rows; i = j) {
        const uint32_t e = which[first + i];
        for (j = i + 1; j < rows && which[first + j] == e;) j++;
        const long of = (long)e * n;
        const unsigned mine = (j - i < 32 ? (1u << (j - i)) - 1 : ~0u) << i;
        if (i) __syncthreads();
        loam_qmm<T, BITS, GROUP, NT, TILES, WR, WK, ACT, STAGED>(
            x + (long)first * k, w + of * k / 32 * BITS, scales + of * k / GROUP, biases + of * k / GROUP, bias ? bias + of : nullptr, nullptr, 0,
            nullptr, y + at, rows, n, k, blockIdx.y, mine);
    }
}
