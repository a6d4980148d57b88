#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store/store.h"
#include "temp.h"

#include <sys/stat.h>
#include <unistd.h>

/* Each test has a home of its own, in *state. */
static int set_up(void **state)
{
    char hf[LOAMI_PATH_MAX];
    char *dir = temp_make();
    *state = dir;
    snprintf(hf, sizeof hf, "%s/hf", dir);
    setenv("HOME", dir, 1);
    setenv("LOAM_HOME", "~/loam", 1);
    setenv("HF_HOME", hf, 1);
    unsetenv("HF_HUB_CACHE");
    unsetenv("HUGGINGFACE_HUB_CACHE");
    return 0;
}

static int tear_down(void **state)
{
    temp_remove(*state);
    return 0;
}

static void put_file(const char *home, const char *path, const char *text)
{
    char full[LOAMI_PATH_MAX];
    snprintf(full, sizeof full, "%s/%s", home, path);
    *strrchr(full, '/') = 0;
    assert_int_equal(loami_dir_make(full, NULL), 0);
    temp_write(home, path, text, strlen(text));
}

static void names_stay_inside(void **state)
{
    static const char *const good[] = {
        "a", "qwen2.5-coder:1.5b", "mlx-community/Llama-3.2-1B", "a_b.C", "_x", NULL
    };
    static const char *const bad[] = { "",     ".",      "..",          "../x", "a/..", "a/../b",
                                       "/etc", "a/b/c",  "a//b",        "a/",   "/a",   ":a",
                                       "a:",   "a:b:c",  "-a",          "a/-b", "a b",  "a\\b",
                                       "a\nb", ".new-1", "caf\xc3\xa9", "a;b",  "~",    NULL };
    char path[LOAMI_PATH_MAX], want[LOAMI_PATH_MAX], longest[400];
    loam_err err;
    for (int i = 0; good[i]; i++) {
        assert_int_equal(loami_store_path(path, good[i], &err), 0);
        snprintf(want, sizeof want, "%s/loam/models/%s", (char *)*state, good[i]);
        assert_string_equal(path, want);
    }
    for (int i = 0; bad[i]; i++) {
        if (loami_store_path(path, bad[i], &err) != LOAM_E_ARG) fail_msg("taken: \"%s\"", bad[i]);
        if (loami_store_remove(bad[i], &err) != LOAM_E_ARG) fail_msg("removed: \"%s\"", bad[i]);
    }
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(loami_store_path(path, longest, &err), LOAM_E_ARG);
}

static void finds_in_both_places(void **state)
{
    const char *home = *state;
    char path[LOAMI_PATH_MAX], want[LOAMI_PATH_MAX];
    loam_err err;
    put_file(home, "loam/models/tiny:4b/config.json", "{}");
    put_file(home, "hf/hub/models--org--name/refs/main", "abc123\n");
    put_file(home, "hf/hub/models--org--name/snapshots/abc123/config.json", "{}");
    put_file(home, "hf/hub/models--one/snapshots/f00/config.json", "{}");
    put_file(home, "hf/hub/models--evil--ref/refs/main", "../../../../x");
    put_file(home, "hf/hub/models--gone--snap/refs/main", "abc");
    put_file(home, "here/config.json", "{}");

    assert_int_equal(loami_store_find(path, "tiny:4b", &err), 0);
    assert_non_null(strstr(path, "/loam/models/tiny:4b"));
    assert_int_equal(loami_store_find(path, "org/name", &err), 0);
    assert_non_null(strstr(path, "/hf/hub/models--org--name/snapshots/abc123"));
    assert_int_equal(loami_store_find(path, "one", &err), 0);
    snprintf(want, sizeof want, "%s/here", home);
    assert_int_equal(loami_store_find(path, want, &err), 0);
    assert_string_equal(path, want);

    assert_int_equal(loami_store_find(path, "evil/ref", &err), LOAM_E_FORMAT);
    assert_int_equal(loami_store_find(path, "gone/snap", &err), LOAM_E_NOT_FOUND);
    assert_int_equal(loami_store_find(path, "nobody/nothing", &err), LOAM_E_NOT_FOUND);
    assert_non_null(strstr(err.msg, "loam ls"));
    assert_int_equal(loami_store_find(path, "", &err), LOAM_E_ARG);
}

