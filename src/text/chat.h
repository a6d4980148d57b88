/* text/chat.h: what belongs to a model's text: its tokenizer, its chat templates, its end-of-text tokens.
 *
 * Reads tokenizer.json, tokenizer_config.json, chat_template.jinja (or .json), additional_chat_templates,
 * special_tokens_map.json, generation_config.json and config.json of a model folder, as transformers does.
 * loam_text of loam.h is this. */
#ifndef LOAMI_CHAT_H
#define LOAMI_CHAT_H

#include "text/format.h"
#include "text/jinja.h"
#include "text/tokenizer.h"

/* One template of a model. */
typedef struct loami_chat_template {
    char *text;               /* NULL: there is none */
    loami_jinja *jinja;       /* NULL with text: it does not compile, and err says why */
    loam_err err;
    loami_format format;      /* how answers to it are written */
} loami_chat_template;

struct loam_text {
    loami_tokenizer *tokenizer;
    loami_chat_template chat; /* the default */
    loami_chat_template tools;/* "tool_use": used instead when there are tools */
    json_t *special;          /* bos_token, eos_token, ...: strings, the template's variables */
    int32_t *eos;             /* [n_eos] ids that end an answer */
    uint32_t n_eos;
};

/* dir: a model folder, or the path of a tokenizer.json. A template that does not compile is no failure before it is
 * needed: the model can still complete text. */
int loami_text_open_path(struct loam_text **out, const char *dir, loam_err *err);

bool loami_text_is_eos(const struct loam_text *t, int32_t id);

/* The template that is rendered with these variables; NULL: the model has none. */
const loami_chat_template *loami_text_template(const struct loam_text *t, const json_t *vars);

/* How answers are written that may (tools) or may not call tools. */
loami_format loami_text_format(const struct loam_text *t, bool tools);

/* ---- the files of a folder, but for tokenizer.json (chat_files.c) -------------------------------------- */

/* Fills chat, tools and special. Files that are absent are not an error. */
int loami_chat_read(struct loam_text *t, const char *dir, loam_err *err);

/* Fills eos from generation_config.json, config.json and eos_token; needs tokenizer and special. */
int loami_chat_read_eos(struct loam_text *t, const char *dir, loam_err *err);

#endif
