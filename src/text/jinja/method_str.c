/* The methods of strings. */
#include "text/jinja/run.h"

#include <string.h>

static const jstr *text_arg(jrun *r, jval v)
{
    if (v.type == J_UNDEF) loami_j_fail_undef(r, v.u);
    if (v.type != J_STR) loami_j_fail(r, "expected a string, got %s", loami_j_typename(v));
    return v.s;
}

static const jstr *optional_text(jrun *r, jval v)
{
    return v.type == J_MISSING || v.type == J_NONE ? NULL : text_arg(r, v);
}

/* The result of a builder, safe if the string it came from was. */
static jval like(const jstr *s, jsb *b)
{
    jval v = loami_j_sbval(b);
    ((jstr *)v.s)->markup = s->markup;
    return v;
}

static size_t chars_in(const jstr *s, size_t bytes)
{
    jstr part = { .p = s->p, .n = bytes, .chars = SIZE_MAX };
    return loami_j_chars(&part);
}

/* s[start:end] by code points, as methods take them; *at: where it begins, in bytes. false: start is past the end. */
static bool window(jrun *r, const jstr *s, jval start, jval end, jstr *out, size_t *at)
{
    int64_t n = (int64_t)loami_j_chars(s), from = 0, to = n;
    if (start.type != J_MISSING && start.type != J_NONE) from = loami_j_index(r, start);
    if (end.type != J_MISSING && end.type != J_NONE) to = loami_j_index(r, end);
    if (from < 0) from = from < -n ? 0 : from + n;
    if (to < 0) to = to < -n ? 0 : to + n;
    if (to > n) to = n;
    if (from > n || from > to) return false;
    *at = loami_j_offset(s, (size_t)from);
    *out = (jstr){ .p = s->p + *at, .n = loami_j_offset(s, (size_t)to) - *at, .chars = SIZE_MAX };
    loami_j_work(r, s->n);
    return true;
}

/* ---- case and strip ---- */

#define RECASE(name, to) \
    static jval name(jrun *r, jval self, jval *p, const jargs *args) \
    { \
        (void)p, (void)args; \
        return loami_j_recase(r, self.s, to); \
    }
RECASE(m_upper, J_TO_UPPER)
RECASE(m_lower, J_TO_LOWER)
RECASE(m_title, J_TO_TITLE)
RECASE(m_capitalize, J_TO_CAPITAL)
RECASE(m_swapcase, J_TO_SWAPPED)
RECASE(m_casefold, J_TO_FOLDED)

#define STRIP(name, left, right) \
    static jval name(jrun *r, jval self, jval *p, const jargs *args) \
    { \
        (void)args; \
        return loami_j_strip(r, self.s, optional_text(r, p[0]), left, right); \
    }
STRIP(m_strip, true, true)
STRIP(m_lstrip, true, false)
STRIP(m_rstrip, false, true)

/* ---- splitting ---- */

/* At white space, from the left. */
static jval split_space(jrun *r, const jstr *s, int64_t max)
{
    jlb b = { .r = r };
    size_t at = 0;
    for (;;) {
        jstr rest = { .p = s->p + at, .n = s->n - at, .chars = SIZE_MAX };
        at = s->n - loami_j_strip(r, &rest, NULL, true, false).s->n;
        if (at >= s->n) break;
        if (max-- == 0) {
            loami_j_push(&b, loami_j_part(r, s, at, s->n - at));
            break;
        }
        size_t end = at, next = at;
        while (next < s->n && !loami_j_space(loami_j_next(s, &next))) end = next;
        loami_j_push(&b, loami_j_part(r, s, at, end - at));
        at = end;
    }
    return loami_j_lbval(&b, J_LIST);
}

/* The start of the character that ends at `end`. */
static size_t char_before(const jstr *s, size_t end)
{
    end--;
    while (end > 0 && ((unsigned char)s->p[end] & 0xC0) == 0x80) end--;
    return end;
}

static bool space_before(const jstr *s, size_t end)
{
    size_t at = char_before(s, end);
    return loami_j_space(loami_j_next(s, &at));
}

