#include "text/jinja/run.h"

#include "base/utf8.h"

#include <string.h>
#include <utf8proc.h>

static utf8proc_category_t category(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp);
}

uint32_t loami_j_next(const jstr *s, size_t *at)
{
    uint32_t cp = (unsigned char)s->p[*at];
    if (cp < 0x80) {
        ++*at;
        return cp;
    }
    size_t k = loami_utf8_next(s->p + *at, s->n - *at, &cp);
    *at += k ? k : 1;
    return cp;
}

bool loami_j_space(uint32_t cp)
{
    if (cp < 0x80) return (cp >= 9 && cp <= 13) || (cp >= 0x1c && cp <= 0x20);
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 ||
        cp == 0x2029 ||
           cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

bool loami_j_line_end(uint32_t cp)
{
    return (cp >= 10 && cp <= 13) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

bool loami_j_printable(uint32_t cp)
{
    if (cp < 0x7f) return cp >= 0x20;
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_CN: case UTF8PROC_CATEGORY_CC: case UTF8PROC_CATEGORY_CF: case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO: case UTF8PROC_CATEGORY_ZS: case UTF8PROC_CATEGORY_ZL: case UTF8PROC_CATEGORY_ZP:
        return false;
    default: return true;
    }
}

bool loami_j_alpha(uint32_t cp)
{
    if (cp < 0x80) return (cp | 32) >= 'a' && (cp | 32) <= 'z';
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool loami_j_decimal(uint32_t cp)
{
    return cp < 0x80 ? cp >= '0' && cp <= '9' : category(cp) == UTF8PROC_CATEGORY_ND;
}

/* Numeric_Type=Digit besides decimals: superscripts, subscripts and circled digits. */
bool loami_j_digit(uint32_t cp)
{
    static const uint32_t ranges[][2] = {
        { 0xb2, 0xb3 }, { 0xb9, 0xb9 }, { 0x1369, 0x1371 }, { 0x19da, 0x19da }, { 0x2070, 0x2070 },
        { 0x2074, 0x2079 },
        { 0x2080, 0x2089 }, { 0x2460, 0x2468 }, { 0x2474, 0x247c }, { 0x2488, 0x2490 }, { 0x24ea, 0x24ea },
        { 0x24f5, 0x24fd }, { 0x24ff, 0x24ff }, { 0x2776, 0x277e }, { 0x2780, 0x2788 }, { 0x278a, 0x2792 },
        { 0x10a40, 0x10a43 }, { 0x10e60, 0x10e68 }, { 0x11052, 0x1105a }, { 0x1f100, 0x1f10a },
    };
    if (loami_j_decimal(cp)) return true;
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (cp >= ranges[i][0] && cp <= ranges[i][1]) return true;
    return false;
}

bool loami_j_numeric(uint32_t cp)
{
    if (cp < 0x80) return cp >= '0' && cp <= '9';
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

bool loami_j_alnum(uint32_t cp)
{
    return loami_j_alpha(cp) || loami_j_numeric(cp);
}

bool loami_j_word(uint32_t cp)
{
    return cp == '_' || loami_j_alnum(cp);
}

bool loami_j_upper(uint32_t cp)
{
    return cp < 0x80 ? cp >= 'A' && cp <= 'Z' : utf8proc_isupper((utf8proc_int32_t)cp) != 0;
}

bool loami_j_lower(uint32_t cp)
{
    return cp < 0x80 ? cp >= 'a' && cp <= 'z' : utf8proc_islower((utf8proc_int32_t)cp) != 0;
}

bool loami_j_title(uint32_t cp)
{
    return cp >= 0x80 && category(cp) == UTF8PROC_CATEGORY_LT;
}

/* ---- case ---- */

/* Characters whose upper case is several (Unicode SpecialCasing.txt, the entries without conditions); the title
 * case has the same letters with only the first of them upper, unless written out. */
static const struct {
    uint32_t cp;
    const char *upper, *title;
} special[] = {
    { 0xdf, "SS", "Ss" }, { 0x149, "\u02bcN", "\u02bcN" }, { 0x1f0, "J\u030c", "J\u030c" },
    { 0x390, "\u0399\u0308\u0301", "\u0399\u0308\u0301" },
    { 0x3b0, "\u03a5\u0308\u0301", "\u03a5\u0308\u0301" },
    { 0x587, "\u0535\u0552", "\u0535\u0582" }, { 0x1e96, "H\u0331", "H\u0331" },
    { 0x1e97, "T\u0308", "T\u0308" },
    { 0x1e98, "W\u030a", "W\u030a" }, { 0x1e99, "Y\u030a", "Y\u030a" }, { 0x1e9a, "A\u02be", "A\u02be" },
    { 0x1f50, "\u03a5\u0313", "\u03a5\u0313" }, { 0x1fb6, "\u0391\u0342", "\u0391\u0342" },
    { 0x1fc6, "\u0397\u0342", "\u0397\u0342" }, { 0x1fd6, "\u0399\u0342", "\u0399\u0342" },
    { 0x1fe4, "\u03a1\u0313", "\u03a1\u0313" }, { 0x1fe6, "\u03a5\u0342", "\u03a5\u0342" },
    { 0x1ff6, "\u03a9\u0342", "\u03a9\u0342" }, { 0x1fb3, "\u0391\u0399", "\u1fbc" },
    { 0x1fc3, "\u0397\u0399", "\u1fcc" },
    { 0x1ff3, "\u03a9\u0399", "\u1ffc" }, { 0xfb00, "FF", "Ff" }, { 0xfb01, "FI", "Fi" },
    { 0xfb02, "FL", "Fl" },
    { 0xfb03, "FFI", "Ffi" }, { 0xfb04, "FFL", "Ffl" }, { 0xfb05, "ST", "St" }, { 0xfb06, "ST", "St" },
    { 0xfb13, "\u0544\u0546", "\u0544\u0576" }, { 0xfb14, "\u0544\u0535", "\u0544\u0565" },
    { 0xfb15, "\u0544\u053b", "\u0544\u056b" }, { 0xfb16, "\u054e\u0546", "\u054e\u0576" },
    { 0xfb17, "\u0544\u053d", "\u0544\u056d" },
};

static void put_upper(jsb *b, uint32_t cp, bool title)
{
    if (cp >= 0x80) {
        for (size_t i = 0; i < sizeof special / sizeof *special; i++)
            if (special[i].cp == cp) {
                loami_j_puts(b, title ? special[i].title : special[i].upper);
                return;
            }
        cp = (uint32_t)(title ? utf8proc_totitle((utf8proc_int32_t)cp) : utf8proc_toupper((utf8proc_int32_t)cp));
    } else if (cp >= 'a' && cp <= 'z') {
        cp -= 32;
    }
    loami_j_putcp(b, cp);
}

static bool cased(uint32_t cp)
{
    return loami_j_upper(cp) || loami_j_lower(cp) || loami_j_title(cp);
}

/* Case_Ignorable, near enough for a sigma's neighbours: marks, format characters, modifiers, apostrophes. */
static bool case_ignorable(uint32_t cp)
{
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_MN: case UTF8PROC_CATEGORY_ME: case UTF8PROC_CATEGORY_CF: case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK: return true;
    default: return cp == '\'' || cp == 0xad || cp == 0xb7 || cp == 0x2019 || cp == '.' || cp == ':' ||
        cp == 0x2018;
    }
}

/* Whether the sigma before `after` ends a word: a cased letter before it and none behind. */
static bool final_sigma(const jstr *s, size_t sigma, size_t after)
{
    bool before = false;
    uint32_t cp;
    for (size_t i = 0; i < sigma;) {
        cp = loami_j_next(s, &i);
        if (!case_ignorable(cp)) before = cased(cp);
    }
    if (!before) return false;
    while (after < s->n) {
        cp = loami_j_next(s, &after);
        if (!case_ignorable(cp)) return !cased(cp);
    }
    return true;
}

static void put_lower(jsb *b, const jstr *s, size_t at, size_t after, uint32_t cp)
{
    if (cp < 0x80) {
        loami_j_putc(b, cp >= 'A' && cp <= 'Z' ? (char)(cp + 32) : (char)cp);
    } else if (cp == 0x130) {
        loami_j_puts(b, "i\u0307");
    } else if (cp == 0x3a3) {
        loami_j_work(b->r, s->n);
        loami_j_putcp(b, final_sigma(s, at, after) ? 0x3c2 : 0x3c3);
    } else {
        loami_j_putcp(b, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp));
    }
}

static void put_folded(jsb *b, uint32_t cp)
{
    utf8proc_int32_t to[8];
    int boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, to, 8, UTF8PROC_CASEFOLD, &boundary);
    for (utf8proc_ssize_t i = 0; i < n && i < 8; i++) loami_j_putcp(b, (uint32_t)to[i]);
}

