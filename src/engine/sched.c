#include "engine/sched.h"
#include "base/clock.h"
#include "base/err.h"
#include "engine/tier.h"
#include "file/windows.h"
#include "substrate/groups.h"

#include <string.h>

enum { PASSED_MOST = 7 }; /* starts, or steps with prompts, of the more urgent in a row */

static uint32_t pages_for(const loam_engine *e, uint32_t n_tokens)
{
    return (n_tokens + e->sub_info.page_tokens - 1) / e->sub_info.page_tokens;
}

uint32_t loami_pages_at_once(const loam_engine *e, uint32_t n_tokens)
{
    uint32_t all = pages_for(e, n_tokens), seen = pages_for(e, e->window);
    uint64_t window = 2 * (uint64_t)seen + pages_for(e, e->sub_info.rows) + 2; /* what it shares, what it looks back at, a step's rows */
    return e->window && window < all ? (uint32_t)window : all;
}

uint32_t loami_near_at_once(const loam_engine *e, uint32_t n_tokens)
{
    uint32_t all = pages_for(e, n_tokens), guesses = pages_for(e, e->options.speculate_tokens);
    if (e->near_window == 0) return 0;
    return (uint32_t)loami_window_pages(e->near_window + guesses * e->sub_info.page_tokens, e->sub_info.page_tokens, all);
}

void loami_sched_passed(loam_engine *e, loam_stream *s)
{
    if (s->n_past <= s->n_prompt) loami_pages_publish(e->pages, &s->holding, s->tokens, loami_sched_shared(e, s->n_past));
    loami_pages_pass(e->pages, &s->holding, s->n_past);
    uint32_t from = loami_window_from(e->window, s->n_past);
    if (from) loami_pages_drop(e->pages, &s->holding, from / e->sub_info.page_tokens);
}

uint32_t loami_sched_shared(const loam_engine *e, uint32_t n_tokens)
{
    return e->window && n_tokens > e->window ? e->window : n_tokens;
}

bool loami_sched_reach(loam_engine *e, loam_stream *s, uint32_t n_tokens)
{
    return loami_pages_grow(e->pages, &s->holding, pages_for(e, n_tokens));
}

static bool decodes(const loam_stream *s)
{
    return s->n_past + 1 == s->n_tokens && s->n_past >= s->n_prompt;
}

/* ---- waiting -------------------------------------------------------------------------------------------- */

static bool sooner(const loam_stream *a, const loam_stream *b)
{
    if (a->request.priority != b->request.priority) return a->request.priority < b->request.priority;
    if ((a->n_preempted > 0) != (b->n_preempted > 0)) return a->n_preempted > 0;
    if (a->share->got != b->share->got) return a->share->got < b->share->got;
    return a->arrival < b->arrival;
}

static void unlink_waiting(loam_engine *e, loam_stream **at)
{
    loam_stream *s = *at;
    if (!(*at = s->next)) e->waiting_end = at;
    e->n_waiting--;
}

/* Drops those who were cancelled or whose time is over; notes clients of the others. */
static void look_through(loam_engine *e, double now)
{
    for (loam_stream **at = &e->waiting; *at;) {
        loam_stream *s = *at;
        bool cancelled = atomic_load(&s->cancelled), late = loami_stream_late(s, now);
        if (!s->share) s->share = loami_shares_join(&e->shares, s->request.client);
        if (!cancelled && !late) {
            at = &s->next;
            continue;
        }
        unlink_waiting(e, at);
        if (cancelled) loami_engine_finish(e, s, LOAM_FINISH_CANCELLED, LOAM_E_CANCELLED, "cancelled");
        else loami_engine_timeout(e, s, "in the queue");
    }
}

/* Its reader lags: it would take a place to do nothing there. */
static bool resting(loam_stream *s)
{
    return atomic_load(&s->rests) && loami_stream_room(s) < RING_FREE;
}