static void reverse(jlb *b)
{
    for (size_t i = 0; i < b->n / 2; i++) {
        jval v = b->v[i];
        b->v[i] = b->v[b->n - 1 - i];
        b->v[b->n - 1 - i] = v;
    }
}

static jval rsplit_space(jrun *r, const jstr *s, int64_t max)
{
    jlb b = { .r = r };
    size_t end = s->n;
    for (;;) {
        while (end > 0 && space_before(s, end)) end = char_before(s, end);
        if (end == 0) break;
        size_t at = end;
        if (max-- == 0) {
            loami_j_push(&b, loami_j_part(r, s, 0, end));
            break;
        }
        while (at > 0 && !space_before(s, at)) at = char_before(s, at);
        loami_j_push(&b, loami_j_part(r, s, at, end - at));
        end = at;
    }
    reverse(&b);
    loami_j_work(r, s->n);
    return loami_j_lbval(&b, J_LIST);
}

/* The first (or last) sep in s[from, to), or NULL. */
static const char *find_in(const jstr *s, size_t from, size_t to, const jstr *sep, bool last)
{
    if (to - from < sep->n) return NULL;
    if (!last) return sep->n ? memmem(s->p + from, to - from, sep->p, sep->n) : s->p + from;
    for (size_t i = to - sep->n + 1; i > from; i--)
        if (memcmp(s->p + i - 1, sep->p, sep->n) == 0) return s->p + i - 1;
    return NULL;
}

static jval split_at(jrun *r, const jstr *s, const jstr *sep, int64_t max, bool last)
{
    jlb b = { .r = r };
    size_t from = 0, to = s->n;
    const char *hit;
    if (sep->n == 0) loami_j_fail(r, "empty separator");
    loami_j_work(r, s->n * (last ? sep->n : 1));
    while (max-- != 0 && (hit = find_in(s, from, to, sep, last)) != NULL) {
        size_t at = (size_t)(hit - s->p);
        if (last) {
            loami_j_push(&b, loami_j_part(r, s, at + sep->n, to - at - sep->n));
            to = at;
        } else {
            loami_j_push(&b, loami_j_part(r, s, from, at - from));
            from = at + sep->n;
        }
    }
    loami_j_push(&b, loami_j_part(r, s, from, to - from));
    if (last) reverse(&b);
    return loami_j_lbval(&b, J_LIST);
}

static jval m_split(jrun *r, jval self, jval *p, const jargs *args)
{
    const jstr *sep = optional_text(r, p[0]);
    int64_t max = p[1].type == J_MISSING ? -1 : loami_j_index(r, p[1]);
    (void)args;
    return sep ? split_at(r, self.s, sep, max, false) : split_space(r, self.s, max);
}

static jval m_rsplit(jrun *r, jval self, jval *p, const jargs *args)
{
    const jstr *sep = optional_text(r, p[0]);
    int64_t max = p[1].type == J_MISSING ? -1 : loami_j_index(r, p[1]);
    (void)args;
    return sep ? split_at(r, self.s, sep, max, true) : rsplit_space(r, self.s, max);
}

static jval m_splitlines(jrun *r, jval self, jval *p, const jargs *args)
{
    const jstr *s = self.s;
    bool keep = p[0].type != J_MISSING && loami_j_true(r, p[0]);
    jlb b = { .r = r };
    size_t from = 0, at = 0;
    (void)args;
    while (at < s->n) {
        size_t end = at;
        uint32_t cp = loami_j_next(s, &at);
        if (!loami_j_line_end(cp)) continue;
        if (cp == '\r' && at < s->n && s->p[at] == '\n') at++;
        loami_j_push(&b, loami_j_part(r, s, from, (keep ? at : end) - from));
        from = at;
    }
    if (from < s->n) loami_j_push(&b, loami_j_part(r, s, from, s->n - from));
    loami_j_work(r, s->n);
    return loami_j_lbval(&b, J_LIST);
}

