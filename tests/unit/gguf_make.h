/* tests/unit/gguf_make.h: GGUF files put together byte by byte, right or wrong. */
#ifndef TESTS_GGUF_MAKE_H
#define TESTS_GGUF_MAKE_H

#include "base/buf.h"
#include "file/gguf.h"

#include <string.h>

static inline void put_uint(loami_buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) loami_buf_putc(b, (char)(v >> 8 * i));
}

static inline void put_text(loami_buf *b, const char *s)
{
    put_uint(b, strlen(s), 8);
    loami_buf_puts(b, s);
}

static inline void put_header(loami_buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_values)
{
    loami_buf_puts(b, "GGUF");
    put_uint(b, version, 4);
    put_uint(b, n_tensors, 8);
    put_uint(b, n_values, 8);
}

static inline void put_key(loami_buf *b, const char *key, uint32_t kind)
{
    put_text(b, key);
    put_uint(b, kind, 4);
}

static inline void put_u32(loami_buf *b, const char *key, uint32_t v)
{
    put_key(b, key, LOAMI_GGUF_U32);
    put_uint(b, v, 4);
}

static inline void put_string(loami_buf *b, const char *key, const char *v)
{
    put_key(b, key, LOAMI_GGUF_STRING);
    put_text(b, v);
}

static inline void put_tensor(loami_buf *b, const char *name, uint32_t type, uint64_t cols, uint64_t rows,
                              uint64_t offset)
{
    put_text(b, name);
    put_uint(b, rows ? 2 : 1, 4);
    put_uint(b, cols, 8);
    if (rows) put_uint(b, rows, 8);
    put_uint(b, type, 4);
    put_uint(b, offset, 8);
}

/* Pads to the data's start and adds n bytes 0, 1, 2... */
static inline void put_data(loami_buf *b, size_t align, size_t n)
{
    while (b->len % align) loami_buf_putc(b, 0);
    for (size_t i = 0; i < n; i++) loami_buf_putc(b, (char)i);
}

#endif
