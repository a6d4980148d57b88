/* KV pages: nothing is held twice, nothing is lost, and what is shared is what was asked for. */
#include "check.h"
#include "engine/pages.h"

#include <stdlib.h>

enum { PAGES = 24, PAGE_TOKENS = 4, SEQS = 6, LENGTH = 40, KEPT = 15, WINDOW = 10, NEAR_MOST = 5, SPARE = LENGTH / PAGE_TOKENS, NEAR = 34 };

typedef struct seq {
    uint32_t pages[LENGTH / PAGE_TOKENS + 1], near[LENGTH / PAGE_TOKENS + 1];
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
static int32_t content[PAGES][PAGE_TOKENS], near_content[NEAR][PAGE_TOKENS];
static uint64_t content_salt[PAGES];
static bool windows;             /* there are near pages */

static loami_pages *open_pages(void)
{
    loami_pages *p;
    loami_pages_config c = { .n_pages = PAGES, .page_tokens = PAGE_TOKENS, .kept_most = KEPT };
    if (windows) c.n_near = NEAR, c.window = WINDOW, c.n_spare = SPARE;
    assert_int_equal(loami_pages_open(&p, &c, NULL), 0);
    return p;
}

static void start(seq *s)
{
    s->n_tokens = 1 + below(LENGTH);
    for (uint32_t i = 0; i < s->n_tokens; i++) s->tokens[i] = (int32_t)below(i < 3 * PAGE_TOKENS ? 2 : 50) * (int32_t)(i % 3);
    s->promised = below(3) > 0;
    uint32_t most = pages_for(s->n_tokens);
    s->h = (loami_holding){ .pages = s->pages, .near = s->near, .near_most = most < NEAR_MOST ? most : NEAR_MOST, .salt = below(2), .keep = below(8) > 0 };
}

/* Runs tokens up to n: pages that are shared must hold the right ones already, the others are written. */
static void run_to(seq *s, uint32_t n)
{
    for (uint32_t i = s->n_done; i < n; i++) {
        assert_true(i / PAGE_TOKENS >= s->h.n_shared); /* a shared page is never written */
        content[s->h.pages[i / PAGE_TOKENS]][i % PAGE_TOKENS] = s->tokens[i];
        content_salt[s->h.pages[i / PAGE_TOKENS]] = s->h.salt;
        if (windows) near_content[s->near[i / PAGE_TOKENS]][i % PAGE_TOKENS] = s->tokens[i] + (int32_t)s->h.salt;
    }
    s->n_done = n;
    for (uint32_t i = n + 1 > WINDOW ? n + 1 - WINDOW : 0; windows && i < n; i++) { /* what the next token looks back at */
        assert_true(i / PAGE_TOKENS >= s->h.near_from && i / PAGE_TOKENS < s->h.near_end);
        assert_int_equal(near_content[s->near[i / PAGE_TOKENS]][i % PAGE_TOKENS], s->tokens[i] + (int32_t)s->h.salt);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (i / PAGE_TOKENS >= s->h.n_shared && i / PAGE_TOKENS < s->h.n_dropped) continue;
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
            if (k >= seqs[i].h.n_shared && k < seqs[i].h.n_dropped) continue;
            uint32_t page = seqs[i].h.pages[k];
            assert_true(page < PAGES);
            if (k >= seqs[i].h.n_shared) assert_false(held[page]); /* a page of one's own is nobody else's */
            n += !held[page];
            held[page] = true;
        }
    }
    assert_int_equal(loami_pages_counted(p).used, n);
    assert_true(n + promised <= PAGES);
    assert_int_equal(loami_pages_left(p), PAGES - n - promised);
    assert_true(loami_pages_counted(p).kept <= KEPT);
    assert_int_equal(loami_pages_counted(p).all, PAGES);
}

/* Near pages: held ones are told apart from kept ones, and no more are held at once than was said. */
static void check_near(const loami_pages *p, const seq *seqs)
{
    bool held[NEAR] = { false };
    uint32_t n = 0, most = SPARE;
    for (int i = 0; i < SEQS; i++) {
        const loami_holding *h = &seqs[i].h;
        if (!seqs[i].running) continue;
        most += h->near_most;
        assert_true(h->near_end - h->near_from <= h->near_most);
        for (uint32_t k = h->near_from; k < h->near_end; k++) {
            if (k >= h->n_shared) assert_false(held[h->near[k]]);
            n += !held[h->near[k]];
            held[h->near[k]] = true;
        }
    }
    assert_true(most <= NEAR);
    assert_int_equal(loami_pages_near(p).used, n);
    assert_true(loami_pages_near(p).kept <= NEAR - n);
}

static void live_randomly(void)
{
    static seq seqs[SEQS];
    loami_pages *p = open_pages();
    uint32_t hits = 0, refused = 0, stuck = 0, extended = 0, dropped = 0;
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
            if (!grown && loami_pages_held(p, &s->h) * PAGE_TOKENS < n) n = loami_pages_held(p, &s->h) * PAGE_TOKENS;
            run_to(s, n);
            if (!windows && below(8) == 0) loami_pages_drop(p, &s->h, s->n_done / PAGE_TOKENS);
            dropped += s->h.n_dropped > s->h.n_shared;
            if (below(2)) loami_pages_publish(p, &s->h, s->tokens, s->n_done);
            loami_pages_pass(p, &s->h, s->n_done);
            run_to(s, s->n_done);
        } else {
            run_to(s, s->n_done);
            loami_pages_give(p, &s->h, s->tokens, s->n_done);
            s->running = false;
        }
        check_counts(p, seqs);
        if (windows) check_near(p, seqs);
    }
    assert_true(hits > 1000 && refused > 100 && stuck > 100 && extended > 10 && (windows || dropped > 100)); /* the rounds were neither trivial nor hopeless */
    for (int i = 0; i < SEQS; i++) {
        if (seqs[i].running) loami_pages_give(p, &seqs[i].h, seqs[i].tokens, seqs[i].n_done);
        seqs[i].running = false;
    }
    assert_int_equal(loami_pages_counted(p).used + loami_pages_near(p).used, 0);
    loami_pages_forget(p);
    assert_int_equal(loami_pages_counted(p).kept + loami_pages_near(p).kept, 0);
    uint32_t all[PAGES], near[PAGES];
    loami_holding h = { .pages = all, .near = near, .near_most = windows ? NEAR - SPARE : 0 };
    assert_true(loami_pages_take(p, &h, NULL, 0, PAGES) && loami_pages_grow(p, &h, PAGES)); /* every page came back */
    loami_pages_close(p);
}

