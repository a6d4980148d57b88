#include "text/format/rules.h"

#include "text/format/parser.h"

#include <stdlib.h>
#include <string.h>

typedef struct writer {
    loami_buf *out;
    const loami_format *f;
    const loami_tokenizer *t;
    const loami_answer_wish *w;
    loam_err *err;
} writer;

#define BLANKS "[ \\n]{0,2} "

/* ---- words ---- */

static void put_quoted(loami_buf *out, const char *s, size_t n)
{
    loami_buf_putc(out, '"');
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\n')
            loami_buf_puts(out, "\\n");
        else if (s[i] == '"' || s[i] == '\\')
            loami_buf_printf(out, "\\%c", s[i]);
        else
            loami_buf_putc(out, s[i]);
    }
    loami_buf_puts(out, "\" ");
}

/* A marker: what of it is a special token is asked for as that, the rest as text. */
static void put_marker(const writer *w, const char *marker)
{
    loami_ids ids = { 0 };
    bool whole = true;
    if (loami_tokenizer_encode(w->t, &ids, marker, strlen(marker), false, NULL) == 0)
        for (size_t i = 0; i < ids.len; i++) whole &= !loami_tokenizer_is_special(w->t, ids.data[i]);
    if (whole) put_quoted(w->out, marker, strlen(marker));
    for (size_t i = 0; i < ids.len && !whole; i++) {
        loami_buf bytes = { 0 };
        if (loami_tokenizer_is_special(w->t, ids.data[i]))
            loami_buf_printf(w->out, "<[%d]> ", (int)ids.data[i]);
        else if (loami_tokenizer_bytes(w->t, &bytes, ids.data[i], NULL) == 0 && bytes.len)
            put_quoted(w->out, bytes.data, bytes.len);
        loami_buf_free(&bytes);
    }
    free(ids.data);
}

static bool is_token(const writer *w, const char *marker)
{
    int32_t id = loami_tokenizer_id(w->t, marker, strlen(marker));
    return id >= 0 && loami_tokenizer_is_special(w->t, id);
}

/* Text in which none of these markers is; those that are tokens are no text anyway. */
static void put_text_without(const writer *w, const char *const *markers, size_t n)
{
    bool first = true;
    loami_buf_puts(w->out, "%text(");
    for (size_t i = 0; i < n; i++) {
        if (!markers[i] || is_token(w, markers[i])) continue;
        if (!first) loami_buf_puts(w->out, ", ");
        put_quoted(w->out, markers[i], strlen(markers[i]));
        first = false;
    }
    loami_buf_puts(w->out, ") ");
}

static void put_json_key(const writer *w, const char *key)
{
    loami_buf text = { 0 };
    loami_buf_printf(&text, "\"%s\":", key);
    put_quoted(w->out, text.data, text.len);
    loami_buf_puts(w->out, BLANKS);
    loami_buf_free(&text);
}

/* ---- arguments ---- */

static const json_t *function_of(const json_t *tool)
{
    const json_t *f = json_object_get(tool, "function");
    return f ? f : tool;
}

static const char *name_of(const json_t *tool)
{
    const char *name = json_string_value(json_object_get(function_of(tool), "name"));
    return name ? name : "";
}

static bool is_wanted(const writer *w, const json_t *tool)
{
    return !w->w->tool || strcmp(w->w->tool, name_of(tool)) == 0;
}

static void put_schema(const writer *w, const json_t *schema)
{
    char *text = loami_json_text(schema);
    loami_buf_printf(w->out, "%%json %s ", text ? text : "");
    w->out->failed |= !text;
    free(text);
}

static bool is_loose(const writer *w, const json_t *tool)
{
    return w->w->loose && !json_is_true(json_object_get(function_of(tool), "strict"));
}