static jval partition(jrun *r, const jstr *s, const jstr *sep, bool last)
{
    if (sep->n == 0) loami_j_fail(r, "empty separator");
    loami_j_work(r, s->n * (last ? sep->n : 1));
    const char *hit = find_in(s, 0, s->n, sep, last);
    size_t at = hit ? (size_t)(hit - s->p) : last ? 0 : s->n, end = hit ? at + sep->n : at;
    jval *v = loami_j_array(r, 3, sizeof *v);
    v[0] = loami_j_part(r, s, 0, at);
    v[1] = loami_j_part(r, s, at, end - at);
    v[2] = loami_j_part(r, s, end, s->n - end);
    return loami_j_list(r, J_TUPLE, v, 3);
}

static jval m_partition(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)args;
    return partition(r, self.s, text_arg(r, p[0]), false);
}

static jval m_rpartition(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)args;
    return partition(r, self.s, text_arg(r, p[0]), true);
}

/* ---- searching ---- */

static int64_t search(jrun *r, jval self, jval *p, bool last)
{
    const jstr *sub = text_arg(r, p[0]);
    jstr in;
    size_t at;
    if (!window(r, self.s, p[1], p[2], &in, &at)) return -1;
    if (last) loami_j_work(r, in.n * (1 + sub->n / 16));
    const char *hit = sub->n == 0 ? (last ? in.p + in.n : in.p) : find_in(&in, 0, in.n, sub, last);
    return hit ? (int64_t)chars_in(self.s, at + (size_t)(hit - in.p)) : -1;
}

static jval m_find(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)args;
    return loami_j_int(search(r, self, p, false));
}

static jval m_rfind(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)args;
    return loami_j_int(search(r, self, p, true));
}

static jval m_index(jrun *r, jval self, jval *p, const jargs *args)
{
    int64_t at = search(r, self, p, false);
    (void)args;
    if (at < 0) loami_j_fail(r, "substring not found");
    return loami_j_int(at);
}

static jval m_rindex(jrun *r, jval self, jval *p, const jargs *args)
{
    int64_t at = search(r, self, p, true);
    (void)args;
    if (at < 0) loami_j_fail(r, "substring not found");
    return loami_j_int(at);
}

static jval m_count(jrun *r, jval self, jval *p, const jargs *args)
{
    const jstr *sub = text_arg(r, p[0]);
    jstr in;
    size_t at = 0;
    int64_t n = 0;
    const char *hit;
    (void)args;
    if (!window(r, self.s, p[1], p[2], &in, &at)) return loami_j_int(0);
    if (sub->n == 0) return loami_j_int((int64_t)loami_j_chars(&in) + 1);
    for (at = 0; (hit = find_in(&in, at, in.n, sub, false)) != NULL; n++) at = (size_t)(hit - in.p) + sub->n;
    return loami_j_int(n);
}

/* Whether the window begins (or ends) with a string or one of a tuple of them. */
static jval affix(jrun *r, jval self, jval *p, bool end)
{
    jstr in;
    size_t at;
    jval one = p[0], *all = &one;
    size_t n = 1;
    if (p[0].type == J_TUPLE) {
        all = p[0].l->v;
        n = p[0].l->n;
    }
    bool inside = window(r, self.s, p[1], p[2], &in, &at), yes = false;
    for (size_t i = 0; i < n; i++) {
        const jstr *x = text_arg(r, all[i]);
        yes |= inside && x->n <= in.n && memcmp(end ? in.p + in.n - x->n : in.p, x->p, x->n) == 0;
    }
    return loami_j_bool(yes);
}

static jval m_startswith(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)args;
    return affix(r, self, p, false);
}

static jval m_endswith(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)args;
    return affix(r, self, p, true);
}

static jval m_removeprefix(jrun *r, jval self, jval *p, const jargs *args)
{
    const jstr *s = self.s, *x = text_arg(r, p[0]);
    (void)args;
    bool has = x->n <= s->n && memcmp(s->p, x->p, x->n) == 0;
    return has ? loami_j_part(r, s, x->n, s->n - x->n) : self;
}

