/* JSON itself as rules. White space is bounded: a model that likes it would go on with it for ever. */
#include "grammar/syntax.h"

#include "base/buf.h"
#include "base/utf8.h"

#include <string.h>

enum { BLANKS = 20, DIGITS = 16, INTEGER_DIGITS = 18 /* fits into 64 bits */ };

loami_expr *loami_json_any_char_x(loami_syntax *d)
{
    if (!d->any_char) d->any_char = loami_x_chars(d, &(loami_range){ 0, 0x10ffff }, 1, true);
    return d->any_char;
}

static loami_expr *digits(loami_syntax *d, char from, uint32_t lo, uint32_t hi)
{
    loami_range r = { (uint32_t)from, '9' };
    return loami_x_repeat(d, loami_x_chars(d, &r, 1, false), NULL, lo, hi);
}

static loami_expr *optional(loami_syntax *d, loami_expr *x)
{
    return loami_x_repeat(d, x, NULL, 0, 1);
}

/* The rule, made on first use by define. */
static loami_expr *once(loami_syntax *d, uint32_t *rule, const char *name,
                        loami_expr *(*define)(loami_syntax *))
{
    if (!*rule) {
        uint32_t r = *rule = loami_rule_new(d, name);
        if (!r) return NULL;
        loami_expr *x = define(d);
        d->rules[r].expr = x;
    }
    return loami_x_rule(d, *rule);
}

static loami_expr *define_space(loami_syntax *d)
{
    static const loami_range blank[] = { { ' ', ' ' }, { '\t', '\t' } };
    loami_expr *lines = loami_x_repeat(d, loami_x_text(d, "\n"), NULL, 1, 2);
    loami_expr *indent = loami_x_repeat(d, loami_x_chars(d, blank, 2, false), NULL, 0, BLANKS);
    return optional(d, loami_x_either(d, loami_x_text(d, " "), loami_x_two(d, lines, indent)));
}

loami_expr *loami_json_space_x(loami_syntax *d)
{
    return once(d, &d->space, "space", define_space);
}

static loami_expr *define_string(loami_syntax *d)
{
    loami_expr *quote = loami_x_text(d, "\"");
    loami_expr *body = loami_x_repeat(d, loami_json_any_char_x(d), NULL, 0, LOAMI_NO_LIMIT);
    return loami_x_seq(d, (loami_expr *[]){ quote, body, quote }, 3);
}

loami_expr *loami_json_string_x(loami_syntax *d)
{
    return once(d, &d->string, "string", define_string);
}

static loami_expr *whole(loami_syntax *d, uint32_t n)
{
    loami_expr *more = loami_x_two(d, digits(d, '1', 1, 1), digits(d, '0', 0, n - 1));
    return loami_x_two(d, optional(d, loami_x_text(d, "-")), loami_x_either(d, loami_x_text(d, "0"), more));
}

static loami_expr *define_integer(loami_syntax *d)
{
    static const loami_range minus = { '-', '-' };
    loami_expr *some = loami_x_two(d, digits(d, '1', 1, 1), digits(d, '0', 0, INTEGER_DIGITS - 1));
    loami_expr *sign = optional(d, loami_x_chars(d, &minus, 1, false));
    return loami_x_either(d, loami_x_text(d, "0"), loami_x_two(d, sign, some));
}

loami_expr *loami_json_integer_x(loami_syntax *d)
{
    return once(d, &d->integer, "integer", define_integer);
}

static loami_expr *define_number(loami_syntax *d)
{
    static const loami_range e[] = { { 'e', 'e' }, { 'E', 'E' } }, sign[] = { { '+', '+' }, { '-', '-' } };
    loami_expr *fraction = loami_x_two(d, loami_x_text(d, "."), digits(d, '0', 1, DIGITS));
    loami_expr *exponent = loami_x_seq(d,
                                       (loami_expr *[]){ loami_x_chars(d, e, 2, false),
                                                         optional(d, loami_x_chars(d, sign, 2, false)),
                                                         digits(d, '0', 1, 2) },
                                       3);
    return loami_x_seq(d, (loami_expr *[]){ whole(d, DIGITS), optional(d, fraction), optional(d, exponent) },
                       3);
}

loami_expr *loami_json_number_x(loami_syntax *d)
{
    return once(d, &d->number, "number", define_number);
}

loami_expr *loami_json_comma_x(loami_syntax *d)
{
    return loami_x_two(d, loami_x_text(d, ","), loami_json_space_x(d));
}

loami_expr *loami_json_list_x(loami_syntax *d, char open, loami_expr *item, uint32_t lo, uint32_t hi,
                              char close)
{
    loami_expr *space = loami_json_space_x(d);
    loami_expr *begin = loami_x_two(d, loami_x_bytes(d, &open, 1), space);
    loami_expr *end = loami_x_two(d, space, loami_x_bytes(d, &close, 1)),
               *empty = loami_x_two(d, begin, loami_x_bytes(d, &close, 1));
    if (!item) return NULL;
    if (hi == 0 || item->kind == LOAMI_X_NEVER) return lo ? loami_x_never(d) : empty;
    loami_expr *items = loami_x_repeat(d, item, loami_json_comma_x(d), lo ? lo : 1, hi);
    loami_expr *full = loami_x_seq(d, (loami_expr *[]){ begin, items, end }, 3);
    return lo ? full : loami_x_either(d, full, empty);
}

static loami_expr *define_object(loami_syntax *d)
{
    loami_expr *space = loami_json_space_x(d);
    loami_expr *member = loami_x_seq(
        d, (loami_expr *[]){ loami_json_string_x(d), loami_x_text(d, ":"), space, loami_json_value_x(d) }, 4);
    return loami_json_list_x(d, '{', member, 0, LOAMI_NO_LIMIT, '}');
}

loami_expr *loami_json_object_x(loami_syntax *d)
{
    return once(d, &d->object, "object", define_object);
}

static loami_expr *define_value(loami_syntax *d)
{
    uint32_t self = d->value;
    loami_expr *list = loami_json_list_x(d, '[', loami_x_rule(d, self), 0, LOAMI_NO_LIMIT, ']');
    loami_expr *kinds[] = { loami_json_object_x(d),  list,
                            loami_json_string_x(d),  loami_json_number_x(d),
                            loami_x_text(d, "true"), loami_x_text(d, "false"),
                            loami_x_text(d, "null") };
    return loami_x_alt(d, kinds, sizeof kinds / sizeof *kinds);
}

loami_expr *loami_json_value_x(loami_syntax *d)
{
    return once(d, &d->value, "value", define_value);
}

static void put_escape(loami_buf *out, uint32_t c)
{
    if (c > 0xffff) {
        loami_buf_printf(out, "\\u%04x", 0xd7c0 + (c >> 10));
        c = 0xdc00 | (c & 0x3ff);
    }
    loami_buf_printf(out, "\\u%04x", c);
}

loami_expr *loami_json_literal_x(loami_syntax *d, const char *text, size_t n)
{
    loami_buf out = { 0 };
    for (size_t i = 0, len; i < n; i += len) {
        uint32_t c;
        bool absent = false;
        if (!(len = loami_utf8_next(text + i, n - i, &c))) len = 1;
        for (size_t k = 0; k < len && len > 1; k++) absent |= d->absent[(unsigned char)text[i + k]];
        if (absent)
            put_escape(&out, c);
        else
            loami_buf_put(&out, text + i, len);
    }
    loami_expr *x = out.failed ? NULL : loami_x_bytes(d, out.data ? out.data : "", out.len);
    loami_buf_free(&out);
    return x;
}
