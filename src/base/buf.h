/* base/buf.h: a growable string of bytes. Zero-initialised is empty and owns nothing. */
#ifndef LOAMI_BUF_H
#define LOAMI_BUF_H

#include "base/err.h"

typedef struct loami_buf {
    char *data;      /* [len] and a NUL after it, or NULL when nothing was ever put in */
    size_t len, cap;
    size_t limit;    /* most bytes it may hold; 0 = no limit */
    bool failed;     /* memory or limit ran out: later puts do nothing, so one check at the end is enough */
} loami_buf;

/* Makes room for more bytes after len; false (and failed) when there is none. */
bool loami_buf_reserve(loami_buf *b, size_t more);
void loami_buf_put(loami_buf *b, const void *bytes, size_t n);
void loami_buf_putc(loami_buf *b, char c);
void loami_buf_puts(loami_buf *b, const char *s);
void loami_buf_printf(loami_buf *b, const char *fmt, ...) LOAMI_PRINTF(2, 3);
void loami_buf_clear(loami_buf *b);  /* len = 0, keeps memory and clears failed */
void loami_buf_free(loami_buf *b);

/* Hands the bytes over, NUL-terminated, malloc'd, the caller's; b is empty after. NULL if failed. */
char *loami_buf_take(loami_buf *b, size_t *len);

#endif