static int note(void *arg, const loami_store_entry *e)
{
    char *all = arg;
    snprintf(all + strlen(all), 1000 - strlen(all), "%s %s %llu;", e->from, e->name,
             (unsigned long long)e->bytes);
    return 0;
}

static void lists_and_removes(void **state)
{
    const char *home = *state;
    char all[1000] = "", blob[LOAMI_PATH_MAX];
    loam_err err;
    assert_int_equal(loami_store_each(note, all, &err), 0); /* nothing there yet */
    assert_string_equal(all, "");
    put_file(home, "loam/models/b/config.json", "{}");
    put_file(home, "loam/models/org/a/config.json", "{}");
    put_file(home, "loam/models/nothing/x", "");
    put_file(home, "hf/hub/models--o--n/refs/main", "abc");
    put_file(home, "hf/hub/models--o--n/blobs/b1", "12345");
    put_file(home, "hf/hub/models--o--n/snapshots/abc/config.json", "{}");
    put_file(home, "hf/hub/datasets--o--d/snapshots/abc/config.json", "{}");
    snprintf(blob, sizeof blob, "%s/hf/hub/models--o--n/snapshots/abc/model.safetensors", home);
    assert_int_equal(symlink("../../blobs/b1", blob), 0);

    assert_int_equal(loami_store_each(note, all, &err), 0);
    assert_string_equal(all, "loam b 2;loam org/a 2;hf o/n 7;");
    assert_int_equal(loami_store_remove("org/a", &err), 0);
    assert_int_equal(loami_store_remove("o/n", &err), 0);
    assert_int_equal(loami_store_remove("nothing", &err), LOAM_E_NOT_FOUND); /* not a model: left alone */
    assert_int_equal(loami_store_remove("x", &err), LOAM_E_NOT_FOUND);
    all[0] = 0;
    assert_int_equal(loami_store_each(note, all, &err), 0);
    assert_string_equal(all, "loam b 2;");
}

static void removing_a_link_leaves_its_target(void **state)
{
    const char *home = *state;
    char target[LOAMI_PATH_MAX], link[LOAMI_PATH_MAX];
    loam_err err;
    put_file(home, "elsewhere/config.json", "{}");
    put_file(home, "loam/models/b/config.json", "{}");
    snprintf(target, sizeof target, "%s/elsewhere", home);
    snprintf(link, sizeof link, "%s/loam/models/l", home);
    assert_int_equal(symlink(target, link), 0);
    assert_int_equal(loami_store_remove("l", &err), 0);
    assert_false(loami_dir_exists(link));
    assert_true(loami_dir_exists(target));
    strcat(target, "/config.json");
    assert_true(loami_file_exists(target));
}

static void a_new_model_appears_whole(void **state)
{
    const char *home = *state;
    char dir[LOAMI_PATH_MAX], path[LOAMI_PATH_MAX], dead[LOAMI_PATH_MAX];
    loam_err err;
    snprintf(dead, sizeof dead, "%s/loam/models/.new-999999999-0", home);
    assert_int_equal(loami_dir_make(dead, &err), 0);
    assert_int_equal(loami_store_begin(dir, "org/m", false, &err), 0);
    assert_false(loami_dir_exists(dead)); /* left by a program that is gone */
    assert_int_equal(loami_store_find(path, "org/m", &err), LOAM_E_NOT_FOUND);
    temp_write(dir, "config.json", "{1}", 3);
    assert_int_equal(loami_store_keep(dir, "org/m", false, &err), 0);
    assert_int_equal(loami_store_find(path, "org/m", &err), 0);

    assert_int_equal(loami_store_begin(dir, "org/m", false, &err), LOAM_E_ARG);
    assert_non_null(strstr(err.msg, "--force"));
    assert_int_equal(loami_store_begin(dir, "org", true, &err), LOAM_E_ARG); /* would remove org/m */
    assert_int_equal(loami_store_begin(dir, "org/m", true, &err), 0);
    temp_write(dir, "config.json", "{22}", 4);
    assert_int_equal(loami_store_keep(dir, "org/m", true, &err), 0);
    struct stat st;
    strcat(path, "/config.json");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 4);

    assert_int_equal(loami_store_begin(dir, "n", false, &err), 0);
    loami_store_drop(dir);
    assert_false(loami_dir_exists(dir));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_stay_inside, set_up, tear_down),
        cmocka_unit_test_setup_teardown(finds_in_both_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lists_and_removes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(removing_a_link_leaves_its_target, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_model_appears_whole, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