/* Of those who are no more urgent than this. */
static loam_stream **first_waiting(loam_engine *e, int32_t priority)
{
    loam_stream **best = NULL;
    for (loam_stream **at = &e->waiting; *at; at = &(*at)->next)
        if ((*at)->request.priority >= priority && (!best || sooner(*at, *best)) && !resting(*at)) best = at;
    return best;
}

/* Who came before first and is less urgent: the one that came before all such, or NULL. */
static const loam_stream *passed_over(const loam_engine *e, const loam_stream *first)
{
    const loam_stream *oldest = NULL;
    for (loam_stream *s = e->waiting; s; s = s->next) {
        uint64_t before = oldest ? oldest->arrival : first->arrival;
        if (s->request.priority > first->request.priority && s->arrival < before && !resting(s)) oldest = s;
    }
    return oldest;
}

/* Who is next: the most urgent, or who was passed over often enough. */
static loam_stream **next_waiting(loam_engine *e, int32_t *urgency, uint32_t *n_passed)
{
    loam_stream **first = first_waiting(e, INT32_MIN);
    const loam_stream *old = first ? passed_over(e, *first) : NULL;
    if (first) *urgency = (*first)->request.priority;
    *n_passed = 0;
    if (old && e->n_passed >= PASSED_MOST) return first_waiting(e, old->request.priority);
    if (old) *n_passed = e->n_passed + 1;
    return first;
}

/* ---- starting ------------------------------------------------------------------------------------------- */

static uint32_t same_tokens(const loam_stream *a, const loam_stream *b)
{
    uint32_t n = a->n_prompt < b->n_prompt ? a->n_prompt : b->n_prompt, i = 0;
    while (i < n && a->tokens[i] == b->tokens[i]) i++;
    return i;
}

/* Whom s should wait for: one that runs its prompt now and will leave more of s's pages than there are already. */
static void find_leader(loam_engine *e, loam_stream *s)
{
    uint32_t page = e->sub_info.page_tokens, best = s->n_past / page;
    s->leader = NULL;
    s->twin = false;
    if (!s->holding.keep || s->n_past >= s->n_prompt || s->n_past != s->holding.n_shared * page) return;
    for (uint32_t i = 0; i < e->n_running; i++) {
        loam_stream *l = e->running[i];
        if (l == s || l->leader || !l->holding.keep || l->n_past >= l->n_prompt || l->holding.salt != s->holding.salt) continue;
        if (l->request.priority > s->request.priority) continue;
        uint32_t same = same_tokens(l, s);
        bool twin = same == s->n_prompt && same == l->n_prompt && s->n_tokens == s->n_prompt && l->n_tokens == l->n_prompt;
        uint32_t full = loami_sched_shared(e, same < s->n_prompt ? same : s->n_prompt - 1) / page;
        if (!twin && full <= best) continue;
        s->leader = l;
        s->twin = twin;
        best = s->n_follow = full;
        if (twin) return;
    }
}

/* Running is in order of priority, then of starting: who came last among the least urgent stands last. */
static void insert(loam_engine *e, loam_stream *s)
{
    uint32_t i = e->n_running++;
    for (; i > 0 && e->running[i - 1]->request.priority > s->request.priority; i--) e->running[i] = e->running[i - 1];
    e->running[i] = s;
}

static void start(loam_engine *e, loam_stream *s, double now)
{
    s->n_past = s->holding.n_shared * e->sub_info.page_tokens;
    atomic_store(&s->rests, false);
    if (!s->admitted_s) {
        s->admitted_s = now;
        s->n_cached = s->n_past;
        e->meter.prefix_queries += s->n_prompt;
        e->meter.prefix_hits += s->n_cached;
    }
    double from = s->request.client && s->share->due > e->prompts_run ? s->share->due : e->prompts_run;
    s->due = from + (s->n_tokens - s->n_past);
    if (s->request.client) s->share->due = s->due;
    find_leader(e, s);
    insert(e, s);
}

/* Takes s out of running and puts it back into the queue, to run its tokens once more: what of its pages is still in the
 * cache by then need not be run again. Under the engine's lock. */
