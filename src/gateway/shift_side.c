/* Which side a request belongs to. A conversation is known by how it opens and by the first answer that it got; a
 * session by its header or user. A request that goes on with a conversation nobody knows began before the rollout,
 * on the old side, and stays there. */
#include "gateway/shift.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FIRST_ANSWER_BYTES = 1 << 20 };

static bool is_split_shape(const loami_exchange *x)
{
    return x->endpoint->shape != LOAMI_SHAPE_OTHER && x->endpoint->shape != LOAMI_SHAPE_RESPONSES;
}

/* ---- the conversation ---------------------------------------------------------------------------- */

/* Letters and digits decide: clients trim answers. */
static uint64_t hash_words(const char *s, size_t n, uint64_t seed)
{
    char part[512];
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)s[i] <= ' ') continue;
        part[k++] = s[i];
        if (k < sizeof part) continue;
        seed = loami_hash(part, k, seed);
        k = 0;
    }
    return loami_hash(part, k, seed);
}

static uint64_t hash_answer(loami_span text, uint64_t opening)
{
    size_t n = 0;
    char *s = text.at ? loami_span_string(text, FIRST_ANSWER_BYTES, &n) : NULL;
    uint64_t h = s ? hash_words(s, n, opening ^ 0x616e73u) : 0;
    free(s);
    return h;
}

/* How it opens: everything up to the first message of a user, and the first answer after it. */
static void read_talk(loami_exchange *x)
{
    loami_span all = x->facts.messages, key, value, answer = { 0 };
    loami_peek p = { .in = all };
    bool asked = false;
    x->opens = true;
    if (!all.at || all.at[0] != '[') {
        all = x->facts.prompt.at ? x->facts.prompt : x->facts.body;
        x->talk = all.at ? loami_hash(all.at, all.n, 11) : 0;
        return;
    }
    size_t n = 0;
    while (loami_peek_next(&p, &key, &value)) {
        loami_span role = value.at[0] == '{' ? loami_peek_get(value, "role") : (loami_span){ 0 };
        bool answers = loami_span_is(role, "\"assistant\"");
        if (answers && !x->facts.continues_last) x->opens = false;
        if (answers && asked && !answer.at) answer = loami_peek_get(value, "content");
        if (!asked) n = (size_t)(value.at - all.at) + value.n;
        if (loami_span_is(role, "\"user\"")) asked = true;
    }
    x->talk = loami_hash(all.at, n, 11);
    x->talk = x->talk ? x->talk : 1;
    x->talk_on = x->opens ? 0 : hash_answer(answer, x->talk);
}

/* ---- sessions ------------------------------------------------------------------------------------ */

static uint64_t session_of(const loami_exchange *x, loami_sticky sticky)
{
    const char *header = loami_reply_header(x->reply, x->routes->config->affinity.header);
    if (sticky == LOAMI_STICKY_SESSION || (header && header[0])) return x->facts.wish.session;
    return 0;
}

static uint64_t key_of(const loami_exchange *x)
{
    const char *given = loami_reply_header(x->reply, "Authorization");
    if (x->key) return loami_hash(x->key->name, strlen(x->key->name), 12);
    return given ? loami_hash(given, strlen(given), 13) : 0;
}

static double unit(uint64_t h, uint64_t id)
{
    h = loami_hash(&h, sizeof h, id);
    return (double)(h >> 11) * 0x1p-53;
}

/* ---- draws --------------------------------------------------------------------------------------- */

static void draw(loami_exchange *x, loami_shift *s, double part, uint64_t of)
{
    x->share = of && s->r.plan.sticky == LOAMI_STICKY_KEY ? part : loami_split_share(&s->split, part);
    x->side = loami_split_draw(x->share, of ? unit(of, s->r.id) : loami_gw_uniform(x->gw));
    loami_split_drawn(&s->split, part, x->side);
    x->judged = 1;
}

static void put(loami_shift *s, uint64_t key, loami_side side, uint32_t requests, double share)
{
    loami_seat seat = { .side = side,
                        .requests = (uint8_t)(requests < 255 ? requests : 255),
                        .used_s = (uint32_t)time(NULL),
                        .share = (float)share };
    loami_sides_put(s->sides, key, &seat);
}

/* It was drawn before. */
static void sit(loami_exchange *x, const loami_seat *seat)
{
    x->side = seat->side == LOAMI_SIDE_NEW ? LOAMI_SIDE_NEW : LOAMI_SIDE_OLD;
    x->share = seat->side == LOAMI_SIDE_BOTH ? 0 : seat->share;
    x->judged = seat->requests == 1 && x->share > 0 ? 2 : 0;
}

static void enter_session(loami_exchange *x, loami_shift *s, uint64_t session, double part)
{
    loami_seat seat = { 0 };
    bool known = loami_sides_get(s->sides, session, &seat);
    bool idle = known && x->opens && (double)time(NULL) - seat.used_s > s->r.plan.idle_s;
    if (known && !idle)
        sit(x, &seat);
    else if (x->opens)
        draw(x, s, part, session), seat.requests = 0;
    else
        x->side = LOAMI_SIDE_OLD;
    put(s, session, x->side, seat.requests + 1u, x->share);
}

