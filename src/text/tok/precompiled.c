#include "text/tok/precompiled.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { GRAPHEME_BYTES = 5 }; /* longer ones are never looked up: the reference's rule */

struct loami_precompiled {
    uint32_t *units;        /* [n_units] of the trie */
    size_t n_units;
    const char *strings;    /* [n_strings], each ends with a NUL */
    size_t n_strings;
    unsigned char *bytes;   /* owns strings */
};

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes into out (at least 3 * n / 4 bytes); false for what is not base64. */
static bool decode_base64(unsigned char *out, size_t *len, const char *s, size_t n)
{
    uint32_t bits = 0;
    unsigned have = 0;
    *len = 0;
    while (n && s[n - 1] == '=') n--;
    for (size_t i = 0; i < n; i++) {
        int v = base64_value(s[i]);
        if (v < 0) return false;
        bits = bits << 6 | (uint32_t)v;
        have += 6;
        if (have < 8) continue;
        have -= 8;
        out[(*len)++] = (unsigned char)(bits >> have);
    }
    return true;
}

static uint32_t le32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int loami_precompiled_open(loami_precompiled **out, const char *base64, size_t n, loam_err *err)
{
    size_t len = 0;
    loami_precompiled *m = calloc(1, sizeof *m);
    int rc = 0;
    if (!m || !(m->bytes = malloc(n + 1))) {
        rc = loami_fail_nomem(err);
        goto out;
    }
    bool ok = decode_base64(m->bytes, &len, base64, n) && len >= 4;
    uint32_t trie = ok ? le32(m->bytes) : 0;
    if (!ok || trie % 4 || trie > len - 4) {
        rc = loami_fail(err, LOAM_E_FORMAT, "Precompiled: \"precompiled_charsmap\" is not a character map");
        goto out;
    }
    m->n_units = trie / 4;
    m->units = malloc((m->n_units + 1) * sizeof *m->units);
    if (!m->units) {
        rc = loami_fail_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < m->n_units; i++) m->units[i] = le32(m->bytes + 4 + 4 * i);
    m->strings = (char *)m->bytes + 4 + trie;
    m->n_strings = len - 4 - trie;
    m->bytes[len] = 0;
out:
    if (rc < 0) loami_precompiled_close(m);
    else *out = m;
    return rc;
}

void loami_precompiled_close(loami_precompiled *m)
{
    if (!m) return;
    free(m->units);
    free(m->bytes);
    free(m);
}

/* Where the children of a unit begin, relative to its own place. */
static size_t offset_of(uint32_t unit)
{
    return (unit >> 10) << ((unit >> 6) & 8);
}

/* The value of the shortest key that s begins with; false for none. */
static bool lookup(const loami_precompiled *m, const char *s, size_t n, size_t *value)
{
    if (m->n_units == 0) return false;
    size_t at = offset_of(m->units[0]);
    for (size_t i = 0; i < n && s[i]; i++) {
        at ^= (unsigned char)s[i];
        if (at >= m->n_units) return false;
        uint32_t unit = m->units[at];
        if ((unit & 0x800000ff) != (unsigned char)s[i]) return false;
        at ^= offset_of(unit);
        if (!(unit >> 8 & 1)) continue;
        if (at >= m->n_units) return false;
        *value = m->units[at] & 0x7fffffff;
        return true;
    }
    return false;
}

/* Appends what s[0..n) becomes; false when the map does not know it. */
static bool put_mapped(const loami_precompiled *m, loami_buf *out, const char *s, size_t n)
{
    size_t at;
    if (!lookup(m, s, n, &at) || at >= m->n_strings) return false;
    const char *end = memchr(m->strings + at, 0, m->n_strings - at);
    size_t len = end ? (size_t)(end - (m->strings + at)) : m->n_strings - at;
    if (!loami_utf8_valid(m->strings + at, len)) return false;
    loami_buf_put(out, m->strings + at, len);
    return true;
}

/* The end of the grapheme that starts at s. */
static size_t grapheme(const char *s, size_t n)
{
    uint32_t cp, next;
    int32_t state = 0;
    size_t i = loami_utf8_next(s, n, &cp);
    while (i < n) {
        size_t len = loami_utf8_next(s + i, n - i, &next);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)cp, (utf8proc_int32_t)next, &state)) break;
        cp = next;
        i += len ? len : 1;
    }
    return i ? i : 1;
}

void loami_precompiled_run(const loami_precompiled *m, loami_buf *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t end = i + grapheme(s + i, n - i);
        if (end - i <= GRAPHEME_BYTES && put_mapped(m, out, s + i, end - i)) {
            i = end;
            continue;
        }
        while (i < end) {
            uint32_t cp;
            size_t len = loami_utf8_next(s + i, end - i, &cp);
            if (!len) len = 1;
            if (!put_mapped(m, out, s + i, len)) loami_buf_put(out, s + i, len);
            i += len;
        }
    }
}
