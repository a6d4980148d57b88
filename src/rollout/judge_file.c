/* The judge's memory as JSON: a gateway that is killed goes on judging where it was. */
#include "rollout/judge.h"

#include <math.h>
#include <string.h>

static void put_bet(loami_buf *out, const char *name, const loami_bet *b)
{
    loami_buf_printf(out, ",\"%s\":[%.17g,%.17g", name, b->highest, b->trials);
    for (int i = 0; i < LOAMI_BET_HEADS; i++) loami_buf_printf(out, ",%.17g", b->wealth[i]);
    loami_buf_putc(out, ']');
}

void loami_judge_write(const loami_judge *j, loami_buf *out)
{
    loami_buf_puts(out, "{");
    for (int m = 0; m < LOAMI_METRICS; m++) {
        const loami_score *s = &j->of[m];
        const loami_window *w = &j->times[m];
        loami_buf_printf(out, "%s\"%s\":{\"n\":[%llu,%llu],\"bad\":[%llu,%llu]", m ? "," : "", loami_gate_metrics[m].name,
                         (unsigned long long)s->n[0], (unsigned long long)s->n[1], (unsigned long long)s->bad[0],
                         (unsigned long long)s->bad[1]);
        put_bet(out, "worse", &s->worse);
        put_bet(out, "no_worse", &s->no_worse);
        loami_buf_puts(out, ",\"times\":[");
        for (uint32_t i = 0; i < w->n; i++) /* oldest first */
            loami_buf_printf(out, "%s%.9g", i ? "," : "", w->ring[(w->at + LOAMI_WINDOW - w->n + i) % LOAMI_WINDOW]);
        loami_buf_puts(out, "]}");
    }
    loami_buf_puts(out, "}");
}

static bool read_pair(const json_t *v, uint64_t out[2])
{
    for (int i = 0; i < 2; i++) {
        const json_t *n = json_array_get(v, (size_t)i);
        if (!json_is_integer(n) || json_integer_value(n) < 0) return false;
        out[i] = (uint64_t)json_integer_value(n);
    }
    return json_array_size(v) == 2;
}

static bool read_bet(const json_t *v, loami_bet *b)
{
    double x[LOAMI_BET_HEADS + 2];
    if (json_array_size(v) != LOAMI_BET_HEADS + 2) return false;
    for (size_t i = 0; i < LOAMI_BET_HEADS + 2; i++) {
        x[i] = json_number_value(json_array_get(v, i));
        if (!json_is_number(json_array_get(v, i)) || !isfinite(x[i]) || x[i] < 0) return false;
    }
    b->highest = x[0];
    b->trials = x[1];
    memcpy(b->wealth, x + 2, sizeof b->wealth);
    return true;
}

static bool read_times(const json_t *v, loami_window *w)
{
    if (!json_is_array(v) || json_array_size(v) > LOAMI_WINDOW) return false;
    for (size_t i = 0; i < json_array_size(v); i++) {
        double x = json_number_value(json_array_get(v, i));
        if (!(x > 0) || !isfinite(x)) return false;
        loami_window_add(w, x);
    }
    return true;
}

int loami_judge_read(loami_judge *j, const json_t *v, const char *what, loam_err *err)
{
    loami_gate gate = j->gate;
    loami_judge_init(j, &gate);
    for (int m = 0; m < LOAMI_METRICS; m++) {
        const json_t *o = json_object_get(v, loami_gate_metrics[m].name);
        loami_score *s = &j->of[m];
        if (!o) continue;
        if (read_pair(json_object_get(o, "n"), s->n) && read_pair(json_object_get(o, "bad"), s->bad) &&
            s->bad[0] <= s->n[0] && s->bad[1] <= s->n[1] && read_bet(json_object_get(o, "worse"), &s->worse) &&
            read_bet(json_object_get(o, "no_worse"), &s->no_worse) &&
            read_times(json_object_get(o, "times"), &j->times[m]))
            continue;
        loami_judge_init(j, &gate);
        return loami_fail(err, LOAM_E_FORMAT, "%s: judge.%s is not what was written there", what,
                          loami_gate_metrics[m].name);
    }
    return 0;
}
