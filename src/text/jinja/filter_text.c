/* Filters over text. */
#include "text/jinja/run.h"

#include <string.h>

static bool flag(jrun *r, jval v)
{
    return v.type != J_MISSING && loami_j_true(r, v);
}

static const jstr *want_text(jrun *r, jval v, const char *filter)
{
    if (v.type == J_UNDEF) loami_j_fail_undef(r, v.u);
    if (v.type != J_STR) loami_j_fail(r, "%s wants a string, not %s", filter, loami_j_typename(v));
    return v.s;
}

static jval marked(jrun *r, jval v, bool markup)
{
    if (v.s->markup == markup) return v;
    v = loami_j_part(r, v.s, 0, v.s->n);
    ((jstr *)v.s)->markup = markup;
    return v;
}

/* A method of str(v). */
static jval method(jrun *r, jval v, const char *name, const jargs *args)
{
    const jbuiltin *b = loami_j_find(loami_j_methods_str, name, strlen(name));
    return loami_j_call_builtin(r, b, v, args);
}

#define RECASE(name, to) \
    static jval name(jrun *r, jval v, jval *p, const jargs *args) \
    { \
        (void)p, (void)args; \
        return loami_j_recase(r, loami_j_soft(r, v).s, to); \
    }
RECASE(f_upper, J_TO_UPPER)
RECASE(f_lower, J_TO_LOWER)
RECASE(f_capitalize, J_TO_CAPITAL)

/* Words begin after spaces, hyphens and opening brackets. */
static bool between_words(uint32_t cp)
{
    return loami_j_space(cp) || (cp && cp < 0x80 && strchr("-({[<", (int)cp));
}

static jval f_title(jrun *r, jval v, jval *p, const jargs *args)
{
    const jstr *s = loami_j_soft(r, v).s;
    jsb b = { .r = r };
    (void)p, (void)args;
    for (size_t at = 0, end; at < s->n; at = end) {
        size_t first = at, next = at;
        bool gap = between_words(loami_j_next(s, &first));
        for (end = next = first; next < s->n && between_words(loami_j_next(s, &next)) == gap;) end = next;
        loami_j_show(&b, loami_j_recase(r, loami_j_part(r, s, at, first - at).s, J_TO_UPPER));
        loami_j_show(&b, loami_j_recase(r, loami_j_part(r, s, first, end - first).s, J_TO_LOWER));
    }
    return loami_j_sbval(&b);
}

static jval f_trim(jrun *r, jval v, jval *p, const jargs *args)
{
    const jstr *chars = NULL;
    (void)args;
    if (p[0].type != J_MISSING && p[0].type != J_NONE) chars = want_text(r, p[0], "trim");
    return loami_j_strip(r, loami_j_soft(r, v).s, chars, true, true);
}

static jval f_replace(jrun *r, jval v, jval *p, const jargs *args)
{
    jval given[3] = { loami_j_tostr(r, p[0]), loami_j_tostr(r, p[1]), p[2] };
    bool counted = p[2].type != J_MISSING && p[2].type != J_NONE;
    (void)args;
    return method(r, loami_j_tostr(r, v), "replace", &(jargs){ .v = given, .n = counted ? 3 : 2 });
}

static jval f_string(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)p, (void)args;
    return loami_j_soft(r, v);
}

static jval f_safe(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)p, (void)args;
    return marked(r, loami_j_soft(r, v), true);
}

static jval f_escape(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)p, (void)args;
    return loami_j_escape(r, v);
}

static jval f_forceescape(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)p, (void)args;
    return loami_j_escape(r, loami_j_tostr(r, v));
}

static jval f_indent(jrun *r, jval v, jval *p, const jargs *args)
{
    const jstr *s = want_text(r, v, "indent");
    jval width = p[0].type == J_MISSING ? loami_j_int(4) : p[0];
    if (width.type != J_STR)
        width = loami_j_binary(r, OP_MUL, loami_j_strz(r, " "), loami_j_int(loami_j_index(r, width)));
    bool first = flag(r, p[1]), blank = flag(r, p[2]);
    jstr newline = { .p = "\n", .n = 1 };
    jval whole = loami_j_concat(r, s, &newline);
    const jlist *lines = method(r, whole, "splitlines", &(jargs){ 0 }).l;
    jsb b = { .r = r };
    (void)args;
    if (first) loami_j_put(&b, width.s->p, width.s->n);
    for (size_t i = 0; i < lines->n; i++) {
        const jstr *line = lines->v[i].s;
        if (i) loami_j_putc(&b, '\n');
        if (i && (blank || line->n)) loami_j_put(&b, width.s->p, width.s->n);
        loami_j_put(&b, line->p, line->n);
    }
    return marked(r, loami_j_sbval(&b), s->markup);
}

static jval f_truncate(jrun *r, jval v, jval *p, const jargs *args)
{
    int64_t length = p[0].type == J_MISSING ? 255 : loami_j_index(r, p[0]);
    jval end = p[2].type == J_MISSING ? loami_j_strz(r, "...") : p[2];
    int64_t leeway = p[3].type == J_MISSING || p[3].type == J_NONE ? 5 : loami_j_index(r, p[3]);
    int64_t keep = length - (int64_t)loami_j_chars(want_text(r, end, "truncate"));
    (void)args;
    if (keep < 0) loami_j_fail(r, "expected length >= %zu, got %d", loami_j_chars(end.s), (int)length);
    if (leeway < 0) loami_j_fail(r, "expected leeway >= 0");
    if (leeway > INT64_MAX - length || loami_j_len(r, v) <= length + leeway) return v;
    want_text(r, v, "truncate");
    jval cut = loami_j_slice(r, v, loami_j_none(), loami_j_int(keep), loami_j_none());
    if (!flag(r, p[1])) {
        jval how[2] = { loami_j_strz(r, " "), loami_j_int(1) };
        cut = method(r, cut, "rsplit", &(jargs){ .v = how, .n = 2 }).l->v[0];
    }
    return loami_j_binary(r, OP_ADD, cut, end);
}

