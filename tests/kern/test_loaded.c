/* Substrates in shared objects against the reference. Those not built are left out: `make mlx` builds the one over MLX. */
#include "kern/conformance.h"
#include "substrate/load.h"
#include "substrate/registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static void hold(const char *name, bool exact, double tolerance)
{
    conformance c = { .seed = 1, .only = getenv("ONLY"), .verbose = getenv("VERBOSE") != NULL, .tolerance = tolerance };
    loam_err err = { 0 };
    if (loami_substrate_load(&c.sub, name, &err) < 0) {
        const char *wanted = getenv("SUBSTRATE");
        if (wanted && strcmp(wanted, name) == 0) fail_msg("%s", err.msg);
        print_message("  %s: %s\n", name, err.msg);
        skip();
    }
    c.options = (loam_sub_options){ .exact = exact };
    unsigned failed = conformance_run(&c);
    print_message("  %s%s: %u cases, %u refused, %u failed; worst %.2g: %s\n", name, exact ? " exact" : "", c.run, c.refused, failed, c.worst,
                  c.worst_name);
    assert_int_equal(failed, 0);
}

static void test_mlx_exact(void **state)
{
    (void)state;
    hold("mlx", true, 1e-4);
}

/* In the model's own type, where there is a GPU that computes in it; on a CPU the same as above. */
static void test_mlx(void **state)
{
    (void)state;
    if (!loami_substrate_suits("mlx")) skip();
    hold("mlx", false, 3e-2);
}

/* Any other one, by the tolerance that SUBSTRATE_TOLERANCE says for a single operation: docs/substrates.md. */
static void test_named(void **state)
{
    const char *name = getenv("SUBSTRATE"), *tolerance = getenv("SUBSTRATE_TOLERANCE");
    (void)state;
    if (!name) skip();
    hold(name, false, tolerance ? atof(tolerance) : 1e-4);
}

static void expect_error(const char *name, int code, const char *words)
{
    const loam_substrate *sub = NULL;
    loam_err err = { 0 };
    assert_int_equal(loami_substrate_find(&sub, name, &err), code);
    if (!strstr(err.msg, words)) fail_msg("\"%s\" lacks \"%s\"", err.msg, words);
}

static void test_names(void **state)
{
    const loam_substrate *sub = NULL;
    (void)state;
    expect_error("nonesuch", LOAM_E_NOT_FOUND, "there are cpu, reference and mlx");
    expect_error("../mlx", LOAM_E_NOT_FOUND, "no substrate can be called");
    setenv("LOAM_NONESUCH", "/nonexistent/nonesuch.so", 1);
    expect_error("nonesuch", LOAM_E_NOT_FOUND, "LOAM_NONESUCH=/nonexistent/nonesuch.so: no such file");
    setenv("LOAM_SUBSTRATE", "reference", 1);
    assert_int_equal(loami_substrate_find(&sub, "auto", NULL), 0);
    assert_string_equal(sub->name, "reference");
    setenv("LOAM_SUBSTRATE", "auto", 1);
    assert_int_equal(loami_substrate_find(&sub, NULL, NULL), 0);
    assert_string_equal(sub->name, loami_substrate_suits("mlx") ? "mlx" : "cpu");
}

/* A file that is there and is no substrate. */
static void test_not_a_substrate(void **state)
{
    char path[] = "/tmp/loam-load-XXXXXX";
    int fd = mkstemp(path);
    (void)state;
    assert_true(fd >= 0);
    setenv("LOAM_BROKEN", path, 1);
    expect_error("broken", LOAM_E_UNSUPPORTED, path);
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_not_a_substrate),
        cmocka_unit_test(test_mlx_exact),
        cmocka_unit_test(test_mlx),
        cmocka_unit_test(test_named),
    };
    return cmocka_run_group_tests_name("loaded", tests, NULL, NULL);
}
