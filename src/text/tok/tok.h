/* text/tok/tok.h: inside of a tokenizer: its parts and what one call of encode works with.
 *
 * Each part of the pipeline has a file: added.c, normalizer.c, pretokenizer.c, one a model (bpe.c, unigram.c,
 * wordpiece.c), postprocessor.c, decoder.c. A component is an entry in its file's table of types; Sequences
 * are flattened at open. */
#ifndef LOAMI_TOK_H
#define LOAMI_TOK_H

#include "base/map.h"
#include "text/tok/reader.h"
#include "text/tok/regex.h"
#include "text/tok/unicode.h"
#include "text/tokenizer.h"

enum { LOAMI_NO_ID = -1 };

/* ---- lists ---- */

typedef struct loami_span {
    uint32_t start, end;
} loami_span;

typedef struct loami_spans {
    loami_span *data;
    size_t len, cap;
    bool failed;            /* memory ran out: later puts do nothing */
} loami_spans;

void loami_spans_put(loami_spans *s, size_t start, size_t end); /* an empty span is left out */
bool loami_ids_reserve(loami_ids *ids, size_t more);

/* ---- vocabulary (vocab.c) ---- */

typedef struct loami_token_name {
    const char *s;          /* NULL: no token has this id */
    uint32_t n;
    bool special;
} loami_token_name;

typedef struct loami_vocab {
    loami_token_name *names; /* [size] by id: spelling in the vocabulary */
    uint32_t size;           /* one more than the largest id */
    uint32_t count;          /* tokens of the model: what numbers of new tokens start from */
    loami_map map;           /* of the model's tokens */
    char *blob;              /* spellings, each with a NUL */
} loami_vocab;

int loami_vocab_build(loami_vocab *v, const loami_tok_source *src, const char *what, loam_err *err);
int32_t loami_vocab_id(const loami_vocab *v, const char *s, size_t n); /* or LOAMI_NO_ID */
/* Names id, which may be new; s must outlive v. */
int loami_vocab_name(loami_vocab *v, uint32_t id, const char *s, size_t n, const char *what, loam_err *err);
void loami_vocab_free(loami_vocab *v);

/* ---- what a call works with ---- */

/* A text being cut into words. Spans ascend and do not overlap. */
typedef struct loami_cut {
    const char *text;       /* what spans point into */
    loami_spans spans, next;
    loami_spans found;      /* matches of a pattern in one span, and what lies between */
    bool *is_match;         /* [cap_match] of found */
    size_t cap_match;
    loami_buf bufs[2];      /* rewritten texts, the current one alternating */
    int current;
    bool at_start;          /* the first span begins where the whole input begins */
    void *matches;          /* loami_matches_state */
} loami_cut;

typedef struct loami_scratch {
    struct loami_scratch *next;
    loami_cut cut;
    loami_buf clean, norm[2];
    void *model;            /* the model's own */
} loami_scratch;

/* ---- models ---- */

typedef struct loami_model loami_model;

typedef struct loami_model_type {
    const char *name;
    int (*open)(loami_model **out, const json_t *json, const loami_tok_source *src, const loami_vocab *v,
                const char *what, loam_err *err);
    void (*close)(loami_model *m);
    /* Appends the ids of one word, n > 0 bytes. */
    int (*encode)(const loami_model *m, loami_scratch *s, const char *word, size_t n, loami_ids *out,
                  loam_err *err);
    void (*scratch_free)(void *scratch); /* of loami_scratch.model */
} loami_model_type;

struct loami_model {
    const loami_model_type *type;
    const loami_vocab *vocab;
    bool byte_level;        /* each byte's character has a token: may be given words as plain bytes */
    bool raw;               /* is given them so: set at open when the last pre-tokenizer is ByteLevel */
};

extern const loami_model_type loami_bpe, loami_unigram, loami_wordpiece, loami_wordlevel;

/* The character that byte-level BPE writes a byte as: code point, below 0x144. */
extern const uint16_t loami_byte_chars[256];
/* Back: the byte, or -1. */
int loami_byte_of_char(uint32_t cp);

/* ids of "<0x00>" to "<0xFF>", LOAMI_NO_ID where there is none. */
void loami_byte_tokens(const loami_vocab *v, int32_t ids[256]);

/* ---- normalizers ---- */

typedef struct loami_normalizers {
    struct loami_normalizer *list; /* [n] */
    size_t n;
} loami_normalizers;

