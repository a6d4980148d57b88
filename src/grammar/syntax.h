/* grammar/syntax.h: a grammar being written down: rules over expressions. Regular expressions, JSON Schemas and EBNF all
 * become this; compile.c makes an automaton of it.
 *
 * An expression belongs to its syntax and may stand in several places. Whoever makes one from another that is NULL gets
 * NULL: so memory and limits are looked at once, in the end (loami_syntax.failed). */
#ifndef LOAMI_SYNTAX_H
#define LOAMI_SYNTAX_H

#include "base/arena.h"
#include "base/err.h"

#define LOAMI_NO_LIMIT UINT32_MAX

enum {
    LOAMI_SYNTAX_EXPRS = 1 << 18, /* 16 MiB of expressions: a hundred times the largest schema we met */
    LOAMI_SYNTAX_RULES = 1 << 14,
    LOAMI_SYNTAX_DEPTH = 128,     /* of nesting in a source: recursion that any thread's stack takes */
};

typedef struct loami_range {
    uint32_t lo, hi;             /* both included */
} loami_range;

/* Characters as sorted ranges that do not touch. */
typedef struct loami_chars {
    const loami_range *ranges;   /* [n] */
    uint32_t n;
} loami_chars;

typedef enum loami_expr_kind {
    LOAMI_X_EMPTY,
    LOAMI_X_NEVER,               /* matches nothing, not even the empty text */
    LOAMI_X_BYTES,
    LOAMI_X_CHARS,               /* one character, as UTF-8 */
    LOAMI_X_QUOTED,              /* one character, as it is written within a JSON string */
    LOAMI_X_SEQ,
    LOAMI_X_ALT,
    LOAMI_X_REPEAT,              /* items[0] lo to hi times, items[1] (may be NULL) between */
    LOAMI_X_RULE,
    LOAMI_X_TOKEN,               /* a token of the vocabulary that is no text */
    LOAMI_X_TEXT,                /* bytes in which none of the items (all BYTES) occurs */
    LOAMI_X_MEMBERS,             /* of an object: see loami_members */
} loami_expr_kind;

typedef struct loami_expr loami_expr;
struct loami_expr {
    loami_expr_kind kind;
    uint32_t n;                  /* of bytes or items */
    uint32_t lo, hi;
    union {
        const char *bytes;
        loami_chars chars;
        loami_expr **items;
        uint32_t rule;
        int32_t token;
        const struct loami_members *members;
    } u;
};

/* Members in this order, with a separator between; those that are not required may be left out. more: any number
 * of these after them, or NULL. */
typedef struct loami_members {
    loami_expr **items;          /* [n] */
    const bool *required;        /* [n] */
    uint32_t n;
    loami_expr *more, *separator;
} loami_members;

typedef struct loami_rule {
    const char *name;            /* for messages; may be NULL */
    loami_expr *expr;            /* NULL: declared, not defined */
    const char *where;           /* what to blame when its length can't be held to, or NULL */
    bool counts_chars;           /* it is called with limits of its length in characters */
    bool is_loop;                /* expr is a REPEAT whose limits come with the call */
} loami_rule;

typedef struct loami_syntax {
    loami_arena arena;
    loami_rule *rules;           /* [n_rules] */
    uint32_t n_rules, cap_rules, n_exprs, root;
    bool failed;                 /* memory or a limit ran out */
    loami_expr *any_char;        /* of a JSON string; made once, so that all strings share its masks */
    uint32_t string, value, object, number, integer, space; /* JSON's rules, 0 = not made yet */
    const struct loami_vocab *vocab; /* for tokens asked for by number or spelling */
    bool absent[256];            /* bytes that no token has: what needs them can't be written */
} loami_syntax;

void loami_syntax_free(loami_syntax *d);

/* A rule without expression yet; 0 when there is no room (rule 0 is never used). */
uint32_t loami_rule_new(loami_syntax *d, const char *name);

