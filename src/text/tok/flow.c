#include "base/utf8.h"
#include "text/tok/decoder.h"

#include <stdlib.h>
#include <string.h>

/* A component at work. What it holds back is `hold`. */
typedef struct stage {
    const loami_decoder *d;
    loami_buf hold, made;
    uint64_t tokens;        /* seen */
    uint32_t cut;           /* Strip: characters taken off the start */
    bool started;           /* Strip: something else has been seen */
    bool invalid;           /* ByteFallback: the run cannot become well-formed */
    bool eager;             /* ByteFallback: show complete characters at once */
} stage;

enum { TOKEN_BYTES = 1 << 24 }; /* a decoder may make of one token at most; a file may say anything */

struct loami_flow {
    stage *stages;          /* [n] */
    size_t n;
    uint64_t tokens;
    loami_buf *out;         /* of the call being run */
    void *matches;
};

static int push(loami_flow *f, size_t k, const char *s, size_t n, loam_err *err);

int loami_flow_open(loami_flow **out, const loami_decoders *l, bool eager, loam_err *err)
{
    loami_flow *f = calloc(1, sizeof *f);
    if (!f) return loami_fail_nomem(err);
    f->n = l->n;
    f->stages = calloc(l->n + 1, sizeof *f->stages);
    f->matches = loami_matches_state();
    if (!f->stages || !f->matches) {
        loami_flow_close(f);
        return loami_fail_nomem(err);
    }
    for (size_t i = 0; i < l->n; i++) {
        f->stages[i].d = &l->list[i];
        f->stages[i].made.limit = l->list[i].fused ? 0 : TOKEN_BYTES;
        f->stages[i].eager = eager && (i + 1 == l->n || l->list[i + 1].type->fuses);
    }
    *out = f;
    return 0;
}

void loami_flow_close(loami_flow *f)
{
    if (!f) return;
    for (size_t i = 0; f->stages && i < f->n; i++) {
        loami_buf_free(&f->stages[i].hold);
        loami_buf_free(&f->stages[i].made);
    }
    free(f->stages);
    loami_matches_state_free(f->matches);
    free(f);
}

/* What the component makes of one token, to the next. */
static int pass_on(loami_flow *f, size_t k, const char *s, size_t n, loam_err *err)
{
    stage *t = &f->stages[k];
    loami_buf_clear(&t->made);
    int rc = t->d->type->middle(t->d, f->matches, &t->made, s, n, t->tokens == 1, err);
    if (rc < 0) return rc;
    if (t->made.failed) return loami_fail_nomem(err);
    return push(f, k + 1, t->made.data ? t->made.data : "", t->made.len, err);
}

