/* The loop and its workers: posts are coalesced, taken back, and run on the loop's thread. */
#include "check.h"

#include "base/buf.h"
#include "base/json.h"
#include "net/workers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct counter {
    loami_loop *loop;
    loami_post post, stop;
    int ran;
    pthread_t on;
} counter;

static void count(void *arg)
{
    counter *c = arg;
    c->ran++;
    c->on = pthread_self();
}

static void stop(void *arg)
{
    counter *c = arg;
    loami_loop_stop(c->loop);
}

static void *post_often(void *arg)
{
    counter *c = arg;
    for (int i = 0; i < 1000; i++) loami_loop_post(c->loop, &c->post);
    loami_loop_post(c->loop, &c->stop);
    return NULL;
}

static void posts_are_coalesced(void **state)
{
    counter c = { 0 };
    pthread_t t;
    (void)state;
    assert_true(loami_loop_open(&c.loop, NULL) == 0);
    c.post = (loami_post){ .run = count, .arg = &c };
    c.stop = (loami_post){ .run = stop, .arg = &c };
    pthread_create(&t, NULL, post_often, &c);
    pthread_join(t, NULL); /* all posted before the loop runs: one call */
    loami_loop_run(c.loop);
    assert_true(c.ran == 1);
    assert_true(pthread_equal(c.on, pthread_self()));
    loami_loop_post(c.loop, &c.post); /* and it can be posted again */
    loami_loop_post(c.loop, &c.stop);
    loami_loop_run(c.loop);
    assert_true(c.ran == 2);
    loami_loop_close(c.loop);
}

static void posts_can_be_taken_back(void **state)
{
    counter c[3];
    loami_loop *loop;
    (void)state;
    for (int gone = 0; gone < 3; gone++) {
        memset(c, 0, sizeof c);
        assert_true(loami_loop_open(&loop, NULL) == 0);
        for (int i = 0; i < 3; i++) {
            c[i].loop = loop;
            c[i].post = (loami_post){ .run = count, .arg = &c[i] };
            loami_loop_post(loop, &c[i].post);
        }
        loami_loop_unpost(loop, &c[gone].post);
        loami_loop_unpost(loop, &c[gone].post);
        c[0].stop = (loami_post){ .run = stop, .arg = &c[0] };
        loami_loop_post(loop, &c[0].stop);
        loami_loop_run(loop);
        for (int i = 0; i < 3; i++) assert_true(c[i].ran == (i != gone));
        loami_loop_close(loop);
    }
}

static void timers_ring_once(void **state)
{
    counter c = { 0 };
    loami_timer a = { 0 }, b = { 0 }, last = { 0 };
    (void)state;
    assert_true(loami_loop_open(&c.loop, NULL) == 0);
    assert_true(loami_timer_set(c.loop, &a, 0.001, count, &c));
    assert_true(loami_timer_set(c.loop, &b, 0.001, count, &c));
    loami_timer_clear(&b);
    assert_true(loami_timer_set(c.loop, &last, 100, count, &c)); /* replaced: */
    assert_true(loami_timer_set(c.loop, &last, 0.02, stop, &c));
    loami_loop_run(c.loop);
    assert_true(c.ran == 1);
    loami_timer_clear(&a);
    loami_timer_clear(&last);
    loami_timer_clear(&last);
    loami_loop_close(c.loop);
}

typedef struct batch {
    loami_loop *loop;
    pthread_t loop_thread;
    pthread_mutex_t gate;
    atomic_int worked;
    int back, wrong_thread, total;
} batch;

static void work(void *arg)
{
    batch *b = arg;
    pthread_mutex_lock(&b->gate);
    pthread_mutex_unlock(&b->gate);
    atomic_fetch_add(&b->worked, 1);
    if (pthread_equal(pthread_self(), b->loop_thread)) b->wrong_thread++;
}

static void done(void *arg)
{
    batch *b = arg;
    if (!pthread_equal(pthread_self(), b->loop_thread)) b->wrong_thread++;
    if (++b->back == b->total) loami_loop_stop(b->loop);
}

static void workers_are_bounded_and_bring_results_back(void **state)
{
    enum { QUEUE = 10, THREADS = 3, MANY = 40 };
    batch b = { .loop_thread = pthread_self(), .gate = PTHREAD_MUTEX_INITIALIZER };
    loami_workers *w;
    loami_task tasks[MANY];
    (void)state;
    assert_true(loami_loop_open(&b.loop, NULL) == 0);
    assert_true(loami_workers_open(&w, b.loop, THREADS, QUEUE, NULL) == 0);
    pthread_mutex_lock(&b.gate); /* nobody gets done: the queue must fill */
    for (int i = 0; i < MANY; i++) {
        tasks[i] = (loami_task){ .work = work, .done = done, .arg = &b };
        b.total += loami_workers_run(w, &tasks[i]);
    }
    assert_true(b.total >= QUEUE && b.total <= QUEUE + THREADS);
    pthread_mutex_unlock(&b.gate);
    loami_loop_run(b.loop);
    assert_true(b.back == b.total && atomic_load(&b.worked) == b.total && b.wrong_thread == 0);
    loami_workers_close(w);
    loami_loop_close(b.loop);
}

/* What loami_json_put writes, jansson reads back as the same bytes (invalid ones as U+FFFD). */
static void strings_round_trip(void **state)
{
    static const struct {
        const char *in;
        size_t n;
        const char *out;
    } cases[] = {
        { "", 0, "" },
        { "plain", 5, "plain" },
        { "a\"b\\c/\b\f\n\r\t\v\x01\x1f\x7f", 15, "a\"b\\c/\b\f\n\r\t\v\x01\x1f\x7f" },
        { "h\xc3\xa9 \xe6\xbc\xa2 \xf0\x9f\x98\x80", 12, "h\xc3\xa9 \xe6\xbc\xa2 \xf0\x9f\x98\x80" },
        { "\xff", 1, "\xef\xbf\xbd" },
        { "a\xc3", 2, "a\xef\xbf\xbd" },
        { "\xed\xa0\x80", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xc0\x80z", 3, "\xef\xbf\xbd\xef\xbf\xbdz" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        loami_buf b = { 0 };
        loami_json_put(&b, cases[i].in, cases[i].n);
        json_t *v = json_loadb(b.data, b.len, JSON_DECODE_ANY, NULL);
        assert_true(v && strcmp(json_string_value(v), cases[i].out) == 0);
        json_decref(v);
        loami_buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_are_coalesced), cmocka_unit_test(posts_can_be_taken_back),
        cmocka_unit_test(timers_ring_once),    cmocka_unit_test(workers_are_bounded_and_bring_results_back),
        cmocka_unit_test(strings_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