int loami_normalizers_parse(loami_normalizers *out, const json_t *json, const char *what, loam_err *err);
void loami_normalizers_free(loami_normalizers *l);

/* *text (n bytes, valid UTF-8) becomes the normalized text, in bufs where anything changed. *at_start becomes
 * false when the first character of the result does not stem from the first one. */
int loami_normalize(const loami_normalizers *l, loami_buf bufs[2], void *matches, const char **text,
                    size_t *n, bool *at_start, loam_err *err);

/* ---- pre-tokenizers ---- */

typedef struct loami_pretokenizers {
    struct loami_pretokenizer *list; /* [n] */
    size_t n;
    bool raw;               /* leave out the last one's change of bytes into characters */
} loami_pretokenizers;

int loami_pretokenizers_parse(loami_pretokenizers *out, const json_t *json, const char *what, loam_err *err);
void loami_pretokenizers_free(loami_pretokenizers *l);
bool loami_pretokenizers_end_in_bytes(const loami_pretokenizers *l); /* the last is ByteLevel */

/* Cuts n > 0 bytes: c->text and c->spans afterwards. */
int loami_pretokenize(const loami_pretokenizers *l, loami_cut *c, const char *text, size_t n, bool at_start,
                      loam_err *err);

/* ---- added tokens ---- */

typedef struct loami_added loami_added;

/* From the array "added_tokens"; ids are given out as tokenizers does, and named in v. */
int loami_added_parse(loami_added **out, const json_t *json, loami_vocab *v, const loami_normalizers *l,
                      const char *what, loam_err *err);
void loami_added_free(loami_added *a);
int32_t loami_added_id(const loami_added *a, const char *s, size_t n);
/* The text to decode id from when that is not its name: a normalized spelling. NULL: it is. */
const char *loami_added_spelling(const loami_added *a, uint32_t id, size_t *n);

/* Calls on for each stretch of text in turn: id >= 0 for a token, otherwise LOAMI_NO_ID and where the stretch
 * is. normalized: which of the two sets to look for. */
typedef int loami_added_on(void *arg, int32_t id, size_t start, size_t end, loam_err *err);
int loami_added_split(const loami_added *a, bool normalized, const char *text, size_t n, loami_added_on *on,
                      void *arg, loam_err *err);

/* ---- post-processors ---- */

/* What encode's ids become with one text: each item an id or, LOAMI_NO_ID, the text's ids. */
typedef struct loami_template {
    loami_ids items;
    loami_ids plain;        /* the same without special tokens */
} loami_template;

int loami_template_parse(loami_template *out, const json_t *json, const char *what, loam_err *err);
void loami_template_free(loami_template *t);

/* ---- decoders ---- */

typedef struct loami_decoders {
    struct loami_decoder *list; /* [n] */
    size_t n;
} loami_decoders;

int loami_decoders_parse(loami_decoders *out, const json_t *json, const char *what, loam_err *err);
void loami_decoders_free(loami_decoders *l);

/* The bytes of a token in mid-text, appended. */
int loami_decode_middle(const loami_decoders *l, loami_buf *out, const char *token, size_t n, loam_err *err);

/* Tokens go through the decoders one after the other (detok.c). eager: show a complete character at once even
 * where a later byte token could still make the whole run of bytes invalid. */
typedef struct loami_flow loami_flow;
int loami_flow_open(loami_flow **out, const loami_decoders *l, bool eager, loam_err *err);
int loami_flow_put(loami_flow *f, loami_buf *out, const char *token, size_t n, loam_err *err);
int loami_flow_end(loami_flow *f, loami_buf *out, loam_err *err);
void loami_flow_close(loami_flow *f);

/* ---- components of JSON ---- */

/* Calls on for each component of v: itself, or those of a Sequence (list under key), to any depth; nothing
 * for null. */
typedef int loami_component_on(void *arg, const json_t *v, const char *type, loam_err *err);
int loami_components(const json_t *v, const char *key, const char *what, loami_component_on *on, void *arg,
                     loam_err *err);

/* A string field that must be there. */
int loami_string_field(const json_t *o, const char *what, const char *key, loami_str *out, loam_err *err);
/* A string field of one character. */
int loami_char_field(const json_t *o, const char *what, const char *key, uint32_t *out, loam_err *err);

#endif
