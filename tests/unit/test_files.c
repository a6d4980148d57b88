#include "check.h"
#include "temp.h"

#include "base/json.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Each test has a folder of its own, in *state. */
static int set_up(void **state)
{
    *state = temp_make();
    return 0;
}

static int tear_down(void **state)
{
    temp_remove(*state);
    return 0;
}

static const char *at(const char *dir, const char *name)
{
    static char path[LOAMI_PATH_MAX];
    assert_int_equal(loami_path_join(path, dir, name, NULL), 0);
    return path;
}

/* ---- files -------------------------------------------------------------------------------------------- */

static void write_then_read_and_map(void **state)
{
    const char *path = at(*state, "f");
    loami_mapping m = { 0 };
    loam_err e;
    char *text;
    size_t n;

    assert_false(loami_file_exists(path));
    CHECK_OK(loami_file_write(path, "old, longer", 11, &e), e, 0);
    CHECK_OK(loami_file_write(path, "a\0b", 3, &e), e, 0);
    assert_true(loami_file_exists(path));
    CHECK_OK(loami_file_read(&text, &n, path, 3, &e), e, 0);
    assert_int_equal(n, 3);
    assert_memory_equal(text, "a\0b", 4);
    free(text);
    CHECK_OK(loami_file_map(&m, path, &e), e, 0);
    assert_int_equal(m.size, 3);
    assert_memory_equal(m.data, "a\0b", 3);
    loami_file_unmap(&m);
    assert_null(m.data);
}

static void a_larger_file_than_allowed_is_refused(void **state)
{
    loam_err e;
    char *text = (char *)1;
    size_t n = 77;
    char *big = calloc(1, 100000);
    temp_write(*state, "big", big, 100000);
    free(big);
    CHECK_FAILS(loami_file_read(&text, &n, at(*state, "big"), 99999, &e), e, LOAM_E_FORMAT, "larger than the 99999 bytes");
    assert_ptr_equal(text, (char *)1);
    CHECK_OK(loami_file_read(&text, &n, at(*state, "big"), 100000, &e), e, 0);
    assert_int_equal(n, 100000);
    free(text);
}

static void an_empty_file_is_a_file(void **state)
{
    loami_mapping m = { 0 };
    loam_err e;
    char *text;
    size_t n;
    temp_write(*state, "empty", "", 0);
    CHECK_OK(loami_file_map(&m, at(*state, "empty"), &e), e, 0);
    assert_int_equal(m.size, 0);
    assert_non_null(m.data);
    loami_file_unmap(&m);
    CHECK_OK(loami_file_read(&text, &n, at(*state, "empty"), 0, &e), e, 0);
    assert_string_equal(text, "");
    free(text);
}

static void what_is_no_file_is_refused_by_name(void **state)
{
    loami_mapping m;
    loam_err e;
    char *text;
    size_t n;
    CHECK_FAILS(loami_file_map(&m, at(*state, "none"), &e), e, LOAM_E_NOT_FOUND, "none: No such file");
    CHECK_FAILS(loami_file_read(&text, &n, at(*state, "none"), 1, &e), e, LOAM_E_NOT_FOUND, "none");
    CHECK_FAILS(loami_file_map(&m, *state, &e), e, LOAM_E_FORMAT, "not a regular file");
    CHECK_FAILS(loami_file_read(&text, &n, *state, 100, &e), e, LOAM_E_IO, "irectory");
    assert_int_equal(mkfifo(at(*state, "pipe"), 0600), 0);
    CHECK_FAILS(loami_file_map(&m, at(*state, "pipe"), &e), e, LOAM_E_FORMAT, "not a regular file"); /* and does not wait */
}

static void a_failed_write_leaves_nothing(void **state)
{
    loam_err e;
    CHECK_FAILS(loami_file_write(at(*state, "no/such/folder"), "x", 1, &e), e, LOAM_E_NOT_FOUND, "folder");
    assert_int_equal(mkdir(at(*state, "dir"), 0755), 0);
    temp_write(at(*state, "dir"), "in", "x", 1);
    CHECK_FAILS(loami_file_write(at(*state, "dir"), "x", 1, &e), e, LOAM_E_IO, "dir");
    struct stat st;
    char tmp[LOAMI_PATH_MAX];
    snprintf(tmp, sizeof tmp, "%s/dir.tmp.%ld", (char *)*state, (long)getpid());
    assert_int_not_equal(stat(tmp, &st), 0);
}

/* ---- folders ------------------------------------------------------------------------------------------ */

static int collect(void *arg, const char *name)
{
    strcat(strcat(arg, name), " ");
    return strcmp(name, "stop") == 0 ? LOAM_E_CANCELLED : 0;
}

