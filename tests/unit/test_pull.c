/* What a hub says, files in parts, ranges, needs of memory: the pieces of loam pull and loam fit, without a
 * network. */
#include "check.h"
#include "temp.h"

#include "api/share.h"
#include "store/curl.h"
#include "store/hub.h"
#include "store/known.h"
#include "store/need.h"
#include "store/part.h"
#include "store/pull.h"

#include <sys/stat.h>
#include <unistd.h>

static loam_err err;

static const char abc_sha256[] =
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";    /* FIPS 180-2, "abc" */
static const char abc_sha1[] = "a9993e364706816aba3e25717850c26c9cd0d89d"; /* likewise */
static const char abc_git[] = "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f";  /* git hash-object of "abc" */

static void names(void **state)
{
    static const char *const good[] = { "a",   "config.json", "a/b/c.json",  "..a", "a..", ".gitattributes",
                                        "...", "a b",         "\xc3\xa9.txt" };
    static const char *const bad[] = { "",     ".",      "..",  "/",   "/a",   "a/",   "a//b", "../a",
                                       "a/..", "a/../b", "./a", "a/.", "a\\b", "a\nb", "\x7f" };
    char name[2000];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(loami_hub_name_ok(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(loami_hub_name_ok(bad[i]));
    memset(name, 'a', sizeof name);
    name[256] = 0;
    assert_false(loami_hub_name_ok(name));
    name[255] = 0;
    assert_true(loami_hub_name_ok(name));
    for (size_t i = 1; i < sizeof name; i += 2) name[i] = '/';
    name[sizeof name - 1] = 0;
    assert_false(loami_hub_name_ok(name));
}

static void splits(void **state)
{
    char id[256], revision[256];
    (void)state;
    CHECK_OK(loami_hub_split("org/name", id, revision, &err), err, 0);
    assert_string_equal(id, "org/name");
    assert_string_equal(revision, "main");
    CHECK_OK(loami_hub_split("gpt2@refs/pr/1", id, revision, &err), err, 0);
    assert_string_equal(id, "gpt2");
    assert_string_equal(revision, "refs/pr/1");
    CHECK_FAILS(loami_hub_split("a/b/c", id, revision, &err), err, LOAM_E_ARG, "ORG/NAME");
    CHECK_FAILS(loami_hub_split("a/b@", id, revision, &err), err, LOAM_E_ARG, "revision");
    CHECK_FAILS(loami_hub_split("a/b@x@y", id, revision, &err), err, LOAM_E_ARG, "revision");
}

static void etags(void **state)
{
    char hash[65], quoted[80];
    (void)state;
    snprintf(quoted, sizeof quoted, "W/\"%s\"", abc_sha256);
    loami_hub_etag(hash, quoted);
    assert_string_equal(hash, abc_sha256);
    static const char *const bad[] = { NULL,
                                       "",
                                       "\"",
                                       "W/",
                                       "\"abc\"",
                                       "../../../../../../../../../../etc/passwd",
                                       "A9993E364706816ABA3E25717850C26C9CD0D89D" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        loami_hub_etag(hash, bad[i]);
        assert_string_equal(hash, "");
    }
}

static void wanted_files(void **state)
{
    (void)state;
    assert_true(loami_pull_wants("model-00001-of-00002.safetensors", true));
    assert_false(loami_pull_wants("consolidated.safetensors", true));
    assert_true(loami_pull_wants("weights.00.safetensors", false));
    assert_true(loami_pull_wants("chat_template.jinja", true));
    assert_false(loami_pull_wants("pytorch_model.bin", true));
    assert_false(loami_pull_wants("sub/config.json", true));
}

/* ---- parts -----------------------------------------------------------------------------------------------
 */

static void put(loami_part_file *p, uint32_t i, const char *text)
{
    CHECK_OK(loami_part_write(p, i, text, strlen(text), &err), err, 0);
}

static void part_in_any_order(void **state)
{
    char *dir = temp_make(), path[LOAMI_PATH_MAX], *text;
    size_t n;
    loami_part_file p;
    (void)state;
    loami_path_join(path, dir, "f", NULL);
    static const char *const hashes[] = { abc_sha256, abc_git, abc_sha1 };
    for (int h = 0; h < 3; h++) {
        CHECK_OK(loami_part_open(&p, path, "f", 3, hashes[h], 1, &err), err, 0);
        assert_int_equal(p.n, 3);
        put(&p, 2, "c");
        CHECK_OK(loami_part_hash(&p, 100, &err), err, 0); /* nothing from the beginning on */
        put(&p, 0, "a");
        CHECK_OK(loami_part_hash(&p, 100, &err), err, 1);
        assert_int_equal(p.hashed, 1);
        assert_int_equal(loami_part_have(&p), 2);
        loami_part_close(&p);
        assert_int_equal(loami_part_found(path, 3, hashes[h]), 2);

        CHECK_OK(loami_part_open(&p, path, "f", 3, hashes[h], 3, &err), err,
                 0); /* goes on with its old parts */
        assert_int_equal(p.n, 3);
        put(&p, 1, "b");
        while (loami_part_hash(&p, 1, &err) == 1) {}
        assert_true(loami_part_whole(&p));
        CHECK_OK(loami_part_check(&p, &err), err, 0);
        CHECK_OK(loami_part_keep(&p, path, &err), err, 0);
        loami_part_close(&p);
        CHECK_OK(loami_file_read(&text, &n, path, 100, &err), err, 0);
        assert_string_equal(text, "abc");
        assert_int_equal(loami_part_found(path, 3, hashes[h]), 0);
        free(text);
    }
    temp_remove(dir);
}

static void part_of_something_else(void **state)
{
    char *dir = temp_make(), path[LOAMI_PATH_MAX], part[LOAMI_PATH_MAX], *text, *changed;
    size_t n;
    loami_part_file p;
    (void)state;
    loami_path_join(path, dir, "f", NULL);
    loami_path_join(part, dir, "f.loam-part", NULL);
    CHECK_OK(loami_part_open(&p, path, "f", 3, abc_sha256, 2, &err), err, 0);
    put(&p, 0, "ab");
    loami_part_close(&p);
    assert_int_equal(loami_part_found(path, 4, abc_sha256), 0);
    assert_int_equal(loami_part_found(path, 3, abc_sha1), 0);
    assert_int_equal(loami_part_found(path, 3, abc_sha256), 2);
    CHECK_OK(loami_file_read(&text, &n, part, 1000, &err), err, 0);
    changed = malloc(n + 8);
    for (size_t i = 3; i < n; i++) { /* any byte of the trailer: begun anew, or counts that are possible */
        memcpy(changed, text, n);
        changed[i] = (char)~changed[i];
        temp_write(dir, "f.loam-part", changed, n);
        CHECK_OK(loami_part_open(&p, path, "f", 3, abc_sha256, 2, &err), err, 0);
        assert_true(p.n >= 1 && loami_part_have(&p) <= 3);
        for (uint32_t k = 0; k < p.n; k++) assert_true(p.done[k] <= loami_part_size(&p, k));
        loami_part_close(&p);
    }
    for (size_t k = 0; k < n; k++) { /* cut off anywhere */
        temp_write(dir, "f.loam-part", text, k);
        assert_int_equal(loami_part_found(path, 3, abc_sha256), 0);
    }
    free(changed);
    free(text);
    temp_remove(dir);
}

static void part_that_is_wrong(void **state)
{
    char *dir = temp_make(), path[LOAMI_PATH_MAX];
    loami_part_file p;
    (void)state;
    loami_path_join(path, dir, "f", NULL);
    CHECK_OK(loami_part_open(&p, path, "file f", 3, abc_sha256, 100, &err), err, 0);
    put(&p, 0, "abd");
    CHECK_OK(loami_part_hash(&p, 100, &err), err, 1);
    CHECK_FAILS(loami_part_check(&p, &err), err, LOAM_E_FORMAT, "file f");
    CHECK_OK(loami_part_reset(&p, 100, &err), err, 0);
    assert_int_equal(loami_part_have(&p), 0);
    put(&p, 0, "abc");
    CHECK_OK(loami_part_hash(&p, 100, &err), err, 1);
    CHECK_OK(loami_part_check(&p, &err), err, 0);
    loami_part_close(&p);
    CHECK_FAILS(loami_part_open(&p, path, "f", 3, "abc", 1, &err), err, LOAM_E_ARG, "hash");
    CHECK_FAILS(loami_part_open(&p, path, "f", UINT64_MAX, abc_sha1, 1, &err), err, LOAM_E_ARG, "large");
    assert_int_equal(loami_part_found(path, UINT64_MAX - 10, abc_sha1), 0);
    char link[LOAMI_PATH_MAX];
    loami_path_join(link, dir, "g.loam-part", NULL);
    assert_int_equal(symlink("/etc/passwd", link), 0);
    loami_path_join(path, dir, "g", NULL);
    CHECK_FAILS(loami_part_open(&p, path, "g", 3, abc_sha1, 1, &err), err, LOAM_E_IO, "g.loam-part");
    temp_remove(dir);
}

/* ---- headers ---------------------------------------------------------------------------------------------
 */

static double waits(const char *line)
{
    loami_buf head = { 0 };
    loami_curl_header(&head, line, strlen(line));
    double s = loami_curl_wait_s(&head);
    loami_buf_free(&head);
    return s;
}

static void headers(void **state)
{
    loami_buf head = { 0 };
    (void)state;
    loami_curl_header(&head, "HTTP/1.1 302 Found\r\n", 20);
    loami_curl_header(&head, "ETag:  \"a\" \r\n", 13);
    assert_string_equal(loami_curl_find(&head, "etag"), "\"a\"");
    loami_curl_header(&head, "HTTP/1.1 200 OK\r\n", 17);
    assert_null(loami_curl_find(&head, "etag"));
    loami_curl_header(&head, "no colon", 8);
    loami_curl_header(&head, "x: a\0b", 6);
    assert_null(loami_curl_find(&head, "x"));
    loami_buf_free(&head);
    assert_true(waits("Retry-After: 7\r\n") == 7);
    assert_true(waits("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT") == 0);
    assert_true(waits("Retry-After: Wed, 21 Oct 2065 07:28:00 GMT") > 1e6);
    assert_true(waits("Retry-After: soon") == 0 && waits("Retry-After: -5") == 0);
    assert_true(waits("ratelimit: \"api\";r=0;t=55") == 55);
}

static void ranges(void **state)
{
    uint64_t from, n;
    (void)state;
    assert_int_equal(loami_share_range("bytes=2-4", 10, &from, &n), 1);
    assert_true(from == 2 && n == 3);
    assert_int_equal(loami_share_range("bytes=9-", 10, &from, &n), 1);
    assert_true(from == 9 && n == 1);
    assert_int_equal(loami_share_range("bytes=0-18446744073709551615", 10, &from, &n), 0);
    assert_true(from == 0 && n == 10);
    assert_int_equal(loami_share_range("bytes=0-9223372036854775806", 10, &from, &n), 1);
    assert_true(from == 0 && n == 10);
    assert_int_equal(loami_share_range("bytes=3-99", 10, &from, &n), 1);
    assert_true(from == 3 && n == 7);
    assert_int_equal(loami_share_range("bytes=10-", 10, &from, &n), -1);
    assert_int_equal(loami_share_range("bytes=0-", 0, &from, &n), -1);
    static const char *const none[] = { NULL,       "",          "bytes=",        "bytes=-5",
                                        "bytes=5",  "bytes=4-2", "bytes=1-2,4-5", "bytes= 1-2",
                                        "BYTES=1-2" };
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        assert_int_equal(loami_share_range(none[i], 10, &from, &n), 0);
        assert_true(from == 0 && n == 10);
    }
}

/* ---- needs -----------------------------------------------------------------------------------------------
 */

static void needs(void **state)
{
    (void)state;
    for (const loami_known *k = loami_known_models; k->name; k++) {
        loami_config c;
        loami_need n;
        CHECK_OK(loami_config_parse(&c, k->config, strlen(k->config), k->id, &err), err, 0);
        CHECK_OK(loami_need_of(&n, &c, NULL, &err), err, 0);
        assert_true(n.active_bytes < n.weight_bytes && n.active_parameters < n.parameters);
        assert_true(loami_need_decode(&n, 400e9, 8192) < loami_need_decode(&n, 400e9, 0));
        assert_true(loami_need_kv(&n, UINT64_MAX, 1) >= 1ull << 62);
        assert_ptr_equal(loami_known_find(k->name), k);
        loami_config_close(&c);
    }
    assert_null(loami_known_find("nothing"));
    loami_config c;
    loami_need n;
    static const char bad[] =
        "{\"model_type\":\"qwen3_moe\",\"hidden_size\":64,\"num_hidden_layers\":1,\"intermediate_size\":64,"
        "\"num_attention_heads\":1,\"vocab_size\":10,\"num_experts\":-1}";
    CHECK_OK(loami_config_parse(&c, bad, strlen(bad), "bad", &err), err, 0);
    CHECK_FAILS(loami_need_of(&n, &c, NULL, &err), err, LOAM_E_FORMAT, "num_experts");
    loami_config_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(splits),
        cmocka_unit_test(etags),
        cmocka_unit_test(wanted_files),
        cmocka_unit_test(part_in_any_order),
        cmocka_unit_test(part_of_something_else),
        cmocka_unit_test(part_that_is_wrong),
        cmocka_unit_test(headers),
        cmocka_unit_test(ranges),
        cmocka_unit_test(needs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
