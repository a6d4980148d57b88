#include "text/format/parser.h"

#include <stdlib.h>
#include <string.h>

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* ---- what comes out ------------------------------------------------------------------------------------ */

static void emit(loami_format_parser *p, loami_event_kind kind, const char *text, size_t n)
{
    loami_event e = { .kind = kind, .call = p->n_calls, .text = text, .n = n };
    if (n) p->emit(p->arg, &e);
}

/* Text of this section; white space at its end waits for what follows it. */
static void show(loami_format_parser *p, loami_event_kind kind, const char *s, size_t n)
{
    size_t skip = 0, end = n;
    while (p->after_marker && skip < n && s[skip] == '\n') skip++;
    if (skip == n) return;
    p->after_marker = false;
    while (end > skip && is_space(s[end - 1])) end--;
    if (end > skip) {
        emit(p, kind, p->space.data, p->space.len);
        loami_buf_clear(&p->space);
        emit(p, kind, s + skip, end - skip);
        p->shown = true;
    }
    loami_buf_put(&p->space, s + end, n - end);
}

static loami_event_kind kind_of(const loami_format_parser *p)
{
    return p->section == IN_THINK ? LOAMI_REASONING : LOAMI_CONTENT;
}

/* A marker was met: a new section begins. */
static void enter(loami_format_parser *p, loami_section to)
{
    loami_buf_clear(&p->space);
    p->section = to;
    p->after_marker = true;
    p->shown = false;
}

void loami_enter_calls(loami_format_parser *p, const loami_style *style, const void *config, size_t n)
{
    loami_buf_clear(&p->raw);
    loami_buf_put(&p->raw, p->space.data ? p->space.data : "", p->space.len);
    enter(p, IN_CALLS);
    p->style = style;
    p->config = config;
    p->step = 0;
    p->in_list = false;
    p->first_call = p->n_calls;
    loami_buf_clear(&p->call_id);
    p->scan = (loami_json_scan){ 0 };
    p->args_from = p->args_to = 0;
    loami_take(p, n);
}

void loami_call_begin(loami_format_parser *p, const char *name, size_t n, const char *id)
{
    loami_event e = { .kind = LOAMI_CALL, .call = p->n_calls, .text = name, .n = n,
                      .id = id && *id ? id : NULL };
    p->in_call = true;
    loami_buf_clear(&p->raw);
    p->emit(p->arg, &e);
}

void loami_call_arguments(loami_format_parser *p, const char *text, size_t n)
{
    emit(p, LOAMI_ARGUMENTS, text, n);
}

void loami_call_end(loami_format_parser *p)
{
    loami_event e = { .kind = LOAMI_CALL_END, .call = p->n_calls,
                      .id = p->call_id.len ? p->call_id.data : NULL };
    p->emit(p->arg, &e);
    p->in_call = false;
    p->n_calls++;
    loami_buf_clear(&p->call_id);
}

void loami_call_whole(loami_format_parser *p, const char *name, size_t n, const char *id,
                      const json_t *arguments)
{
    loami_buf text = { 0 };
    loami_put_json(&text, arguments);
    loami_call_begin(p, name, n, id);
    loami_call_arguments(p, text.data, text.len);
    loami_call_end(p);
    p->in.failed |= text.failed;
    loami_buf_free(&text);
}

/* ---- sections of calls --------------------------------------------------------------------------------- */

/* What was no call is text: that goes on where it was, so its white space counts. */
static void give_back(loami_format_parser *p)
{
    loami_buf raw = p->raw;
    p->raw = (loami_buf){ 0 };
    p->section = IN_TEXT;
    p->after_marker = false;
    p->seen = p->cursor = 0;
    show(p, LOAMI_CONTENT, raw.data ? raw.data : "", raw.len);
    p->shown = true;
    loami_buf_free(&raw);
}

static bool run_calls(loami_format_parser *p)
{
    loami_body b = p->style->read(p);
    if (b == BODY_MORE) {
        if (!p->final) return false;
        bool cut_off = p->in_call; /* what there is of an argument that did not end is of no use */
        if (cut_off) p->at = p->in.len;
        b = !cut_off && (p->raw.len || loami_text_left(p)) ? BODY_BAD : BODY_DONE;
    }
    if (p->in_call) loami_call_end(p);
    loami_section back = p->f.calls->channels ? IN_HEADER : IN_TEXT;
    if (b == BODY_BAD) give_back(p);
    else enter(p, back);
    return true;
}

/* ---- text and reasoning -------------------------------------------------------------------------------- */

enum { MARKERS = 16 };

