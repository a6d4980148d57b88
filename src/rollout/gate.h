/* rollout/gate.h: what must not get worse, by how much, and how sure one wants to be: the gate file.
 *
 * {"false_alarms": 0.005, "gates": {"errors": {"increase": 0.01}, "ttft": {"factor": 1.25}, "shorter": false}}
 *
 * docs/rollout.md describes every field. Unknown ones are refused by name. */
#ifndef LOAMI_GATE_H
#define LOAMI_GATE_H

#include "base/json.h"

typedef enum loami_metric {
    LOAMI_M_ERRORS,       /* of requests that open a conversation */
    LOAMI_M_LATER_ERRORS, /* of the second request of a conversation */
    LOAMI_M_TTFT,
    LOAMI_M_TTFT_HIGH, /* its slowest tenth */
    LOAMI_M_ITL,       /* mean time between two tokens of an answer */
    LOAMI_M_SPEED,     /* seconds a token, from the request to the answer's end */
    LOAMI_M_LONGER,    /* more answers end by "length" */
    LOAMI_M_SHORTER,   /* fewer do */
    LOAMI_M_EMPTY,
    LOAMI_M_REPEATED,
    LOAMI_M_INVALID, /* JSON or tool calls, where they were asked for */
    LOAMI_METRICS
} loami_metric;

typedef struct loami_metric_info {
    const char *name; /* in gate files and reports */
    const char *about;
    double quantile; /* of times: the baseline's, that the new side's are held against; 0 = an event */
    double limit;    /* by default: an increase of its rate, or a factor of its time */
    double slack_ms; /* by default: of times, what nobody feels and no factor measures well */
    double part;     /* of the false alarms; all together 1 */
    bool fewer;      /* the bad thing is that it happens less often */
} loami_metric_info;
extern const loami_metric_info loami_gate_metrics[LOAMI_METRICS];

typedef struct loami_gate {
    double false_alarms; /* the chance that a rollout of an engine that is as good is ever rolled back */
    double doubt;        /* wealth at which no step is taken, until it is lost again */
    bool prove;          /* a step is taken only when errors and times are proven to be no worse */
    struct {
        bool off;
        double limit, slack_ms;
    } of[LOAMI_METRICS];
} loami_gate;

void loami_gate_default(loami_gate *g);

/* Parses n bytes; what: their name for messages. */
int loami_gate_parse(loami_gate *g, const char *text, size_t n, const char *what, loam_err *err);

/* The same from JSON that was read already. */
int loami_gate_read(loami_gate *g, const json_t *v, const char *what, loam_err *err);

/* As a gate file, every field said. */
void loami_gate_write(const loami_gate *g, loami_buf *out);

#endif