/* Takes the first n bytes off what is held. */
static void drop(loami_buf *b, size_t n)
{
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

/* ---- ByteLevel ---- */

static int push_bytes(loami_flow *f, size_t k, const char *s, size_t n, loam_err *err)
{
    stage *t = &f->stages[k];
    int rc = t->d->type->middle(t->d, f->matches, &t->hold, s, n, false, err);
    if (rc < 0 || t->hold.failed) return rc < 0 ? rc : loami_fail_nomem(err);
    size_t whole = loami_utf8_cut(t->hold.data ? t->hold.data : "", t->hold.len);
    if (!whole) return 0;
    loami_buf_clear(&t->made);
    loami_uni_lossy(&t->made, t->hold.data, whole);
    drop(&t->hold, whole);
    return t->made.failed ? loami_fail_nomem(err) : push(f, k + 1, t->made.data, t->made.len, err);
}

static int end_bytes(loami_flow *f, size_t k, loam_err *err)
{
    stage *t = &f->stages[k];
    loami_buf_clear(&t->made);
    loami_uni_lossy(&t->made, t->hold.data ? t->hold.data : "", t->hold.len);
    t->hold.len = 0;
    return t->made.failed ? loami_fail_nomem(err)
                          : push(f, k + 1, t->made.data ? t->made.data : "", t->made.len, err);
}

/* ---- ByteFallback: a run of byte tokens is text if all of it is well-formed, otherwise one U+FFFD a byte
 * ---- */

static int push_bad(loami_flow *f, size_t k, size_t count, loam_err *err)
{
    int rc = 0;
    for (; rc == 0 && count; count--) rc = push(f, k + 1, "\xef\xbf\xbd", 3, err);
    return rc;
}

static int end_run(loami_flow *f, size_t k, loam_err *err)
{
    stage *t = &f->stages[k];
    size_t n = t->hold.len;
    t->hold.len = 0;
    t->invalid = false;
    if (n == 0) return 0;
    return loami_utf8_valid(t->hold.data, n) ? push(f, k + 1, t->hold.data, n, err) : push_bad(f, k, n, err);
}

static int push_fallback(loami_flow *f, size_t k, const char *s, size_t n, loam_err *err)
{
    stage *t = &f->stages[k];
    int b = loami_byte_token(s, n), rc;
    if (b < 0) return (rc = end_run(f, k, err)) < 0 ? rc : push(f, k + 1, s, n, err);
    loami_buf_putc(&t->hold, (char)b);
    if (t->hold.failed) return loami_fail_nomem(err);
    if (!t->eager) return 0;
    n = t->hold.len;
    size_t whole = loami_utf8_cut(t->hold.data, n);
    if (whole && !loami_utf8_valid(t->hold.data, whole)) t->invalid = true;
    if (t->invalid) {
        t->hold.len = 0;
        return push_bad(f, k, n, err);
    }
    if (whole < n) return 0;
    t->hold.len = 0;
    return push(f, k + 1, t->hold.data, n, err);
}

/* ---- on one token of all: Strip and Replace ---- */

static bool starts_with(const char *s, size_t n, const loami_decoder *d)
{
    return n >= d->n && memcmp(s, d->text, d->n) == 0;
}

static int strip_text(loami_flow *f, size_t k, const char *s, size_t n, loam_err *err)
{
    stage *t = &f->stages[k];
    const loami_decoder *d = t->d;
    while (!t->started && n) {
        if (t->cut < d->start && starts_with(s, n, d)) {
            s += d->n;
            n -= d->n;
            t->cut++;
        } else {
            t->started = true;
        }
    }
    loami_buf_put(&t->hold, s, n);
    if (t->hold.failed) return loami_fail_nomem(err);
    size_t keep = 0, len = t->hold.len;
    for (uint32_t i = 0;
         i < d->stop && len - keep >= d->n && memcmp(t->hold.data + len - keep - d->n, d->text, d->n) == 0;
         i++)
        keep += d->n;
    if (len == keep) return 0;
    loami_buf_clear(&t->made);
    loami_buf_put(&t->made, t->hold.data, len - keep);
    drop(&t->hold, len - keep);
    return t->made.failed ? loami_fail_nomem(err) : push(f, k + 1, t->made.data, t->made.len, err);
}

/* Replaces what is complete in hold; last: all of it. */
static int replace_text(loami_flow *f, size_t k, bool last, loam_err *err)
{
    stage *t = &f->stages[k];
    size_t n, from = 0, keep;
    loami_matches m = {
        .pattern = t->d->pattern, .text = t->hold.data, .n = t->hold.len, .state = f->matches
    };
    if (t->hold.len == 0) return 0;
    loami_pattern_source(t->d->pattern, &n);
    loami_buf_clear(&t->made);
    while (loami_matches_next(&m, err) > 0) {
        loami_buf_put(&t->made, t->hold.data + from, m.start - from);
        loami_buf_put(&t->made, t->d->text, t->d->n);
        from = m.end;
    }
    size_t rest = t->hold.len - from;
    keep = last ? 0 : rest < n ? rest : n - 1;
    while (keep && keep < rest && ((unsigned char)t->hold.data[t->hold.len - keep] & 0xc0) == 0x80) keep++;
    loami_buf_put(&t->made, t->hold.data + from, rest - keep);
    drop(&t->hold, t->hold.len - keep);
    if (t->made.failed) return loami_fail_nomem(err);
    return push(f, k + 1, t->made.data ? t->made.data : "", t->made.len, err);
}

/* ---- BPEDecoder: the suffix is a space, but at the end nothing ---- */

static int push_bpe(loami_flow *f, size_t k, const char *s, size_t n, loam_err *err)
{
    stage *t = &f->stages[k];
    int rc = t->tokens > 1 ? pass_on(f, k, t->hold.data ? t->hold.data : "", t->hold.len, err) : 0;
    if (rc < 0) return rc;
    loami_buf_clear(&t->hold);
    loami_buf_put(&t->hold, s, n);
    return t->hold.failed ? loami_fail_nomem(err) : 0;
}

static int end_bpe(loami_flow *f, size_t k, loam_err *err)
{
    stage *t = &f->stages[k];
    loami_buf_clear(&t->made);
    if (t->tokens == 0) return 0;
    for (size_t i = 0; i < t->hold.len;) {
        bool suffix = t->d->n && starts_with(t->hold.data + i, t->hold.len - i, t->d);
        if (!suffix) loami_buf_putc(&t->made, t->hold.data[i]);
        i += suffix ? t->d->n : 1;
    }
    return t->made.failed ? loami_fail_nomem(err)
                          : push(f, k + 1, t->made.data ? t->made.data : "", t->made.len, err);
}

/* ---- the chain ---- */

static int take(loami_flow *f, size_t k, const char *s, size_t n, loam_err *err)
{
    stage *t = &f->stages[k];
    t->tokens++;
    switch (t->d->type->kind) {
    case LOAMI_DECODE_BYTES: return push_bytes(f, k, s, n, err);
    case LOAMI_DECODE_FALLBACK: return push_fallback(f, k, s, n, err);
    case LOAMI_DECODE_BPE: return push_bpe(f, k, s, n, err);
    case LOAMI_DECODE_STRIP: return t->d->fused ? strip_text(f, k, s, n, err) : pass_on(f, k, s, n, err);
    default: return pass_on(f, k, s, n, err);
    }
}

/* A token, or after a component that fuses a piece of text, reaches component k. */
static int push(loami_flow *f, size_t k, const char *s, size_t n, loam_err *err)
{
    if (k == f->n) {
        loami_buf_put(f->out, s, n);
        return f->out->failed ? loami_fail_nomem(err) : 0;
    }
    stage *t = &f->stages[k];
    bool replace = t->d->type->kind == LOAMI_DECODE_REPLACE;
    if (!t->d->fused || (t->d->chunks && !replace)) return take(f, k, s, n, err);
    loami_buf_put(&t->hold, s, n);
    if (t->hold.failed) return loami_fail_nomem(err);
    return t->d->chunks ? replace_text(f, k, false, err) : 0;
}

static int end_stage(loami_flow *f, size_t k, loam_err *err)
{
    stage *t = &f->stages[k];
    if (t->d->fused && t->d->chunks) /* Strip drops what it held */
        return t->d->type->kind == LOAMI_DECODE_REPLACE ? replace_text(f, k, true, err) : 0;
    if (t->d->fused) {
        loami_buf whole = t->hold;
        t->hold = (loami_buf){ 0 };
        int rc = take(f, k, whole.data ? whole.data : "", whole.len, err);
        loami_buf_free(&whole);
        if (rc < 0) return rc;
    }
    switch (t->d->type->kind) {
    case LOAMI_DECODE_BYTES: return end_bytes(f, k, err);
    case LOAMI_DECODE_FALLBACK: return end_run(f, k, err);
    case LOAMI_DECODE_BPE: return end_bpe(f, k, err);
    default: return 0;
    }
}

int loami_flow_put(loami_flow *f, loami_buf *out, const char *token, size_t n, loam_err *err)
{
    f->out = out;
    if (f->n == 0 && f->tokens++ > 0) loami_buf_putc(out, ' '); /* no decoder: tokens are joined by spaces */
    return push(f, 0, token, n, err);
}

int loami_flow_end(loami_flow *f, loami_buf *out, loam_err *err)
{
    int rc = 0;
    f->out = out;
    for (size_t k = 0; rc == 0 && k < f->n; k++) rc = end_stage(f, k, err);
    return rc;
}
