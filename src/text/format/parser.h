/* text/format/parser.h: what the ways of calling tools share.
 *
 * The answer is a row of sections: text, reasoning, calls. parser.c finds where sections begin and end; a style reads
 * the calls of a section, and its config says with which markers. */
#ifndef LOAMI_FORMAT_PARSER_H
#define LOAMI_FORMAT_PARSER_H

#include "text/format.h"

#include "base/buf.h"

typedef enum loami_body {
    BODY_MORE,                     /* needs more text */
    BODY_DONE,                     /* the section is over and taken */
    BODY_BAD,                      /* no call: what was taken since the last one is content */
} loami_body;

typedef struct loami_style {
    /* Reads what is at hand: takes it, begins and ends calls. Called again when there is more, and when p->final. */
    loami_body (*read)(loami_format_parser *p);
} loami_style;

extern const loami_style loami_style_json, loami_style_named, loami_style_params, loami_style_python, loami_style_nested;

/* One way of calling tools: a row of the table in format.c. */
struct loami_format_calls {
    const char *name;
    const char *needs[3];          /* parts of a template that tell it; all of them */
    bool keep_special;
    struct {
        const char *marker;        /* begins a section of calls */
        const loami_style *style;
        const void *config;        /* of the style: below */
    } opens[3];
    const char *drops[8];          /* markers without meaning for the reader */
    bool bare;                     /* a JSON object at the very start may be a call, without marker */
    const struct loami_channels *channels; /* messages with headers, instead of all that is above but name, needs */
};

/* A JSON object, or a list of them, with the name and the arguments under keys. */
typedef struct loami_json_calls {
    const char *close;             /* ends the section, or NULL */
    bool by_name;                  /* {"get_weather": {...}}: the key is the name */
} loami_json_calls;

/* A name, then its arguments as a JSON object. */
typedef struct loami_named_calls {
    const char *each;              /* before each call, or NULL: the section's marker is it */
    const char *name_end;          /* between name and arguments; NULL: the name is known already */
    const char *each_close;        /* after the arguments, or NULL */
    const char *close;             /* after the last call, or NULL: the section is one call */
    const char *id_mark;           /* between id and name, or NULL */
    bool id_last;                  /* ... between name and id */
    bool may_be_json;              /* when a bracket or brace comes first, it is loami_json_calls */
    bool numbered;                 /* ":3" after the name; with it and what is before the name it is the id */
    const char *strip;             /* before the name: "functions." */
} loami_named_calls;

/* A name, then its arguments one by one, each with a marker around key and value. */
typedef struct loami_params_calls {
    const char *first;             /* may come before the first call, or NULL */
    const char *call;              /* before the name, or NULL: the section's marker is it */
    const char *name_end;          /* after the name; NULL: a line's end, the next marker */
    const char *param, *key_end;
    const char *value;             /* before the value, or NULL: key_end is it */
    const char *value_end, *call_end;
    const char *close;             /* after the last call, or NULL: call_end is it */
    bool lines;                    /* a line's end after the key and before value_end is not the value's */
} loami_params_calls;

/* name(key=value, ...) as Python writes it, up to a marker or the end. */
typedef struct loami_python_calls {
    const char *close;             /* or NULL */
    bool code;                     /* what is no call is code for the tool "python" */
} loami_python_calls;

/* Values in elements named after their keys, each with a prefix. */
typedef struct loami_nested_calls {
    const char *prefix, *close;
} loami_nested_calls;

/* Messages with a header that tells channel or recipient. */
typedef struct loami_channels {
    const char *start;             /* begins a header; the prompt ends with it and a role */
    const char *message;           /* ends it */
    const char *ends[4];           /* end a message */
    const char *reasoning;         /* a word of the header of reasoning: "analysis" */
    const char *user;              /* the recipient of what is for the user, or NULL */
    const char *strip;             /* before a tool's name: "functions." */
    const loami_style *style;      /* of a message to a tool; NULL: the message is JSON */
    const void *config;
} loami_channels;

/* ---- the parser ---------------------------------------------------------------------------------------- */