jval loami_j_recase(jrun *r, const jstr *s, jcase to)
{
    jsb b = { .r = r };
    bool in_word = false;
    for (size_t i = 0; i < s->n;) {
        size_t at = i;
        uint32_t cp = loami_j_next(s, &i);
        bool up = to == J_TO_UPPER || (to == J_TO_CAPITAL && at == 0) || (to == J_TO_TITLE && !in_word) ||
                  (to == J_TO_SWAPPED && loami_j_lower(cp));
        if (to == J_TO_FOLDED) put_folded(&b, cp);
        else if (up) put_upper(&b, cp, to == J_TO_TITLE || to == J_TO_CAPITAL);
        else if (to == J_TO_SWAPPED && !loami_j_upper(cp)) loami_j_putcp(&b, cp);
        else put_lower(&b, s, at, i, cp);
        in_word = cased(cp);
    }
    jval v = loami_j_sbval(&b);
    ((jstr *)v.s)->markup = s->markup;
    return v;
}

/* ---- strip ---- */

static bool strippable(const jstr *chars, uint32_t cp)
{
    if (!chars) return loami_j_space(cp);
    for (size_t i = 0; i < chars->n;)
        if (loami_j_next(chars, &i) == cp) return true;
    return false;
}

jval loami_j_strip(jrun *r, const jstr *s, const jstr *chars, bool left, bool right)
{
    size_t from = 0, to = s->n;
    while (left && from < to) {
        size_t i = from;
        if (!strippable(chars, loami_j_next(s, &i))) break;
        from = i;
    }
    while (right && to > from) {
        size_t i = to - 1;
        while (i > from && ((unsigned char)s->p[i] & 0xC0) == 0x80) i--;
        size_t at = i;
        if (!strippable(chars, loami_j_next(s, &at))) break;
        to = i;
    }
    loami_j_work(r, (s->n - (to - from)) * (chars ? 1 + chars->n : 1));
    return loami_j_part(r, s, from, to - from);
}