loami_expr *loami_x_empty(loami_syntax *d);
loami_expr *loami_x_never(loami_syntax *d);
loami_expr *loami_x_bytes(loami_syntax *d, const char *bytes, size_t n);
loami_expr *loami_x_text(loami_syntax *d, const char *words); /* BYTES of a string */
/* ranges need not be sorted; surrogates are left out. quoted: within a JSON string. */
loami_expr *loami_x_chars(loami_syntax *d, const loami_range *ranges, uint32_t n, bool quoted);
loami_expr *loami_x_seq(loami_syntax *d, loami_expr *const *items, uint32_t n);
loami_expr *loami_x_alt(loami_syntax *d, loami_expr *const *items, uint32_t n);
loami_expr *loami_x_two(loami_syntax *d, loami_expr *a, loami_expr *b);
loami_expr *loami_x_either(loami_syntax *d, loami_expr *a, loami_expr *b);
loami_expr *loami_x_repeat(loami_syntax *d, loami_expr *item, loami_expr *between, uint32_t lo, uint32_t hi);
loami_expr *loami_x_rule(loami_syntax *d, uint32_t rule);
loami_expr *loami_x_token(loami_syntax *d, int32_t id);
loami_expr *loami_x_until(loami_syntax *d, loami_expr *const *words, uint32_t n);
loami_expr *loami_x_members(loami_syntax *d, const loami_members *m);

/* A growing list of expressions; items are the syntax's. */
typedef struct loami_exprs {
    loami_expr **items;
    uint32_t n, cap;
} loami_exprs;
void loami_exprs_put(loami_syntax *d, loami_exprs *l, loami_expr *x);

/* What these characters leave over. out[n + 1]. Returns how many ranges. */
uint32_t loami_chars_invert(const loami_range *sorted, uint32_t n, loami_range *out);
/* Sorts and joins in place; returns how many are left. */
uint32_t loami_chars_normal(loami_range *ranges, uint32_t n);

/* ---- the languages: each 0, or a code with err filled ------------------------------------------------------ */

/* A regular expression that the whole text matches, from s[0..n) on. quoted: the text is that of a JSON string. where: for
 * messages, may be "". */
int loami_regex_read(loami_syntax *d, loami_expr **out, const char *s, size_t n, bool quoted, const char *where, loam_err *err);

/* EBNF: rules, of which "root" is the one to start with. docs/structured-output.md has the dialect. */
int loami_ebnf_read(loami_syntax *d, const char *s, size_t n, loam_err *err);

/* A JSON Schema, as text. */
int loami_schema_read(loami_syntax *d, loami_expr **out, const char *s, size_t n, loam_err *err);

/* A JSON array of strings: one of them. */
int loami_choice_read(loami_syntax *d, loami_expr **out, const char *s, size_t n, loam_err *err);

/* ---- JSON (json.c) ------------------------------------------------------------------------------------------ */

loami_expr *loami_json_string_x(loami_syntax *d); /* any string, with its quotes */
loami_expr *loami_json_value_x(loami_syntax *d);
loami_expr *loami_json_object_x(loami_syntax *d);
loami_expr *loami_json_space_x(loami_syntax *d);  /* a blank, or one or two line ends and up to 20 blanks, or nothing */
loami_expr *loami_json_any_char_x(loami_syntax *d);
loami_expr *loami_json_number_x(loami_syntax *d);
/* n bytes of JSON as they stand, but for characters that no token can write: those are escaped. */
loami_expr *loami_json_literal_x(loami_syntax *d, const char *text, size_t n);
loami_expr *loami_json_integer_x(loami_syntax *d);
/* open, then item lo to hi times with commas, then close. */
loami_expr *loami_json_list_x(loami_syntax *d, char open, loami_expr *item, uint32_t lo, uint32_t hi, char close);
loami_expr *loami_json_comma_x(loami_syntax *d);

#endif