static void put_back(loam_engine *e, loam_stream *s)
{
    loami_sched_leave(e, s);
    s->n_past = 0;
    s->leader = NULL;
    s->n_preempted++;
    e->meter.preemptions++;
    s->next = e->waiting;
    if (!e->waiting) e->waiting_end = &s->next;
    e->waiting = s;
    e->n_waiting++;
}

/* Somebody waits for a place or pages: the last of those whose readers lag by their whole ring gives its own back. */
static bool rest_one(loam_engine *e)
{
    for (uint32_t i = e->n_running; i > 0; i--) {
        loam_stream *s = e->running[i - 1];
        if (!decodes(s) || loami_stream_room(s) > 0) continue;
        atomic_store(&s->rests, true);
        put_back(e, s);
        return true;
    }
    return false;
}

static bool take_pages(loam_engine *e, loam_stream *s)
{
    uint32_t most = loami_pages_at_once(e, e->options.overcommit ? s->n_tokens + 1 : s->n_reserved);
    if (most > s->n_pages_most) most = s->n_pages_most;
    s->holding.near_most = loami_near_at_once(e, s->n_reserved);
    return loami_pages_take(e->pages, &s->holding, s->tokens, s->n_tokens, most);
}

void loami_sched_admit(loam_engine *e, double now)
{
    look_through(e, now);
    for (;;) {
        int32_t urgency;
        uint32_t n_passed;
        loam_stream **at = next_waiting(e, &urgency, &n_passed), *s = at ? *at : NULL;
        if (!s) break;
        if (e->n_running == e->max_running || !take_pages(e, s)) {
            if (rest_one(e)) continue;
            break;
        }
        unlink_waiting(e, at);
        e->n_passed = n_passed;
        s->request.priority = urgency; /* who was passed over counts as urgent as those who passed it */
        start(e, s, now);
    }
}

void loami_sched_leave(loam_engine *e, loam_stream *s)
{
    uint32_t i = 0;
    while (e->running[i] != s) i++;
    memmove(&e->running[i], &e->running[i + 1], (--e->n_running - i) * sizeof *e->running);
    loami_pages_give(e->pages, &s->holding, s->tokens, loami_sched_shared(e, s->n_past));
    for (i = 0; i < e->n_running; i++)
        if (e->running[i]->leader == s) find_leader(e, e->running[i]);
}

/* Its pages go to others; it waits until there are some again, and runs its tokens once more. */
static void preempt(loam_engine *e, loam_stream *s)
{
    pthread_mutex_lock(&e->lock);
    put_back(e, s);
    pthread_mutex_unlock(&e->lock);
}

/* ---- a step --------------------------------------------------------------------------------------------- */

/* Adds the next n rows of s to the batch. */
static void take_rows(loam_engine *e, loam_batch *b, loam_stream *s, uint32_t n)
{
    uint32_t first = b->n_rows;
    for (uint32_t i = 0; i < n; i++) {
        e->row_tokens[first + i] = s->tokens[s->n_past + i];
        bool last = s->n_past + i + 1 >= s->n_tokens;
        bool every = s->job == LOAMI_JOB_SCORE || (s->job == LOAMI_JOB_EMBED && !s->out.last_only);
        if (last || every) e->row_wanted[b->n_wanted++] = first + i;
    }
    s->n_rows = n;
    e->row_seqs[b->n_seqs] = (loam_seq_rows){ first, n, s->n_past, { s->holding.pages, s->holding.near } };
    e->step_seqs[b->n_seqs++] = s;
    b->n_rows += n;
}