/* The markers that count in this section, with what they do. */
typedef struct markers {
    const char *m[MARKERS];
    enum { TO_CALLS, TO_THINK = 8, TO_ANSWER, TO_TEXT } does[MARKERS]; /* TO_CALLS + i: opens[i] */
    size_t n;
} markers;

static void add(markers *m, const char *marker, int does)
{
    if (!marker || m->n == MARKERS) return;
    m->m[m->n] = marker;
    m->does[m->n++] = does;
}

static markers markers_of(const loami_format_parser *p)
{
    markers m = { .n = 0 };
    const loami_format_calls *c = p->f.calls;
    if (p->section == IN_THINK) {
        add(&m, p->f.end_think, TO_TEXT);
        return m;
    }
    for (int i = 0; i < 8; i++) add(&m, c->drops[i], TO_TEXT);
    for (int i = 0; i < 3 && p->tools; i++) add(&m, c->opens[i].marker, TO_CALLS + i);
    add(&m, p->f.think, TO_THINK);
    add(&m, p->f.end_think, TO_ANSWER); /* no reasoning: some models only close it */
    return m;
}

/* A JSON object at the very start, from a family that marks its calls with nothing else. */
static bool run_bare(loami_format_parser *p)
{
    if (!p->f.calls->bare || !p->tools || p->shown || p->n_calls) return false;
    size_t i = 0, left = loami_text_left(p);
    const char *s = loami_text_at(p);
    while (i < left && is_space(s[i])) i++;
    if (i == left || s[i] != '{') return false;
    show(p, LOAMI_CONTENT, s, i);
    p->at += i;
    p->seen = 0;
    loami_enter_calls(p, &loami_style_json, NULL, 0);
    return true;
}

static bool run_text(loami_format_parser *p)
{
    size_t where;
    if (loami_text_left(p) == 0 || (p->section == IN_TEXT && run_bare(p))) return loami_text_left(p) > 0;
    markers m = markers_of(p);
    int k = loami_find(p, m.m, m.n, &where);
    size_t seen = p->seen - where;
    show(p, kind_of(p), loami_text_at(p), where);
    p->at += where;
    p->seen = seen;
    if (k < 0) return false;
    size_t n = strlen(m.m[k]);
    if (p->shown && (m.does[k] == TO_THINK || m.does[k] == TO_ANSWER)) {
        show(p, kind_of(p), m.m[k], n); /* an answer that speaks of the marker is not reasoning */
        p->at += n;
    } else if (m.does[k] < TO_THINK) {
        loami_enter_calls(p, p->f.calls->opens[m.does[k]].style, p->f.calls->opens[m.does[k]].config, n);
    } else {
        p->at += n;
        enter(p, m.does[k] == TO_THINK ? IN_THINK : IN_TEXT);
    }
    p->seen = 0;
    return true;
}

/* ---- messages with headers ----------------------------------------------------------------------------- */

static bool has_word(const char *s, size_t n, const char *word)
{
    size_t k = strlen(word);
    const char *hit = n >= k ? memmem(s, n, word, k) : NULL;
    if (!hit) return false;
    size_t at = (size_t)(hit - s);
    bool starts = at == 0 || strchr(" >=", s[at - 1]), ends = at + k == n || strchr(" <", s[at + k]);
    return starts && ends;
}

/* The recipient in a header: what follows "to=". */
static size_t recipient(const char *s, size_t n, const char **name)
{
    const char *to = n > 3 ? memmem(s, n, "to=", 3) : NULL;
    if (!to || (to > s && to[-1] != ' ' && to[-1] != '>')) return 0;
    *name = to + 3;
    size_t left = n - (size_t)(*name - s);
    return strcspn(*name, " <") < left ? strcspn(*name, " <") : left;
}

static bool same(const char *s, size_t n, const char *z)
{
    return z && n == strlen(z) && memcmp(s, z, n) == 0;
}

/* A header is complete: what its message is. */
static void open_message(loami_format_parser *p, size_t header, size_t marker)
{
    static const loami_named_calls named = { .name_end = NULL };
    const loami_channels *c = p->f.calls->channels;
    const char *s = loami_text_at(p), *name = NULL;
    size_t n = recipient(s, header, &name);
    bool reasons = n ? same(name, n, c->reasoning) : has_word(s, header, c->reasoning);
    if (n && !reasons && !same(name, n, c->user) && p->tools) {
        size_t strip = c->strip ? strlen(c->strip) : 0;
        if (n <= strip || (strip && memcmp(name, c->strip, strip) != 0)) strip = 0;
        loami_buf_clear(&p->call_name);
        loami_buf_put(&p->call_name, name + strip, n - strip);
        p->at += header + marker;
        loami_enter_calls(p, c->style ? c->style : &loami_style_named, c->style ? c->config : &named, 0);
        return;
    }
    p->at += header + marker;
    p->seen = 0;
    enter(p, reasons ? IN_THINK : IN_TEXT);
}

