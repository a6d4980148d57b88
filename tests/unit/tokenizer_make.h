/* tokenizer_make.h: small tokenizer.json texts for the tests. */
#ifndef TESTS_TOKENIZER_MAKE_H
#define TESTS_TOKENIZER_MAKE_H

#include "base/buf.h"
#include "base/utf8.h"
#include "text/tok/tok.h"

/* A vocabulary of the 256 byte characters (id = byte), then more tokens (comma-separated members), and
 * merges. */
static inline char *make_byte_level(const char *tokens, const char *merges, const char *rest)
{
    loami_buf b = { 0 };
    loami_buf_puts(&b, "{\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int c = 0; c < 256; c++)
        loami_buf_printf(&b, "%s\"\\u%04x\":%d", c ? "," : "", loami_byte_chars[c], c);
    loami_buf_printf(&b, "%s%s},\"merges\":[%s]}", *tokens ? "," : "", tokens, merges);
    loami_buf_puts(
        &b, ",\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},"
            "\"decoder\":{\"type\":\"ByteLevel\"}");
    loami_buf_printf(&b, "%s}", rest);
    return loami_buf_take(&b, NULL);
}

/* A SentencePiece-like vocabulary: <unk>, the 256 byte tokens (id = 1 + byte), "▁", "a", "b", "▁a", "ab". */
static inline char *make_sentencepiece(const char *rest)
{
    loami_buf b = { 0 };
    loami_buf_puts(&b, "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_"
                       "fallback\":true,\"vocab\":{\"<unk>\":0");
    for (int c = 0; c < 256; c++) loami_buf_printf(&b, ",\"<0x%02X>\":%d", c, c + 1);
    loami_buf_puts(&b,
                   ",\"▁\":257,\"a\":258,\"b\":259,\"▁a\":260,\"ab\":261},\"merges\":[\"▁ a\",\"a b\"]},");
    loami_buf_puts(
        &b, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"▁\"},"
            "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"}]},"
            "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
            "\"▁\"},\"content\":\" \"},"
            "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" "
            "\",\"start\":1,\"stop\":0}]}");
    loami_buf_printf(&b, "%s}", rest);
    return loami_buf_take(&b, NULL);
}

#endif
