/* tojson, as transformers defines it: Python's json.dumps. */
#include "text/jinja/run.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

typedef struct dumper {
    jsb *b;
    bool ascii, sort, pretty;
    const jstr *indent, *item, *key; /* one level, the separators */
    unsigned level;
} dumper;

static void dump_string(const dumper *d, const jstr *s)
{
    static const char plain[] = "\"\"\\\\\nn\rr\tt\bb\ff";
    jsb *b = d->b;
    loami_j_putc(b, '"');
    for (size_t i = 0; i < s->n;) {
        size_t at = i;
        uint32_t cp = loami_j_next(s, &i);
        const char *p = plain;
        while (*p && (uint32_t)*p != cp) p += 2;
        if (*p) {
            loami_j_putc(b, '\\');
            loami_j_putc(b, p[1]);
        } else if (cp < 0x20 || (d->ascii && cp >= 0x7f && cp < 0x10000)) {
            loami_j_printf(b, "\\u%04x", cp);
        } else if (d->ascii && cp >= 0x10000) {
            loami_j_printf(b, "\\u%04x\\u%04x", 0xd800 + ((cp - 0x10000) >> 10),
                           0xdc00 + ((cp - 0x10000) & 0x3ff));
        } else {
            loami_j_put(b, s->p + at, i - at);
        }
    }
    loami_j_putc(b, '"');
}

static void dump_float(const dumper *d, double f)
{
    if (isnan(f)) loami_j_puts(d->b, "NaN");
    else if (isinf(f)) loami_j_puts(d->b, f < 0 ? "-Infinity" : "Infinity");
    else loami_j_float_repr(d->b, f);
}

static void dump_newline(const dumper *d)
{
    if (!d->pretty) return;
    loami_j_putc(d->b, '\n');
    for (unsigned i = 0; i < d->level; i++) loami_j_put(d->b, d->indent->p, d->indent->n);
}

static void dump(dumper *d, jval v);

static void dump_list(dumper *d, const jlist *l)
{
    loami_j_putc(d->b, '[');
    d->level++;
    for (size_t i = 0; i < l->n; i++) {
        if (i) loami_j_put(d->b, d->item->p, d->item->n);
        dump_newline(d);
        dump(d, l->v[i]);
    }
    d->level--;
    if (l->n) dump_newline(d);
    loami_j_putc(d->b, ']');
}

/* Keys become strings: numbers and words as they are written in JSON. */
static void dump_key(const dumper *d, jval k)
{
    jsb b = { .r = d->b->r };
    dumper inner = *d;
    inner.b = &b;
    switch (k.type) {
    case J_STR:
        dump_string(d, k.s);
        return;
    case J_NONE: case J_BOOL: case J_INT: case J_FLOAT: break;
    default: loami_j_fail(d->b->r, "keys must be str, int, float, bool or None, not %s", loami_j_typename(k));
    }
    dump(&inner, k);
    dump_string(d, loami_j_sbval(&b).s);
}

/* The pairs in the order of their keys: merge sort, which is stable. */
static void sort_pairs(jrun *r, jpair *p, size_t n, jpair *spare)
{
    if (n < 2) return;
    size_t half = n / 2, i = 0, k = half, out = 0;
    sort_pairs(r, p, half, spare);
    sort_pairs(r, p + half, n - half, spare);
    while (i < half && k < n) spare[out++] = loami_j_order(r, p[k].k, p[i].k) ? p[k++] : p[i++];
    while (i < half) spare[out++] = p[i++];
    while (k < n) spare[out++] = p[k++];
    memcpy(p, spare, n * sizeof *p);
}

static void dump_dict(dumper *d, const jdict *dict)
{
    jrun *r = d->b->r;
    const jpair *p = dict->p;
    if (d->sort && dict->n > 1) {
        jpair *sorted = loami_j_array(r, dict->n, sizeof *sorted);
        memcpy(sorted, p, dict->n * sizeof *sorted);
        sort_pairs(r, sorted, dict->n, loami_j_array(r, dict->n, sizeof *sorted));
        p = sorted;
    }
    loami_j_putc(d->b, '{');
    d->level++;
    for (size_t i = 0; i < dict->n; i++) {
        if (i) loami_j_put(d->b, d->item->p, d->item->n);
        dump_newline(d);
        dump_key(d, p[i].k);
        loami_j_put(d->b, d->key->p, d->key->n);
        dump(d, p[i].v);
    }
    d->level--;
    if (dict->n) dump_newline(d);
    loami_j_putc(d->b, '}');
}

static void dump(dumper *d, jval v)
{
    jrun *r = d->b->r;
    loami_j_enter(r);
    loami_j_work(r, 0);
    switch (v.type) {
    case J_NONE: loami_j_puts(d->b, "null"); break;
    case J_BOOL: loami_j_puts(d->b, v.b ? "true" : "false"); break;
    case J_INT: loami_j_printf(d->b, "%" PRId64, v.i); break;
    case J_FLOAT: dump_float(d, v.f); break;
    case J_STR: dump_string(d, v.s); break;
    case J_LIST:
    case J_TUPLE: dump_list(d, v.l); break;
    case J_DICT: dump_dict(d, v.d); break;
    default: loami_j_fail(r, "Object of type %s is not JSON serializable", loami_j_typename(v));
    }
    loami_j_leave(r);
}

void loami_j_json(jsb *b, jval v, bool ascii, jval indent, jval separators, bool sort)
{
    jrun *r = b->r;
    dumper d = { .b = b, .ascii = ascii, .sort = sort };
    int64_t width;
    d.pretty = indent.type != J_MISSING && indent.type != J_NONE;
    if (d.pretty && indent.type == J_STR) {
        d.indent = indent.s;
    } else if (d.pretty) {
        width = loami_j_index(r, indent);
        jval space = loami_j_binary(r, OP_MUL, loami_j_strz(r, " "), loami_j_int(width));
        d.indent = space.s;
    }
    d.item = loami_j_strz(r, d.pretty ? "," : ", ").s;
    d.key = loami_j_strz(r, ": ").s;
    if (separators.type != J_MISSING && separators.type != J_NONE) {
        jval pair = loami_j_tolist(r, separators);
        if (pair.l->n != 2 || pair.l->v[0].type != J_STR || pair.l->v[1].type != J_STR)
            loami_j_fail(r, "separators must be two strings");
        d.item = pair.l->v[0].s;
        d.key = pair.l->v[1].s;
    }
    dump(&d, v);
}
