#include "text/tok/unicode.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

const char *loami_uni_category(uint32_t cp)
{
    const char *c = utf8proc_category_string((utf8proc_int32_t)cp);
    if (cp < 0x800 || strcmp(c, "Cn") != 0) return c;
    size_t lo = 0, hi = loami_uni_new_count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (cp > loami_uni_new[mid].hi) lo = mid + 1;
        else hi = mid;
    }
    return lo < loami_uni_new_count && cp >= loami_uni_new[lo].lo ? loami_uni_new[lo].category : c;
}

char loami_uni_major(uint32_t cp)
{
    return loami_uni_category(cp)[0];
}

bool loami_uni_is_space(uint32_t cp)
{
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13);
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 ||
           cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

/* Alphabetic symbols: circled and squared letters. */
static bool is_letter_symbol(uint32_t cp)
{
    return (cp >= 0x24b6 && cp <= 0x24e9) || (cp >= 0x1f130 && cp <= 0x1f149) ||
           (cp >= 0x1f150 && cp <= 0x1f169) || (cp >= 0x1f170 && cp <= 0x1f189);
}

bool loami_uni_is_word(uint32_t cp)
{
    const char *c = loami_uni_category(cp);
    if (c[0] == 'L' || c[0] == 'M') return true;
    if (c[0] == 'N') return c[1] != 'o';
    if (c[0] == 'P') return c[1] == 'c';
    return cp == 0x200c || cp == 0x200d || is_letter_symbol(cp);
}

bool loami_uni_is_late(uint32_t cp, unsigned kind)
{
    size_t lo = 0, hi = loami_uni_lates_count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (cp > loami_uni_lates[mid].hi) lo = mid + 1;
        else hi = mid;
    }
    return lo < loami_uni_lates_count && cp >= loami_uni_lates[lo].lo && (loami_uni_lates[lo].kinds & kind);
}

bool loami_uni_is_punctuation(uint32_t cp)
{
    if (cp < 0x80)
        return (cp >= 33 && cp <= 47) || (cp >= 58 && cp <= 64) || (cp >= 91 && cp <= 96) ||
               (cp >= 123 && cp <= 126);
    if (cp == 0x166d || cp == 0x111c9) return true; /* no longer, but in the reference's tables */
    return loami_uni_major(cp) == 'P' && !loami_uni_is_late(cp, LOAMI_UNI_PUNCTUATION);
}

/* Capitals that Unicode added after version 15, with their small letters. */
static const struct { uint32_t lo, hi, small; } capitals[] = {
    { 0x1c89, 0x1c89, 0x1c8a },    { 0xa7cb, 0xa7cb, 0x264 },  { 0xa7cc, 0xa7cc, 0xa7cd },
    { 0xa7ce, 0xa7ce, 0xa7cf },    { 0xa7d2, 0xa7d2, 0xa7d3 }, { 0xa7d4, 0xa7d4, 0xa7d5 },
    { 0xa7da, 0xa7da, 0xa7db },    { 0xa7dc, 0xa7dc, 0x19b },  { 0x10d50, 0x10d65, 0x10d70 },
    { 0x16ea0, 0x16eb8, 0x16ebb },
};

uint32_t loami_uni_lower(uint32_t cp, uint32_t *second)
{
    *second = 0;
    if (cp < 0x80) return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
    if (cp == 0x130) { /* the one character whose lower case is two: SpecialCasing.txt */
        *second = 0x307;
        return 'i';
    }
    uint32_t low = (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
    if (low != cp || cp < 0x1c89) return low;
    for (size_t i = 0; i < sizeof capitals / sizeof *capitals; i++)
        if (cp >= capitals[i].lo && cp <= capitals[i].hi) return capitals[i].small + (cp - capitals[i].lo);
    return cp;
}

/* ---- normalization forms ---- */

static bool is_late_mark(int32_t c)
{
    return c >= 0x7fd && loami_uni_is_late((uint32_t)c, LOAMI_UNI_MARK);
}

static int class_of(int32_t c)
{
    int k = utf8proc_get_property(c)->combining_class & 255;
    return k && is_late_mark(c) ? 0 : k;
}

/* Canonical ordering of one run of combining marks: a stable sort by class. */
static bool order_run(int32_t *c, size_t n)
{
    if (n <= 16) {
        for (size_t i = 1; i < n; i++) {
            int32_t x = c[i];
            int k = class_of(x);
            size_t j = i;
            for (; j > 0 && class_of(c[j - 1]) > k; j--) c[j] = c[j - 1];
            c[j] = x;
        }
        return true;
    }
    size_t at[257] = { 0 };
    int32_t *copy = malloc(n * sizeof *copy);
    if (!copy) return false;
    for (size_t i = 0; i < n; i++) at[class_of(c[i]) + 1]++;
    for (int k = 1; k < 257; k++) at[k] += at[k - 1];
    for (size_t i = 0; i < n; i++) copy[at[class_of(c[i])]++] = c[i];
    memcpy(c, copy, n * sizeof *c);
    free(copy);
    return true;
}

static bool order_marks(int32_t *c, size_t n)
{
    for (size_t i = 0; i < n;) {
        if (class_of(c[i]) == 0) {
            i++;
            continue;
        }
        size_t j = i + 1;
        while (j < n && class_of(c[j])) j++;
        if (j - i > 1 && !order_run(c + i, j - i)) return false;
        i = j;
    }
    return true;
}

/* The decomposition of s, in canonical order, malloc'd. */
static int32_t *decompose(const char *s, size_t n, int options, size_t *count)
{
    enum { LONGEST = 32 }; /* no character decomposes into more (U+FDFA: 18) */
    size_t cap = n + LONGEST, k = 0;
    int32_t *c = malloc(cap * sizeof *c);
    if (!c) return NULL;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = loami_utf8_next(s + i, n - i, &cp);
        i += len ? len : 1;
        if (cap - k < LONGEST) {
            int32_t *more = realloc(c, (cap *= 2) * sizeof *c);
            if (!more) goto fail;
            c = more;
        }
        int class = 0;
        if (cp >= 0x32ff && loami_uni_is_late(cp, LOAMI_UNI_DECOMPOSED)) {
            c[k++] = (int32_t)cp;
            continue;
        }
        utf8proc_ssize_t got = utf8proc_decompose_char((utf8proc_int32_t)cp, c + k, LONGEST, options, &class);
        if (got < 0 || got > LONGEST) goto fail;
        k += (size_t)got;
    }
    if (!order_marks(c, k)) goto fail;
    *count = k;
    return c;
fail:
    free(c);
    return NULL;
}

