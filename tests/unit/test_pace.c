/* The pace against machines whose costs are stated: how long steps become, how soon, and what one slow step does. */
#include "check.h"

#include "engine/meter.h"
#include "engine/pace.h"

#include <math.h>

/* A machine: what a step of some work takes there. Noise is a sum of even ones, the same in every run. */
typedef struct machine {
    double step, prompt, row, look, token, past; /* seconds, as in pace.h */
    double noise;              /* of a step, relative, one standard deviation */
    double first, shape;       /* more for the first step of all; for the first of so many rows of prompts */
    uint32_t rows;             /* of a step */
    uint32_t seed;
    bool seen[4096];
} machine;

static const machine cpu = { .step = 2e-3, .prompt = 11e-3, .row = 2e-4, .look = 1e-7, .token = 1.1e-3, .past = 9e-7, .rows = 512 };
static const machine deep = { .step = 2e-3, .prompt = 11e-3, .row = 4e-4, .look = 2.4e-7, .token = 1.5e-3, .past = 2e-6, .rows = 512 };
static const machine gpu = { .step = 6e-3, .prompt = 4e-3, .row = 6e-5, .look = 4e-9, .token = 1e-4, .past = 1e-8, .rows = 2048,
                             .first = 16, .shape = 85e-3 };
static const machine slow = { .step = 0.2, .prompt = 0.1, .row = 1e-3, .look = 1e-7, .token = 1e-2, .past = 1e-6, .rows = 512 };

static double runs(machine *m, const loami_work *w)
{
    double took = m->step + (w->n_prompt ? m->prompt : 0) + m->row * w->n_prompt + m->look * w->prompt_past + m->token * w->n_decode +
                  m->past * w->decode_past;
    double noise = -6;
    for (int i = 0; i < 12; i++) noise += (m->seed = m->seed * 1664525 + 1013904223) / 4294967296.0;
    took *= exp(m->noise * noise);
    if (w->n_prompt && !m->seen[w->n_prompt]) took += m->shape;
    m->seen[w->n_prompt] = true;
    took += m->first;
    m->first = 0;
    return took;
}

/* What a prompt met. */
typedef struct course {
    uint32_t n_steps, first[64], n_first;        /* rows of its first steps */
    double longest, total;                       /* seconds of its steps */
} course;

static void decode(loami_pace *p, machine *m, uint32_t n, uint32_t n_past)
{
    loami_work w = { 0 };
    for (uint32_t i = 0; i < n; i++) loami_work_decode(&w, n_past, 1);
    loami_pace_learn(p, &w, runs(m, &w));
}

/* A prompt of n tokens from n_past on, beside n_decode others. */
static course prompt(loami_pace *p, machine *m, uint32_t n, uint32_t n_decode)
{
    course c = { 0 };
    for (uint32_t at = 0; at < n; c.n_steps++) {
        loami_work w = { 0 };
        uint32_t room = (m->rows - n_decode) / LOAMI_PACE_ROWS * LOAMI_PACE_ROWS, most = n - at < room ? n - at : room;
        for (uint32_t i = 0; i < n_decode; i++) loami_work_decode(&w, 300 + 10 * i, 1);
        uint32_t rows = loami_pace_fit(p, &w, at, most);
        assert_true(rows > 0 && rows <= most); /* whatever it costs, it goes on */
        assert_true(rows == most || rows % LOAMI_PACE_ROWS == 0);
        loami_work_prompt(&w, at, rows);
        double took = runs(m, &w);
        if (c.n_first < 64) c.first[c.n_first++] = rows;
        c.longest = fmax(c.longest, took);
        c.total += took;
        loami_pace_learn(p, &w, took);
        at += rows;
    }
    return c;
}

static void steps_keep_to_their_time_at_any_depth(void **unused)
{
    (void)unused;
    static const machine *const kinds[] = { &cpu, &deep, &gpu };
    for (int k = 0; k < 3; k++) {
        for (int noisy = 0; noisy < 2; noisy++) {
            machine m = *kinds[k];
            loami_pace p = { .step_s = 0.15 };
            m.noise = noisy ? 0.05 : 0;
            prompt(&p, &m, 31, 0);
            for (uint32_t i = 0; i < 20; i++) decode(&p, &m, 8, 300 + i);
            for (int i = 0; i < 2; i++) prompt(&p, &m, 8000, 8); /* shapes are new, costs are told apart */
            m.shape = 0;
            for (int i = 0; i < 5; i++) {
                course c = prompt(&p, &m, 8000, 8);
                assert_true(c.longest < 0.15 * (noisy ? 1.4 : 1.15));
                assert_true(c.total > 0.15 * 0.7 * c.n_steps - 0.15); /* and make use of it; the last one is short */
                for (uint32_t j = 0; j < 20; j++) decode(&p, &m, 8, 300 + j);
            }
        }
    }
}

