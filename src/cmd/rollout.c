/* loam rollout: orders to a gateway's rollouts, and what it says about them. */
#include "base/file.h"
#include "base/json.h"
#include "cmd/admin.h"
#include "cmd/cmd.h"
#include "cmd/rollout_report.h"
#include "rollout/rollout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct wish {
    loami_admin at;
    const char *pool, *from, *to, *steps, *gate, *sticky, *why, *html, *min_time;
    uint32_t min_requests, idle_s, shadow_running, shadow_tokens;
    bool min_requests_seen, idle_seen, shadow_seen, running_seen, tokens_seen;
    float shadow;
    bool cold, hard, json;
} wish;

#define WHERE(w)                                                                                             \
    { "--config", 'c', "FILE", "the gateway's configuration [gateway.json]", LOAMI_OPT_STRING, &(w).at.config, NULL, \
      0, 0 },                                                                                                \
        { "--url", 0, "URL", "where the gateway listens, without its configuration; its admin key is in LOAM_ADMIN_KEY", \
          LOAMI_OPT_STRING, &(w).at.url, NULL, 0, 0 },                                                       \
        { "--pool", 'p', "P", "the pool; may be left out when there is one", LOAMI_OPT_STRING, &(w).pool, NULL, 0, 0 }, \
        { "--json", 0, NULL, "the gateway's answer as it comes", LOAMI_OPT_FLAG, &(w).json, NULL, 0, 0 }

/* ---- asking -------------------------------------------------------------------------------------- */