static void enter_talk(loami_exchange *x, loami_shift *s, double part)
{
    loami_seat seat = { 0 };
    if (x->opens) {
        draw(x, s, part, s->r.plan.sticky == LOAMI_STICKY_KEY ? key_of(x) : 0);
        bool other = loami_sides_get(s->sides, x->talk, &seat) && seat.side != x->side;
        if (x->endpoint->shape != LOAMI_SHAPE_TEXT)
            put(s, x->talk, other ? LOAMI_SIDE_BOTH : x->side, 1, x->share);
        return;
    }
    if ((x->talk_on && loami_sides_get(s->sides, x->talk_on, &seat)) || loami_sides_get(s->sides, x->talk, &seat))
        sit(x, &seat);
    else
        x->side = LOAMI_SIDE_OLD;
    put(s, x->talk_on ? x->talk_on : x->talk, x->side, seat.requests + 1u, x->share);
}

/* After the end: conversations that are on the old side end there. */
static void enter_done(loami_exchange *x, loami_shift *s)
{
    loami_seat seat = { 0 };
    uint64_t session = session_of(x, s->r.plan.sticky), key = session ? session : x->talk_on ? x->talk_on : x->talk;
    x->side = LOAMI_SIDE_NEW;
    if (!key || (x->opens && !session) || !loami_sides_get(s->sides, key, &seat)) return;
    if (seat.side != LOAMI_SIDE_OLD || (x->opens && (double)time(NULL) - seat.used_s > s->r.plan.idle_s)) return;
    x->side = LOAMI_SIDE_OLD;
    put(s, key, LOAMI_SIDE_OLD, seat.requests + 1u, 0);
}

void loami_shift_enter(loami_exchange *x)
{
    loami_shift *s = x->pool->shift;
    if (s->retired) loami_shift_follow(s);
    double part = loami_rollout_part(&s->r);
    x->side = LOAMI_SIDE_OLD;
    if (!loami_rollout_open(&s->r) && s->r.state != LOAMI_R_DONE) return;
    if (is_split_shape(x)) read_talk(x);
    if (s->r.state == LOAMI_R_DONE && is_split_shape(x)) {
        enter_done(x, s);
        return;
    }
    x->shift_id = s->r.id;
    x->shift_step = s->r.step;
    if (part <= 0) return;
    uint64_t session = session_of(x, s->r.plan.sticky);
    if (!is_split_shape(x))
        x->side = part >= 1 ? LOAMI_SIDE_NEW : LOAMI_SIDE_OLD;
    else if (session)
        enter_session(x, s, session, part);
    else
        enter_talk(x, s, part);
    x->by_session = session != 0;
    if (is_split_shape(x)) loami_split_count(&s->split, x->side);
    s->dirty = true;
}

void loami_shift_remember(loami_exchange *x)
{
    loami_shift *s = x->first_pool->shift;
    loami_span text = { 0 };
    loami_buf quoted = { 0 };
    if (!x->opens || x->by_session || !x->talk || x->side == LOAMI_SIDE_NONE || x->text.failed ||
        x->endpoint->shape != LOAMI_SHAPE_CHAT || x->shift_id != s->r.id || loami_rollout_part(&s->r) <= 0)
        return;
    loami_buf_putc(&quoted, '"');
    loami_buf_put(&quoted, x->text.data ? x->text.data : "", x->text.len);
    loami_buf_putc(&quoted, '"');
    if (!quoted.failed) text = (loami_span){ quoted.data, quoted.len };
    uint64_t key = hash_answer(text, x->talk);
    if (key) put(s, key, x->side, 1, x->share);
    loami_buf_free(&quoted);
}

/* ---- at work ------------------------------------------------------------------------------------- */

loami_side loami_shift_side(loami_pool *p, const loami_exchange *x)
{
    const loami_shift *s = p->shift;
    if (p->shift_version != s->version) loami_shift_members(p);
    if (!p->sided) return LOAMI_SIDE_NONE;
    if (s->r.state == LOAMI_R_NONE || s->r.state == LOAMI_R_ROLLED_BACK) return LOAMI_SIDE_OLD;
    if (x && x->first_pool && x->first_pool->shift == s && x->side != LOAMI_SIDE_NONE) return x->side;
    return loami_rollout_part(&s->r) >= 1 ? LOAMI_SIDE_NEW : LOAMI_SIDE_OLD;
}

bool loami_shift_spills(const loami_pool *p, loami_side from)
{
    const loami_shift *s = p->shift;
    if (s->r.state == LOAMI_R_NONE || s->r.state == LOAMI_R_ROLLED_BACK || from == LOAMI_SIDE_NONE) return false;
    return from == LOAMI_SIDE_NEW || loami_rollout_part(&s->r) > 0;
}