/* The arguments as a JSON object. */
static void put_arguments(const writer *w, const json_t *tool)
{
    const json_t *schema = json_object_get(function_of(tool), "parameters");
    if (is_loose(w, tool)) {
        loami_buf_puts(w->out, "%json {\"type\":\"object\"} ");
    } else if (!json_is_object(schema)) {
        loami_buf_puts(w->out, "\"{}\" ");
    } else if (json_object_get(schema, "type") || json_object_get(schema, "$ref")) {
        put_schema(w, schema);
    } else {
        json_t *copy = json_copy((json_t *)schema);
        json_object_set_new(copy, "type", json_string("object"));
        put_schema(w, copy);
        json_decref(copy);
    }
}

/* ---- calls as JSON ---- */

/* How the templates of these formats write a call's object. */
static const struct {
    const char *format, *id, *name, *arguments;
    bool list;
} json_shapes[] = {
    { "cohere", "tool_call_id", "tool_name", "parameters", true },
    { "nemotron", NULL, "name", "arguments", true },
    { "granite", NULL, "name", "arguments", true },
    { "apertus", NULL, "", "", true },
    { "llama", NULL, "name", "parameters", false },
    { "mistral", NULL, "name", "arguments", true },
    { "", NULL, "name", "arguments", false },
};

static void put_json_object(const writer *w, const json_t *tool, size_t shape)
{
    loami_buf quoted = { 0 };
    loami_json_put(&quoted, name_of(tool), strlen(name_of(tool)));
    loami_buf_puts(w->out, "( \"{\" " BLANKS);
    if (json_shapes[shape].id) {
        put_json_key(w, json_shapes[shape].id);
        loami_buf_puts(w->out, "\"\\\"\" [0-9]{1,2} \"\\\",\" " BLANKS);
    }
    if (json_shapes[shape].name[0]) {
        put_json_key(w, json_shapes[shape].name);
        put_quoted(w->out, quoted.data, quoted.len);
        loami_buf_puts(w->out, "\",\" " BLANKS);
        put_json_key(w, json_shapes[shape].arguments);
    } else {
        put_quoted(w->out, quoted.data, quoted.len);
        loami_buf_puts(w->out, "\":\" " BLANKS);
    }
    put_arguments(w, tool);
    loami_buf_puts(w->out, BLANKS "\"}\" ) ");
    w->out->failed |= quoted.failed;
    loami_buf_free(&quoted);
}

static void put_each_tool(const writer *w, void (*put)(const writer *w, const json_t *tool, size_t shape),
                          size_t shape)
{
    size_t i;
    json_t *tool;
    bool first = true;
    loami_buf_puts(w->out, "( ");
    json_array_foreach(w->w->tools, i, tool) {
        if (!is_wanted(w, tool)) continue;
        if (!first) loami_buf_puts(w->out, "| ");
        put(w, tool, shape);
        first = false;
    }
    loami_buf_puts(w->out, ") ");
}

/* loam-calls: a section with its markers. Several calls are several sections, or a list. */
static void put_json_calls(const writer *w, const char *open, const char *close)
{
    size_t shape = 0;
    while (json_shapes[shape].format[0] && strcmp(json_shapes[shape].format, w->f->name) != 0) shape++;
    loami_buf_puts(w->out, "loam-one ::= ");
    put_each_tool(w, put_json_object, shape);
    loami_buf_puts(w->out, "\nloam-section ::= ");
    if (open) put_marker(w, open);
    loami_buf_puts(w->out, BLANKS);
    if (json_shapes[shape].list)
        loami_buf_puts(w->out, w->w->one_call ? "\"[\" loam-one \"]\" "
                                              : "\"[\" loam-one ( \",\" " BLANKS "loam-one )* \"]\" ");
    else
        loami_buf_puts(w->out, "loam-one ");
    if (close) {
        loami_buf_puts(w->out, BLANKS);
        put_marker(w, close);
    }
    bool once = w->w->one_call || json_shapes[shape].list || !open;
    loami_buf_printf(w->out, "\nloam-calls ::= %s\n",
                     once ? "loam-section" : "loam-section ( " BLANKS "loam-section )*");
}

/* ---- a name, then JSON ---- */