/* Where a JSON value is being read. Zero is before its start. */
typedef struct loami_json_scan {
    uint64_t lists[8];             /* bit d: the bracket of depth d is a list's */
    uint32_t depth;
    bool started, text, escaped, scalar;
} loami_json_scan;

typedef enum loami_section { IN_TEXT, IN_THINK, IN_CALLS, IN_HEADER } loami_section;

struct loami_format_parser {
    loami_format f;
    loami_emit *emit;
    void *arg;
    json_t *tools;                 /* or NULL */
    const loami_style *style;      /* of this section of calls */
    const void *config;
    loami_section section;
    bool final;                    /* no more text will come */

    loami_buf in;                  /* text that was not taken yet begins at `at` */
    size_t at, seen;               /* seen: bytes after `at` in which no marker begins */
    loami_buf space;               /* white space at the end of the text so far */
    loami_buf raw;                 /* taken in this section since the last call */
    bool after_marker;             /* line ends are left out */
    bool shown;                    /* this stretch of text has had some */

    uint32_t n_calls, first_call;  /* first_call: of this section */
    bool in_call;
    int step;                      /* of the style */
    size_t cursor;                 /* of the style, after `at` */
    loami_json_scan scan;
    loami_buf call_name, call_id, key; /* of the call at hand */
    size_t args_from, args_to;     /* json: where the arguments are, when they came before the name */
    bool in_list, typed, is_text;  /* of the style */
    uint32_t n_params;
};

/* ---- text at hand (scan.c) ----------------------------------------------------------------------------- */

const char *loami_text_at(const loami_format_parser *p);
size_t loami_text_left(const loami_format_parser *p);
/* Moves on over n bytes; within a section of calls they are kept until there is a call. */
void loami_take(loami_format_parser *p, size_t n);
void loami_skip_space(loami_format_parser *p);

enum { FIND_NONE = -1, FIND_WAIT = -2 };

/* The first of the markers (NULL-terminated list of up to n; NULL entries are skipped) in the text at hand: its
 * number, with *where its place. FIND_NONE: none, and none begins before *where = the end; FIND_WAIT: none is
 * complete, but one may begin at *where. */
int loami_find(loami_format_parser *p, const char *const *markers, size_t n, size_t *where);

/* Whether the text at hand begins with a marker: 1, 0, or FIND_WAIT when it is too short to tell. */
int loami_begins(const loami_format_parser *p, const char *marker);

/* One more byte of a JSON value: 0 = goes on, 1 = it was its last, 2 = the value ended before it, -1 = no JSON. */
int loami_json_scan_byte(loami_json_scan *s, char c);

/* ---- what comes out (parser.c) ------------------------------------------------------------------------- */

void loami_call_begin(loami_format_parser *p, const char *name, size_t n, const char *id);
void loami_call_arguments(loami_format_parser *p, const char *text, size_t n);
void loami_call_end(loami_format_parser *p);
/* Begins, fills and ends a call. */
void loami_call_whole(loami_format_parser *p, const char *name, size_t n, const char *id,
                      const json_t *arguments);
static inline bool loami_made_calls(const loami_format_parser *p) { return p->n_calls > p->first_call; }
/* A section of calls begins: its marker of n bytes is at hand. */
void loami_enter_calls(loami_format_parser *p, const loami_style *style, const void *config, size_t n);

/* ---- arguments (values.c) ------------------------------------------------------------------------------ */

/* The value of a tool's argument from its text, by the type that the tool's schema gives it; without one, JSON if it
 * is JSON and else a string. New reference; NULL: out of memory. */
json_t *loami_argument(const json_t *tools, const char *tool, const char *key, const char *text, size_t n);

/* Appends a value as Python's json.dumps writes it: ", " and ": " between. */
void loami_put_json(loami_buf *out, const json_t *v);

/* Reads one Python literal at s[*at..n) and moves on. New reference; NULL: there is none. */
json_t *loami_python_literal(const char *s, size_t n, size_t *at, unsigned depth);

#endif