static bool run_header(loami_format_parser *p)
{
    const loami_channels *c = p->f.calls->channels;
    const char *const marks[] = { c->message, c->ends[0], c->ends[1], c->ends[2], c->ends[3] };
    size_t where;
    int k = loami_find(p, marks, 5, &where);
    if (k == 0) {
        open_message(p, where, strlen(marks[0]));
        return true;
    }
    if (k > 0) {
        p->at += where + strlen(marks[k]);
        p->seen = 0;
        return true;
    }
    if (!p->final || !loami_text_left(p)) return false;
    p->section = IN_TEXT;          /* a header that never ended is text */
    p->after_marker = false;
    show(p, LOAMI_CONTENT, loami_text_at(p), loami_text_left(p));
    p->at = p->in.len;
    return false;
}

/* The text of a message up to its end. */
static bool run_message(loami_format_parser *p)
{
    const loami_channels *c = p->f.calls->channels;
    const char *const marks[] = { c->start, c->ends[0], c->ends[1], c->ends[2], c->ends[3] };
    size_t where;
    int k = loami_find(p, marks, 5, &where);
    size_t seen = p->seen - where;
    show(p, kind_of(p), loami_text_at(p), where);
    p->at += where;
    p->seen = seen;
    if (k < 0) return false;
    p->at += strlen(marks[k]);
    p->seen = 0;
    enter(p, IN_HEADER);
    return true;
}

/* ---- open, put, end ------------------------------------------------------------------------------------ */

static void run(loami_format_parser *p)
{
    for (bool more = true; more;) {
        if (p->section == IN_CALLS) more = run_calls(p);
        else if (p->section == IN_HEADER) more = run_header(p);
        else if (p->f.calls->channels) more = run_message(p);
        else more = run_text(p);
    }
}

/* Where the prompt left off: within reasoning if it opened it last. */
static void begin(loami_format_parser *p, const char *prompt)
{
    const char *open = NULL, *close = NULL;
    p->section = p->f.calls->channels ? IN_HEADER : IN_TEXT;
    if (!prompt || !p->f.think || p->f.calls->channels) return;
    for (const char *s = prompt; (s = strstr(s, p->f.think)) != NULL; s++) open = s;
    for (const char *s = prompt; (s = strstr(s, p->f.end_think)) != NULL; s++) close = s;
    if (!open || (close && close > open)) return;
    const char *rest = open + strlen(p->f.think);
    while (is_space(*rest)) rest++;
    if (*rest) return;             /* a past message that never closed it */
    p->section = IN_THINK;
    p->after_marker = true;
}

int loami_format_open(loami_format_parser **out, const loami_format *f, const char *prompt,
                      const json_t *tools,
                      loami_emit *emit_fn, void *arg, loam_err *err)
{
    loami_format_parser *p = calloc(1, sizeof *p);
    if (!p) return loami_fail_nomem(err);
    p->f = *f;
    p->emit = emit_fn;
    p->arg = arg;
    p->tools = json_incref((json_t *)tools);
    begin(p, prompt);
    *out = p;
    return 0;
}

static int check(const loami_format_parser *p, loam_err *err)
{
    bool failed = p->in.failed || p->space.failed || p->raw.failed || p->call_name.failed ||
        p->call_id.failed || p->key.failed;
    return failed ? loami_fail_nomem(err) : 0;
}

int loami_format_put(loami_format_parser *p, const char *text, size_t n, loam_err *err)
{
    if (p->at > 4096 && p->at > p->in.len / 2) {
        memmove(p->in.data, p->in.data + p->at, p->in.len - p->at);
        p->in.len -= p->at;
        p->at = 0;
    }
    loami_buf_put(&p->in, text, n);
    if (n && !p->in.failed) run(p);
    return check(p, err);
}

int loami_format_end(loami_format_parser *p, loam_err *err)
{
    p->final = true;
    run(p);
    emit(p, kind_of(p), p->space.data, p->space.len);
    loami_buf_clear(&p->space);
    return check(p, err);
}

void loami_format_close(loami_format_parser *p)
{
    if (!p) return;
    loami_buf *bufs[] = { &p->in, &p->space, &p->raw, &p->call_name, &p->call_id, &p->key };
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) loami_buf_free(bufs[i]);
    json_decref(p->tools);
    free(p);
}
