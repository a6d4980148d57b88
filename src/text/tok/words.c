#include "text/tok/words.h"
#include "base/utf8.h"
#include "text/tok/unicode.h"

#include <string.h>

/* Classes of characters, as bits. */
enum { LETTER = 1, NUMBER = 2, SPACE = 4, OTHER = 8, BREAK = 16 /* with SPACE: \r or \n */ };

#define X OTHER
#define S SPACE
#define L LETTER
#define N NUMBER
#define B (SPACE | BREAK)
static const uint8_t ascii[128] = {
    X, X, X, X, X, X, X, X, X, S, B, S, S, B, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    S, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, N, N, N, N, N, N, N, N, N, N, X, X, X, X, X, X,
    X, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, X, X, X, X, X,
    X, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, X, X, X, X, X,
};
#undef X
#undef S
#undef L
#undef N
#undef B

static const char llama3[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                             "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char cl100k[] = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| "
                             "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";
static const char qwen2[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
                            "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char loami_words_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

loami_words loami_words_of(const char *regex, size_t n)
{
    static const struct {
        const char *regex;
        loami_words kind;
    } known[] = {
        { loami_words_gpt2, LOAMI_WORDS_GPT2 },
        { llama3, LOAMI_WORDS_3_DIGITS },
        { cl100k, LOAMI_WORDS_3_DIGITS },
        { qwen2, LOAMI_WORDS_1_DIGIT },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].regex) == n && memcmp(known[i].regex, regex, n) == 0) return known[i].kind;
    return LOAMI_WORDS_NONE;
}

static unsigned wide_class(const char *s, size_t n, size_t *len)
{
    uint32_t cp;
    *len = loami_utf8_next(s, n, &cp);
    if (!*len) *len = 1;
    char major = loami_uni_major(cp);
    return major == 'L' ? LETTER : major == 'N' ? NUMBER : loami_uni_is_space(cp) ? SPACE : OTHER;
}

static inline unsigned class_at(const char *s, size_t n, size_t i, size_t *len)
{
    unsigned char c = (unsigned char)s[i];
    *len = 1;
    return c < 0x80 ? ascii[c] : wide_class(s + i, n - i, len);
}

/* The end of the run of characters of some classes from i on. */
static size_t run_end(const char *s, size_t n, size_t i, unsigned classes)
{
    size_t len;
    while (i < n && (class_at(s, n, i, &len) & classes)) i += len;
    return i;
}

/* 's 't 're 've 'm 'll 'd at s[i]: its end, or i. */
static size_t contraction(const char *s, size_t n, size_t i, bool fold)
{
    if (s[i] != '\'' || n - i < 2) return i;
    unsigned char a = (unsigned char)s[i + 1], b = n - i > 2 ? (unsigned char)s[i + 2] : 0;
    if (fold && a == 0xc5 && b == 0xbf) return i + 3; /* U+017F folds to s */
    if (fold && a >= 'A' && a <= 'Z') a |= 32;
    if (fold && b >= 'A' && b <= 'Z') b |= 32;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return i + 2;
    return (b == 'e' && (a == 'r' || a == 'v')) || (a == 'l' && b == 'l') ? i + 3 : i;
}

/* \s+(?!\S)|\s+ from i on, where the white space ends at end: all of it but the last character before a
 * word. */
static size_t space_end(const char *s, size_t n, size_t i, size_t end)
{
    if (end == n) return end;
    size_t last = end - 1;
    while (last > i && ((unsigned char)s[last] & 0xc0) == 0x80) last--;
    return last > i ? last : end;
}

static size_t gpt2_end(const char *s, size_t n, size_t i)
{
    size_t len, end = contraction(s, n, i, false);
    if (end > i) return end;
    size_t at = s[i] == ' ' && i + 1 < n ? i + 1 : i;
    unsigned c = class_at(s, n, at, &len);
    if (!(c & SPACE)) return run_end(s, n, at + len, c);
    return space_end(s, n, i, run_end(s, n, i, SPACE));
}

/* After the last line break of the white space s[i..end), or i. */
static size_t after_break(const char *s, size_t i, size_t end)
{
    while (end > i && s[end - 1] != '\n' && s[end - 1] != '\r') end--;
    return end;
}

static size_t modern_end(const char *s, size_t n, size_t i, unsigned digits)
{
    size_t len, next, end = contraction(s, n, i, true);
    if (end > i) return end;
    unsigned c = class_at(s, n, i, &len);
    if (c & LETTER) return run_end(s, n, i + len, LETTER);
    if (!(c & (NUMBER | BREAK)) && i + len < n && (class_at(s, n, i + len, &next) & LETTER))
        return run_end(s, n, i + len + next, LETTER);
    if (c & NUMBER) {
        for (end = i + len; --digits && end < n && (class_at(s, n, end, &len) & NUMBER);) end += len;
        return end;
    }
    size_t at = s[i] == ' ' && i + 1 < n ? i + 1 : i;
    if (class_at(s, n, at, &len) & OTHER) return run_end(s, n, run_end(s, n, at + len, OTHER), BREAK);
    end = run_end(s, n, i, SPACE);
    size_t line = after_break(s, i, end);
    return line > i ? line : space_end(s, n, i, end);
}

size_t loami_words_end(loami_words kind, const char *s, size_t n, size_t from)
{
    if (kind == LOAMI_WORDS_GPT2) return gpt2_end(s, n, from);
    return modern_end(s, n, from, kind == LOAMI_WORDS_3_DIGITS ? 3 : 1);
}