/* Guesses after the tokens of s, as far as its answer may go, its reader follows, and rows and pages are to spare. */
static uint32_t guess(loam_engine *e, const loam_batch *b, loam_stream *s, uint32_t room)
{
    uint32_t most = e->options.speculate_tokens, others = e->n_running - b->n_seqs, left = s->n_reserved - s->n_tokens;
    if (!most) return 0;
    if (most > room - 1) most = room - 1;
    if (left == 0 || most > left - 1) most = left ? left - 1 : 0;
    if (b->n_rows + others + most > ROWS_DRAFTED) most = b->n_rows + others < ROWS_DRAFTED ? ROWS_DRAFTED - b->n_rows - others : 0;
    most = most ? loami_draft_length(&s->draft, most) : 0;
    uint32_t n = most ? loami_draft_guess(s->tokens, s->n_tokens, most) : 0;
    return n && loami_sched_reach(e, s, s->n_tokens + n) ? n : 0;
}

static void plan_decodes(loam_engine *e, loam_batch *b)
{
    for (uint32_t i = 0; i < e->n_running; i++) {
        loam_stream *s = e->running[i];
        bool here = true;
        uint32_t room = decodes(s) ? loami_stream_room(s) : 0;
        if (room == 0) continue;
        while (here && !loami_sched_reach(e, s, s->n_past + 1)) {
            loam_stream *last = e->running[e->n_running - 1];
            here = last != s;
            preempt(e, last);
        }
        if (!here) continue;
        s->n_drafted = guess(e, b, s, room);
        loami_work_decode(&e->work, s->n_past, 1 + s->n_drafted);
        take_rows(e, b, s, 1 + s->n_drafted);
    }
}

/* Takes the nodes that have come since, and stands after them. */
static void extend(loam_engine *e, loam_stream *s, bool all)
{
    loami_pages_extend(e->pages, &s->holding, s->tokens, all ? s->n_prompt : s->n_tokens, all);
    uint32_t came = s->holding.n_shared * e->sub_info.page_tokens - s->n_past;
    s->n_past += came;
    if (s->n_preempted) return;
    s->n_cached += came;
    e->meter.prefix_hits += came;
}

/* Whether s waits for another's pages; takes those that have come. */
static bool follows(loam_engine *e, loam_stream *s)
{
    uint32_t page = e->sub_info.page_tokens;
    if (s->leader && (s->twin || s->leader->n_past < s->n_follow * page)) return true;
    if (s->holding.n_pages != s->holding.n_shared || s->n_past != s->holding.n_shared * page) return false;
    s->leader = NULL;
    extend(e, s, false);
    return loami_tier_restore(e, s);
}

static bool due_before(const loam_engine *e, const loam_stream *a, const loam_stream *b)
{
    if (e->n_urgent_steps < PASSED_MOST && a->request.priority != b->request.priority) return a->request.priority < b->request.priority;
    return a->due < b->due;
}

/* Those with tokens to run before they can decode, in the order in which they are due. */
static uint32_t list_prompts(loam_engine *e)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->n_running; i++) {
        loam_stream *s = e->running[i];
        if ((s->job == LOAMI_JOB_EMBED) != e->model->hidden) continue;
        if (decodes(s) || follows(e, s) || (s->n_preempted && loami_stream_room(s) == 0)) continue;
        uint32_t at = n++;
        for (; at > 0 && due_before(e, s, e->by_due[at - 1]); at--) e->by_due[at] = e->by_due[at - 1];
        e->by_due[at] = s;
    }
    return n;
}

static void plan_prompts(loam_engine *e, loam_batch *b)
{
    uint32_t n_prompts = list_prompts(e), page = e->sub_info.page_tokens;
    for (uint32_t i = 0; i < n_prompts; i++) {
        loam_stream *s = e->by_due[i];
        uint32_t n = s->n_tokens - s->n_past, room = e->sub_info.rows - b->n_rows;
        if (s->job == LOAMI_JOB_SCORE && n > ROWS_SCORED) n = ROWS_SCORED;
        if (n > room) n = room / LOAMI_PACE_ROWS * LOAMI_PACE_ROWS;
        n = loami_pace_fit(&e->pace, &e->work, s->n_past, n);
        if (n == 0) break;
        if (!loami_sched_reach(e, s, s->n_past + n)) n = loami_pages_held(e->pages, &s->holding) * page - s->n_past;
        if (n == 0) continue;
        loami_work_prompt(&e->work, s->n_past, n);
        take_rows(e, b, s, n);
    }
    if (b->n_seqs > e->n_decode_seqs) e->n_urgent_steps = e->n_urgent_steps < PASSED_MOST ? e->n_urgent_steps + 1 : 0;
}

