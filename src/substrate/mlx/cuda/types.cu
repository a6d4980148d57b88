/* What the kernels share: arithmetic on pairs of 16-bit floats (in one 32-bit register), and the tensor cores' product.
 * Compiled at run time, after MLX's own headers; T is __nv_bfloat16 or __half. */

#define LOAM_INFINITY __int_as_float(0x7f800000)

template <typename T> struct loam_pair;

template <> struct loam_pair<__nv_bfloat16> {
    static constexpr uint32_t ones = 0x3f803f80, magic = 0x43004300, minus_magic = 0xc300c300; /* 128: + n is n in the low bits */

    static __device__ uint32_t fma(uint32_t a, uint32_t b, uint32_t c)
    {
        uint32_t d;
        asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
        return d;
    }
    static __device__ uint32_t pack(float low, float high)
    {
        uint32_t d;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
        return d;
    }
    static __device__ float low(uint32_t p) { return __uint_as_float(p << 16); }
    static __device__ float high(uint32_t p) { return __uint_as_float(p & 0xffff0000u); }

    /* c[16][8] += a[16][16] b[16][8] of a warp */
    static __device__ void mma(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1)
    {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
    }
};

template <> struct loam_pair<__half> {
    static constexpr uint32_t ones = 0x3c003c00, magic = 0x64006400, minus_magic = 0xe400e400; /* 1024 */

    static __device__ uint32_t fma(uint32_t a, uint32_t b, uint32_t c)
    {
        uint32_t d;
        asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
        return d;
    }
    static __device__ uint32_t pack(float low, float high)
    {
        uint32_t d;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
        return d;
    }
    static __device__ float low(uint32_t p) { return __half2float(__ushort_as_half((unsigned short)p)); }
    static __device__ float high(uint32_t p) { return __half2float(__ushort_as_half((unsigned short)(p >> 16))); }

    static __device__ void mma(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1)
    {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
    }
};

/* 16 bytes that nobody will read again soon. */
static __device__ uint4 loam_stream(const void *p)
{
    uint4 v;
    asm("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}

/* A number twice, as a pair. */
template <typename T> static __device__ uint32_t loam_twice(const T *p)
{
    uint32_t v = *(const unsigned short *)p;
    return v | v << 16;
}
