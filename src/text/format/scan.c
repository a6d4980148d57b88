#include "text/format/parser.h"

#include <string.h>

const char *loami_text_at(const loami_format_parser *p)
{
    return p->in.data ? p->in.data + p->at : "";
}

size_t loami_text_left(const loami_format_parser *p)
{
    return p->in.len - p->at;
}

void loami_take(loami_format_parser *p, size_t n)
{
    if (p->section == IN_CALLS && !p->in_call) loami_buf_put(&p->raw, loami_text_at(p), n);
    p->at += n;
    p->seen = 0;
    p->cursor = 0;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

void loami_skip_space(loami_format_parser *p)
{
    size_t n = 0, left = loami_text_left(p);
    const char *s = loami_text_at(p);
    while (n < left && is_space(s[n])) n++;
    if (n) loami_take(p, n);
}

int loami_begins(const loami_format_parser *p, const char *marker)
{
    size_t n = strlen(marker), left = loami_text_left(p), k = left < n ? left : n;
    if (memcmp(loami_text_at(p), marker, k) != 0) return 0;
    return left >= n ? 1 : p->final ? 0 : FIND_WAIT;
}

/* The longest marker that is complete at s, and whether a longer one may still be. */
static int match(const char *s, size_t left, const char *const *markers, size_t n, bool *longer)
{
    int best = FIND_NONE;
    size_t best_len = 0;
    *longer = false;
    for (size_t i = 0; i < n; i++) {
        size_t len = markers[i] ? strlen(markers[i]) : 0;
        if (len <= best_len || markers[i][0] != s[0]) continue;
        if (len > left) {
            *longer |= memcmp(s, markers[i], left) == 0;
        } else if (memcmp(s, markers[i], len) == 0) {
            best = (int)i;
            best_len = len;
        }
    }
    return best;
}

int loami_find(loami_format_parser *p, const char *const *markers, size_t n, size_t *where)
{
    const char *s = loami_text_at(p);
    size_t left = loami_text_left(p);
    for (size_t i = p->seen; i < left; i++) {
        bool longer;
        int k = match(s + i, left - i, markers, n, &longer);
        if (k < 0 && !longer) continue;
        p->seen = i;
        *where = i;
        if (longer && !p->final) return FIND_WAIT;
        if (k >= 0) return k;
    }
    p->seen = *where = left;
    return FIND_NONE;
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static int scan_text(loami_json_scan *s, char c)
{
    if (s->escaped) s->escaped = false;
    else if (c == '\\') s->escaped = true;
    else if (c == '"') s->text = false;
    return !s->text && s->depth == 0 ? 1 : 0;
}

int loami_json_scan_byte(loami_json_scan *s, char c)
{
    enum { DEEPEST = sizeof s->lists * 8 };
    if (s->text) return scan_text(s, c);
    if (s->scalar) {
        bool goes_on = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            c == '.' || c == '+' || c == '-';
        return goes_on ? 0 : 2;
    }
    if (!s->started && is_space(c)) return 0;
    bool first = !s->started;
    s->started = true;
    if (c == '"') {
        s->text = true;
    } else if (c == '{' || c == '[') {
        if (s->depth == DEEPEST) return -1;
        uint64_t bit = (uint64_t)1 << (s->depth % 64);
        s->lists[s->depth / 64] = c == '[' ? s->lists[s->depth / 64] | bit : s->lists[s->depth / 64] & ~bit;
        s->depth++;
    } else if (c == '}' || c == ']') {
        if (s->depth == 0) return -1;
        s->depth--;
        bool list = s->lists[s->depth / 64] >> (s->depth % 64) & 1;
        if (list != (c == ']')) return -1;
        return s->depth == 0 ? 1 : 0;
    } else if (first) {
        if (c == ',' || c == ':') return -1;
        s->scalar = true;
    }
    return 0;
}