/* Those who decode, but not in this step: they wait for it all the same. */
static loami_work decodes_beside(const loam_engine *e)
{
    loami_work w = { 0 };
    for (uint32_t i = 0; i < e->n_running; i++)
        if (decodes(e->running[i])) loami_work_decode(&w, e->running[i]->n_past, 1);
    return w;
}

/* The rows of those whose step gives what e->model->hidden says. */
static loam_batch plan_kind(loam_engine *e)
{
    loam_batch b = { .tokens = e->row_tokens, .seqs = e->row_seqs, .wanted = e->row_wanted };
    for (uint32_t i = 0; i < e->n_running; i++) e->running[i]->n_rows = e->running[i]->n_drafted = 0;
    e->work = e->model->hidden ? decodes_beside(e) : (loami_work){ 0 };
    if (!e->model->hidden) plan_decodes(e, &b);
    e->n_decode_seqs = b.n_seqs;
    plan_prompts(e, &b);
    if (e->model->hidden) e->work = (loami_work){ .n_prompt = e->work.n_prompt, .prompt_past = e->work.prompt_past };
    b.steady = e->options.batch_invariant || e->work.n_prompt > 0; /* prompts leave pages for others: see loam.h */
    return b;
}

/* A step gives hidden states (embeddings) or logits (all else): the kinds take turns. */
static loam_batch plan(loam_engine *e)
{
    e->model->hidden = !e->model->hidden;
    loam_batch b = plan_kind(e);
    if (b.n_rows) return b;
    e->model->hidden = !e->model->hidden;
    return plan_kind(e);
}

static bool someone_stuck(loam_engine *e)
{
    if (!e->options.overcommit || e->loading || e->n_running < 2) return false;
    uint32_t n = list_prompts(e);
    e->model->hidden = !e->model->hidden;
    n += list_prompts(e);
    return n > 0;
}

loam_batch loami_sched_plan(loam_engine *e)
{
    e->loading = false;
    e->load_until_s = loami_now_s() + e->pace.step_s / 2;
    loam_batch b = plan(e);
    while (b.n_rows == 0 && someone_stuck(e)) {
        preempt(e, e->running[e->n_running - 1]);
        b = plan(e);
    }
    return b;
}

/* ---- the same prompt more than once --------------------------------------------------------------------- */

/* t takes s's full pages, and a copy of the one that is not full. */
static bool join(loam_engine *e, const loam_stream *s, loam_stream *t)
{
    uint32_t page = e->sub_info.page_tokens, rest = s->n_past % page;
    if (t->holding.n_pages != t->holding.n_shared) return false;
    extend(e, t, true);
    if (t->holding.n_shared != s->n_past / page || !loami_sched_reach(e, t, s->n_past)) return false;
    uint32_t at = t->holding.n_shared;
    if (rest) e->machine.api->kv_copy(e->machine.sub, 0, t->holding.pages[at], s->holding.pages[at], rest);
    if (rest && e->near_window) e->machine.api->kv_copy(e->machine.sub, 1, t->holding.near[at], s->holding.near[at], rest);
    e->meter.prefix_hits += t->n_prompt - t->n_cached;
    t->n_cached = t->n_past = t->n_prompt;
    return true;
}

void loami_sched_twins(loam_engine *e, loam_stream *s, bool (*fn)(loam_engine *e, loam_stream *twin, const float *row), const float *row)
{
    for (uint32_t i = e->n_running; i > 0; i--) {
        loam_stream *t = e->running[i - 1];
        if (t->leader != s) continue;
        bool joined = t->twin && s->n_tokens == s->n_prompt && join(e, s, t);
        t->leader = NULL;
        if (joined) fn(e, t, row);
    }
}
