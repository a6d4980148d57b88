/* Walking over values. */
#include "text/jinja/run.h"

bool loami_j_iterable(jval v)
{
    switch (v.type) {
    case J_UNDEF: case J_STR: case J_LIST: case J_TUPLE: case J_DICT: case J_VIEW: case J_RANGE: case J_ITER: case J_LOOP: return true;
    default: return false;
    }
}

static bool next_none(jrun *r, jiter *it, jval *out)
{
    (void)r, (void)it, (void)out;
    return false;
}

static bool next_char(jrun *r, jiter *it, jval *out)
{
    const jstr *s = it->src.s;
    size_t at = it->at;
    if (at >= s->n) return false;
    loami_j_next(s, &it->at);
    *out = loami_j_str(r, s->p + at, it->at - at);
    return true;
}

static bool next_item(jrun *r, jiter *it, jval *out)
{
    (void)r;
    if (it->at >= it->src.l->n) return false;
    *out = it->src.l->v[it->at++];
    return true;
}

static bool next_pair(jrun *r, jiter *it, jval *out)
{
    const jview *view = it->src.view;
    if (it->at >= view->d->n) return false;
    const jpair *p = &view->d->p[it->at++];
    *out = view->what == J_KEYS ? p->k : view->what == J_VALUES ? p->v : loami_j_pair(r, p->k, p->v);
    return true;
}

static bool next_number(jrun *r, jiter *it, jval *out)
{
    const jrange *g = it->src.range;
    (void)r;
    if ((int64_t)it->at >= g->len) return false;
    *out = loami_j_int(g->start + (int64_t)it->at++ * g->step);
    return true;
}

/* A loop walked from within itself: its items become pairs with the loop, as in Jinja2. */
static bool next_of_loop(jrun *r, jiter *it, jval *out)
{
    jloop *l = it->src.loop;
    jval v;
    if (l->after.type != J_MISSING) {
        v = l->after;
        l->after.type = J_MISSING;
    } else if (!loami_j_step(r, l->it, &v)) {
        return false;
    }
    l->index0++;
    l->before = l->current;
    l->current = v;
    *out = loami_j_pair(r, v, it->src);
    return true;
}

static jiter *walk(jrun *r, bool (*next)(jrun *, jiter *, jval *), jval src)
{
    jiter *it = loami_j_alloc(r, sizeof *it);
    *it = (jiter){ .next = next, .src = src, .shown = "iterator" };
    return it;
}

jiter *loami_j_iter(jrun *r, jval v)
{
    switch (v.type) {
    case J_UNDEF: return walk(r, next_none, v);
    case J_STR: return walk(r, next_char, v);
    case J_LIST:
    case J_TUPLE: return walk(r, next_item, v);
    case J_DICT: {
        jview *view = loami_j_alloc(r, sizeof *view);
        *view = (jview){ v.d, J_KEYS };
        return walk(r, next_pair, (jval){ .type = J_VIEW, .view = view });
    }
    case J_VIEW: return walk(r, next_pair, v);
    case J_RANGE: return walk(r, next_number, v);
    case J_ITER: return v.it;
    case J_LOOP: return walk(r, next_of_loop, v);
    default: loami_j_fail(r, "'%s' object is not iterable", loami_j_typename(v));
    }
}

bool loami_j_step(jrun *r, jiter *it, jval *out)
{
    if (it->done) return false;
    loami_j_enter(r);
    loami_j_work(r, 0);
    it->done = true;               /* while it is at work: a generator can't walk itself */
    bool more = it->next(r, it, out);
    it->done = !more;
    loami_j_leave(r);
    return more;
}

jval loami_j_lazy(jrun *r, const char *shown, bool (*next)(jrun *, jiter *, jval *), jval src, void *more)
{
    jiter *it = walk(r, next, src);
    it->shown = shown;
    it->more = more;
    return (jval){ .type = J_ITER, .it = it };
}

jval loami_j_tolist(jrun *r, jval v)
{
    jlb b = { .r = r };
    jval item;
    jiter *it = loami_j_iter(r, v);
    while (loami_j_step(r, it, &item)) loami_j_push(&b, item);
    return loami_j_lbval(&b, J_LIST);
}
