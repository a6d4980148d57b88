/* text/tok/regex.h: the patterns of tokenizer.json: a literal string or a regular expression.
 *
 * Those files are written for Oniguruma with Ruby's syntax; we match with PCRE2, after a translation (onig.c)
 * of what the two read differently: \s \w \h \v \b, property names, nested and intersected classes, (?m),
 * {n}? and {n,m}+, options in mid-branch. What has no counterpart is refused by name. */
#ifndef LOAMI_TOK_REGEX_H
#define LOAMI_TOK_REGEX_H

#include "base/json.h"

/* Appends the PCRE2 form (for UTF, UCP, MULTILINE, newline LF) of an Oniguruma pattern. what: names it. */
int loami_onig_translate(loami_buf *out, const char *pattern, size_t n, const char *what, loam_err *err);

typedef struct loami_pattern loami_pattern; /* immutable: any thread */

int loami_pattern_regex(loami_pattern **out, const char *pattern, size_t n, const char *what, loam_err *err);
int loami_pattern_literal(loami_pattern **out, const char *text, size_t n, loam_err *err);

/* From {"String": s} or {"Regex": s}. */
int loami_pattern_json(loami_pattern **out, const json_t *v, const char *what, loam_err *err);
void loami_pattern_free(loami_pattern *p);

/* The source text of a regular expression, NULL for a literal. */
const char *loami_pattern_source(const loami_pattern *p, size_t *n);

/* One walk over the matches in a text. Zero-initialise, set pattern, text, n and state, call next. */
typedef struct loami_matches {
    const loami_pattern *pattern;
    const char *text;
    size_t n;
    void *state;            /* of loami_matches_state: one thread's, used by one walk at a time */
    size_t start, end;      /* of the match found */
    size_t from, last;      /* where to go on; end of the last match */
    bool any;
} loami_matches;

void *loami_matches_state(void); /* NULL when memory ran out */
void loami_matches_state_free(void *state);

/* 1 with start and end filled, 0 at the end, or an error (a pattern that needs more steps than the limit). An
 * empty match right after a match is skipped, as Oniguruma's iterator does. */
int loami_matches_next(loami_matches *m, loam_err *err);

#endif
