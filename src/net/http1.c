#include "net/http1.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    HEAD_BYTES = 64 * 1024,
    EXTRA_BYTES = 64 * 1024, /* of trailers, and of what follows sizes of chunks */
    SIZE_DIGITS = 15,
};

void loami_http1_reset(loami_http1 *h, bool bodiless)
{
    loami_buf line = h->line;
    loami_buf_clear(&line);
    *h = (loami_http1){ .bodiless = bodiless, .line = line };
}

void loami_http1_free(loami_http1 *h)
{
    loami_buf_free(&h->line);
}

/* ---- the head ------------------------------------------------------------------------------------ */

static bool has_word(const char *list, size_t n, const char *word)
{
    size_t len = strlen(word);
    for (size_t i = 0; i + len <= n; i++)
        if (strncasecmp(list + i, word, len) == 0) return true;
    return false;
}

static bool read_length(loami_http1 *h, const char *value, size_t n)
{
    uint64_t v = 0;
    if (n == 0 || n > 18) return false;
    for (size_t i = 0; i < n; i++) {
        if (value[i] < '0' || value[i] > '9') return false;
        v = v * 10 + (uint64_t)(value[i] - '0');
    }
    if (h->has_length && v != h->left) return false;
    h->has_length = true;
    h->left = v;
    return true;
}

static bool read_status(loami_http1 *h, const char *line, size_t n)
{
    if (n < 12 || memcmp(line, "HTTP/1.", 7) != 0 || line[8] != ' ') return false;
    for (int i = 9; i < 12; i++)
        if (line[i] < '0' || line[i] > '9') return false;
    h->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + line[11] - '0';
    h->keep = line[7] != '0';
    return h->status >= 100 && h->status != 101; /* nobody asked for another protocol */
}

/* What says where the body ends, and whether the connection lives on. */
static bool read_header(loami_http1 *h, const char *line, size_t n)
{
    const char *colon = memchr(line, ':', n);
    if (line[0] == ' ' || line[0] == '\t') return false; /* folded: nobody may write that any more */
    if (!colon) return true;
    size_t n_name = (size_t)(colon - line), at = n_name + 1;
    while (at < n && (line[at] == ' ' || line[at] == '\t')) at++;
    while (n > at && (line[n - 1] == ' ' || line[n - 1] == '\t')) n--;
    const char *value = line + at;
    if (n_name == 14 && strncasecmp(line, "Content-Length", 14) == 0) return read_length(h, value, n - at);
    if (n_name == 17 && strncasecmp(line, "Transfer-Encoding", 17) == 0) {
        h->chunked = n - at == 7 && strncasecmp(value, "chunked", 7) == 0 && !h->encoded;
        h->encoded = true;
        return h->chunked; /* nothing else was allowed to it */
    }
    if (n_name == 10 && strncasecmp(line, "Connection", 10) == 0) {
        if (has_word(value, n - at, "close")) h->keep = false;
        if (has_word(value, n - at, "keep-alive")) h->keep = true;
    }
    return true;
}

static loami_http1_state after_head(loami_http1 *h)
{
    if (h->status < 200) {
        loami_http1_reset(h, h->bodiless);
        return LOAMI_HTTP1_HEAD;
    }
    if (h->bodiless || h->status == 204 || h->status == 304) return LOAMI_HTTP1_DONE;
    if (h->chunked) {
        if (h->has_length) h->keep = false;
        h->left = h->n_digits = 0;
        return LOAMI_HTTP1_SIZE;
    }
    if (h->has_length) return h->left ? LOAMI_HTTP1_LENGTH : LOAMI_HTTP1_DONE;
    h->keep = false;
    return LOAMI_HTTP1_UNTIL_CLOSE;
}

static bool read_line(loami_http1 *h, char *line, size_t n, bool (*tell)(void *, char *, size_t), void *arg)
{
    if (n && line[n - 1] == '\r') n--;
    bool ok = h->status == 0 ? read_status(h, line, n) : n == 0 || read_header(h, line, n);
    if (!ok || !tell(arg, line, n)) return false;
    if (n == 0) h->state = after_head(h);
    return true;
}

/* Returns how many bytes were the head's, or 0 when it is bad. */
static size_t take_head(loami_http1 *h, char *bytes, size_t n, bool (*tell)(void *, char *, size_t), void *arg)
{
    size_t at = 0;
    while (at < n && h->state == LOAMI_HTTP1_HEAD) {
        char *lf = memchr(bytes + at, '\n', n - at);
        size_t len = lf ? (size_t)(lf - bytes) - at : n - at;
        bool ok = (h->n_head += (uint32_t)len + 1) <= HEAD_BYTES;
        if (!lf || h->line.len) loami_buf_put(&h->line, bytes + at, len);
        if (ok && lf) {
            ok = !h->line.failed && (h->line.len ? read_line(h, h->line.data, h->line.len, tell, arg)
                                                 : read_line(h, bytes + at, len, tell, arg));
            loami_buf_clear(&h->line);
        }
        if (!ok) return 0;
        at += len + (lf != NULL);
    }
    return at;
}

/* ---- the body ------------------------------------------------------------------------------------ */