static void random_lives(void **unused)
{
    (void)unused;
    for (int i = 0; i < 2; i++) {
        windows = i;
        live_randomly();
    }
    windows = false;
}

/* Two texts that part after two pages, a window of ten tokens: where one can begin depends on the near pages that are there. */
static void a_hit_needs_its_window(void **unused)
{
    (void)unused;
    loami_pages *p;
    loami_pages_config c = { .n_pages = 30, .page_tokens = PAGE_TOKENS, .kept_most = 30, .n_near = 6, .window = WINDOW, .n_spare = 0 };
    int32_t a[LENGTH], b[LENGTH];
    uint32_t pages[LENGTH], near[LENGTH];
    loami_holding h = { .pages = pages, .near = near, .near_most = 5, .keep = true };
    for (int32_t i = 0; i < LENGTH; i++) a[i] = i, b[i] = i < 8 ? i : -i;
    assert_int_equal(loami_pages_open(&p, &c, NULL), 0);
    assert_int_equal(loami_pages_seen(p, 8), 0);
    assert_int_equal(loami_pages_seen(p, 36), 6);
    assert_true(loami_pages_take(p, &h, a, 37, 10));
    for (uint32_t n = 4; n <= 36; n += 4) { /* pages 0 to 8 as tokens come; six near ones at most, the oldest are lost */
        assert_true(loami_pages_grow(p, &h, n / PAGE_TOKENS));
        loami_pages_publish(p, &h, a, n);
        loami_pages_pass(p, &h, n);
        assert_true(h.near_end - h.near_from <= 3);
    }
    loami_pages_give(p, &h, a, 36);
    assert_int_equal(loami_pages_near(p).kept, 6);
    assert_true(loami_pages_take(p, &h, a, 40, 10));
    assert_int_equal(h.n_shared, 9); /* its whole end is there: 6, 7, 8 */
    assert_int_equal(h.near_from, 6);
    loami_pages_give(p, &h, a, 36);
    assert_true(loami_pages_take(p, &h, a, 30, 10));
    assert_int_equal(h.n_shared, 7); /* 4, 5, 6 */
    loami_pages_give(p, &h, a, 28);
    assert_true(loami_pages_take(p, &h, b, 30, 10));
    assert_int_equal(h.n_shared, 0); /* the near pages of the beginning are gone */
    assert_true(loami_pages_grow(p, &h, 2)); /* it is run again, and the nodes get what they lacked */
    loami_pages_publish(p, &h, b, 8);
    assert_int_equal(h.n_shared, 2);
    loami_pages_give(p, &h, b, 8);
    assert_int_equal(loami_pages_counted(p).kept, 9);
    assert_true(loami_pages_take(p, &h, b, 30, 10));
    assert_int_equal(h.n_shared, 2);
    loami_pages_give(p, &h, b, 8);
    loami_pages_close(p);
}

/* The oldest goes first, and a beginning outlives its continuations. */
static void least_recently_used_goes_first(void **unused)
{
    (void)unused;
    loami_pages *p;
    uint32_t pages[3][4];
    int32_t a[12] = { 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3 }, b[12] = { 1, 1, 1, 1, 5, 5, 5, 5, 6, 6, 6, 6 };
    assert_int_equal(loami_pages_open(&p, &(loami_pages_config){ .n_pages = 6, .page_tokens = PAGE_TOKENS, .kept_most = 6 }, NULL), 0);
    loami_holding ha = { .pages = pages[0], .keep = true }, hb = { .pages = pages[1], .keep = true };
    assert_true(loami_pages_take(p, &ha, a, 12, 3) && loami_pages_grow(p, &ha, 3));
    loami_pages_give(p, &ha, a, 12);
    assert_true(loami_pages_take(p, &hb, b, 12, 3) && loami_pages_grow(p, &hb, 3));
    assert_int_equal(hb.n_shared, 1);
    loami_pages_give(p, &hb, b, 12);
    assert_int_equal(loami_pages_counted(p).kept, 5);
    loami_holding other = { .pages = pages[2] }; /* one is free, two must go: a's tail */
    assert_true(loami_pages_take(p, &other, NULL, 0, 3));
    assert_int_equal(loami_pages_counted(p).kept, 5); /* a promise alone forgets nothing */
    assert_true(loami_pages_grow(p, &other, 3));
    assert_true(loami_pages_take(p, &hb, b, 12, 3));
    assert_int_equal(hb.n_shared, 2);
    loami_pages_give(p, &hb, b, 8);
    loami_pages_give(p, &other, NULL, 0);
    assert_true(loami_pages_take(p, &ha, a, 12, 3));
    assert_int_equal(ha.n_shared, 1);
    loami_pages_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(random_lives), cmocka_unit_test(a_hit_needs_its_window),
                                        cmocka_unit_test(least_recently_used_goes_first) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
