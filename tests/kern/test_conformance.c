/* The cpu substrate against the reference, at each level that this machine has, float and integer. */
#include "kern/conformance.h"
#include "substrate/cpu/kern.h"
#include "substrate/registry.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void hold(const char *cap, bool exact)
{
    const char *only = getenv("LEVEL"); /* where the machine is slow: one of them */
    if (only && strcmp(only, cap) != 0) return;
    setenv("LOAM_CPU", cap, 1);
    if (strcmp(loami_kern_pick(NULL)->name, cap) != 0) {
        print_message("  %s: not on this machine\n", cap);
        return;
    }
    conformance c = { .sub = &loami_cpu, .seed = 1, .only = getenv("ONLY"), .verbose = getenv("VERBOSE") != NULL };
    c.options = (loam_sub_options){ .threads = 2, .exact = exact };
    c.tolerance = exact ? 5e-4 : 1.5e-2; /* the KV cache is f16; 8-bit activations: 1/254 of a group's largest, uniform */
    unsigned failed = conformance_run(&c);
    print_message("  %s%s: %u cases, %u refused, %u failed; closest %.2g of the limit: %s\n", cap, exact ? " exact" : "", c.run, c.refused, failed, c.worst,
                  c.worst_name);
    assert_int_equal(failed, 0);
}

static void test_scalar(void **state)
{
    (void)state;
    hold("scalar", false);
    hold("scalar", true);
}

static void test_avx2(void **state)
{
    (void)state;
    hold("avx2", false);
    hold("avx2", true);
}

static void test_avx512(void **state)
{
    (void)state;
    hold("avx512", false);
    hold("avx512", true);
}

static void test_neon(void **state)
{
    (void)state;
    hold("neon", false);
    hold("neon", true);
    hold("dotprod", false);
    hold("i8mm", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalar),
        cmocka_unit_test(test_avx2),
        cmocka_unit_test(test_avx512),
        cmocka_unit_test(test_neon),
    };
    return cmocka_run_group_tests_name("conformance", tests, NULL, NULL);
}
