/* tests/unit/ask.h: an engine with the tiny model, asked and read the short way. */
#ifndef TESTS_ASK_H
#define TESTS_ASK_H

#include "check.h"
#include "tiny.h"

#include "base/buf.h"
#include "base/utf8.h"

#include <sched.h>

static char *folder;

static inline loam_engine *open_with(loam_options o)
{
    loam_engine *e;
    loam_err err;
    o.model = folder;
    if (!o.substrate) o.substrate = "reference";
    if (loam_engine_open(&e, &o, &err) < 0) fail_msg("%s", err.msg);
    return e;
}

typedef struct answer {
    int32_t ids[TINY_CONTEXT];
    uint32_t n;
    loami_buf text;
    loam_result result;
} answer;

static inline void read_all(loam_stream *s, answer *a)
{
    loam_token t;
    *a = (answer){ 0 };
    while (loam_stream_next(s, &t, UINT32_MAX) > 0) {
        if (t.id >= 0) a->ids[a->n++] = t.id;
        loami_buf_put(&a->text, t.text, t.text_len);
        assert_true(loami_utf8_valid(t.text, t.text_len));
    }
    loam_stream_result(s, &a->result);
}

static inline loam_stream *submit(loam_engine *e, const char *prompt, loam_request r)
{
    int32_t ids[TINY_CONTEXT];
    loam_stream *s;
    loam_err err;
    r.n_tokens = (uint32_t)strlen(prompt);
    for (uint32_t i = 0; i < r.n_tokens; i++) ids[i] = (unsigned char)prompt[i];
    r.tokens = ids;
    if (loam_submit(e, &s, &r, &err) < 0) fail_msg("%s", err.msg);
    return s;
}

static inline void run(loam_engine *e, const char *prompt, loam_request r, answer *a)
{
    loam_stream *s = submit(e, prompt, r);
    read_all(s, a);
    loam_stream_close(s);
}

/* Waits, without a clock, until the engine has made so many tokens since it was opened. */
static inline void wait_for_tokens(loam_engine *e, uint64_t n)
{
    loam_engine_state st;
    do {
        sched_yield();
        loam_engine_stat(e, &st);
    } while (st.new_tokens < n);
}

static inline void expect_all_pages_back(loam_engine *e)
{
    loam_engine_state st;
    do {
        sched_yield();
        loam_engine_stat(e, &st);
    } while (st.running || st.waiting);
    assert_int_equal(st.pages_used, 0);
}

#endif
