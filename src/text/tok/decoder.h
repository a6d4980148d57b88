/* text/tok/decoder.h: the components of a decoder, shared by decoder.c (what each does to one token) and
 * flow.c (how tokens stream through them). */
#ifndef LOAMI_TOK_DECODER_H
#define LOAMI_TOK_DECODER_H

#include "text/tok/tok.h"

typedef struct loami_decoder loami_decoder;

/* How a component streams: token by token, or with something held back. */
typedef enum loami_decode_kind {
    LOAMI_DECODE_EACH,
    LOAMI_DECODE_BYTES,     /* until a character is whole */
    LOAMI_DECODE_FALLBACK,  /* until a run of byte tokens ends */
    LOAMI_DECODE_STRIP,     /* on the whole text: its last characters */
    LOAMI_DECODE_REPLACE,   /* on the whole text: what may begin a match */
    LOAMI_DECODE_BPE,       /* the last token */
} loami_decode_kind;

typedef struct loami_decoder_type {
    const char *name;
    loami_decode_kind kind;
    int (*parse)(loami_decoder *d, const json_t *json, loam_err *err); /* NULL: no fields */
    /* Appends what one token becomes; first: it is the text's first. */
    int (*middle)(const loami_decoder *d, void *matches, loami_buf *out, const char *s, size_t n, bool first,
                  loam_err *err);
    bool fuses;             /* makes one token of all */
    bool chunks;            /* on one token of all: may be given it in pieces */
} loami_decoder_type;

struct loami_decoder {
    const loami_decoder_type *type;
    loami_pattern *pattern;
    char *text;             /* [n] and NUL: content, prefix, suffix or replacement */
    size_t n;
    uint32_t start, stop;   /* Strip */
    bool cleanup, never;
    bool fused;             /* a component before it makes one token of all */
    bool chunks;
};

/* The byte of a token "<0xHH>", or -1. */
int loami_byte_token(const char *s, size_t n);

#endif