static void put_named_one(const writer *w, const json_t *tool, size_t which)
{
    const loami_named_calls *c = w->f->calls->opens[which].config;
    if (c->id_mark && !c->id_last) {
        loami_buf_puts(w->out, "[a-z0-9]{9} ");
        put_marker(w, c->id_mark);
    }
    if (c->strip) put_quoted(w->out, c->strip, strlen(c->strip));
    put_quoted(w->out, name_of(tool), strlen(name_of(tool)));
    if (c->numbered) loami_buf_puts(w->out, "\":\" [0-9]{1,2} ");
    if (c->name_end) put_marker(w, c->name_end);
    put_arguments(w, tool);
    if (c->each_close) put_marker(w, c->each_close);
}

static void put_named_calls(const writer *w, size_t which, const char *open)
{
    const loami_named_calls *c = w->f->calls->opens[which].config;
    bool each = c->each != NULL;
    loami_buf_puts(w->out, "loam-one ::= ");
    put_marker(w, each ? c->each : open);
    put_each_tool(w, put_named_one, which);
    loami_buf_puts(w->out, "\nloam-calls ::= ");
    if (each) {
        put_marker(w, open);
        loami_buf_puts(w->out, BLANKS);
    }
    loami_buf_puts(w->out, w->w->one_call ? "loam-one " : "loam-one ( " BLANKS "loam-one )* ");
    if (c->close) {
        loami_buf_puts(w->out, BLANKS);
        put_marker(w, c->close);
    }
    loami_buf_puts(w->out, "\n");
}

/* ---- argument by argument ---- */

static bool is_plain_string(const json_t *schema)
{
    static const char *const more[] = { "pattern", "format", "minLength", "maxLength", "anyOf",
                                        "oneOf",   "allOf",  "$ref",      "const" };
    const char *type = json_string_value(json_object_get(schema, "type"));
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (json_object_get(schema, more[i])) return false;
    return type && strcmp(type, "string") == 0;
}

/* A string stands without quotes; everything else as JSON. */
static int put_value(const writer *w, const json_t *schema, const char *end)
{
    const json_t *list = json_object_get(schema, "enum");
    const char *type = json_string_value(json_object_get(schema, "type"));
    size_t i;
    json_t *one;
    if (!is_plain_string(schema)) {
        if (type && strcmp(type, "string") == 0)
            return loami_fail(w->err, LOAM_E_UNSUPPORTED,
                              "this model writes strings without quotes: of them only enum can be promised, "
                              "no pattern, format or length");
        put_schema(w, schema);
        return 0;
    }
    if (!list) {
        put_text_without(w, &end, 1);
        return 0;
    }
    loami_buf_puts(w->out, "( ");
    json_array_foreach(list, i, one) {
        if (i) loami_buf_puts(w->out, "| ");
        put_quoted(w->out, json_is_string(one) ? json_string_value(one) : "", json_string_length(one));
    }
    loami_buf_puts(w->out, ") ");
    return 0;
}

static bool is_required(const json_t *schema, const char *key)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(schema, "required"), i, one)
        if (json_is_string(one) && strcmp(json_string_value(one), key) == 0) return true;
    return false;
}

static int put_parameters(const writer *w, const json_t *tool, const loami_params_calls *c)
{
    const json_t *schema = json_object_get(function_of(tool), "parameters");
    const char *key, *line = c->lines ? "\n" : "";
    json_t *v;
    int rc = 0;
    json_object_foreach(json_object_get(schema, "properties"), key, v) {
        loami_buf_puts(w->out, "( ");
        put_marker(w, c->param);
        put_quoted(w->out, key, strlen(key));
        put_marker(w, c->key_end);
        if (c->value) put_marker(w, c->value);
        if (*line) loami_buf_puts(w->out, "\"\\n\" ");
        if (rc == 0) rc = put_value(w, v, c->value_end);
        if (*line) loami_buf_puts(w->out, "\"\\n\" ");
        put_marker(w, c->value_end);
        loami_buf_puts(w->out, is_required(schema, key) ? BLANKS ") " : BLANKS ")? ");
    }
    return rc;
}