static jval m_removesuffix(jrun *r, jval self, jval *p, const jargs *args)
{
    const jstr *s = self.s, *x = text_arg(r, p[0]);
    (void)args;
    bool has = x->n <= s->n && memcmp(s->p + s->n - x->n, x->p, x->n) == 0;
    return has ? loami_j_part(r, s, 0, s->n - x->n) : self;
}

/* ---- building ---- */

static jval m_replace(jrun *r, jval self, jval *p, const jargs *args)
{
    const jstr *s = self.s, *old = text_arg(r, p[0]), *new = text_arg(r, p[1]);
    int64_t max = p[2].type == J_MISSING ? -1 : loami_j_index(r, p[2]);
    jsb b = { .r = r };
    size_t at = 0;
    (void)args;
    if (s->markup) new = loami_j_escape(r, p[1]).s;
    loami_j_work(r, s->n);
    while (max != 0 && at <= s->n) {
        const char *hit = find_in(s, at, s->n, old, false);
        if (!hit) break;
        loami_j_put(&b, s->p + at, (size_t)(hit - s->p) - at);
        at = (size_t)(hit - s->p) + old->n;
        loami_j_put(&b, new->p, new->n);
        max--;
        if (old->n) continue;
        size_t end = at;           /* an empty string is found between all characters */
        if (at == s->n) break;
        loami_j_next(s, &end);
        loami_j_put(&b, s->p + at, end - at);
        at = end;
    }
    loami_j_put(&b, s->p + at, s->n - at);
    return like(s, &b);
}

static jval m_join(jrun *r, jval self, jval *p, const jargs *args)
{
    jsb b = { .r = r };
    jval v;
    (void)args;
    jiter *it = loami_j_iter(r, p[0]);
    for (size_t i = 0; loami_j_step(r, it, &v); i++) {
        if (self.s->markup) v = loami_j_escape(r, v);
        if (v.type != J_STR)
            loami_j_fail(r, "sequence item %zu: expected str instance, %s found", i, loami_j_typename(v));
        if (i) loami_j_put(&b, self.s->p, self.s->n);
        loami_j_put(&b, v.s->p, v.s->n);
    }
    return like(self.s, &b);
}

/* left and right: how many fills go where. */
static jval pad(jrun *r, const jstr *s, int64_t left, int64_t right, jval fill)
{
    const jstr *f = fill.type == J_MISSING ? loami_j_strz(r, " ").s : text_arg(r, fill);
    jsb b = { .r = r };
    if (loami_j_chars(f) != 1) loami_j_fail(r, "The fill character must be exactly one character long");
    if (left > J_MAX_MEMORY || right > J_MAX_MEMORY)
        loami_j_fail(r, "a string of more than %d MB", J_MAX_MEMORY >> 20);
    for (int64_t i = 0; i < left; i++) loami_j_put(&b, f->p, f->n);
    loami_j_put(&b, s->p, s->n);
    for (int64_t i = 0; i < right; i++) loami_j_put(&b, f->p, f->n);
    return like(s, &b);
}

static int64_t missing_width(jrun *r, jval self, jval width)
{
    int64_t w = loami_j_index(r, width), n = (int64_t)loami_j_chars(self.s);
    return w > n ? w - n : 0;
}

static jval m_center(jrun *r, jval self, jval *p, const jargs *args)
{
    int64_t n = missing_width(r, self,
                              p[0]), w = n + (int64_t)loami_j_chars(self.s), left = n / 2 + (n & w & 1);
    (void)args;
    return pad(r, self.s, left, n - left, p[1]);
}

static jval m_ljust(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)args;
    return pad(r, self.s, 0, missing_width(r, self, p[0]), p[1]);
}

static jval m_rjust(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)args;
    return pad(r, self.s, missing_width(r, self, p[0]), 0, p[1]);
}

