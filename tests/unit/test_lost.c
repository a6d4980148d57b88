/* Steps that a machine loses while others are under way: who waited for them is told, and the engine is as well as before. The linker
 * puts these functions before the reference's (tests.mk); where it can't, this test is not built. */
#include "ask.h"
#include "base/err.h"

#include <stdatomic.h>

int __real_loami_ref_launch(loam_sub *s, loam_err *err);
int __real_loami_ref_collect(loam_sub *s, int32_t *tokens, loam_err *err);
int __wrap_loami_ref_launch(loam_sub *s, loam_err *err);
int __wrap_loami_ref_collect(loam_sub *s, int32_t *tokens, loam_err *err);

static atomic_int launches, collects; /* the one that brings this to 0 is lost */

int __wrap_loami_ref_launch(loam_sub *s, loam_err *err)
{
    if (atomic_fetch_sub(&launches, 1) == 1) return loami_fail(err, LOAM_E_MACHINE, "lost in launch");
    return __real_loami_ref_launch(s, err);
}

int __wrap_loami_ref_collect(loam_sub *s, int32_t *tokens, loam_err *err)
{
    if (atomic_fetch_sub(&collects, 1) == 1) return loami_fail(err, LOAM_E_MACHINE, "lost in collect");
    return __real_loami_ref_collect(s, tokens, err);
}

/* Two requests, of which some step is lost; then a third. */
static void lose(int launch, int collect, const char *why)
{
    loam_engine *e = open_with((loam_options){ .max_running = 2 });
    loam_request r = { .max_new = 40, .ignore_eos = true };
    loam_engine_state st;
    answer a;
    loam_stream *s[2];
    atomic_store(&launches, launch);
    atomic_store(&collects, collect);
    for (int i = 0; i < 2; i++) s[i] = submit(e, "two at once", r);
    bool lost = false;
    for (int i = 0; i < 2; i++) {
        read_all(s[i], &a);
        if (a.result.finish == LOAM_FINISH_ERROR) {
            lost = true;
            assert_int_equal(a.result.code, LOAM_E_MACHINE);
            assert_string_equal(a.result.msg, why);
        } else {
            assert_int_equal(a.n, 40);
        }
        loami_buf_free(&a.text);
        loam_stream_close(s[i]);
    }
    assert_true(lost);
    expect_all_pages_back(e);
    do loam_engine_stat(e, &st);
    while (st.running || st.phase != LOAM_PHASE_IDLE);
    assert_true(st.step_s == 0); /* none runs: nothing can be taken for stalled */
    run(e, "another", r, &a);
    assert_int_equal(a.n, 40);
    loami_buf_free(&a.text);
    loam_engine_close(e);
}

static void a_lost_launch_is_over(void **unused)
{
    (void)unused;
    lose(1, 0, "lost in launch");
    lose(2, 0, "lost in launch");
    lose(7, 0, "lost in launch");
}

static void a_lost_result_is_over(void **unused)
{
    (void)unused;
    lose(0, 1, "lost in collect");
    lose(0, 6, "lost in collect");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_launch_is_over),
        cmocka_unit_test(a_lost_result_is_over),
    };
    folder = temp_make();
    tiny_make(folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove(folder);
    return failed;
}
