/* KV pages: nothing is held twice, nothing is lost, and what is shared is what was asked for. */
#include "check.h"
#include "engine/pages.h"

#include <stdlib.h>

enum { PAGES = 24, PAGE_TOKENS = 4, SEQS = 6, LENGTH = 40, KEPT = 15 };

typedef struct seq {
    uint32_t pages[LENGTH / PAGE_TOKENS + 1];
    int32_t tokens[LENGTH];
    loami_holding h;
    uint32_t n_tokens, n_done;
    bool running, promised;      /* promised: all that it may need */
} seq;

static uint32_t pages_for(uint32_t tokens)
{
    return (tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

static uint32_t state = 3;

static uint32_t below(uint32_t n)
{
    state = state * 1664525 + 1013904223;
    return (state >> 8) % n;
}

/* What each page holds, as a substrate would: written token by token when a sequence is run. */
static int32_t content[PAGES][PAGE_TOKENS];
static uint64_t content_salt[PAGES];

static void start(seq *s)
{
    s->n_tokens = 1 + below(LENGTH);
    for (uint32_t i = 0; i < s->n_tokens; i++) s->tokens[i] = (int32_t)below(i < 3 * PAGE_TOKENS ? 2 : 50) * (int32_t)(i % 3);
    s->promised = below(3) > 0;
    s->h = (loami_holding){ .pages = s->pages, .salt = below(2), .keep = below(8) > 0 };
}

/* Runs tokens up to n: pages that are shared must hold the right ones already, the others are written. */
static void run_to(seq *s, uint32_t n)
{
    for (uint32_t i = s->n_done; i < n; i++) {
        assert_true(i / PAGE_TOKENS >= s->h.n_shared); /* a shared page is never written */
        content[s->h.pages[i / PAGE_TOKENS]][i % PAGE_TOKENS] = s->tokens[i];
        content_salt[s->h.pages[i / PAGE_TOKENS]] = s->h.salt;
    }
    s->n_done = n;
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(content[s->h.pages[i / PAGE_TOKENS]][i % PAGE_TOKENS], s->tokens[i]);
        assert_int_equal(content_salt[s->h.pages[i / PAGE_TOKENS]], s->h.salt);
    }
}

static void check_counts(const loami_pages *p, const seq *seqs)
{
    bool held[PAGES] = { false };
    uint32_t n = 0, promised = 0;
    for (int i = 0; i < SEQS; i++) {
        promised += seqs[i].running ? seqs[i].h.n_promised : 0;
        for (uint32_t k = 0; seqs[i].running && k < seqs[i].h.n_pages; k++) {
            uint32_t page = seqs[i].h.pages[k];
            assert_true(page < PAGES);
            if (k >= seqs[i].h.n_shared) assert_false(held[page]); /* a page of one's own is nobody else's */
            n += !held[page];
            held[page] = true;
        }
    }
    assert_int_equal(loami_pages_used(p), n);
    assert_true(n + promised <= PAGES);
    assert_int_equal(loami_pages_left(p), PAGES - n - promised);
    assert_true(loami_pages_kept(p) <= KEPT);
    assert_int_equal(loami_pages_count(p), PAGES);
}

static void random_lives(void **unused)
{
    (void)unused;
    static seq seqs[SEQS];
    loami_pages *p;
    uint32_t hits = 0, refused = 0, stuck = 0, extended = 0;
    assert_int_equal(loami_pages_open(&p, PAGES, PAGE_TOKENS, KEPT, NULL), 0);
    for (int round = 0; round < 20000; round++) {
        seq *s = &seqs[below(SEQS)];
        if (!s->running) {
            start(s);
            s->running = loami_pages_take(p, &s->h, s->tokens, s->n_tokens, s->promised ? pages_for(s->n_tokens) : 0);
            refused += !s->running;
            if (!s->running) continue;
            assert_true(s->h.n_shared * PAGE_TOKENS < s->n_tokens); /* the last token is always run */
            s->n_done = s->h.n_shared * PAGE_TOKENS;
            hits += s->h.n_shared > 0;
            run_to(s, s->n_done);
        } else if (s->n_done < s->n_tokens && below(4)) {
            uint32_t n = s->n_done + 1 + below(s->n_tokens - s->n_done), had = s->h.n_shared;
            if (s->h.n_pages == s->h.n_shared && s->promised) loami_pages_extend(p, &s->h, s->tokens, s->n_tokens, false);
            extended += s->h.n_shared > had;
            if (s->h.n_shared > had) s->n_done = s->h.n_shared * PAGE_TOKENS; /* others ran these tokens meanwhile */
            if (n < s->n_done) n = s->n_done;
            bool grown = loami_pages_grow(p, &s->h, pages_for(n));
            assert_true(grown || !s->promised); /* a promise is kept */
            stuck += !grown;
            if (!grown && s->h.n_pages * PAGE_TOKENS < n) n = s->h.n_pages * PAGE_TOKENS;
            run_to(s, n);
            if (below(2)) loami_pages_publish(p, &s->h, s->tokens, s->n_done);
        } else {
            run_to(s, s->n_done);
            loami_pages_give(p, &s->h, s->tokens, s->n_done);
            s->running = false;
        }
        check_counts(p, seqs);
    }
    assert_true(hits > 1000 && refused > 100 && stuck > 100 && extended > 10); /* the rounds were neither trivial nor hopeless */
    for (int i = 0; i < SEQS; i++)
        if (seqs[i].running) loami_pages_give(p, &seqs[i].h, seqs[i].tokens, seqs[i].n_done);
    assert_int_equal(loami_pages_used(p), 0);
    loami_pages_forget(p);
    assert_int_equal(loami_pages_kept(p), 0);
    uint32_t all[PAGES];
    loami_holding h = { .pages = all };
    assert_true(loami_pages_take(p, &h, NULL, 0, PAGES) && loami_pages_grow(p, &h, PAGES)); /* every page came back */
    loami_pages_close(p);
}

/* The oldest goes first, and a beginning outlives its continuations. */
static void least_recently_used_goes_first(void **unused)
{
    (void)unused;
    loami_pages *p;
    uint32_t pages[3][4];
    int32_t a[12] = { 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3 }, b[12] = { 1, 1, 1, 1, 5, 5, 5, 5, 6, 6, 6, 6 };
    assert_int_equal(loami_pages_open(&p, 6, PAGE_TOKENS, 6, NULL), 0);
    loami_holding ha = { .pages = pages[0], .keep = true }, hb = { .pages = pages[1], .keep = true };
    assert_true(loami_pages_take(p, &ha, a, 12, 3) && loami_pages_grow(p, &ha, 3));
    loami_pages_give(p, &ha, a, 12);
    assert_true(loami_pages_take(p, &hb, b, 12, 3) && loami_pages_grow(p, &hb, 3));
    assert_int_equal(hb.n_shared, 1);
    loami_pages_give(p, &hb, b, 12);
    assert_int_equal(loami_pages_kept(p), 5);
    loami_holding other = { .pages = pages[2] }; /* one is free, two must go: a's tail */
    assert_true(loami_pages_take(p, &other, NULL, 0, 3));
    assert_int_equal(loami_pages_kept(p), 5); /* a promise alone forgets nothing */
    assert_true(loami_pages_grow(p, &other, 3));
    assert_true(loami_pages_take(p, &hb, b, 12, 3));
    assert_int_equal(hb.n_shared, 2);
    loami_pages_give(p, &hb, b, 12);
    loami_pages_give(p, &other, NULL, 0);
    assert_true(loami_pages_take(p, &ha, a, 12, 3));
    assert_int_equal(ha.n_shared, 1);
    loami_pages_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(random_lives), cmocka_unit_test(least_recently_used_goes_first) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
