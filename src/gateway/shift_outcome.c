/* What a request tells about its side. */
#include "gateway/shift.h"

#include "base/clock.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

enum { TOKENS_LEAST = 8, CHECK_BYTES = 1 << 20 };

/* ---- answers that came whole --------------------------------------------------------------------- */

loami_finish loami_finish_of(loami_span s)
{
    if (!s.at || s.n < 3 || s.at[0] != '"') return LOAMI_END_UNKNOWN;
    if (loami_span_is(s, "\"stop\"") || loami_span_is(s, "\"tool_calls\"")) return LOAMI_END_STOP;
    return loami_span_is(s, "\"length\"") ? LOAMI_END_LENGTH : LOAMI_END_OTHER;
}

void loami_calls_keep(loami_exchange *x, loami_span calls)
{
    loami_peek p = { .in = calls };
    loami_span key, call;
    uint64_t index;
    if (!x->judged || !calls.at || calls.at[0] != '[') return;
    while (loami_peek_next(&p, &key, &call)) {
        loami_span given = loami_peek_get(loami_peek_get(call, "function"), "arguments");
        bool counted = loami_span_u64(loami_peek_get(call, "index"), &index);
        if (!counted || index + 1 != x->n_calls) loami_buf_putc(&x->calls, '\n');
        x->n_calls = counted ? index + 1 : x->n_calls + 1;
        if (given.at && given.n >= 2 && given.at[0] == '"') loami_buf_put(&x->calls, given.at + 1, given.n - 2);
    }
}

void loami_shift_keep_whole(loami_exchange *x, loami_span object)
{
    loami_span choice = loami_peek_first(loami_peek_get(object, "choices")), text;
    loami_span message = choice.at ? loami_peek_get(choice, "message") : choice;
    if (!choice.at) return;
    text = message.at ? loami_peek_get(message, "content") : loami_peek_get(choice, "text");
    if (text.at && text.n > 2 && text.at[0] == '"') loami_buf_put(&x->text, text.at + 1, text.n - 2);
    x->finish = loami_finish_of(loami_peek_get(choice, "finish_reason"));
    x->finished = x->finish != LOAMI_END_UNKNOWN;
    if (!message.at) return;
    loami_span calls = loami_peek_get(message, "tool_calls"), thought = loami_peek_get(message, "reasoning_content");
    if (calls.at && calls.n > 2 && calls.at[0] == '[') x->odd = true;
    if (thought.at && thought.n > 2 && thought.at[0] == '"') x->odd = true;
    loami_calls_keep(x, calls);
}

/* ---- is it what was asked for? ------------------------------------------------------------------- */

static bool parses(const char *escaped, size_t n)
{
    loami_buf quoted = { 0 };
    json_t *v = NULL;
    size_t len = 0;
    loami_buf_putc(&quoted, '"');
    loami_buf_put(&quoted, escaped, n);
    loami_buf_putc(&quoted, '"');
    char *s = quoted.failed ? NULL : loami_span_string((loami_span){ quoted.data, quoted.len }, CHECK_BYTES, &len);
    bool ok = s && loami_json_parse(&v, s, len, "answer", NULL) == 0;
    json_decref(v);
    free(s);
    loami_buf_free(&quoted);
    return ok;
}

static bool calls_parse(const loami_exchange *x)
{
    const char *p = x->calls.data, *end = p + x->calls.len;
    while (p < end) {
        const char *start = p + 1, *stop = memchr(start, '\n', (size_t)(end - start));
        if (!stop) stop = end;
        if (stop > start && !parses(start, (size_t)(stop - start))) return false;
        p = stop;
    }
    return true;
}

static void check_form(const loami_exchange *x, loami_outcome *o)
{
    if (x->calls.len && !x->calls.failed) {
        o->checked = true;
        o->invalid = !calls_parse(x);
    } else if (x->facts.wants_json && !x->text.failed && o->finish == LOAMI_END_STOP) {
        o->checked = true;
        o->invalid = !x->text.len || !parses(x->text.data, x->text.len);
    }
}

/* ---- the outcome --------------------------------------------------------------------------------- */

static bool is_text(const loami_exchange *x)
{
    return x->endpoint->shape == LOAMI_SHAPE_CHAT || x->endpoint->shape == LOAMI_SHAPE_TEXT;
}

static loami_outcome outcome_of(const loami_exchange *x, int status)
{
    double now = loami_now_s();
    uint64_t tokens = x->answer_tokens ? x->answer_tokens : x->n_tokens;
    bool gone = status == 499, late = gone && x->facts.stream && !x->n_tokens;
    loami_outcome o = { .on_new = x->side == LOAMI_SIDE_NEW,
                        .second = x->judged == 2,
                        .share = x->share,
                        .failed = x->side_failed || (!gone && status >= 400),
                        .finish = x->finish };
    if (o.failed) return o;
    if (x->facts.stream && x->n_tokens) o.ttft_s = x->first_s - x->start_s;
    if (late) o.ttft_s = now - x->start_s; /* its client gave up waiting: it would have been later still */
    if (x->facts.stream && x->n_tokens >= TOKENS_LEAST && x->last_s > x->first_s)
        o.itl_s = (x->last_s - x->first_s) / (double)(x->n_tokens - 1);
    if (!gone && tokens >= TOKENS_LEAST) o.token_s = (now - x->start_s) / (double)tokens;
    o.whole = !gone && x->finished && is_text(x);
    if (!o.whole) return o;
    o.empty = !x->text.len && !x->odd;
    o.repeated = !x->text.failed && x->text.len && loami_repeats(x->text.data, x->text.len);
    check_form(x, &o);
    return o;
}

void loami_shift_leave(loami_exchange *x, int status)
{
    loami_shift *s = x->first_pool ? x->first_pool->shift : NULL;
    if (!s) return;
    if (status == 200) {
        loami_shift_remember(x);
        loami_shift_note_recent(x);
        if (x->finished) loami_shift_mirror(x);
    }
    if (x->side == LOAMI_SIDE_NONE || x->shift_id != s->r.id || !loami_rollout_open(&s->r)) return;
    loami_outcome o = outcome_of(x, status);
    if (x->shift_step == s->r.step) {
        s->served[o.on_new]++;
        s->failures[o.on_new] += o.failed;
    }
    s->dirty = true;
    if (!x->judged || (status == 499 && !x->side_failed && !(o.ttft_s > 0))) return;
    loami_judge_add(&s->judge, &o);
    if (loami_judge_verdict(&s->judge, NULL) == LOAMI_WORSE) loami_shift_look(s);
}
