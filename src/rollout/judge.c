#include "rollout/judge.h"

#include <stdio.h>
#include <string.h>

/* ---- the baseline's times ------------------------------------------------------------------------ */

static uint32_t place_of(const loami_window *w, double v)
{
    uint32_t lo = 0, hi = w->n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (w->sorted[mid] < v)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void loami_window_add(loami_window *w, double v)
{
    if (w->n == LOAMI_WINDOW) {
        uint32_t old = place_of(w, w->ring[w->at]);
        memmove(w->sorted + old, w->sorted + old + 1, (w->n - old - 1) * sizeof *w->sorted);
        w->n--;
    }
    uint32_t at = place_of(w, v);
    memmove(w->sorted + at + 1, w->sorted + at, (w->n - at) * sizeof *w->sorted);
    w->sorted[at] = v;
    w->ring[w->at] = v;
    w->at = (w->at + 1) % LOAMI_WINDOW;
    w->n++;
}

double loami_window_quantile(const loami_window *w, double q)
{
    uint32_t i = (uint32_t)(q * (w->n - 1) + 0.5);
    return w->sorted[i];
}

/* ---- bets ---------------------------------------------------------------------------------------- */

void loami_judge_init(loami_judge *j, const loami_gate *gate)
{
    memset(j, 0, sizeof *j);
    j->gate = *gate;
    for (int m = 0; m < LOAMI_METRICS; m++) {
        loami_bet_init(&j->of[m].worse);
        loami_bet_init(&j->of[m].no_worse);
    }
}

/* What the baseline's rate has been, drawn to none at first. */
static double rate_so_far(const loami_score *s)
{
    return ((double)s->bad[0] + 0.5) / ((double)s->n[0] + 2);
}

static void bet(loami_score *s, loami_trial t, double allowed)
{
    loami_bet_worse(&s->worse, &t, allowed);
    loami_bet_no_worse(&s->no_worse, &t, allowed);
    s->n[t.on_new]++;
    s->bad[t.on_new] += t.bad;
}

/* Whether it happened: the rates are compared. */
static void on_event(loami_judge *j, loami_metric m, const loami_outcome *o, bool happened)
{
    loami_score *s = &j->of[m];
    if (j->gate.of[m].off || o->share <= 0) return;
    loami_trial t = { .on_new = o->on_new, .bad = happened, .share = o->share, .centre = rate_so_far(s) };
    if (loami_gate_metrics[m].fewer) {
        t.bad = !happened;
        t.centre = s->n[0] ? rate_so_far(s) : 1;
    }
    bet(s, t, j->gate.of[m].limit);
}

/* How long it took. A time of the baseline is bad beyond the quantile q of those before it, one of the new side
 * beyond q times the limit: if the new side is no slower than the limit allows, the second is no more likely. */
static void on_time(loami_judge *j, loami_metric m, const loami_outcome *o, double v)
{
    const loami_metric_info *info = &loami_gate_metrics[m];
    loami_window *w = &j->times[m];
    if (j->gate.of[m].off || !(v > 0)) return;
    if (w->n >= LOAMI_WINDOW_LEAST && o->share > 0 && o->share < 1) {
        double q = loami_window_quantile(w, info->quantile);
        loami_trial t = { .on_new = o->on_new,
                          .bad = v > (o->on_new ? q * j->gate.of[m].limit + j->gate.of[m].slack_ms * 1e-3 : q),
                          .share = o->share,
                          .centre = 1 - info->quantile };
        bet(&j->of[m], t, 0);
    }
    if (!o->on_new) loami_window_add(w, v);
}

void loami_judge_add(loami_judge *j, const loami_outcome *o)
{
    if (o->second) {
        on_event(j, LOAMI_M_LATER_ERRORS, o, o->failed);
        return;
    }
    on_event(j, LOAMI_M_ERRORS, o, o->failed);
    on_time(j, LOAMI_M_TTFT, o, o->ttft_s);
    on_time(j, LOAMI_M_TTFT_HIGH, o, o->ttft_s);
    on_time(j, LOAMI_M_ITL, o, o->itl_s);
    on_time(j, LOAMI_M_SPEED, o, o->token_s);
    if (o->failed || !o->whole) return;
    if (o->finish != LOAMI_END_UNKNOWN) {
        on_event(j, LOAMI_M_LONGER, o, o->finish == LOAMI_END_LENGTH);
        on_event(j, LOAMI_M_SHORTER, o, o->finish == LOAMI_END_LENGTH);
    }
    on_event(j, LOAMI_M_EMPTY, o, o->empty);
    on_event(j, LOAMI_M_REPEATED, o, o->repeated);
    if (o->checked) on_event(j, LOAMI_M_INVALID, o, o->invalid);
}

/* ---- verdicts ------------------------------------------------------------------------------------ */

double loami_judge_closes_at(const loami_gate *g, loami_metric m)
{
    return 1 / (g->false_alarms * loami_gate_metrics[m].part);
}

loami_verdict loami_judge_verdict(const loami_judge *j, loami_metric *which)
{
    loami_verdict verdict = LOAMI_FINE;
    double loudest = -1;
    for (int m = 0; m < LOAMI_METRICS; m++) {
        const loami_bet *b = &j->of[m].worse;
        double closes = loami_judge_closes_at(&j->gate, m), now = loami_bet_wealth(b);
        bool closed = b->highest >= closes;
        if (j->gate.of[m].off) continue;
        double loud = (closed ? b->highest : now) / closes;
        if (closed)
            verdict = LOAMI_WORSE;
        else if (now >= j->gate.doubt && verdict == LOAMI_FINE)
            verdict = LOAMI_DOUBT;
        if (loud > loudest) {
            loudest = loud;
            if (which) *which = m;
        }
    }
    return verdict;
}

bool loami_judge_proven(const loami_judge *j, loami_metric m)
{
    return j->of[m].no_worse.highest >= loami_judge_closes_at(&j->gate, m);
}

bool loami_judge_all_proven(const loami_judge *j)
{
    static const loami_metric must[] = { LOAMI_M_ERRORS, LOAMI_M_TTFT, LOAMI_M_ITL, LOAMI_M_SPEED };
    for (size_t i = 0; i < sizeof must / sizeof must[0]; i++)
        if (!j->gate.of[must[i]].off && !loami_judge_proven(j, must[i])) return false;
    return true;
}

static double percent(uint64_t part, uint64_t all)
{
    return all ? 100 * (double)part / (double)all : 0;
}

void loami_judge_words(const loami_judge *j, loami_metric m, char *out, size_t n)
{
    const loami_metric_info *info = &loami_gate_metrics[m];
    const loami_score *s = &j->of[m];
    double limit = j->gate.of[m].limit;
    unsigned long long n_new = s->n[1], n_old = s->n[0];
    if (info->quantile > 0)
        snprintf(out, n,
                 "%s: %.1f %% of %llu on the new side took longer than %g times the baseline's (baseline: %.1f %% of "
                 "%llu longer than its own)",
                 info->about, percent(s->bad[1], s->n[1]), n_new, limit, percent(s->bad[0], s->n[0]), n_old);
    else
        snprintf(out, n, "%s: %.2f %% of %llu on the new side, %.2f %% of %llu on the old one, %g points allowed",
                 info->about, percent(info->fewer ? s->n[1] - s->bad[1] : s->bad[1], s->n[1]), n_new,
                 percent(info->fewer ? s->n[0] - s->bad[0] : s->bad[0], s->n[0]), n_old, limit * 100);
}

/* ---- repetition ---------------------------------------------------------------------------------- */

enum { PERIOD_MAX = 200, TIMES = 5, REPEATED_BYTES = 80 };

bool loami_repeats(const char *text, size_t n)
{
    for (size_t period = 1; period <= PERIOD_MAX; period++) {
        size_t want = period * TIMES > REPEATED_BYTES ? period * TIMES : REPEATED_BYTES, same = 0;
        if (want > n) want = period * TIMES <= n ? want : 0;
        if (!want || want > n) continue;
        while (same + period < want && text[n - 1 - same] == text[n - 1 - same - period]) same++;
        if (same + period >= want) return true;
    }
    return false;
}