static int put_params_calls(const writer *w, size_t which, const char *open)
{
    const loami_params_calls *c = w->f->calls->opens[which].config;
    size_t i;
    json_t *tool;
    bool first = true;
    int rc = 0;
    loami_buf_puts(w->out, "loam-one ::= ");
    if (c->call) put_marker(w, c->call);
    json_array_foreach(w->w->tools, i, tool) {
        if (!is_wanted(w, tool)) continue;
        loami_buf_puts(w->out, first ? "( ( " : "| ( ");
        put_quoted(w->out, name_of(tool), strlen(name_of(tool)));
        if (c->name_end)
            put_marker(w, c->name_end);
        else
            loami_buf_puts(w->out, "\"\\n\" ");
        loami_buf_puts(w->out, BLANKS);
        if (rc == 0) rc = put_parameters(w, tool, c);
        loami_buf_puts(w->out, ") ");
        first = false;
    }
    loami_buf_puts(w->out, ") ");
    put_marker(w, c->call_end);
    loami_buf_puts(w->out, "\nloam-section ::= ");
    put_marker(w, open);
    loami_buf_puts(w->out, BLANKS "loam-one ");
    if (c->close) {
        if (c->call && !w->w->one_call) loami_buf_puts(w->out, "( " BLANKS "loam-one )* ");
        loami_buf_puts(w->out, BLANKS);
        put_marker(w, c->close);
    }
    loami_buf_printf(w->out, "\nloam-calls ::= %s\n",
                     w->w->one_call || (c->close && c->call) ? "loam-section"
                                                             : "loam-section ( " BLANKS "loam-section )*");
    return rc;
}

/* ---- messages with headers (harmony) ---- */

static void put_channel_call(const writer *w, const json_t *tool, size_t unused)
{
    (void)unused;
    loami_buf_puts(w->out, "\"commentary to=functions.\" ");
    put_quoted(w->out, name_of(tool), strlen(name_of(tool)));
    loami_buf_puts(w->out, "( \" \" ");
    put_marker(w, "<|constrain|>");
    loami_buf_puts(w->out, "\"json\" )? ");
    put_marker(w, "<|message|>");
    put_arguments(w, tool);
}

static void put_channels(const writer *w, const char *content)
{
    static const char *const ends[] = { "<|end|>", "<|call|>", "<|return|>" };
    loami_buf_puts(w->out, "loam-thoughts ::= ");
    put_marker(w, "<|channel|>");
    loami_buf_puts(w->out, "\"analysis\" ");
    put_marker(w, "<|message|>");
    put_text_without(w, ends, 3);
    put_marker(w, "<|end|>");
    put_marker(w, "<|start|>");
    loami_buf_puts(w->out, "\"assistant\"\nloam-answer ::= loam-thoughts? ");
    put_marker(w, "<|channel|>");
    loami_buf_puts(w->out, "( ");
    if (w->w->tools) put_each_tool(w, put_channel_call, 0);
    if (content && w->w->tools) loami_buf_puts(w->out, "| ");
    if (content) {
        loami_buf_puts(w->out, "\"final\" ");
        put_marker(w, "<|message|>");
        loami_buf_printf(w->out, "( %s ) ", content);
    }
    loami_buf_puts(w->out, ")\n");
}

/* ---- the answer ---- */

static bool ends_with(const char *s, const char *word)
{
    size_t n = s ? strlen(s) : 0, k = strlen(word);
    while (n && strchr(" \t\r\n", s[n - 1])) n--;
    return n >= k && memcmp(s + n - k, word, k) == 0;
}