static void a_short_prompt_tells_enough_for_a_long_one(void **unused)
{
    (void)unused;
    machine m = cpu;
    loami_pace p = { .step_s = 0.15 };
    prompt(&p, &m, 31, 0);
    course c = prompt(&p, &m, 4000, 0);
    assert_true(c.first[0] >= 96 && c.first[1] >= 384 && c.first[2] == 512);
}

static void short_prompts_say_nothing_bad_of_long_ones(void **unused)
{
    (void)unused;
    machine m = cpu;
    loami_pace p = { .step_s = 0.15 };
    for (int i = 0; i < 6; i++) prompt(&p, &m, 4000, 8);
    uint32_t before = prompt(&p, &m, 4000, 8).first[0];
    for (int i = 0; i < 60; i++) prompt(&p, &m, 40, 0);
    course c = prompt(&p, &m, 4000, 8);
    assert_true(c.first[0] * 5 >= before * 4);
    assert_true(c.longest < 0.15 * 1.15);
}

static void a_tiny_prompt_tells_too_little_for_a_long_one(void **unused)
{
    (void)unused;
    machine m = { .step = 1e-3, .row = 20e-3, .rows = 512 }; /* rows are all that it costs */
    loami_pace p = { .step_s = 0.15 };
    prompt(&p, &m, 1, 0);
    course c = prompt(&p, &m, 2000, 0);
    assert_true(c.longest < 1.5); /* 0.64 s is what the least takes */
}

static void one_slow_step_is_forgotten_soon(void **unused)
{
    (void)unused;
    machine m = cpu;
    loami_pace p = { .step_s = 0.15 };
    prompt(&p, &m, 512, 0);
    for (int i = 0; i < 20; i++) decode(&p, &m, 8, 300);
    for (int i = 0; i < 6; i++) prompt(&p, &m, 4000, 8);
    course before = prompt(&p, &m, 4000, 8);
    m.first = 5; /* seconds, its first step */
    course c = prompt(&p, &m, 4000, 8);
    assert_true(c.first[1] * 3 >= before.first[1] * 2);
    assert_true(c.first[4] * 6 >= before.first[4] * 5);
}

static void a_first_step_that_compiles_is_no_opinion(void **unused)
{
    (void)unused;
    machine m = gpu;
    loami_pace p = { .step_s = 0.15 };
    m.shape = 0;
    prompt(&p, &m, 64, 0); /* 16 s */
    prompt(&p, &m, 64, 0);
    prompt(&p, &m, 64, 0);
    course c = prompt(&p, &m, 20000, 0);
    assert_true(c.first[0] >= 128 && c.first[3] >= 1024);
}

static void a_machine_that_becomes_slower_is_believed_in_the_end(void **unused)
{
    (void)unused;
    machine m = cpu;
    loami_pace p = { .step_s = 0.15 };
    for (int i = 0; i < 3; i++) prompt(&p, &m, 4000, 8);
    m.step *= 3, m.prompt *= 3, m.row *= 3, m.look *= 3, m.token *= 3, m.past *= 3;
    course c = prompt(&p, &m, 4000, 8);
    assert_true(c.longest < 0.15 * 3.3);
    c = prompt(&p, &m, 4000, 8);
    assert_true(c.longest < 0.15 * 1.2);
}

static void slow_steps_in_a_row_are_believed(void **unused)
{
    (void)unused;
    machine m = cpu;
    loami_pace p = { .step_s = 0.15 };
    loami_work w = { 0 };
    for (int i = 0; i < 40; i++) decode(&p, &m, 8, 300);
    m.step *= 20, m.token *= 20, m.past *= 20;
    for (int i = 0; i < 8; i++) decode(&p, &m, 8, 300);
    for (int i = 0; i < 8; i++) loami_work_decode(&w, 300, 1);
    assert_true(loami_pace_guess(&p, &w) > runs(&m, &w) / 2);
}

static void a_slow_machine_halves_its_time(void **unused)
{
    (void)unused;
    machine m = slow; /* decoding alone takes 0.28 s */
    loami_pace p = { .step_s = 0.15 };
    prompt(&p, &m, 200, 0);
    for (int i = 0; i < 20; i++) decode(&p, &m, 8, 300);
    for (int i = 0; i < 6; i++) {
        prompt(&p, &m, 1000, 8);
        for (int j = 0; j < 20; j++) decode(&p, &m, 8, 300);
    }
    course c = prompt(&p, &m, 1000, 8);
    assert_true(c.longest < 2 * 0.284 * 1.2 && c.first[1] >= 96);
}

