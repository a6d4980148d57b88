/* Reads all of what the reader hands out. */
#include "file/gguf.h"

#include <stdlib.h>
#include <string.h>

static void read_strings(const loami_gguf_value *v)
{
    const unsigned char *at = v->data;
    volatile unsigned sum = 0;
    for (uint64_t i = 0; i < v->n; i++) {
        uint64_t n;
        const char *s = loami_gguf_next(&at, &n);
        for (uint64_t k = 0; k < n; k++) sum += (unsigned char)s[k];
    }
    if (at != v->data + v->bytes) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[] = { "general.architecture",
                                        "general.alignment",
                                        "tokenizer.ggml.tokens",
                                        "tokenizer.ggml.scores",
                                        "a",
                                        "b",
                                        "c" };
    loami_gguf *g;
    loam_err err;
    volatile unsigned sum = 0;
    if (loami_gguf_parse(&g, data, size, "input", &err) < 0) return 0;
    for (uint32_t i = 0; i < loami_gguf_count(g); i++) {
        const loami_gguf_tensor *t = loami_gguf_at(g, i);
        for (uint64_t k = 0; k < t->bytes; k++) sum += t->data[k];
        if (loami_gguf_find(g, t->name) != t) abort();
    }
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const loami_gguf_value *v = loami_gguf_get(g, keys[i]);
        uint32_t u;
        double d;
        bool b;
        const char *s;
        loami_gguf_u32(g, keys[i], 0, 100, &u, &err);
        loami_gguf_double(g, keys[i], -1, 1, &d, &err);
        loami_gguf_bool(g, keys[i], &b, &err);
        if (loami_gguf_string(g, keys[i], &s, &err) > 0) sum += (unsigned)strlen(s);
        if (v && v->is_array && v->kind == LOAMI_GGUF_STRING) read_strings(v);
        if (v && v->is_array && v->n) d = loami_gguf_number(v, v->n - 1);
    }
    loami_gguf_close(g);
    return 0;
}
