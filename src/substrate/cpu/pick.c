#include "substrate/cpu/kern.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Rungs, lowest first; each table stands on the one below it. */
typedef struct rung {
    const char *name;
    bool (*here)(void);
    void (*climb)(loami_kern *k);
} rung;

#if defined(__x86_64__)
#include <cpuid.h>

/* What the operating system saves on a context switch: without this a register that CPUID offers must not be used. */
static uint64_t saved_state(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27))) return 0; /* OSXSAVE */
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (uint64_t)d << 32 | a;
}

static bool has_avx2(void)
{
    const unsigned fma_avx_f16c = 1u << 12 | 1u << 28 | 1u << 29, avx2 = 1u << 5;
    unsigned a, b, c, d;
    if ((saved_state() & 0x06) != 0x06) return false; /* xmm, ymm */
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & fma_avx_f16c) != fma_avx_f16c) return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & avx2);
}

/* F, DQ, BW, VL and VNNI: Ice Lake, Zen 4 and later. */
static bool has_avx512(void)
{
    const unsigned f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31, vnni = 1u << 11;
    unsigned a, b, c, d;
    if ((saved_state() & 0xe6) != 0xe6) return false; /* and opmask, zmm */
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & f_dq_bw_vl) == f_dq_bw_vl && (c & vnni);
}

static const rung rungs[] = {
    { "avx2", has_avx2, loami_kern_avx2 },
    { "avx512", has_avx512, loami_kern_avx512 },
};
enum { N_RUNGS = 2 };

#elif defined(__aarch64__)

static bool has_neon(void)
{
    return true;                /* part of the architecture */
}

#if defined(__APPLE__)
#include <sys/sysctl.h>

static bool feature(const char *name)
{
    int v = 0;
    size_t size = sizeof v;
    return sysctlbyname(name, &v, &size, NULL, 0) == 0 && v;
}

static bool has_dotprod(void)
{
    return feature("hw.optional.arm.FEAT_DotProd");
}

static bool has_i8mm(void)
{
    return feature("hw.optional.arm.FEAT_I8MM");
}
#elif defined(__linux__)
#include <sys/auxv.h>

static bool has_dotprod(void)
{
    const unsigned long asimddp = 1ul << 20; /* HWCAP_ASIMDDP */
    return getauxval(AT_HWCAP) & asimddp;
}

static bool has_i8mm(void)
{
    const unsigned long i8mm = 1ul << 13;    /* HWCAP2_I8MM */
    return getauxval(AT_HWCAP2) & i8mm;
}
#else
static bool has_dotprod(void)
{
    return false;
}

static bool has_i8mm(void)
{
    return false;
}
#endif

static const rung rungs[] = {
    { "neon", has_neon, loami_kern_neon },
    { "dotprod", has_dotprod, loami_kern_dotprod },
    { "i8mm", has_i8mm, loami_kern_i8mm },
};
enum { N_RUNGS = 3 };

#else

static const rung rungs[] = { { "none", NULL, NULL } };
enum { N_RUNGS = 0 };

#endif

enum { N_TABLES = N_RUNGS + 1 };

static loami_kern table[N_TABLES];
static int n_tables;

static void fill(void)
{
    table[0] = loami_kern_scalar;
    n_tables = 1;
    for (int i = 0; i < N_RUNGS && rungs[i].here(); i++) {
        table[n_tables] = table[n_tables - 1];
        rungs[i].climb(&table[n_tables]);
        table[n_tables++].name = rungs[i].name;
    }
}

const loami_kern *loami_kern_pick(const char *cap)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill);
    if (!cap) cap = getenv("LOAM_CPU");
    for (int i = 0; i < n_tables; i++)
        if (cap && strcmp(table[i].name, cap) == 0) return &table[i];
    return &table[n_tables - 1];
}
