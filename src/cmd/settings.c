#include "cmd/settings.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* Cuts blanks off both ends, in place. */
static char *trim(char *s)
{
    while (blank(*s)) s++;
    size_t n = strlen(s);
    while (n && blank(s[n - 1])) n--;
    s[n] = 0;
    return s;
}

static int bad(loam_err *err, const char *path, uint32_t line, const char *what)
{
    return loami_fail(err, LOAM_E_FORMAT, "%s:%u: %s", path, line, what);
}

/* "quoted" in place; what follows the closing quote may be blank or a comment. */
static char *unquote(char *s)
{
    char *to = s, *from = s + 1;
    for (; *from && *from != '"'; *to++ = *from++)
        if (*from == '\\' && (from[1] == '"' || from[1] == '\\')) from++;
    if (*from != '"') return NULL;
    do from++;
    while (blank(*from));
    if (*from && *from != '#') return NULL;
    *to = 0;
    return s;
}

static char *bare(char *s)
{
    for (char *p = s; *p; p++)
        if (*p == '#' && (p == s || blank(p[-1]))) {
            *p = 0;
            break;
        }
    return trim(s);
}

/* [COMMAND] or [COMMAND VERB] */
static const char *section(char *s)
{
    char *end = strchr(s, ']');
    if (!end) return NULL;
    char *rest = trim(end + 1);
    *end = 0;
    char *name = trim(s + 1);
    for (char *p = name; *p; p++)
        if (!name_char(*p) && *p != ' ') return NULL;
    return *name && (!*rest || *rest == '#') ? name : NULL;
}

static int take_line(loami_settings *s, char *text, uint32_t line, const char **command, loam_err *err)
{
    char *p = trim(text);
    if (!*p || *p == '#') return 0;
    if (*p == '[') {
        *command = section(p);
        return *command ? 0 : bad(err, s->path, line, "a section is [COMMAND], for example [serve]");
    }
    char *equals = strchr(p, '=');
    if (!equals) return bad(err, s->path, line, "a setting is NAME = VALUE, with the name of a flag");
    *equals = 0;
    char *name = trim(p), *value = trim(equals + 1);
    if (!*name || name[0] == '-')
        return bad(err, s->path, line, "the name of a flag is wanted before =, without its dashes");
    for (char *c = name; *c; c++)
        if (!name_char(*c)) return bad(err, s->path, line, "a name has letters, digits and dashes alone");
    value = *value == '"' ? unquote(value) : bare(value);
    if (!value) return bad(err, s->path, line, "a value in quotes ends with a quote, and nothing follows it");
    if (s->n == LOAMI_SETTINGS_LINES)
        return bad(err, s->path, line, "that are too many settings (1024 at most)");
    s->all[s->n++] = (loami_setting){ *command, name, value, line };
    return 0;
}

int loami_settings_parse(loami_settings *out, const char *text, size_t n, const char *path, loam_err *err)
{
    loami_settings s = { 0 };
    const char *command = "";
    uint32_t line = 0;
    int rc = 0;

    if (n > LOAMI_SETTINGS_BYTES) return loami_fail(err, LOAM_E_FORMAT, "%s: larger than 256 KiB", path);
    if (memchr(text, 0, n)) return loami_fail(err, LOAM_E_FORMAT, "%s: has a zero byte", path);
    s.path = strdup(path);
    s.text = malloc(n + 1);
    s.all = calloc(LOAMI_SETTINGS_LINES, sizeof *s.all);
    if (!s.path || !s.text || !s.all) rc = loami_fail_nomem(err);
    if (rc == 0) {
        memcpy(s.text, text, n);
        s.text[n] = 0;
    }
    for (char *p = s.text; rc == 0 && p;) {
        char *end = strchr(p, '\n');
        if (end) *end++ = 0;
        rc = take_line(&s, p, ++line, &command, err);
        p = end;
    }
    if (rc < 0)
        loami_settings_free(&s);
    else
        *out = s;
    return rc;
}

static bool find(char *path)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int n = -1;
    if (xdg && *xdg)
        n = snprintf(path, LOAMI_PATH_MAX, "%s/loam/loam.conf", xdg);
    else if (home && *home)
        n = snprintf(path, LOAMI_PATH_MAX, "%s/.config/loam/loam.conf", home);
    if (n > 0 && n < LOAMI_PATH_MAX && loami_file_exists(path)) return true;
    strcpy(path, "/etc/loam/loam.conf");
    return loami_file_exists(path);
}

int loami_settings_load(loami_settings *out, const char *given, loam_err *err)
{
    char path[LOAMI_PATH_MAX], *text = NULL;
    size_t n = 0;
    *out = (loami_settings){ 0 };
    if (!given) given = getenv("LOAM_SETTINGS");
    if (given && !*given) return 0;
    if (!given && !find(path)) return 0;
    int rc = loami_file_read(&text, &n, given ? given : path, LOAMI_SETTINGS_BYTES, err);
    if (rc == 0) rc = loami_settings_parse(out, text, n, given ? given : path, err);
    free(text);
    return rc;
}

void loami_settings_free(loami_settings *s)
{
    free(s->path);
    free(s->text);
    free(s->all);
    *s = (loami_settings){ 0 };
}