static jval f_wordcount(jrun *r, jval v, jval *p, const jargs *args)
{
    const jstr *s = loami_j_soft(r, v).s;
    int64_t n = 0;
    bool in = false;
    (void)p, (void)args;
    loami_j_work(r, s->n);
    for (size_t i = 0; i < s->n;) {
        bool word = loami_j_word(loami_j_next(s, &i));
        n += word && !in;
        in = word;
    }
    return loami_j_int(n);
}

static jval f_center(jrun *r, jval v, jval *p, const jargs *args)
{
    jval width = p[0].type == J_MISSING ? loami_j_int(80) : p[0];
    (void)args;
    return method(r, loami_j_soft(r, v), "center", &(jargs){ .v = &width, .n = 1 });
}

static jval f_format(jrun *r, jval v, jval *p, const jargs *args)
{
    (void)p;
    if (args->n && args->n_named)
        loami_j_fail(r, "can't handle positional and keyword arguments at the same time");
    const jstr *s = loami_j_soft(r, v).s;
    if (!args->n_named) return loami_j_percent(r, s, loami_j_list(r, J_TUPLE, args->v, args->n));
    jdict *d = loami_j_dict(r);
    for (size_t i = 0; i < args->n_named; i++)
        loami_j_dict_set(r, d, (jval){ .type = J_STR, .s = args->names[i] }, args->named[i]);
    return loami_j_percent(r, s, (jval){ .type = J_DICT, .d = d });
}

/* ---- URLs and attributes ---- */

static void quote(jsb *b, jval v, bool in_query)
{
    const jstr *s = loami_j_soft(b->r, v).s;
    for (size_t i = 0; i < s->n; i++) {
        unsigned char c = (unsigned char)s->p[i];
        bool plain = c < 0x80 && (loami_j_alnum(c) || strchr("_.-~", c)) && c;
        if (plain || (c == '/' && !in_query)) loami_j_putc(b, (char)c);
        else if (c == ' ' && in_query) loami_j_putc(b, '+');
        else loami_j_printf(b, "%%%02X", c);
    }
}

static jval f_urlencode(jrun *r, jval v, jval *p, const jargs *args)
{
    jsb b = { .r = r };
    jval item;
    (void)p, (void)args;
    if (v.type == J_STR || !loami_j_iterable(v)) {
        quote(&b, v, false);
        return loami_j_sbval(&b);
    }
    if (v.type == J_DICT)
        v = loami_j_call_builtin(r, loami_j_find(loami_j_methods_dict, "items", 5), v, &(jargs){ 0 });
    jiter *it = loami_j_iter(r, v);
    for (bool first = true; loami_j_step(r, it, &item); first = false) {
        jval pair = loami_j_tolist(r, item);
        if (pair.l->n != 2) loami_j_fail(r, "urlencode wants pairs");
        if (!first) loami_j_putc(&b, '&');
        quote(&b, pair.l->v[0], true);
        loami_j_putc(&b, '=');
        quote(&b, pair.l->v[1], true);
    }
    return loami_j_sbval(&b);
}

static jval f_xmlattr(jrun *r, jval v, jval *p, const jargs *args)
{
    jsb b = { .r = r };
    bool space = p[0].type == J_MISSING || loami_j_true(r, p[0]);
    (void)args;
    if (v.type == J_UNDEF) loami_j_fail_undef(r, v.u);
    if (v.type != J_DICT) loami_j_fail(r, "xmlattr wants a mapping, not %s", loami_j_typename(v));
    for (size_t i = 0; i < v.d->n; i++) {
        const jpair *pair = &v.d->p[i];
        if (pair->v.type == J_NONE || pair->v.type == J_UNDEF) continue;
        const jstr *k = want_text(r, pair->k, "xmlattr");
        for (size_t c = 0; c < k->n; c++)
            if (k->p[c] == 0 || strchr(" \t\n\r\f\v/>=", k->p[c]))
                loami_j_fail(r, "Invalid character in attribute name");
        if (b.n || space) loami_j_putc(&b, ' ');
        loami_j_show(&b, loami_j_escape(r, pair->k));
        loami_j_puts(&b, "=\"");
        loami_j_show(&b, loami_j_escape(r, pair->v));
        loami_j_putc(&b, '"');
    }
    return loami_j_sbval(&b);
}

const jbuiltin loami_j_filters_text[] = {
    { "trim", f_trim, "chars?" }, { "string", f_string, "" }, { "safe", f_safe, "" },
    { "upper", f_upper, "" }, { "lower", f_lower, "" },
    { "capitalize", f_capitalize, "" }, { "title", f_title, "" }, { "replace", f_replace, "old new count?" },
    { "indent", f_indent, "width? first? blank?" }, { "escape", f_escape, "" }, { "e", f_escape, "" },
    { "forceescape", f_forceescape, "" }, { "truncate", f_truncate, "length? killwords? end? leeway?" },
    { "wordcount", f_wordcount, "" }, { "center", f_center, "width?" }, { "format", f_format, "*" },
    { "urlencode", f_urlencode, "" }, { "xmlattr", f_xmlattr, "autospace?" },
    { NULL, NULL, NULL },
};