/* Composes in place, each stretch between late marks by itself: to the reference those are no marks. */
static size_t compose(int32_t *c, size_t n)
{
    size_t k = 0;
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && !is_late_mark(c[end]);) end++;
        utf8proc_ssize_t m = utf8proc_normalize_utf32(c + i, (utf8proc_ssize_t)(end - i),
                                                      UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        memmove(c + k, c + i, (size_t)(m < 0 ? 0 : m) * sizeof *c);
        k += (size_t)(m < 0 ? 0 : m);
    }
    return k;
}

static int normalize_part(loami_buf *out, const char *s, size_t n, loami_uni_form form, loam_err *err)
{
    int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    size_t k = 0;
    if (form == LOAMI_NFKC || form == LOAMI_NFKD) options |= UTF8PROC_COMPAT;
    int32_t *c = decompose(s, n, options, &k);
    if (!c) return loami_fail_nomem(err);
    if (form == LOAMI_NFC || form == LOAMI_NFKC) k = compose(c, k);
    for (size_t i = 0; i < k; i++) {
        char u[4];
        loami_buf_put(out, u, loami_utf8_put(u, (uint32_t)c[i]));
    }
    free(c);
    return out->failed ? loami_fail_nomem(err) : 0;
}

/* Characters that are their own NFC, start a new character, and never join the one before: whole scripts of
 * them need no work. */
static bool is_inert(uint32_t cp)
{
    static const struct { uint32_t lo, hi; } inert[] = {
        { 0x00a0, 0x02ff }, { 0x0400, 0x0482 }, { 0x048a, 0x052f }, { 0x2010, 0x2027 }, { 0x3041, 0x3098 },
        { 0x309b, 0x30ff }, { 0x3400, 0x4dbf }, { 0x4e00, 0x9ffc }, { 0xac00, 0xd7a3 }, { 0xff01, 0xff60 },
        { 0x1f300, 0x1f6d7 }, { 0x1f900, 0x1f9ff },
    };
    for (size_t i = 0; i < sizeof inert / sizeof *inert && cp >= inert[i].lo; i++)
        if (cp <= inert[i].hi) return true;
    return false;
}

/* The end of the part that starts at the non-ASCII byte s[i]; *work when it is not all inert. */
static size_t part_end(const char *s, size_t n, size_t i, bool *work)
{
    *work = false;
    while (i < n && (unsigned char)s[i] >= 0x80) {
        uint32_t cp;
        size_t len = loami_utf8_next(s + i, n - i, &cp);
        if (!is_inert(cp)) *work = true;
        i += len ? len : 1;
    }
    return i;
}

int loami_uni_normalize(loami_buf *out, const char *s, size_t n, loami_uni_form form, loam_err *err)
{
    size_t done = 0, i = 0;
    while (i < n) {
        if ((unsigned char)s[i] < 0x80) {
            i++;
            continue;
        }
        bool work;
        size_t from = i > done ? i - 1 : i; /* the ASCII character before may take a mark */
        i = part_end(s, n, i, &work);
        if (!work && form == LOAMI_NFC) continue;
        loami_buf_put(out, s + done, from - done);
        int rc = normalize_part(out, s + from, i - from, form, err);
        if (rc < 0) return rc;
        done = i;
    }
    loami_buf_put(out, s + done, n - done);
    return out->failed ? loami_fail_nomem(err) : 0;
}

/* ---- ill-formed text ---- */

/* The length of the maximal subpart at an ill-formed s: a prefix of some well-formed sequence, at least 1. */
static size_t subpart(const unsigned char *s, size_t n)
{
    unsigned lo = 0x80, hi = 0xbf;
    size_t len = s[0] < 0xc2 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 1;
    if (s[0] == 0xe0) lo = 0xa0;
    if (s[0] == 0xed) hi = 0x9f;
    if (s[0] == 0xf0) lo = 0x90;
    if (s[0] == 0xf4) hi = 0x8f;
    for (size_t i = 1; i < len; i++) {
        if (i == n || s[i] < lo || s[i] > hi) return i;
        lo = 0x80;
        hi = 0xbf;
    }
    return 1;
}

void loami_uni_lossy(loami_buf *out, const char *s, size_t n)
{
    size_t done = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = (unsigned char)s[i] < 0x80 ? 1 : loami_utf8_next(s + i, n - i, &cp);
        if (len) {
            i += len;
            continue;
        }
        loami_buf_put(out, s + done, i - done);
        loami_buf_put(out, "\xef\xbf\xbd", 3);
        i += subpart((const unsigned char *)s + i, n - i);
        done = i;
    }
    loami_buf_put(out, s + done, n - done);
}