/* loam-answer ::= reasoning, as far as the prompt leaves room for it, then loam-body. */
static void put_reasoning(const writer *w)
{
    const char *end = w->f->end_think;
    if (!w->f->think || ends_with(w->w->prompt, end)) {
        loami_buf_puts(w->out, "loam-answer ::= loam-body\n");
        return;
    }
    loami_buf_puts(w->out, "loam-thoughts ::= ");
    put_text_without(w, &end, 1);
    put_marker(w, end);
    loami_buf_puts(w->out, "[ \\n]{0,3}\nloam-answer ::= ");
    if (ends_with(w->w->prompt, w->f->think)) {
        loami_buf_puts(w->out, "loam-thoughts loam-body\n");
        return;
    }
    loami_buf_puts(w->out, "( ");
    put_marker(w, w->f->think);
    loami_buf_puts(w->out, "loam-thoughts )? loam-body\n");
}

/* Text between calls, and what else may stand there. */
static void put_free_text(const writer *w)
{
    const char *markers[3];
    for (size_t i = 0; i < 3; i++) markers[i] = w->f->calls->opens[i].marker;
    loami_buf_puts(w->out, "loam-text ::= ");
    put_text_without(w, markers, 3);
    for (size_t i = 0; i < 8 && w->f->calls->drops[i]; i++) {
        if (!is_token(w, w->f->calls->drops[i])) continue;
        loami_buf_puts(w->out, i ? "| " : "( ( ");
        put_marker(w, w->f->calls->drops[i]);
        if (i == 7 || !w->f->calls->drops[i + 1]) {
            loami_buf_puts(w->out, ") ");
            put_text_without(w, markers, 3);
            loami_buf_puts(w->out, ")* ");
        }
    }
    loami_buf_puts(w->out, "\n");
}

static int put_calls(const writer *w)
{
    const loami_format_calls *c = w->f->calls;
    const loami_style *style = c->opens[0].style;
    const loami_json_calls *json = c->opens[0].config;
    const loami_named_calls *named = c->opens[0].config;
    if (c->bare) {
        put_json_calls(w, NULL, NULL);
        return 0;
    }
    if (style == &loami_style_json) {
        put_json_calls(w, c->opens[0].marker, json ? json->close : NULL);
        return 0;
    }
    if (style == &loami_style_named) { /* older models of the family have a list of JSON there */
        if (named->may_be_json && !is_token(w, named->name_end))
            put_json_calls(w, c->opens[0].marker, NULL);
        else
            put_named_calls(w, 0, c->opens[0].marker);
        return 0;
    }
    if (style == &loami_style_params && strcmp(c->name, "dsml") != 0)
        return put_params_calls(w, 0, c->opens[0].marker);
    return loami_fail(w->err, LOAM_E_UNSUPPORTED,
                      "the model's chat template has no way to call tools that can be forced (%s)", c->name);
}

int loami_answer_rules(loami_buf *out, const loami_format *f, const loami_tokenizer *t,
                       const loami_answer_wish *wish, loam_err *err)
{
    writer w = { out, f, t, wish, err };
    const char *content = wish->must_call ? NULL : wish->content;
    bool free_text = !wish->must_call && !content;
    int rc = 0;
    if (free_text && (!wish->tools || f->calls->channels || f->calls->bare)) return 0;
    if (f->calls->channels && strcmp(f->name, "harmony") != 0)
        return loami_fail(err, LOAM_E_UNSUPPORTED,
                          "answers in this model's format (%s) can't be held to a grammar", f->name);
    loami_buf_puts(out, "%start loam-answer\n");
    if (f->calls->channels) {
        put_channels(&w, content);
    } else {
        put_reasoning(&w);
        if (wish->tools) rc = put_calls(&w);
        if (rc == 0 && free_text) put_free_text(&w);
        if (content) loami_buf_printf(out, "loam-text ::= ( %s )\n", content);
        loami_buf_printf(out, "loam-body ::= %s\n",
                         free_text ? wish->one_call ? "loam-text ( loam-calls loam-text )?"
                                                    : "loam-text ( loam-calls loam-text )*"
                         : content ? wish->tools ? "loam-text | loam-calls" : "loam-text"
                                   : BLANKS "loam-calls");
    }
    if (rc == 0 && wish->rules) loami_buf_printf(out, "%s\n", wish->rules);
    if (rc == 0 && out->failed) rc = loami_fail_nomem(err);
    return rc < 0 ? rc : 1;
}
