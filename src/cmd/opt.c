#include "cmd/cmd.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { COLUMN = 30 };

static void print_usage(const char *command, const loami_opt *table, const char *about)
{
    printf("loam %s: %s\n\nUsage: loam %s [options]", command, about, command);
    for (const loami_opt *o = table; o->help; o++)
        if (!o->name) printf(" %s", o->arg);
    printf("\n\n");
    for (const loami_opt *o = table; o->help; o++) {
        char left[128];
        if (!o->name) snprintf(left, sizeof left, "%s", o->arg);
        else if (o->letter) snprintf(left, sizeof left, "-%c, %s %s", o->letter, o->name, o->arg ? o->arg : "");
        else snprintf(left, sizeof left, "    %s %s", o->name, o->arg ? o->arg : "");
        printf("  %-*s %s\n", COLUMN, left, o->help);
    }
    printf("  %-*s %s\n", COLUMN, "-h, --help", "print this");
}

static int usage_error(const char *command, const char *what, const char *name)
{
    fprintf(stderr, "loam %s: %s %s (see loam %s --help)\n", command, what, name, command);
    return -1;
}

/* Finds the option that argv's word names; *value is what follows '=' or NULL. */
static const loami_opt *find(const loami_opt *table, const char *word, const char **value)
{
    *value = NULL;
    for (const loami_opt *o = table; o->help; o++) {
        if (!o->name) continue;
        size_t n = strlen(o->name);
        if (strncmp(word, o->name, n) == 0 && (word[n] == 0 || word[n] == '=')) {
            if (word[n] == '=') *value = word + n + 1;
            return o;
        }
        if (o->letter && word[0] == '-' && word[1] == o->letter && word[2] == 0) return o;
    }
    return NULL;
}

/* 1 when s is not a unit of memory. */
static double unit(const char *s)
{
    static const char letters[] = "KMGT";
    double by = 1;
    const char *at = *s ? strchr(letters, *s & ~0x20) : NULL;
    for (const char *l = letters; at && l <= at; l++) by *= 1024;
    if (!at) return 1;
    s++;
    return !*s || strcasecmp(s, "b") == 0 || strcasecmp(s, "ib") == 0 ? by : 1;
}

static int number(const char *command, const loami_opt *o, const char *text, double *out)
{
    char *end, label[160];
    errno = 0;
    double v = strtod(text, &end);
    snprintf(label, sizeof label, "%s %s: ", o->name ? o->name : o->arg, text);
    bool whole = o->kind != LOAMI_OPT_FLOAT;
    if (o->arg && strcmp(o->arg, "BYTES") == 0 && end != text && unit(end) > 1) {
        v = floor(v * unit(end));
        end += strlen(end);
    }
    if (!*text || *end || errno || !isfinite(v) || (whole && v != floor(v)))
        return usage_error(command, label, whole ? "must be a whole number" : "must be a number");
    double lo = o->lo, hi = o->hi;
    if (!(lo < hi)) {
        lo = whole ? 0 : -1e30;
        hi = o->kind == LOAMI_OPT_U32 ? 4294967295.0 : o->kind == LOAMI_OPT_U64 ? 9007199254740992.0 : 1e30;
    }
    if (v < lo || v > hi) {
        char range[96];
        snprintf(range, sizeof range, "must be from %.10g to %.10g", lo, hi);
        return usage_error(command, label, range);
    }
    *out = v;
    return 0;
}

static int assign(const char *command, const loami_opt *o, const char *text)
{
    double v = 0;
    if (o->kind == LOAMI_OPT_U32 || o->kind == LOAMI_OPT_U64 || o->kind == LOAMI_OPT_FLOAT) {
        if (number(command, o, text, &v) < 0) return -1;
    }
    switch (o->kind) {
    case LOAMI_OPT_FLAG: *(bool *)o->value = true; break;
    case LOAMI_OPT_STRING: *(const char **)o->value = text; break;
    case LOAMI_OPT_U32: *(uint32_t *)o->value = (uint32_t)v; break;
    case LOAMI_OPT_U64: *(uint64_t *)o->value = (uint64_t)v; break;
    case LOAMI_OPT_FLOAT: *(float *)o->value = (float)v; break;
    case LOAMI_OPT_LIST: {
        loami_opt_list *l = o->value;
        if (l->n == LOAMI_OPT_LIST_MAX) return usage_error(command, "too many times", o->name ? o->name : o->arg);
        l->item[l->n++] = text;
        break;
    }
    }
    if (o->seen) *o->seen = true;
    return 0;
}

/* The nameless option that takes the k-th positional word; a LIST takes all that are left. */
static const loami_opt *positional(const loami_opt *table, uint32_t k)
{
    for (const loami_opt *o = table; o->help; o++) {
        if (o->name) continue;
        if (k == 0 || o->kind == LOAMI_OPT_LIST) return o;
        k--;
    }
    return NULL;
}

int loami_opt_parse(int argc, char **argv, const loami_opt *table, const char *about)
{
    const char *command = argv[0];
    uint32_t n_positional = 0;
    bool only_words = false;

    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *value;
        if (!only_words && strcmp(word, "--") == 0) {
            only_words = true;
            continue;
        }
        if (only_words || word[0] != '-' || word[1] == 0) {
            const loami_opt *o = positional(table, n_positional++);
            if (!o) return usage_error(command, "unexpected argument", word);
            if (assign(command, o, word) < 0) return -1;
            continue;
        }
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            print_usage(command, table, about);
            return 1;
        }
        if (strcmp(word, "--version") == 0) {
            printf("loam %s\n", loam_version());
            return 1;
        }
        const loami_opt *o = find(table, word, &value);
        if (!o) return usage_error(command, "unknown option", word);
        if (o->kind == LOAMI_OPT_FLAG && value) return usage_error(command, "takes no value:", o->name);
        if (o->kind != LOAMI_OPT_FLAG && !value) {
            if (++i == argc) return usage_error(command, "a value is missing after", word);
            value = argv[i];
        }
        if (assign(command, o, value) < 0) return -1;
    }
    return 0;
}

int loami_cmd_fail(const char *command, const loam_err *err)
{
    char line[sizeof err->msg];
    memcpy(line, err->msg, sizeof line);
    for (char *p = line; *p; p++)
        if (*p == '\n' || *p == '\r') *p = ' ';
    fprintf(stderr, "loam %s: %s\n", command, line);
    return LOAMI_EXIT_FAIL;
}