static void folders_are_made_listed_and_removed(void **state)
{
    loam_err e;
    char names[100] = "";
    CHECK_OK(loami_dir_make(at(*state, "a/b//c/"), &e), e, 0);
    CHECK_OK(loami_dir_make(at(*state, "a/b/c"), &e), e, 0);
    assert_true(loami_dir_exists(at(*state, "a/b/c")));
    temp_write(at(*state, "a"), "z", "", 0);
    temp_write(at(*state, "a"), ".hidden", "", 0);
    CHECK_OK(loami_dir_each(at(*state, "a"), collect, names, &e), e, 0);
    assert_string_equal(names, ".hidden b z ");
    CHECK_FAILS(loami_dir_make(at(*state, "a/z/y"), &e), e, LOAM_E_IO, "z");
    CHECK_FAILS(loami_dir_make(at(*state, "a/z"), &e), e, LOAM_E_IO, "not a folder");
    CHECK_FAILS(loami_dir_make("", &e), e, LOAM_E_ARG, "empty");
    CHECK_OK(loami_dir_remove(at(*state, "a"), &e), e, 0);
    assert_false(loami_dir_exists(at(*state, "a")));
    CHECK_OK(loami_dir_remove(at(*state, "a"), &e), e, 0);
    CHECK_FAILS(loami_dir_each(at(*state, "a"), collect, names, &e), e, LOAM_E_NOT_FOUND, "a");
}

static void listing_stops_when_told(void **state)
{
    char names[100] = "";
    temp_write(*state, "a", "", 0);
    temp_write(*state, "stop", "", 0);
    temp_write(*state, "z", "", 0);
    assert_int_equal(loami_dir_each(*state, collect, names, NULL), LOAM_E_CANCELLED);
    assert_string_equal(names, "a stop ");
}

static void removing_follows_no_links(void **state)
{
    loam_err e;
    char target[LOAMI_PATH_MAX];
    CHECK_OK(loami_dir_make(at(*state, "keep"), &e), e, 0);
    temp_write(at(*state, "keep"), "precious", "x", 1);
    snprintf(target, sizeof target, "%s/keep", (char *)*state);
    CHECK_OK(loami_dir_make(at(*state, "gone"), &e), e, 0);
    assert_int_equal(symlink(target, at(*state, "gone/link")), 0);
    assert_int_equal(symlink("nowhere", at(*state, "gone/dangling")), 0);
    CHECK_OK(loami_dir_remove(at(*state, "gone"), &e), e, 0);
    assert_false(loami_dir_exists(at(*state, "gone")));
    assert_true(loami_file_exists(at(*state, "keep/precious")));
}

static void paths_join(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        { "a", "b", "a/b" }, { "a/", "b", "a/b" }, { "", "b", "b" }, { "a", "/b", "/b" }, { "/", "b", "/b" }, { "a", "", "a/" },
    };
    char out[LOAMI_PATH_MAX], *longest = malloc(LOAMI_PATH_MAX + 1);
    loam_err e;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_OK(loami_path_join(out, cases[i][0], cases[i][1], &e), e, 0);
        assert_string_equal(out, cases[i][2]);
    }
    memset(longest, 'x', LOAMI_PATH_MAX);
    longest[LOAMI_PATH_MAX] = 0;
    CHECK_FAILS(loami_path_join(out, longest, "b", &e), e, LOAM_E_ARG, "path too long");
    longest[LOAMI_PATH_MAX - 3] = 0;
    CHECK_OK(loami_path_join(out, longest, "b", &e), e, 0);
    assert_int_equal(strlen(out), LOAMI_PATH_MAX - 1);
    CHECK_FAILS(loami_path_join(out, longest, "bc", &e), e, LOAM_E_ARG, "path too long");
    free(longest);
}

/* ---- json --------------------------------------------------------------------------------------------- */

static int parse(json_t **out, const char *text, loam_err *err)
{
    return loami_json_parse(out, text, strlen(text), "t.json", err);
}

