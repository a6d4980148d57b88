#include "text/jinja/run.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { PIECE = 32 * 1024, BIG = 4 * 1024, ALIGN = 16, WORK_BYTES = 16 };

void *loami_j_alloc(jrun *r, size_t n)
{
    jmem *m = &r->m;
    if (n > m->limit || m->used > m->limit - n)
        loami_j_fail(r, "the template uses more than %zu MB of memory", m->limit >> 20);
    n = (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    m->used += n;
    if (n > BIG) {
        loami_j_work(r, n);
        void *p = loami_arena_alloc(&m->arena, n);
        if (!p) loami_j_fail_code(r, LOAM_E_NOMEM, "out of memory", 13);
        return p;
    }
    if (m->left < n) {
        m->at = loami_arena_alloc(&m->arena, PIECE);
        m->left = m->at ? PIECE : 0;
        if (!m->at) loami_j_fail_code(r, LOAM_E_NOMEM, "out of memory", 13);
    }
    void *p = m->at;
    m->at += n;
    m->left -= n;
    return p;
}

void *loami_j_array(jrun *r, size_t count, size_t size)
{
    if (count > r->m.limit / size)
        loami_j_fail(r, "the template uses more than %zu MB of memory", r->m.limit >> 20);
    return loami_j_alloc(r, count * size);
}

void loami_j_fail(jrun *r, const char *fmt, ...)
{
    char text[sizeof(((loam_err *)0)->msg)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    loami_fail(r->m.err, r->m.code, "chat template, line %u: %s", r->m.line, text);
    longjmp(r->m.exit, 1);
}

void loami_j_fail_code(jrun *r, int code, const char *text, size_t n)
{
    r->m.code = code;
    loami_fail(r->m.err, code, "%.*s", n > 499 ? 499 : (int)n, text);
    longjmp(r->m.exit, 1);
}

void loami_j_work(jrun *r, size_t n)
{
    r->m.steps += 1 + n / WORK_BYTES;
    if (r->m.steps > r->m.step_limit)
        loami_j_fail(r, "the template takes more than %llu steps", (unsigned long long)r->m.step_limit);
}

void loami_j_enter(jrun *r)
{
    if (++r->m.depth > J_MAX_DEPTH) loami_j_fail(r, "nested more than %d levels deep", J_MAX_DEPTH);
}

void loami_j_leave(jrun *r)
{
    r->m.depth--;
}

/* ---- strings ------------------------------------------------------------------------------------------- */

/* Bytes that grow at their end while earlier strings go on using their beginning. */
struct jgrow {
    char *p;
    size_t n, cap;
};

static jval string_of(jrun *r, const char *p, size_t n, struct jgrow *grow, bool markup)
{
    jstr *s = loami_j_alloc(r, sizeof *s);
    *s = (jstr){ .p = p, .n = n, .chars = n ? SIZE_MAX : 0, .grow = grow, .markup = markup };
    return (jval){ .type = J_STR, .s = s };
}

jval loami_j_str(jrun *r, const char *p, size_t n)
{
    return string_of(r, p, n, NULL, false);
}

jval loami_j_strz(jrun *r, const char *p)
{
    return string_of(r, p, strlen(p), NULL, false);
}

jval loami_j_part(jrun *r, const jstr *of, size_t at, size_t n)
{
    return string_of(r, of->p + at, n, NULL, of->markup);
}

/* Appends in place when a is the newest string over its bytes, so that s = s + x in a loop stays linear. */
jval loami_j_concat(jrun *r, const jstr *a, const jstr *b)
{
    struct jgrow *g = a->grow;
    size_t n = a->n + b->n;

    loami_j_work(r, b->n);
    if (!g || a->p + a->n != g->p + g->n || g->cap - g->n < b->n) {
        g = loami_j_alloc(r, sizeof *g);
        g->cap = n < 48 ? 64 : n + n / 2;
        g->p = loami_j_alloc(r, g->cap);
        if (a->n) memcpy(g->p, a->p, a->n);
        g->n = a->n;
    }
    char *start = g->p + g->n - a->n;
    if (b->n) memcpy(g->p + g->n, b->p, b->n);
    g->n += b->n;
    return string_of(r, start, n, g, a->markup);
}

size_t loami_j_chars(const jstr *s)
{
    if (s->chars == SIZE_MAX) {
        size_t k = 0;
        for (size_t i = 0; i < s->n; i++) k += ((unsigned char)s->p[i] & 0xC0) != 0x80;
        ((jstr *)s)->chars = k;
    }
    return s->chars;
}

size_t loami_j_offset(const jstr *s, size_t k)
{
    if (loami_j_chars(s) == s->n || k == 0) return k;
    size_t i = 0;
    for (; k && i < s->n; k--) {
        i++;
        while (i < s->n && ((unsigned char)s->p[i] & 0xC0) == 0x80) i++;
    }
    return i;
}

bool loami_j_is(const jstr *s, const char *z)
{
    size_t n = strlen(z);
    return s->n == n && memcmp(s->p, z, n) == 0;
}

void loami_j_put(jsb *b, const char *p, size_t n)
{
    if (b->cap - b->n < n) {
        if (n > b->r->m.limit) loami_j_array(b->r, n, 2);
        size_t cap = b->cap < 48 ? 64 : b->cap * 2;
        if (cap < b->n + n) cap = b->n + n;
        char *bigger = loami_j_alloc(b->r, cap);
        if (b->n) memcpy(bigger, b->p, b->n);
        b->p = bigger;
        b->cap = cap;
    }
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
    loami_j_work(b->r, n);
}

void loami_j_puts(jsb *b, const char *z)
{
    loami_j_put(b, z, strlen(z));
}

void loami_j_putc(jsb *b, char c)
{
    loami_j_put(b, &c, 1);
}

void loami_j_putcp(jsb *b, uint32_t cp)
{
    char u[4];
    loami_j_put(b, u, loami_utf8_put(u, cp));
}

void loami_j_printf(jsb *b, const char *fmt, ...)
{
    char text[128];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    loami_j_put(b, text, n < 0 ? 0 : n < (int)sizeof text ? (size_t)n : sizeof text - 1);
}

jval loami_j_sbval(jsb *b)
{
    struct jgrow *g = loami_j_alloc(b->r, sizeof *g);
    *g = (struct jgrow){ b->p, b->n, b->cap };
    return string_of(b->r, b->p ? b->p : "", b->n, b->p ? g : NULL, false);
}
