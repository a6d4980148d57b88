/* text/format/rules.h: what an answer must look like, as a grammar in EBNF (docs/structured-output.md has the dialect).
 *
 * The parser of format.h reads what a model wrote; this says what it may write: reasoning first, where the template lets it
 * reason; then text, or text of a given form, or calls of tools with arguments of their schemas, in the family's own way. */
#ifndef LOAMI_RULES_H
#define LOAMI_RULES_H

#include "text/format.h"
#include "text/tokenizer.h"

typedef struct loami_answer_wish {
    const char *prompt;              /* as rendered: its end may have begun the reasoning, or have ended it */
    const json_t *tools;             /* NULL: no calls */
    const char *tool;                /* only this one of them, or NULL */
    const char *content;             /* an EBNF expression for the text, or NULL: any */
    const char *rules;               /* more rules that content needs, or NULL */
    bool must_call;                  /* a call has to come, and no text */
    bool one_call;
    bool loose;                      /* any JSON object for arguments, unless the tool is strict */
} loami_answer_wish;

/* Appends a grammar. 1: done; 0: there is nothing to hold an answer to; LOAM_E_UNSUPPORTED: calls in this format can't be forced. */
int loami_answer_rules(loami_buf *out, const loami_format *f, const loami_tokenizer *t, const loami_answer_wish *w, loam_err *err);

#endif
