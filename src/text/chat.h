/* text/chat.h: what belongs to a model's text: its tokenizer, its chat template, its end-of-text tokens.
 *
 * Reads tokenizer.json, tokenizer_config.json, chat_template.jinja (or .json), special_tokens_map.json,
 * generation_config.json and config.json of a model folder. loam_text of loam.h is this. */
#ifndef LOAMI_CHAT_H
#define LOAMI_CHAT_H

#include "text/jinja.h"
#include "text/tokenizer.h"

struct loam_text {
    loami_tokenizer *tokenizer;
    loami_jinja *chat;        /* NULL: the model has no template */
    json_t *special;          /* bos_token, eos_token, ...: strings, the template's variables */
    int32_t *eos;             /* [n_eos] ids that end an answer */
    uint32_t n_eos;
};

/* dir: a model folder, or the path of a tokenizer.json. */
int loami_text_open_path(struct loam_text **out, const char *dir, loam_err *err);

bool loami_text_is_eos(const struct loam_text *t, int32_t id);

#endif
