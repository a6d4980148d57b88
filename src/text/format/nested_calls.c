/* Calls as elements named after the arguments: <invoke name="f"><city>Oslo</city><list><item>1</item></list></invoke>, each
 * tag after a prefix of its own. Read as a whole, when the section is over. */
#include "text/format/parser.h"

#include <string.h>

enum { DEEPEST = 32 };

typedef struct walk {
    const loami_format_parser *p;
    const char *prefix, *tool, *key;
    const char *s;
    size_t n, at;
} walk;

/* The next tag: its name in [*from, *from + *len), with *before where its prefix begins. */
static bool next_tag(walk *w, size_t *before, size_t *from, size_t *len)
{
    size_t k = strlen(w->prefix);
    const char *hit = w->at < w->n ? memmem(w->s + w->at, w->n - w->at, w->prefix, k) : NULL;
    if (!hit) return false;
    *before = (size_t)(hit - w->s);
    if (*before + k >= w->n || w->s[*before + k] != '<') return false;
    *from = *before + k + 1;
    const char *end = memchr(w->s + *from, '>', w->n - *from);
    if (!end) return false;
    *len = (size_t)(end - w->s) - *from;
    return true;
}

static bool closes(const walk *w, size_t from, size_t len, const char *name, size_t n)
{
    return len == n + 1 && w->s[from] == '/' && memcmp(w->s + from + 1, name, n) == 0;
}

/* The value up to the closing tag of `name`: text, a list of items, or an object. */
static json_t *value(walk *w, const char *name, size_t n, unsigned depth)
{
    size_t start = w->at, before, from, len;
    json_t *all = NULL;
    while (depth < DEEPEST && next_tag(w, &before, &from, &len)) {
        size_t after = from + len + 1;
        if (closes(w, from, len, name, n)) {
            w->at = after;
            if (all) return all;
            return loami_argument(depth ? NULL : w->p->tools, w->tool, w->key, w->s + start, before - start);
        }
        if (len == 0 || len > 255 || w->s[from] == '/') break;
        char key[256];
        memcpy(key, w->s + from, len);
        key[len] = 0;
        bool item = strcmp(key, "item") == 0;
        if (!all) all = item ? json_array() : json_object();
        w->at = after;
        json_t *v = value(w, key, len, depth + 1);
        if (!v || (json_is_array(all) ? json_array_append_new(all, v) : json_object_set_new(all, key, v)) < 0)
            break;
    }
    json_decref(all);
    return NULL;
}

/* One <invoke name="...">; the tag was read. */
static json_t *invocation(walk *w)
{
    json_t *all = json_object();
    size_t before, from, len;
    while (all && next_tag(w, &before, &from, &len)) {
        w->at = from + len + 1;
        if (closes(w, from, len, "invoke", 6)) return all;
        if (len == 0 || len > 255 || w->s[from] == '/') break;
        char key[256];
        memcpy(key, w->s + from, len);
        key[len] = 0;
        w->key = key;
        json_t *v = value(w, key, len, 0);
        if (!v || json_object_set_new(all, key, v) < 0) break;
    }
    json_decref(all);
    return NULL;
}

/* All calls of the section; they are emitted only when p. */
static bool all_calls(loami_format_parser *p, walk w)
{
    static const char opens[] = "invoke name=\"";
    size_t before, from, len, count = 0;
    while (next_tag(&w, &before, &from, &len)) {
        size_t k = sizeof opens - 1;
        char tool[256];
        if (len <= k + 1 || len - k - 1 >= sizeof tool) return false;
        if (memcmp(w.s + from, opens, k) != 0 || w.s[from + len - 1] != '"') return false;
        memcpy(tool, w.s + from + k, len - k - 1);
        tool[len - k - 1] = 0;
        w.tool = tool;
        w.at = from + len + 1;
        json_t *args = invocation(&w);
        if (!args) return false;
        if (p) loami_call_whole(p, tool, strlen(tool), NULL, args);
        json_decref(args);
        count++;
    }
    return count > 0;
}

static loami_body read_calls(loami_format_parser *p)
{
    const loami_nested_calls *c = p->config;
    size_t n;
    int k = loami_find(p, &c->close, 1, &n);
    if (k < 0) {
        if (!p->final) return BODY_MORE;
        n = loami_text_left(p);
    }
    walk w = { .p = p, .prefix = c->prefix, .s = loami_text_at(p), .n = n };
    if (!all_calls(NULL, w)) return BODY_BAD;
    all_calls(p, w);
    loami_take(p, n + (k == 0 ? strlen(c->close) : 0));
    loami_buf_clear(&p->raw);
    return BODY_DONE;
}

const loami_style loami_style_nested = { read_calls };