static void json_errors_say_where(void **state)
{
    (void)state;
    json_t *v = NULL;
    loam_err e;
    static const char *const bad[][2] = {
        { "", "t.json: line 1" },
        { "{\"a\": 1,}", "t.json: line 1" },
        { "{\n\"a\": 1,\n\"a\": 2}", "line 3" },      /* a duplicate key could say two things */
        { "[1] x", "line 1" },
        { "\"\xff\"", "decode byte 0xff" },
        { "\"\\ud800\"", "line 1" },
        { "1e999", "overflow" },
        { "99999999999999999999", "integer" },
        { "nan", "line 1" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK_FAILS(parse(&v, bad[i][0], &e), e, LOAM_E_FORMAT, bad[i][1]);
    assert_null(v);
}

static void json_nesting_is_bounded(void **state)
{
    (void)state;
    enum { DEEP = 100000 };
    json_t *v;
    loam_err e;
    char *deep = malloc(DEEP);
    memset(deep, '[', DEEP);
    CHECK_FAILS(loami_json_parse(&v, deep, DEEP, "deep", &e), e, LOAM_E_FORMAT, "depth");
    free(deep);
}

static void json_fields_are_typed_and_bounded(void **state)
{
    (void)state;
    json_t *o;
    loam_err e;
    uint32_t u = 5;
    float f = 5;
    bool b = true;
    const char *s = "default";

    CHECK_OK(parse(&o, "{\"u\": 7, \"neg\": -1, \"big\": 4294967296, \"f\": 0.5, \"s\": \"x\", \"b\": false, \"z\": null,"
                       " \"nul\": \"a\\u0000b\"}", &e), e, 0);
    CHECK_OK(loami_json_u32(o, "t", "u", 0, 7, &u, &e), e, 1);
    assert_int_equal(u, 7);
    CHECK_OK(loami_json_u32(o, "t", "absent", 0, 7, &u, &e), e, 0);
    CHECK_OK(loami_json_u32(o, "t", "z", 0, 7, &u, &e), e, 0);
    CHECK_FAILS(loami_json_u32(o, "t", "u", 0, 6, &u, &e), e, LOAM_E_FORMAT, "t: \"u\" is 7, must be from 0 to 6");
    CHECK_FAILS(loami_json_u32(o, "t", "neg", 0, UINT32_MAX, &u, &e), e, LOAM_E_FORMAT, "-1");
    CHECK_FAILS(loami_json_u32(o, "t", "big", 0, UINT32_MAX, &u, &e), e, LOAM_E_FORMAT, "4294967296");
    CHECK_FAILS(loami_json_u32(o, "t", "f", 0, 9, &u, &e), e, LOAM_E_FORMAT, "must be an integer");
    assert_int_equal(u, 7);
    CHECK_OK(loami_json_float(o, "t", "f", 0, 1, &f, &e), e, 1);
    CHECK_OK(loami_json_float(o, "t", "u", 0, 10, &f, &e), e, 1);
    assert_true(f == 7.0f);
    CHECK_FAILS(loami_json_float(o, "t", "u", 0, 1, &f, &e), e, LOAM_E_FORMAT, "\"u\" is 7");
    CHECK_FAILS(loami_json_float(o, "t", "s", 0, 1, &f, &e), e, LOAM_E_FORMAT, "must be a number");
    CHECK_OK(loami_json_bool(o, "t", "b", &b, &e), e, 1);
    assert_false(b);
    CHECK_FAILS(loami_json_bool(o, "t", "u", &b, &e), e, LOAM_E_FORMAT, "true or false");
    CHECK_OK(loami_json_string(o, "t", "z", &s, &e), e, 0);
    assert_string_equal(s, "default");
    CHECK_OK(loami_json_string(o, "t", "s", &s, &e), e, 1);
    assert_string_equal(s, "x");
    CHECK_FAILS(loami_json_string(o, "t", "u", &s, &e), e, LOAM_E_FORMAT, "must be a string");
    CHECK_FAILS(loami_json_string(o, "t", "nul", &s, &e), e, LOAM_E_FORMAT, "NUL");
    json_decref(o);
    CHECK_OK(parse(&o, "[1]", &e), e, 0);
    CHECK_OK(loami_json_u32(o, "t", "u", 0, 7, &u, &e), e, 0); /* no object has no fields */
    json_decref(o);
}

static void json_files_and_text(void **state)
{
    json_t *v;
    loam_err e;
    static const char spaced[] = "{\"a\": [1, \"\xc3\xa9\", null]}";
    temp_write(*state, "v.json", spaced, sizeof spaced - 1);
    CHECK_OK(loami_json_load(&v, at(*state, "v.json"), 1000, &e), e, 0);
    char *text = loami_json_text(v);
    assert_string_equal(text, "{\"a\":[1,\"\xc3\xa9\",null]}");
    free(text);
    json_decref(v);
    CHECK_FAILS(loami_json_load(&v, at(*state, "v.json"), 10, &e), e, LOAM_E_FORMAT, "larger than");
    CHECK_FAILS(loami_json_load(&v, at(*state, "w.json"), 10, &e), e, LOAM_E_NOT_FOUND, "w.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(write_then_read_and_map, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_larger_file_than_allowed_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_file_is_a_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_file_is_refused_by_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failed_write_leaves_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(folders_are_made_listed_and_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(listing_stops_when_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(removing_follows_no_links, set_up, tear_down),
        cmocka_unit_test(paths_join),
        cmocka_unit_test(json_errors_say_where),
        cmocka_unit_test(json_nesting_is_bounded),
        cmocka_unit_test(json_fields_are_typed_and_bounded),
        cmocka_unit_test_setup_teardown(json_files_and_text, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
