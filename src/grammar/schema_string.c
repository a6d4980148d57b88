#include "grammar/schema.h"

#include <string.h>

#define YEAR      "(?:000[1-9]|00[1-9]\\d|0[1-9]\\d\\d|[1-9]\\d{3})"
#define LEAP_YEAR "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
#define DATE                                                                                                 \
    "(?:" YEAR "-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:"  \
               "0[1-9]|1\\d|2[0-8]))|" LEAP_YEAR "-02-29)"
#define TIME  "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,6})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"
#define LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,20}[A-Za-z0-9])?"
#define HOST  LABEL "(?:\\." LABEL "){0,4}"
#define BYTE  "(?:\\d|[1-9]\\d|1\\d\\d|2[0-4]\\d|25[0-5])"
#define GROUP "[0-9a-f]{1,4}"

/* A format's language, or a part of it that all who check it agree upon. */
static const struct {
    const char *name, *pattern;
} formats[] = {
    { "date", DATE },
    { "time", TIME },
    { "date-time", DATE "T" TIME },
    { "duration", "P(?:\\d{1,4}W|(?:\\d{1,4}Y)?(?:\\d{1,2}M)?\\d{1,3}D|(?:\\d{1,3}D)?T(?:\\d{1,3}H(?:\\d{1,2}"
                  "M(?:\\d{1,2}S)?)?|\\d{1,3}M(?:\\d{1,2}S)?|\\d{1,4}S))" },
    { "uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}" },
    { "email", "[A-Za-z0-9_+-]{1,32}(?:\\.[A-Za-z0-9_+-]{1,32}){0,3}@" LABEL "(?:\\." LABEL "){1,4}" },
    { "hostname", HOST },
    { "ipv4", BYTE "(?:\\." BYTE "){3}" },
    { "ipv6", "(?:" GROUP ":){7}" GROUP "|(?:" GROUP ":){1,3}:" GROUP "(?::" GROUP "){0,2}|::1" },
    { "uri", "https?://" HOST
             "(?::[1-9]\\d{1,3})?(?:/"
             "[A-Za-z0-9._~-]{0,64}){0,16}(?:\\?[A-Za-z0-9._~=&-]{0,64})?(?:#[A-Za-z0-9._~-]{0,32})?" },
};

/* Formats that tell a program what to do with a string, and exclude none. */
static const char *const free_formats[] = { "password",  "binary",         "byte",        "path",
                                            "file-path", "directory-path", "json-string", "textarea",
                                            "markdown",  "html",           "multiline" };

const char *loami_format_pattern(const char *name, bool *free)
{
    *free = false;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, name) == 0) return formats[i].pattern;
    for (size_t i = 0; i < sizeof free_formats / sizeof *free_formats; i++)
        *free |= strcmp(free_formats[i], name) == 0;
    return NULL;
}

size_t loami_schema_length(const json_t *string)
{
    const char *s = json_string_value(string);
    size_t n = json_string_length(string), chars = 0;
    for (size_t i = 0; i < n; i++) chars += ((unsigned char)s[i] & 0xc0) != 0x80;
    return chars;
}

/* The pattern's strings, with quotes, no shorter and no longer. */
static loami_expr *matching(loami_schema *c, const char *keyword, const char *pattern, size_t n, uint32_t lo,
                            uint32_t hi)
{
    loami_syntax *d = c->d;
    loami_expr *x, *quote = loami_x_text(d, "\"");
    char where[LOAMI_SCHEMA_PATH + 64];
    memcpy(where, "the JSON Schema, at \"", 21);
    memcpy(where + 21, c->path, c->path_n);
    memcpy(where + 21 + c->path_n, "/", 1);
    strcpy(where + 22 + c->path_n, keyword);
    strcat(where, "\"");
    int rc = loami_regex_read(d, &x, pattern, n, true, where, c->err);
    if (rc < 0) c->rc = rc;
    if (rc < 0 || !x) return NULL;
    if (lo > 0 || hi != LOAMI_NO_LIMIT) {
        uint32_t rule = loami_rule_new(d, c->path);
        if (!rule) return NULL;
        d->rules[rule].expr = x;
        d->rules[rule].counts_chars = true;
        d->rules[rule].where = loami_arena_strndup(&d->arena, where, strlen(where));
        if (!(x = loami_x_rule(d, rule))) return NULL;
        x->lo = lo;
        x->hi = hi;
    }
    return loami_x_seq(d, (loami_expr *[]){ quote, x, quote }, 3);
}

loami_expr *loami_schema_string(loami_schema *c, const json_t *s)
{
    const json_t *pattern = json_object_get(s, "pattern"), *format = json_object_get(s, "format");
    uint32_t lo = 0, hi = LOAMI_NO_LIMIT;
    const char *known = NULL;
    bool free = false;
    if (loami_schema_count(c, s, "minLength", &lo) < 0 || loami_schema_count(c, s, "maxLength", &hi) < 0)
        return NULL;
    if (lo > hi) return loami_x_never(c->d);
    if (pattern && !json_is_string(pattern))
        return loami_schema_wrong(c, LOAM_E_ARG, "pattern", "must be a string");
    if (format && !json_is_string(format))
        return loami_schema_wrong(c, LOAM_E_ARG, "format", "must be a string");
    if (format && !(known = loami_format_pattern(json_string_value(format), &free)) && !free)
        return loami_schema_wrong(c, LOAM_E_UNSUPPORTED, "format", "the format \"%.40s\" is not known",
                                  json_string_value(format));
    if (known && pattern)
        return loami_schema_wrong(c, LOAM_E_UNSUPPORTED, "format",
                                  "a format and a pattern for the same string can't both be promised");
    if (known) return matching(c, "format", known, strlen(known), lo, hi);
    if (pattern)
        return matching(c, "pattern", json_string_value(pattern), json_string_length(pattern), lo, hi);
    if (lo == 0 && hi == LOAMI_NO_LIMIT) return loami_json_string_x(c->d);
    loami_expr *quote = loami_x_text(c->d, "\"");
    return loami_x_seq(
        c->d,
        (loami_expr *[]){ quote, loami_x_repeat(c->d, loami_json_any_char_x(c->d), NULL, lo, hi), quote }, 3);
}
