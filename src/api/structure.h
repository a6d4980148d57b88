/* api/structure.h: what form an answer is to have: response_format, structured_outputs and vLLM's guided_*, tool_choice. */
#ifndef LOAMI_STRUCTURE_H
#define LOAMI_STRUCTURE_H

#include "api/run.h"

typedef struct loami_structure {
    loam_grammar_kind kind;      /* 0: any text */
    const json_t *source;        /* a schema, an array of choices; or a string; borrowed */
    const char *field;           /* who said so, for messages; static */
} loami_structure;

/* The rows of a field table, for a struct that has a loami_structure at the offset base. */
#define LOAMI_STRUCTURE_FIELDS(base)                                                                         \
    LOAMI_READ_AT("response_format", base, loami_read_response_format),                                      \
    LOAMI_READ_AT("structured_outputs", base, loami_read_structured_outputs),                                \
    LOAMI_READ_AT("guided_json", base, loami_read_guided_json),                                              \
    LOAMI_READ_AT("guided_regex", base, loami_read_guided_regex),                                            \
    LOAMI_READ_AT("guided_choice", base, loami_read_guided_choice),                                          \
    LOAMI_READ_AT("guided_grammar", base, loami_read_guided_grammar),                                        \
    LOAMI_HINT("guided_decoding_backend", STRING),                                                           \
    LOAMI_REFUSE("guided_whitespace_pattern", "white space is a blank, or line ends and indentation")

int loami_read_response_format(void *structure, const json_t *v, const char *where, loami_fault *f);
int loami_read_structured_outputs(void *structure, const json_t *v, const char *where, loami_fault *f);
int loami_read_guided_json(void *structure, const json_t *v, const char *where, loami_fault *f);
int loami_read_guided_regex(void *structure, const json_t *v, const char *where, loami_fault *f);
int loami_read_guided_choice(void *structure, const json_t *v, const char *where, loami_fault *f);
int loami_read_guided_grammar(void *structure, const json_t *v, const char *where, loami_fault *f);

/* What a chat adds: which calls there may be. */
typedef struct loami_structure_calls {
    const char *prompt;          /* as rendered */
    const json_t *tools;         /* NULL: none */
    const char *choice, *tool;   /* as loami_dialogue has them */
    bool one_call;
} loami_structure_calls;

/* The grammar into run->grammar, if anything is asked of the answer. calls: NULL for plain text. On a worker. */
int loami_structure_open(loami_run *run, const loami_structure *s, const loami_structure_calls *calls, loami_fault *f);

#endif
