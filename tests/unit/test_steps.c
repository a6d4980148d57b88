/* No memory is asked for in a step. The linker puts these functions before the C library's (tests.mk); where it can't, the
 * test has nothing to count and says so. */
#include "check.h"
#include "tiny.h"

#include <stdatomic.h>

static atomic_bool counting;
static atomic_int count;
static _Thread_local bool reader; /* the test's own thread: submits, reads, and may take memory */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
int __real_posix_memalign(void **p, size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
int __wrap_posix_memalign(void **p, size_t align, size_t n);

static void note(void)
{
    if (atomic_load(&counting) && !reader) atomic_fetch_add(&count, 1);
}

void *__wrap_malloc(size_t n)
{
    note();
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    note();
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    note();
    return __real_realloc(p, n);
}

int __wrap_posix_memalign(void **p, size_t align, size_t n)
{
    note();
    return __real_posix_memalign(p, align, n);
}

static char *folder;

/* Requests of all lengths, one after another and together, sampled with everything on. */
static void run_some(loam_engine *e)
{
    enum { N = 12 };
    static int32_t ids[TINY_CONTEXT];
    loam_stream *s[N];
    loam_token t;
    loam_err err;
    for (int i = 0; i < TINY_CONTEXT; i++) ids[i] = (i * 31 + 7) % 256;
    for (int i = 0; i < N; i++) {
        loam_request r = { .tokens = ids + i, .n_tokens = (uint32_t)(1 + i * 38), .max_new = 40, .ignore_eos = true, .n_logprobs = 3,
                           .how = { .temperature = 0.8f, .top_p = 0.9f, .top_k = 40, .repetition_penalty = 1.1f } };
        CHECK_OK(loam_submit(e, &s[i], &r, &err), err, 0);
    }
    for (int i = 0; i < N; i++) {
        while (loam_stream_next(s[i], &t, UINT32_MAX) > 0) continue;
        loam_stream_close(s[i]);
    }
}

static void steps_take_no_memory(void **unused)
{
    (void)unused;
    loam_engine *e;
    loam_err err;
    reader = true;
    loam_options o = { .model = folder, .substrate = "cpu", .threads = 2, .max_running = 8 };
    CHECK_OK(loam_engine_open(&e, &o, &err), err, 0);
    atomic_store(&counting, true);
    run_some(e); /* the first steps, too: what they need was taken at open */
    atomic_store(&counting, false);
    assert_int_equal(atomic_load(&count), 0);
    loam_engine_close(e);
}

static void the_count_would_notice(void **unused)
{
    (void)unused;
    reader = false;
    atomic_store(&counting, true);
    void *volatile p = malloc(10);
    free(p);
    atomic_store(&counting, false);
    assert_int_equal(atomic_exchange(&count, 0), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_count_would_notice), cmocka_unit_test(steps_take_no_memory) };
    folder = temp_make();
    tiny_make(folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove(folder);
    return failed;
}