static int ask(wish *w, const char *method, const char *path, const char *body, json_t **out, loam_err *err)
{
    loami_buf answer = { 0 };
    int rc = loami_admin_ask(&w->at, method, path, body, &answer, err);
    if (rc == 0 && w->json) printf("%s\n", answer.data ? answer.data : "");
    if (rc == 0) rc = loami_json_parse(out, answer.data ? answer.data : "", answer.len, "answer", err);
    loami_buf_free(&answer);
    return rc;
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static double nth(const json_t *o, const char *key, size_t i)
{
    return json_number_value(json_array_get(json_object_get(o, key), i));
}

static int order(wish *w, json_t *body, loam_err *err)
{
    json_t *answer = NULL;
    char *line = body ? loami_json_text(body) : NULL;
    if (w->pool && body) {
        json_object_set_new(body, "pool", json_string(w->pool));
        free(line);
        line = loami_json_text(body);
    }
    int rc = line ? ask(w, "POST", "/gateway/api/rollout", line, &answer, err) : loami_fail(err, LOAM_E_NOMEM, "out of memory");
    const json_t *r = json_object_get(answer, "rollout");
    if (rc == 0 && !w->json) {
        printf("%s: %s, %g %% on the new side. %s\n", text(r, "pool"), text(r, "state"), number(r, "per_cent"), text(r, "why"));
        if (json_object_get(answer, "moved"))
            printf("%.0f answers were moved off the new side; %.0f could not be continued elsewhere and end there\n",
                   number(answer, "moved"), number(answer, "left"));
    }
    json_decref(answer);
    json_decref(body);
    free(line);
    return rc;
}

static int finish(wish *w, const char *command, int rc, const loam_err *err)
{
    loami_admin_done(&w->at);
    return rc < 0 ? loami_cmd_fail(command, err) : LOAMI_EXIT_OK;
}

/* ---- start --------------------------------------------------------------------------------------- */

static json_t *words_of(const char *list)
{
    json_t *out = json_array();
    while (list && *list) {
        size_t n = strcspn(list, ",");
        json_array_append_new(out, json_stringn(list, n));
        list += n + (list[n] == ',');
    }
    return out;
}

static int steps_of(const char *list, json_t **out, loam_err *err)
{
    *out = json_array();
    for (const char *p = list; *p;) {
        char *end;
        double v = strtod(p, &end);
        if (end == p || (*end && *end != ',' && *end != '%'))
            return loami_fail(err, LOAM_E_ARG, "--steps %s: must be per cents with commas between, as 10,50,100", list);
        json_array_append_new(*out, json_real(v));
        p = *end == '%' ? end + 1 : end;
        if (*p == ',') p++;
    }
    return 0;
}

/* "90", "90s", "30m", "2h", "1d" */
static int seconds_of(const char *s, double *out, loam_err *err)
{
    static const struct {
        char unit;
        double s;
    } units[] = { { 0, 1 }, { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
    char *end;
    double v = strtod(s, &end);
    for (size_t i = 0; end != s && v >= 0 && i < sizeof units / sizeof units[0]; i++)
        if (*end == units[i].unit && (!*end || !end[1])) {
            *out = v * units[i].s;
            return 0;
        }
    return loami_fail(err, LOAM_E_ARG, "--min-time %s: must be a time, as 90s, 30m, 2h or 1d", s);
}

static int read_gate(const char *path, json_t **out, loam_err *err)
{
    loami_gate g;
    int rc = loami_json_load(out, path, 1 << 20, err);
    return rc < 0 ? rc : loami_gate_read(&g, *out, path, err); /* here its name is known */
}

static int start_body(const wish *w, json_t *body, loam_err *err)
{
    double min_s = 0;
    json_t *steps = NULL, *gate = NULL;
    int rc = 0;
    json_object_set_new(body, "action", json_string("start"));
    json_object_set_new(body, "from", words_of(w->from));
    json_object_set_new(body, "to", words_of(w->to));
    if (w->steps) rc = steps_of(w->steps, &steps, err);
    if (steps) json_object_set_new(body, "steps", steps);
    if (rc == 0 && w->min_time) rc = seconds_of(w->min_time, &min_s, err);
    if (rc == 0 && w->min_time) json_object_set_new(body, "min_time_s", json_real(min_s));
    if (rc == 0 && w->gate) rc = read_gate(w->gate, &gate, err);
    if (gate) json_object_set_new(body, "gate", gate);
    if (w->min_requests_seen) json_object_set_new(body, "min_requests", json_integer(w->min_requests));
    if (w->idle_seen) json_object_set_new(body, "idle_s", json_real(w->idle_s));
    if (w->sticky) json_object_set_new(body, "sticky", json_string(w->sticky));
    if (w->shadow_seen) json_object_set_new(body, "shadow", json_real((double)w->shadow));
    if (w->running_seen) json_object_set_new(body, "shadow_running", json_integer(w->shadow_running));
    if (w->tokens_seen) json_object_set_new(body, "shadow_tokens_per_minute", json_integer(w->shadow_tokens));
    if (w->cold) json_object_set_new(body, "warm", json_false());
    return rc;
}

static int start(int argc, char **argv)
{
    wish w = { .at.config = "gateway.json" };
    const loami_opt table[] = {
        WHERE(w),
        { "--from", 0, "A", "the old side: names, kinds or labels of backends, with commas", LOAMI_OPT_STRING, &w.from, NULL, 0, 0 },
        { "--to", 0, "B", "the new side", LOAMI_OPT_STRING, &w.to, NULL, 0, 0 },
        { "--steps", 0, "LIST", "per cents of the new side [10,50,100]; 0 mirrors only", LOAMI_OPT_STRING, &w.steps, NULL, 0, 0 },
        { "--min-requests", 0, "N", "requests of the new side before a step is over [500]", LOAMI_OPT_U32, &w.min_requests, &w.min_requests_seen, 0, 1e9 },
        { "--min-time", 0, "T", "a step lasts at least so long, as 30m [10m]", LOAMI_OPT_STRING, &w.min_time, NULL, 0, 0 },
        { "--gate", 0, "FILE", "what must not get worse, and by how much: docs/rollout.md", LOAMI_OPT_STRING, &w.gate, NULL, 0, 0 },
        { "--sticky", 0, "WHAT", "conversation, session or key: what stays on one side [conversation]", LOAMI_OPT_STRING, &w.sticky, NULL, 0, 0 },
        { "--idle", 0, "S", "a session that was silent for so many seconds may change sides [1800]", LOAMI_OPT_U32, &w.idle_s, &w.idle_seen, 1, 1e8 },
        { "--cold", 0, NULL, "do not replay prefixes on the new side first", LOAMI_OPT_FLAG, &w.cold, NULL, 0, 0 },
        { "--shadow", 0, "PART", "mirror this part of the requests to the other side, 0 to 1 [0]", LOAMI_OPT_FLOAT, &w.shadow, &w.shadow_seen, 0, 1 },
        { "--shadow-running", 0, "N", "mirrored at once [2]", LOAMI_OPT_U32, &w.shadow_running, &w.running_seen, 1, 64 },
        { "--shadow-tokens", 0, "N", "mirrored tokens of answers a minute [20000]", LOAMI_OPT_U32, &w.shadow_tokens, &w.tokens_seen, 1, 1e9 },
        { 0 },
    };
    loam_err err;
    int rc = loami_opt_parse(argc, argv, table, "begin to move a pool's traffic from one side to the other");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (!w.from || !w.to) {
        fprintf(stderr, "loam %s: --from and --to are needed (see loam %s --help)\n", argv[0], argv[0]);
        return LOAMI_EXIT_USAGE;
    }
    json_t *body = json_object();
    rc = start_body(&w, body, &err);
    if (rc < 0)
        json_decref(body);
    else
        rc = order(&w, body, &err);
    return finish(&w, argv[0], rc, &err);
}

/* ---- orders -------------------------------------------------------------------------------------- */

static int simple(int argc, char **argv, const char *action, const char *about)
{
    wish w = { .at.config = "gateway.json" };
    const loami_opt table[] = { WHERE(w), { 0 } };
    loam_err err;
    int rc = loami_opt_parse(argc, argv, table, about);
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    rc = order(&w, json_pack("{ss}", "action", action), &err);
    return finish(&w, argv[0], rc, &err);
}

static int promote(int argc, char **argv)
{
    return simple(argc, argv, "promote", "go on to the next step now, whatever its gates say");
}

static int pause_it(int argc, char **argv)
{
    return simple(argc, argv, "pause", "stay at this share; gates still roll back");
}

static int resume(int argc, char **argv)
{
    return simple(argc, argv, "resume", "go on with the plan");
}

static int forget(int argc, char **argv)
{
    return simple(argc, argv, "forget", "of a rollout that ended: let the configuration alone decide again");
}

static int rollback(int argc, char **argv)
{
    wish w = { .at.config = "gateway.json" };
    const loami_opt table[] = {
        WHERE(w),
        { "--hard", 0, NULL, "move answers that are under way on the new side, too", LOAMI_OPT_FLAG, &w.hard, NULL, 0, 0 },
        { "--why", 0, "WORDS", "for the history", LOAMI_OPT_STRING, &w.why, NULL, 0, 0 },
        { 0 },
    };
    loam_err err;
    int rc = loami_opt_parse(argc, argv, table, "give the new side no request more, from this moment on");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    rc = order(&w, json_pack("{ss sb ss}", "action", "rollback", "hard", w.hard, "why", w.why ? w.why : ""), &err);
    return finish(&w, argv[0], rc, &err);
}

/* ---- what it says -------------------------------------------------------------------------------- */

static void when(char out[32], const json_t *o, const char *key)
{
    time_t t = (time_t)json_integer_value(json_object_get(o, key));
    struct tm tm;
    if (!localtime_r(&t, &tm) || !strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm)) out[0] = 0;
}

static void print_gates(const json_t *figures)
{
    size_t i;
    json_t *g;
    printf("  %-13s %10s %16s %16s %12s  %s\n", "gate", "limit", "old side", "new side", "evidence", "verdict");
    json_array_foreach(json_object_get(figures, "gates"), i, g) {
        char limit[32], side[2][32], evidence[40];
        bool factor = strcmp(text(g, "kind"), "factor") == 0;
        if (!json_is_true(json_object_get(g, "on"))) continue;
        if (factor)
            snprintf(limit, sizeof limit, "x %g", number(g, "limit"));
        else
            snprintf(limit, sizeof limit, "+ %g %%", 100 * number(g, "limit"));
        for (int k = 0; k < 2; k++) {
            double n = nth(g, k ? "new" : "old", 1), bad = nth(g, k ? "new" : "old", 0);
            snprintf(side[k], sizeof side[k], "%.1f %% of %.0f", n > 0 ? 100 * bad / n : 0, n);
        }
        snprintf(evidence, sizeof evidence, "%.3g of %.3g", number(g, "wealth"), number(g, "closes_at"));
        printf("  %-13s %10s %16s %16s %16s  %s\n", text(g, "gate"), limit, side[0], side[1], evidence,
               json_is_true(json_object_get(g, "closed"))   ? "WORSE"
               : json_is_true(json_object_get(g, "proven")) ? "no worse, proven"
                                                            : "undecided");
    }
}

static void print_rollout(const json_t *r)
{
    const json_t *plan = json_object_get(r, "plan"), *figures = json_object_get(r, "figures");
    char since[32];
    size_t i;
    json_t *step;
    when(since, r, "step_started");
    printf("pool %s: %s", text(r, "pool"), text(r, "state"));
    if (!plan) {
        printf("\n");
        return;
    }
    printf(", %g %% on the new side since %s\n  steps", number(r, "per_cent"), since);
    json_array_foreach(json_object_get(plan, "steps"), i, step)
        printf(i == (size_t)number(r, "step") ? " [%g %%]" : " %g %%", json_number_value(step));
    printf("\n  requests in this step: %.0f old, %.0f new; failed: %.0f old, %.0f new; running: %.0f old, %.0f new\n",
           nth(figures, "requests", 0), nth(figures, "requests", 1), nth(figures, "failures", 0),
           nth(figures, "failures", 1), nth(r, "inflight", 0), nth(r, "inflight", 1));
    if (json_object_get(r, "on_old"))
        printf("  conversations that stay on the old side: %.0f\n", number(r, "on_old"));
    const char *advice = text(r, "advice");
    printf("  %s\n", advice[0] ? advice : text(r, "why"));
    print_gates(figures);
    const json_t *h = json_object_get(r, "shadows");
    if (number(h, "n") > 0)
        printf("  mirrored %.0f: %.0f of %.0f the same text at temperature 0, length x %.2f, log-probability a token %.3f\n",
               number(h, "n"), number(h, "same"), number(h, "greedy"), number(h, "length_ratio") / number(h, "n"),
               number(h, "scored") > 0 ? number(h, "logprob") / number(h, "scored") : 0);
}

static void print_history(const json_t *r)
{
    size_t i;
    json_t *e;
    json_array_foreach(json_object_get(r, "history"), i, e) {
        char at[32];
        when(at, e, "at");
        printf("%s  %-9s %5.4g %%  by %-16s %s\n", at, text(e, "event"), number(e, "per_cent"), text(e, "by"), text(e, "why"));
    }
}

/* The rollout of the wanted pool, or of each. */
static int each(wish *w, const json_t *answer, void (*show)(const json_t *r), loam_err *err)
{
    size_t i, n = 0;
    json_t *r;
    json_array_foreach(json_object_get(answer, "rollouts"), i, r) {
        if (w->pool && strcmp(w->pool, text(r, "pool")) != 0) continue;
        n++;
        if (!w->json) show(r);
    }
    return n || !w->pool ? 0 : loami_fail(err, LOAM_E_NOT_FOUND, "there is no pool named \"%s\"", w->pool);
}

static int look(int argc, char **argv, void (*show)(const json_t *r), const char *about)
{
    wish w = { .at.config = "gateway.json" };
    const loami_opt table[] = { WHERE(w), { 0 } };
    json_t *answer = NULL;
    loam_err err;
    int rc = loami_opt_parse(argc, argv, table, about);
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    rc = ask(&w, "GET", "/gateway/api/rollout?full=1", NULL, &answer, &err);
    if (rc == 0) rc = each(&w, answer, show, &err);
    json_decref(answer);
    return finish(&w, argv[0], rc, &err);
}

static int status(int argc, char **argv)
{
    return look(argc, argv, print_rollout, "where each pool's rollout is, and what its gates say");
}

static int history(int argc, char **argv)
{
    return look(argc, argv, print_history, "what happened, when, by whom and why");
}

static void nothing(const json_t *r)
{
    (void)r;
}

static int report(int argc, char **argv)
{
    wish w = { .at.config = "gateway.json", .html = "rollout.html" };
    const loami_opt table[] = {
        WHERE(w),
        { "--html", 0, "FILE", "where to write it [rollout.html]", LOAMI_OPT_STRING, &w.html, NULL, 0, 0 },
        { 0 },
    };
    json_t *answer = NULL;
    loami_buf page = { 0 };
    loam_err err;
    int rc = loami_opt_parse(argc, argv, table, "write gates, mirrored requests and history as a page with plots");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    rc = ask(&w, "GET", "/gateway/api/rollout?full=1", NULL, &answer, &err);
    if (rc == 0) rc = each(&w, answer, nothing, &err);
    if (rc == 0) {
        loami_rollout_page(&page, answer, w.pool);
        rc = page.failed ? loami_fail(&err, LOAM_E_NOMEM, "out of memory") : loami_file_write(w.html, page.data, page.len, &err);
    }
    if (rc == 0 && !w.json) printf("%s\n", w.html);
    json_decref(answer);
    loami_buf_free(&page);
    return finish(&w, argv[0], rc, &err);
}

int loami_cmd_rollout(int argc, char **argv)
{
    static const struct {
        const char *name;
        loami_cmd *run;
        const char *about;
    } verbs[] = {
        { "start", start, "begin: --from A --to B --steps 10,50,100" },
        { "status", status, "where it is, and what its gates say" },
        { "promote", promote, "go on to the next step now" },
        { "pause", pause_it, "stay at this share" },
        { "resume", resume, "go on with the plan" },
        { "rollback", rollback, "back to the old side, at once" },
        { "history", history, "what happened, when, by whom and why" },
        { "report", report, "gates, mirrored requests and history as a page" },
        { "forget", forget, "after its end: the configuration alone decides again" },
    };
    char name[40];
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        FILE *f = argc < 2 ? stderr : stdout;
        fprintf(f, "loam rollout: move a pool's traffic from one engine to another, and back if it is worse\n\n");
        for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
            fprintf(f, "  loam rollout %-10s %s\n", verbs[i].name, verbs[i].about);
        return argc < 2 ? LOAMI_EXIT_USAGE : LOAMI_EXIT_OK;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(verbs[i].name, argv[1]) != 0) continue;
        snprintf(name, sizeof name, "rollout %s", argv[1]);
        argv[1] = name;
        return verbs[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "loam rollout: unknown: %s (see loam rollout --help)\n", argv[1]);
    return LOAMI_EXIT_USAGE;
}