static void a_step_has_room_for_several_prompts(void **unused)
{
    (void)unused;
    machine m = cpu;
    loami_pace p = { .step_s = 0.15 };
    loami_work w = { 0 };
    for (int i = 0; i < 6; i++) prompt(&p, &m, 2000, 0);
    for (int i = 0; i < 40; i++) decode(&p, &m, 8, 300);
    for (int i = 0; i < 6; i++) prompt(&p, &m, 2000, 8);
    loami_work_decode(&w, 300, 1);
    assert_int_equal(loami_pace_fit(&p, &w, 0, 20), 20);
    loami_work_prompt(&w, 0, 20);
    uint32_t n = loami_pace_fit(&p, &w, 0, 2000);
    assert_true(n >= 256 && n % LOAMI_PACE_ROWS == 0);
    loami_work_prompt(&w, 0, n);
    assert_true(loami_pace_guess(&p, &w) <= 0.15);
    assert_int_equal(loami_pace_fit(&p, &w, 0, 2000), 0);
}

/* ---- what who finds the queue full is told ---------------------------------------------------------------------- */

/* After n_requests more, done one after another. */
static double retry_after(loami_meter *m, double *now, int n_requests, double each_s, uint32_t waiting)
{
    loam_engine_state st = { .waiting = waiting };
    for (int i = 0; i < n_requests; i++) {
        loami_meter_begin(m, *now, 0);
        *now += each_s;
        loami_meter_end(m, *now, 10);
        loami_meter_finish(m, LOAM_FINISH_STOP, LOAM_OK);
    }
    loami_meter_read(m, *now, &st);
    return st.retry_s;
}

static void who_is_refused_is_told_the_measured_time(void **unused)
{
    (void)unused;
    loami_meter m = { 0 };
    double now = 1;
    assert_float_equal(retry_after(&m, &now, 0, 0, 8), 4, 0); /* nothing was measured: a second each */
    assert_float_equal(retry_after(&m, &now, 20, 0.5, 100), 25, 0); /* half of 100, at two a second */
    assert_float_equal(retry_after(&m, &now, 0, 0, 40), 10, 0);
    assert_float_equal(retry_after(&m, &now, 0, 0, 1), 1, 0); /* never sooner than in a second */
    assert_float_equal(retry_after(&m, &now, 2000, 0.25, 100), 13, 0); /* by now it is twice as fast */
    assert_float_equal(retry_after(&m, &now, 500, 2, 100), 100, 1);    /* and slower */
    assert_float_equal(retry_after(&m, &now, 500, 2, 100000), 600, 0);

    m = (loami_meter){ 0 }; /* one step of 100 rows took a second, and no request is done: 256 tokens are one */
    loami_meter_begin(&m, 1, 0);
    loami_meter_end(&m, 2, 100);
    assert_float_equal(retry_after(&m, &now, 0, 0, 20), 26, 0);
}

static void steps_are_counted_by_their_size(void **unused)
{
    (void)unused;
    static const uint32_t sizes[] = { 1, 2, 8, 9, 16, 17, 512, 16384, 16385 };
    loami_meter m = { 0 };
    loam_engine_state st = { 0 };
    for (int i = 0; i < 9; i++) {
        loami_meter_begin(&m, i, 0);
        loami_meter_end(&m, i + 0.5, sizes[i]);
    }
    loami_meter_read(&m, 10, &st);
    static const uint64_t want[LOAM_STEP_SIZES] = { 1, 2, 2, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1 };
    assert_memory_equal(st.step_tokens, want, sizeof want);
    assert_int_equal(st.tokens_run, 1 + 2 + 8 + 9 + 16 + 17 + 512 + 16384 + 16385);
    assert_int_equal(st.steps, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_keep_to_their_time_at_any_depth),
        cmocka_unit_test(a_short_prompt_tells_enough_for_a_long_one),
        cmocka_unit_test(short_prompts_say_nothing_bad_of_long_ones),
        cmocka_unit_test(a_tiny_prompt_tells_too_little_for_a_long_one),
        cmocka_unit_test(one_slow_step_is_forgotten_soon),
        cmocka_unit_test(a_first_step_that_compiles_is_no_opinion),
        cmocka_unit_test(a_machine_that_becomes_slower_is_believed_in_the_end),
        cmocka_unit_test(slow_steps_in_a_row_are_believed),
        cmocka_unit_test(a_slow_machine_halves_its_time),
        cmocka_unit_test(a_step_has_room_for_several_prompts),
        cmocka_unit_test(steps_are_counted_by_their_size),
        cmocka_unit_test(who_is_refused_is_told_the_measured_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