static int hex(char c)
{
    return c >= '0' && c <= '9'                      ? c - '0'
           : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                     : -1;
}

static loami_http1_state on_size(loami_http1 *h, char c)
{
    int digit = hex(c);
    if (digit >= 0) {
        h->left = h->left * 16 + (uint64_t)digit;
        return ++h->n_digits > SIZE_DIGITS ? LOAMI_HTTP1_BAD : LOAMI_HTTP1_SIZE;
    }
    if (h->n_digits == 0) return LOAMI_HTTP1_BAD;
    if (c == '\n') return h->left ? LOAMI_HTTP1_CHUNK : LOAMI_HTTP1_TRAILER;
    return c == '\r' || c == ';' || c == ' ' || c == '\t' ? LOAMI_HTTP1_EXTENSION : LOAMI_HTTP1_BAD;
}

static loami_http1_state on_trailer(loami_http1 *h, char c)
{
    if (c == '\r') return LOAMI_HTTP1_TRAILER;
    if (c != '\n') {
        h->n_line++;
        return ++h->n_extra > EXTRA_BYTES ? LOAMI_HTTP1_BAD : LOAMI_HTTP1_TRAILER;
    }
    if (h->n_line == 0) return LOAMI_HTTP1_DONE;
    h->n_line = 0;
    return LOAMI_HTTP1_TRAILER;
}

static loami_http1_state on_framing(loami_http1 *h, char c)
{
    switch (h->state) {
    case LOAMI_HTTP1_SIZE: return on_size(h, c);
    case LOAMI_HTTP1_EXTENSION:
        if (c != '\n') return ++h->n_extra > EXTRA_BYTES ? LOAMI_HTTP1_BAD : LOAMI_HTTP1_EXTENSION;
        return h->left ? LOAMI_HTTP1_CHUNK : LOAMI_HTTP1_TRAILER;
    case LOAMI_HTTP1_CHUNK_END:
        h->left = h->n_digits = 0;
        return c == '\r' ? LOAMI_HTTP1_CHUNK_END : c == '\n' ? LOAMI_HTTP1_SIZE : LOAMI_HTTP1_BAD;
    case LOAMI_HTTP1_TRAILER: return on_trailer(h, c);
    default: return LOAMI_HTTP1_BAD;
    }
}

/* Moves what is body to the front; returns how much. */
static size_t take_body(loami_http1 *h, char *bytes, size_t n)
{
    size_t at = 0, out = 0;
    while (at < n && h->state < LOAMI_HTTP1_DONE) {
        bool counted = h->state == LOAMI_HTTP1_CHUNK || h->state == LOAMI_HTTP1_LENGTH;
        if (!counted && h->state != LOAMI_HTTP1_UNTIL_CLOSE) {
            h->state = on_framing(h, bytes[at++]);
            continue;
        }
        size_t some = counted && h->left < n - at ? (size_t)h->left : n - at;
        if (out != at) memmove(bytes + out, bytes + at, some);
        at += some;
        out += some;
        if (counted && (h->left -= some) == 0)
            h->state = h->state == LOAMI_HTTP1_CHUNK ? LOAMI_HTTP1_CHUNK_END : LOAMI_HTTP1_DONE;
    }
    if (at < n) h->keep = false; /* more than was asked for */
    return out;
}

int loami_http1_take(loami_http1 *h, char *bytes, size_t n, bool (*line)(void *arg, char *line, size_t n), void *arg,
                     char **body, size_t *n_body)
{
    size_t used = 0;
    *n_body = 0;
    *body = bytes;
    if (h->state == LOAMI_HTTP1_HEAD && n) {
        used = take_head(h, bytes, n, line, arg);
        if (!used) {
            h->state = LOAMI_HTTP1_BAD;
            return -1;
        }
    }
    *body = bytes + used;
    *n_body = take_body(h, *body, n - used);
    return h->state == LOAMI_HTTP1_BAD ? -1 : 0;
}

bool loami_http1_end(loami_http1 *h)
{
    if (h->state == LOAMI_HTTP1_UNTIL_CLOSE) h->state = LOAMI_HTTP1_DONE;
    h->keep = false;
    return h->state == LOAMI_HTTP1_DONE;
}

/* ---- the request --------------------------------------------------------------------------------- */

char *loami_http1_place(const char *url, const char **path)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]";
    if (strncasecmp(url, "http://", 7) != 0) return NULL;
    size_t n = strspn(url + 7, allowed);
    *path = url + 7 + n;
    if (n == 0 || (**path && **path != '/' && **path != '?')) return NULL;
    for (const char *c = *path; *c; c++)
        if (*c <= ' ' || *c > '~' || *c == '#') return NULL;
    return strndup(url + 7, n);
}

void loami_http1_ask(loami_buf *out, const char *method, const char *where, const char *path,
                     const char *const *headers, uint32_t n_headers)
{
    loami_buf_printf(out, "%s %s%s HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\n", method, *path == '/' ? "" : "/", path, where);
    for (uint32_t i = 0; i < n_headers; i++) {
        if (strpbrk(headers[i], "\r\n")) continue;
        loami_buf_puts(out, headers[i]);
        loami_buf_puts(out, "\r\n");
    }
}
