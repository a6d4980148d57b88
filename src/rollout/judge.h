/* rollout/judge.h: from the outcomes of requests to a verdict.
 *
 * Only a request whose side was drawn for it is judged, and the second one of its conversation: one bet a
 * conversation and gate, so that a client in a loop cannot decide anything. docs/rollout.md says why. */
#ifndef LOAMI_JUDGE_H
#define LOAMI_JUDGE_H

#include "rollout/bet.h"
#include "rollout/gate.h"

typedef enum loami_finish { LOAMI_END_UNKNOWN, LOAMI_END_STOP, LOAMI_END_LENGTH, LOAMI_END_OTHER } loami_finish;

/* One request, as its client saw it. Times are 0 where they are not known. */
typedef struct loami_outcome {
    bool on_new;  /* the side that it was sent to, wherever it was answered in the end */
    bool second;  /* of its conversation */
    double share; /* the probability that its conversation had of the new side */
    bool failed;
    double ttft_s, itl_s, token_s;
    loami_finish finish;
    bool whole; /* the answer came to its end: it can be empty, or repeat itself */
    bool empty, repeated;
    bool checked, invalid; /* JSON or calls were asked for; and they do not parse */
} loami_outcome;

enum { LOAMI_WINDOW = 256, LOAMI_WINDOW_LEAST = 20 };

/* The last times of the baseline, for their quantiles. */
typedef struct loami_window {
    double ring[LOAMI_WINDOW], sorted[LOAMI_WINDOW];
    uint32_t n, at;
} loami_window;

void loami_window_add(loami_window *w, double v);
double loami_window_quantile(const loami_window *w, double q); /* n > 0 */

typedef struct loami_score {
    loami_bet worse, no_worse;
    uint64_t n[2], bad[2]; /* judged; [1]: on the new side. A time is bad beyond the quantile times the limit */
} loami_score;

typedef struct loami_judge {
    loami_gate gate;
    loami_score of[LOAMI_METRICS];
    loami_window times[LOAMI_METRICS]; /* of those with a quantile */
} loami_judge;

typedef enum loami_verdict { LOAMI_FINE, LOAMI_DOUBT, LOAMI_WORSE } loami_verdict;

void loami_judge_init(loami_judge *j, const loami_gate *gate);
void loami_judge_add(loami_judge *j, const loami_outcome *o);

/* Of all gates together; *which: the one that speaks loudest. */
loami_verdict loami_judge_verdict(const loami_judge *j, loami_metric *which);

/* The wealth at which a gate closes: 1 / (false_alarms * its part). */
double loami_judge_closes_at(const loami_gate *g, loami_metric m);

/* Is it proven that it is no worse by more than its limit? With the confidence that it closes with. */
bool loami_judge_proven(const loami_judge *j, loami_metric m);
bool loami_judge_all_proven(const loami_judge *j); /* errors and times, those that are on */

/* "ttft: 71.2 % of 52 are beyond 1.25 times the baseline's median, of the baseline 50.1 % of 401 beyond it" */
void loami_judge_words(const loami_judge *j, loami_metric m, char *out, size_t n);

/* As JSON, for the checkpoint and back. what: a name for messages. */
void loami_judge_write(const loami_judge *j, loami_buf *out);
int loami_judge_read(loami_judge *j, const json_t *v, const char *what, loam_err *err);

/* Is the end of a text a short piece over and over? */
bool loami_repeats(const char *text, size_t n);

#endif
