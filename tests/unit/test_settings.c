/* The settings file: what it says, and what it may not say. */
#include "check.h"
#include "cmd/settings.h"

static int parse(loami_settings *s, const char *text, loam_err *err)
{
    return loami_settings_parse(s, text, strlen(text), "x.conf", err);
}

static void test_lines(void **state)
{
    loami_settings s;
    loam_err err;
    (void)state;
    CHECK_OK(parse(&s, "# c\n\nmodel = a b  # comment\nurl=http://h/#x\r\n[serve] # c\n port\t=\t1\nq = \"a \\\"#\\\\\" # c\n"
                       "[gateway status]\nempty =\nlast = \" x \"", &err), err, 0);
    static const loami_setting want[] = { { "", "model", "a b", 3 },         { "", "url", "http://h/#x", 4 },
                                          { "serve", "port", "1", 6 },       { "serve", "q", "a \"#\\", 7 },
                                          { "gateway status", "empty", "", 9 }, { "gateway status", "last", " x ", 10 } };
    assert_int_equal(s.n, 6);
    for (uint32_t i = 0; i < s.n; i++) {
        assert_string_equal(s.all[i].command, want[i].command);
        assert_string_equal(s.all[i].name, want[i].name);
        assert_string_equal(s.all[i].value, want[i].value);
        assert_int_equal(s.all[i].line, want[i].line);
    }
    loami_settings_free(&s);
    CHECK_OK(parse(&s, "", &err), err, 0);
    assert_int_equal(s.n, 0);
    loami_settings_free(&s);
}

static void test_mistakes(void **state)
{
    static const struct {
        const char *text, *words;
    } bad[] = {
        { "a = 1\nport\n", "x.conf:2: a setting is NAME = VALUE" }, { "--port = 1", "x.conf:1: the name of a flag" },
        { "= 1", "x.conf:1: the name of a flag" },                  { "po rt = 1", "letters, digits and dashes" },
        { "[serve", "x.conf:1: a section is" },                     { "[]", "a section is" },
        { "[serve] x", "a section is" },                            { "[a=b]", "a section is" },
        { "a = \"x", "ends with a quote" },                         { "a = \"x\" y", "ends with a quote" },
        { "a = \"\\", "ends with a quote" },
    };
    loami_settings s;
    loam_err err;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) CHECK_FAILS(parse(&s, bad[i].text, &err), err, LOAM_E_FORMAT, bad[i].words);
    CHECK_FAILS(loami_settings_parse(&s, "a=\0", 3, "x.conf", &err), err, LOAM_E_FORMAT, "zero byte");
    char many[LOAMI_SETTINGS_LINES * 4 + 8] = "";
    for (int i = 0; i <= LOAMI_SETTINGS_LINES; i++) memcpy(many + i * 4, "a=1\n", 5);
    CHECK_FAILS(parse(&s, many, &err), err, LOAM_E_FORMAT, "x.conf:1025: that are too many");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_lines), cmocka_unit_test(test_mistakes) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
