#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool loami_buf_reserve(loami_buf *b, size_t more)
{
    if (b->failed) return false;
    if (more > SIZE_MAX / 4 - b->len || (b->limit && b->len + more > b->limit)) {
        b->failed = true;
        return false;
    }
    size_t need = b->len + more + 1;
    if (need <= b->cap) return true;
    size_t cap = b->cap < 64 ? 64 : b->cap * 2;
    if (cap < need) cap = need;
    char *p = realloc(b->data, cap);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->data = p;
    b->cap = cap;
    return true;
}

void loami_buf_put(loami_buf *b, const void *bytes, size_t n)
{
    if (!loami_buf_reserve(b, n)) return;
    if (n) memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = 0;
}

void loami_buf_putc(loami_buf *b, char c)
{
    loami_buf_put(b, &c, 1);
}

void loami_buf_puts(loami_buf *b, const char *s)
{
    loami_buf_put(b, s, strlen(s));
}

void loami_buf_printf(loami_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && loami_buf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void loami_buf_clear(loami_buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data) b->data[0] = 0;
}

void loami_buf_free(loami_buf *b)
{
    free(b->data);
    *b = (loami_buf){ .limit = b->limit };
}

char *loami_buf_take(loami_buf *b, size_t *len)
{
    loami_buf_reserve(b, 0);
    if (b->failed) {
        loami_buf_free(b);
        return NULL;
    }
    char *p = b->data;
    p[b->len] = 0;
    if (len) *len = b->len;
    *b = (loami_buf){ .limit = b->limit };
    return p;
}
