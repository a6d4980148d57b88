/* Answers in HTTP/1.1, whole and cut anywhere: the same head and body come out, or none. */
#include "check.h"

#include "net/http1.h"

#include <stdlib.h>
#include <string.h>

static bool note_line(void *arg, char *line, size_t n)
{
    loami_buf_put(arg, line, n);
    loami_buf_putc(arg, '\n');
    return true;
}

typedef struct read_answer {
    loami_http1 h;
    loami_buf head, body;
    int rc;
} read_answer;

static void give(read_answer *r, const char *bytes, size_t n)
{
    char *copy = malloc(n + 1), *body;
    size_t n_body;
    memcpy(copy, bytes, n);
    if (r->rc == 0) r->rc = loami_http1_take(&r->h, copy, n, note_line, &r->head, &body, &n_body);
    if (r->rc == 0) loami_buf_put(&r->body, body, n_body);
    free(copy);
}

static void clear(read_answer *r)
{
    loami_http1_free(&r->h);
    loami_buf_free(&r->head);
    loami_buf_free(&r->body);
}

/* Whole, and byte by byte. body NULL: it is no answer. */
static void expect(const char *answer, bool bodiless, const char *body, bool done, bool keep)
{
    for (size_t step = 1; step <= strlen(answer); step += step < 4 ? 1 : strlen(answer)) {
        read_answer r = { .h = { .bodiless = bodiless } };
        for (size_t at = 0; at < strlen(answer); at += step)
            give(&r, answer + at, strlen(answer) - at < step ? strlen(answer) - at : step);
        assert_true((r.rc == 0) == (body != NULL));
        if (body) {
            assert_string_equal(r.body.data ? r.body.data : "", body);
            assert_true((r.h.state == LOAMI_HTTP1_DONE) == done);
            if (done) assert_true(r.h.keep == keep);
        }
        clear(&r);
    }
}

#define OK "HTTP/1.1 200 OK\r\n"
#define CHUNKED OK "Transfer-Encoding: chunked\r\n\r\n"

static void bodies_are_read_as_their_head_says(void **state)
{
    (void)state;
    expect(OK "Content-Length: 5\r\n\r\nhello", false, "hello", true, true);
    expect(OK "Content-Length: 5\r\n\r\nhell", false, "hell", false, false);
    expect(OK "content-length:0\r\n\r\n", false, "", true, true);
    expect(OK "Content-Length: 5\r\n\r\n", true, "", true, true);
    expect("HTTP/1.1 204 No Content\r\n\r\n", false, "", true, true);
    expect(CHUNKED "5\r\nhello\r\n06;a=b\r\n world\r\n0\r\n\r\n", false, "hello world", true, true);
    expect(CHUNKED "A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n", false, "0123456789", true, true);
    expect(OK "\r\nuntil the end", false, "until the end", false, false);
    expect("HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 2\r\n\r\nab", false, "ab", true, true);
    expect("HTTP/1.0 200 OK\nContent-Length: 2\n\nab", false, "ab", true, false);
}

static void a_connection_is_kept_only_if_both_may(void **state)
{
    (void)state;
    expect(OK "Connection: close\r\nContent-Length: 1\r\n\r\na", false, "a", true, false);
    expect("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", false, "a", true, true);
    expect(OK "Content-Length: 1\r\n\r\na and more", false, "a", true, false);
    expect(OK "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\na\r\n0\r\n\r\n", false, "a", true, false);
}

static void what_two_readers_could_read_differently_is_refused(void **state)
{
    static const char *const bad[] = {
        "SSH-2.0-x\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        OK "Content-Length: 5, 5\r\n\r\nhello",
        OK "Content-Length: -1\r\n\r\n",
        OK "Content-Length: 9999999999999999999\r\n\r\n",
        OK "Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK "A: b\r\n folded\r\n\r\n",
        CHUNKED "\r\n",
        CHUNKED "x\r\n",
        CHUNKED "1\r\nab\r\n",
        CHUNKED "1111111111111111\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) expect(bad[i], false, NULL, false, false);
}

static void heads_have_a_limit(void **state)
{
    read_answer r = { .rc = 0 };
    (void)state;
    give(&r, OK, strlen(OK));
    for (int i = 0; i < 10000 && r.rc == 0; i++) give(&r, "A: bbbbbbbb\r\n", 13);
    assert_true(r.rc < 0 && r.head.len < 80000);
    clear(&r);
}

static void the_end_of_the_connection_ends_some_bodies(void **state)
{
    read_answer r = { .rc = 0 };
    (void)state;
    give(&r, OK "\r\nab", strlen(OK) + 4);
    assert_true(loami_http1_end(&r.h) && !r.h.keep);
    clear(&r);
    r = (read_answer){ .rc = 0 };
    give(&r, CHUNKED "5\r\nhe", strlen(CHUNKED) + 5);
    assert_true(!loami_http1_end(&r.h));
    clear(&r);
}

static void places_are_found_in_usual_urls_alone(void **state)
{
    static const struct {
        const char *url, *where, *path;
    } urls[] = {
        { "http://a:80/v1?x=1", "a:80", "/v1?x=1" }, { "HTTP://[::1]:9", "[::1]:9", "" }, { "http://a?x", "a", "?x" },
        { "https://a/", NULL, NULL },                { "http://u:p@a/", NULL, NULL },      { "http:///x", NULL, NULL },
        { "http://a/b c", NULL, NULL },              { "http://a/\r\nX: y", NULL, NULL }, { "http://a/#b", NULL, NULL },
    };
    (void)state;
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        const char *path = NULL;
        char *where = loami_http1_place(urls[i].url, &path);
        assert_true((where != NULL) == (urls[i].where != NULL));
        if (where) {
            assert_string_equal(where, urls[i].where);
            assert_string_equal(path, urls[i].path);
        }
        free(where);
    }
}

static void a_header_cannot_end_its_line(void **state)
{
    static const char *const headers[] = { "A: b", "C: d\r\nE: f" };
    loami_buf out = { 0 };
    (void)state;
    loami_http1_ask(&out, "GET", "a:1", "?x", headers, 2);
    assert_string_equal(out.data, "GET /?x HTTP/1.1\r\nHost: a:1\r\nAccept: */*\r\nA: b\r\n");
    loami_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_are_read_as_their_head_says),
        cmocka_unit_test(a_connection_is_kept_only_if_both_may),
        cmocka_unit_test(what_two_readers_could_read_differently_is_refused),
        cmocka_unit_test(heads_have_a_limit),
        cmocka_unit_test(the_end_of_the_connection_ends_some_bodies),
        cmocka_unit_test(places_are_found_in_usual_urls_alone),
        cmocka_unit_test(a_header_cannot_end_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
