#include "rollout/gate.h"

#include <stdio.h>
#include <string.h>

const loami_metric_info loami_gate_metrics[LOAMI_METRICS] = {
    [LOAMI_M_ERRORS] = { "errors", "requests that fail", 0, 0.01, 0, 0.24, false },
    [LOAMI_M_LATER_ERRORS] = { "later_errors", "second requests of a conversation that fail", 0, 0.02, 0, 0.1, false },
    [LOAMI_M_TTFT] = { "ttft", "time to first token, median", 0.5, 1.25, 5, 0.2, false },
    [LOAMI_M_TTFT_HIGH] = { "ttft_high", "time to first token, slowest tenth", 0.9, 1.5, 5, 0.08, false },
    [LOAMI_M_ITL] = { "itl", "time between two tokens, median", 0.5, 1.25, 1, 0.1, false },
    [LOAMI_M_SPEED] = { "speed", "seconds a token over a whole answer, median", 0.5, 1.25, 1, 0.08, false },
    [LOAMI_M_LONGER] = { "longer", "answers that end by length: more", 0, 0.1, 0, 0.04, false },
    [LOAMI_M_SHORTER] = { "shorter", "answers that end by length: fewer", 0, 0.1, 0, 0.04, true },
    [LOAMI_M_EMPTY] = { "empty", "empty answers", 0, 0.01, 0, 0.04, false },
    [LOAMI_M_REPEATED] = { "repeated", "answers that repeat themselves to the end", 0, 0.02, 0, 0.04, false },
    [LOAMI_M_INVALID] = { "invalid", "JSON and tool calls that do not parse", 0, 0.02, 0, 0.04, false },
};

void loami_gate_default(loami_gate *g)
{
    *g = (loami_gate){ .false_alarms = 0.005, .doubt = 5 };
    for (int i = 0; i < LOAMI_METRICS; i++) {
        g->of[i].limit = loami_gate_metrics[i].limit;
        g->of[i].slack_ms = loami_gate_metrics[i].slack_ms;
    }
}

static int number(const json_t *v, const char *what, const char *name, double lo, double hi, double *out,
                  loam_err *err)
{
    if (json_is_number(v) && json_number_value(v) >= lo && json_number_value(v) <= hi) {
        *out = json_number_value(v);
        return 0;
    }
    return loami_fail(err, LOAM_E_FORMAT, "%s: %s must be a number from %g to %g", what, name, lo, hi);
}

static int read_one(loami_gate *g, int i, const json_t *v, const char *what, loam_err *err)
{
    const loami_metric_info *m = &loami_gate_metrics[i];
    const char *field = m->quantile > 0 ? "factor" : "increase", *key;
    char place[80];
    json_t *value;
    if (json_is_boolean(v)) {
        g->of[i].off = json_is_false(v);
        return 0;
    }
    if (!json_is_object(v))
        return loami_fail(err, LOAM_E_FORMAT, "%s: gates.%s must be {\"%s\": number}, true or false", what, m->name,
                          field);
    json_object_foreach((json_t *)v, key, value) {
        bool slack = m->quantile > 0 && strcmp(key, "slack_ms") == 0;
        if (strcmp(key, field) != 0 && !slack)
            return loami_fail(err, LOAM_E_FORMAT, "%s: gates.%s: unknown field \"%.60s\"; it has \"%s\"%s", what,
                              m->name, key, field, m->quantile > 0 ? " and \"slack_ms\"" : "");
        snprintf(place, sizeof place, "gates.%s.%s", m->name, slack ? key : field);
        int rc = slack ? number(value, what, place, 0, 60000, &g->of[i].slack_ms, err)
                       : number(value, what, place, m->quantile > 0 ? 1 : 0, m->quantile > 0 ? 100 : 0.9,
                                &g->of[i].limit, err);
        if (rc < 0) return rc;
    }
    return 0;
}

static int read_gates(loami_gate *g, const json_t *v, const char *what, loam_err *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(v)) return loami_fail(err, LOAM_E_FORMAT, "%s: gates must be an object", what);
    json_object_foreach((json_t *)v, key, value) {
        char known[300] = "";
        size_t n = 0;
        int i = 0;
        while (i < LOAMI_METRICS && strcmp(loami_gate_metrics[i].name, key) != 0) i++;
        for (int k = 0; k < LOAMI_METRICS; k++)
            n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", k ? ", " : "", loami_gate_metrics[k].name);
        if (i == LOAMI_METRICS)
            return loami_fail(err, LOAM_E_FORMAT, "%s: gates: unknown gate \"%.60s\"; known are %s", what, key,
                              known);
        int rc = read_one(g, i, value, what, err);
        if (rc < 0) return rc;
    }
    return 0;
}

int loami_gate_read(loami_gate *g, const json_t *v, const char *what, loam_err *err)
{
    const char *key;
    json_t *value;
    int rc = 0;
    loami_gate_default(g);
    if (!json_is_object(v)) return loami_fail(err, LOAM_E_FORMAT, "%s: must be an object", what);
    json_object_foreach((json_t *)v, key, value) {
        if (strcmp(key, "false_alarms") == 0)
            rc = number(value, what, key, 1e-6, 0.2, &g->false_alarms, err);
        else if (strcmp(key, "doubt") == 0)
            rc = number(value, what, key, 1.01, 1e6, &g->doubt, err);
        else if (strcmp(key, "prove") == 0 && json_is_boolean(value))
            g->prove = json_is_true(value);
        else if (strcmp(key, "prove") == 0)
            rc = loami_fail(err, LOAM_E_FORMAT, "%s: prove must be true or false", what);
        else if (strcmp(key, "gates") == 0)
            rc = read_gates(g, value, what, err);
        else
            rc = loami_fail(err, LOAM_E_FORMAT,
                            "%s: unknown field \"%.60s\"; known are false_alarms, doubt, prove, gates", what, key);
        if (rc < 0) return rc;
    }
    return 0;
}

int loami_gate_parse(loami_gate *g, const char *text, size_t n, const char *what, loam_err *err)
{
    json_t *v = NULL;
    int rc = loami_json_parse(&v, text, n, what, err);
    if (rc == 0) rc = loami_gate_read(g, v, what, err);
    json_decref(v);
    return rc;
}

void loami_gate_write(const loami_gate *g, loami_buf *out)
{
    loami_buf_printf(out, "{\"false_alarms\":%.17g,\"doubt\":%.17g,\"prove\":%s,\"gates\":{", g->false_alarms,
                     g->doubt, g->prove ? "true" : "false");
    for (int i = 0; i < LOAMI_METRICS; i++) {
        const loami_metric_info *m = &loami_gate_metrics[i];
        loami_buf_printf(out, "%s\"%s\":", i ? "," : "", m->name);
        if (g->of[i].off)
            loami_buf_puts(out, "false");
        else if (m->quantile > 0)
            loami_buf_printf(out, "{\"factor\":%.17g,\"slack_ms\":%.17g}", g->of[i].limit, g->of[i].slack_ms);
        else
            loami_buf_printf(out, "{\"increase\":%.17g}", g->of[i].limit);
    }
    loami_buf_puts(out, "}}");
}