static jval m_zfill(jrun *r, jval self, jval *p, const jargs *args)
{
    const jstr *s = self.s;
    int64_t n = missing_width(r, self, p[0]);
    jsb b = { .r = r };
    bool sign = s->n && (s->p[0] == '-' || s->p[0] == '+');
    (void)args;
    if (n > J_MAX_MEMORY) loami_j_fail(r, "a string of more than %d MB", J_MAX_MEMORY >> 20);
    loami_j_put(&b, s->p, sign);
    for (int64_t i = 0; i < n; i++) loami_j_putc(&b, '0');
    loami_j_put(&b, s->p + sign, s->n - sign);
    return like(s, &b);
}

static jval m_expandtabs(jrun *r, jval self, jval *p, const jargs *args)
{
    int64_t size = p[0].type == J_MISSING ? 8 : loami_j_index(r, p[0]), column = 0;
    jsb b = { .r = r };
    (void)args;
    if (size > J_MAX_OUTPUT) loami_j_fail(r, "a string of more than %d MB", J_MAX_OUTPUT >> 20);
    for (size_t i = 0; i < self.s->n;) {
        size_t at = i;
        uint32_t cp = loami_j_next(self.s, &i);
        if (cp == '\t') {
            int64_t fill = size > 0 ? size - column % size : 0;
            column += fill;
            while (fill-- > 0) loami_j_putc(&b, ' ');
            continue;
        }
        column = cp == '\n' || cp == '\r' ? 0 : column + 1;
        loami_j_put(&b, self.s->p + at, i - at);
    }
    return like(self.s, &b);
}

static jval m_format(jrun *r, jval self, jval *p, const jargs *args)
{
    (void)p;
    return loami_j_format(r, self.s, args);
}

static jval m_format_map(jrun *r, jval self, jval *p, const jargs *args)
{
    jargs named = { 0 };
    (void)args;
    if (p[0].type != J_DICT) loami_j_fail(r, "format_map() wants a dict, not %s", loami_j_typename(p[0]));
    const jdict *d = p[0].d;
    named.names = loami_j_array(r, d->n + 1, sizeof *named.names);
    named.named = loami_j_array(r, d->n + 1, sizeof *named.named);
    for (size_t i = 0; i < d->n; i++) {
        if (d->p[i].k.type != J_STR) continue;
        named.names[named.n_named] = d->p[i].k.s;
        named.named[named.n_named++] = d->p[i].v;
    }
    return loami_j_format(r, self.s, &named);
}

const jbuiltin loami_j_methods_str[] = {
    { "upper", m_upper, "" }, { "lower", m_lower, "" }, { "title", m_title, "" },
    { "capitalize", m_capitalize, "" },
    { "swapcase", m_swapcase, "" }, { "casefold", m_casefold, "" },
    { "strip", m_strip, "/ chars?" }, { "lstrip", m_lstrip, "/ chars?" }, { "rstrip", m_rstrip, "/ chars?" },
    { "split", m_split, "sep? maxsplit?" }, { "rsplit", m_rsplit, "sep? maxsplit?" },
    { "splitlines", m_splitlines, "keepends?" },
    { "partition", m_partition, "/ sep" }, { "rpartition", m_rpartition, "/ sep" },
    { "find", m_find, "/ sub start? end?" }, { "rfind", m_rfind, "/ sub start? end?" },
    { "index", m_index, "/ sub start? end?" }, { "rindex", m_rindex, "/ sub start? end?" },
    { "count", m_count, "/ sub start? end?" },
    { "startswith", m_startswith, "/ prefix start? end?" },
    { "endswith", m_endswith, "/ suffix start? end?" },
    { "removeprefix", m_removeprefix, "/ prefix" }, { "removesuffix", m_removesuffix, "/ suffix" },
    { "replace", m_replace, "/ old new count?" }, { "join", m_join, "/ iterable" },
    { "center", m_center, "/ width fillchar?" }, { "ljust", m_ljust, "/ width fillchar?" },
    { "rjust", m_rjust, "/ width fillchar?" },
    { "zfill", m_zfill, "/ width" }, { "expandtabs", m_expandtabs, "tabsize?" },
    { "format", m_format, "*" }, { "format_map", m_format_map, "/ mapping" },
    { NULL, NULL, NULL },
};
