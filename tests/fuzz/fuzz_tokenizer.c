/* A tokenizer.json, a zero byte, and a text to encode with it. What comes out must be ids of the tokenizer, the same on
 * a second try, and the stream of them must end in whole characters. */
#include "base/utf8.h"
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static void check_stream(const loami_tokenizer *t, const loami_ids *ids)
{
    loam_err err;
    loami_detok *d;
    loami_buf piece = { 0 };
    if (loami_detok_open(&d, t, false, &err) < 0) abort();
    for (size_t i = 0; i < ids->len; i++) {
        if (loami_detok_put(d, &piece, ids->data[i], &err) < 0) break;
        if (piece.len && !loami_utf8_valid(piece.data, piece.len)) abort();
        loami_buf_clear(&piece);
    }
    loami_detok_flush(d, &piece, &err);
    if (piece.len && !loami_utf8_valid(piece.data, piece.len)) abort();
    loami_detok_close(d);
    loami_buf_free(&piece);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = memchr(data, 0, size);
    size_t n = text ? (size_t)(text - (const char *)data) : size;
    loami_tokenizer *t;
    loami_ids ids = { 0 }, again = { 0 };
    loami_buf out = { 0 };
    loam_err err;
    if (loami_tokenizer_parse(&t, (const char *)data, n, "input", &err) < 0) return 0;
    if (!text) text = "ab Ab  1\xc3\xa9\xf0\x9f\x91\x8d<s>";
    size_t text_n = text >= (const char *)data && text <= (const char *)data + size ? size - n : strlen(text);
    if (loami_tokenizer_encode(t, &ids, text, text_n, true, &err) == 0) {
        if (loami_tokenizer_encode(t, &again, text, text_n, true, &err) < 0 || again.len != ids.len) abort();
        if (ids.len && memcmp(ids.data, again.data, ids.len * sizeof *ids.data) != 0) abort();
        check_stream(t, &ids);
        loami_tokenizer_decode(t, &out, ids.data, ids.len, true, &err);
        if (out.len && !loami_utf8_valid(out.data, out.len)) abort();
    }
    for (uint32_t id = 0; id < 300 && id < loami_tokenizer_size(t); id++) {
        loami_buf_clear(&out);
        size_t len = 0;
        if (loami_tokenizer_token(t, (int32_t)id, &len)) loami_tokenizer_bytes(t, &out, (int32_t)id, &err);
    }
    free(ids.data);
    free(again.data);
    loami_buf_free(&out);
    loami_tokenizer_close(t);
    return 0;
}
