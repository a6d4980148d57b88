/* engine/compiler.h: grammars for a model's vocabulary and its way of answering; compiled once, kept for a while. */
#ifndef LOAMI_COMPILER_H
#define LOAMI_COMPILER_H

#include "grammar/grammar.h"
#include "text/chat.h"

typedef struct loami_compiler loami_compiler;

/* For a model of n_tokens logits; text is borrowed. */
int loami_compiler_open(loami_compiler **out, const struct loam_text *text, uint32_t n_tokens, loam_err *err);
void loami_compiler_close(loami_compiler *c);

/* loam_grammar_open and loam_answer_grammar of loam.h. Any thread. */
int loami_compiler_grammar(loami_compiler *c, loam_grammar **out, loam_grammar_kind kind, const char *source, size_t n, loam_err *err);
int loami_compiler_answer(loami_compiler *c, loam_grammar **out, const loam_answer_form *form, loam_err *err);

#endif
