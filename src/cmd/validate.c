/* loam validate: the checklist of a migration, as a command that ticks it off. */
#include "base/clock.h"
#include "base/json.h"
#include "cmd/asker.h"
#include "cmd/open.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const double PATIENCE_S = 600, QUICK_S = 30;
enum { CHECKS_MAX = 16, LONG_TOKENS = 32 };

typedef enum outcome { HOLDS, FAILS, LEFT_OUT } outcome;

typedef struct check {
    const char *name, *key;
    outcome outcome;
    char words[400];
} check;

typedef struct validation {
    const char *url, *gateway_url, *model_wanted, *key, *stop, *start;
    float target;
    uint32_t max_tokens;
    bool yes, json;
    char *server, *gateway, *model;
    loami_prompt *prompts;
    uint32_t n_prompts;
    check checks[CHECKS_MAX];
    uint32_t n_checks;
} validation;

/* ---- ticking off --------------------------------------------------------------------------------- */

static void tick(validation *v, const char *key, const char *name, outcome o, const char *fmt, ...) LOAMI_PRINTF(5, 6);

static void tick(validation *v, const char *key, const char *name, outcome o, const char *fmt, ...)
{
    static const char *const marks[] = { "[x]", "[ ]", "[-]" };
    check *c = &v->checks[v->n_checks++];
    va_list ap;
    *c = (check){ .name = name, .key = key, .outcome = o };
    va_start(ap, fmt);
    vsnprintf(c->words, sizeof c->words, fmt, ap);
    va_end(ap);
    if (v->json) return;
    printf("  %s %-32s %s\n", marks[o], name, c->words);
    fflush(stdout);
}

/* GET server + path; parsed when it is JSON. */
static int get(const validation *v, const char *server, const char *path, int *status, json_t **out, loam_err *err)
{
    loami_buf url = { 0 }, answer = { 0 };
    *out = NULL;
    loami_buf_printf(&url, "%s%s", server, path);
    const char *admin = getenv("LOAM_ADMIN_KEY");
    bool is_admin = strncmp(path, "/gateway/", 9) == 0;
    int rc = url.failed ? loami_fail_nomem(err)
                        : loami_ask_once(url.data, "GET", NULL, is_admin && admin ? admin : v->key, QUICK_S, &answer, status, err);
    if (rc == 0 && answer.data) loami_json_parse(out, answer.data, answer.len, "answer", NULL);
    loami_buf_free(&url);
    loami_buf_free(&answer);
    return rc;
}

static loami_ask_how how_to(const validation *v, const char *server, uint32_t concurrency)
{
    return (loami_ask_how){ .server = server, .model = v->model, .key = v->key, .concurrency = concurrency, .timeout_s = PATIENCE_S };
}

/* ---- the server ---------------------------------------------------------------------------------- */

static void check_model(validation *v)
{
    loam_err err;
    if (loami_model_of(&v->model, v->server, v->model_wanted, v->key, &err) < 0)
        tick(v, "model", "Model cached and served", FAILS, "%s", err.msg);
    else
        tick(v, "model", "Model cached and served", HOLDS, "%s", v->model);
}

static void check_health(validation *v)
{
    json_t *answer = NULL;
    loam_err err;
    int status = 0, rc = get(v, v->server, "/health", &status, &answer, &err);
    const char *said = json_string_value(json_object_get(answer, "status"));
    if (rc < 0)
        tick(v, "health", "Health endpoint responding", FAILS, "%s", err.msg);
    else
        tick(v, "health", "Health endpoint responding", status == 200 ? HOLDS : FAILS, "status %d%s%s", status, said ? ", " : "", said ? said : "");
    json_decref(answer);
}

static void check_chat(validation *v, bool stream)
{
    const char *name = stream ? "Streaming functional" : "Chat completions working", *key = stream ? "streaming" : "chat";
    loami_ask a = { .messages = v->prompts[0].messages, .max_tokens = 32, .whole = !stream };
    loami_ask_how how = how_to(v, v->server, 1);
    loam_err err = { .msg = "" };
    if (loami_ask_all(&a, 1, &how, &err) < 0)
        tick(v, key, name, FAILS, "%s", err.msg);
    else if (!a.ok || !a.n_text)
        tick(v, key, name, FAILS, "%s", a.error[0] ? a.error : "an empty answer");
    else if (stream && (a.pieces < 2 || !a.done))
        tick(v, key, name, FAILS, "it came in %u piece%s", a.pieces, a.pieces == 1 ? "" : "s");
    else if (stream)
        tick(v, key, name, HOLDS, "%u pieces, the first after %.0f ms", a.pieces, a.ttft_s * 1e3);
    else
        tick(v, key, name, HOLDS, "%u tokens in %.2f s", a.tokens, a.total_s);
    free(a.text);
}

static loami_ask *asks_of(const validation *v, uint32_t n, uint32_t max_tokens)
{
    loami_ask *asks = calloc(n, sizeof *asks);
    for (uint32_t i = 0; asks && i < n; i++)
        asks[i] = (loami_ask){ .messages = v->prompts[i % v->n_prompts].messages, .max_tokens = max_tokens };
    return asks;
}

static void check_speed(validation *v)
{
    static const char name[] = "Performance meets the target";
    loami_ask *asks = asks_of(v, v->n_prompts, v->max_tokens);
    loami_ask_how how = how_to(v, v->server, 1);
    loam_err err = { .msg = "out of memory" };
    double sum = 0;
    uint32_t n = 0;
    if (!asks || loami_ask_all(asks, v->n_prompts, &how, &err) < 0) {
        tick(v, "speed", name, FAILS, "%s", err.msg);
        free(asks);
        return;
    }
    for (uint32_t i = 0; i < v->n_prompts; i++)
        if (asks[i].ok && asks[i].total_s > 0) sum += asks[i].tokens / asks[i].total_s, n++;
    double average = n ? sum / n : 0;
    tick(v, "speed", name, n == v->n_prompts && average >= (double)v->target ? HOLDS : FAILS,
         "%.1f tok/s over %u answers, %g wanted", average, n, (double)v->target);
    loami_asks_free(asks, v->n_prompts);
}

/* ---- the gateway --------------------------------------------------------------------------------- */

static void check_gateway(validation *v)
{
    static const char name[] = "Gateway integration complete";
    json_t *answer = NULL;
    loam_err err;
    int status = 0;
    loami_ask a = { .messages = v->prompts[0].messages, .max_tokens = 16 };
    loami_ask_how how = how_to(v, v->gateway, 1);
    if (get(v, v->gateway, "/ready", &status, &answer, &err) < 0)
        tick(v, "gateway", name, FAILS, "%s", err.msg);
    else if (status != 200)
        tick(v, "gateway", name, FAILS, "/ready answers with status %d", status);
    else if (loami_ask_all(&a, 1, &how, &err) < 0)
        tick(v, "gateway", name, FAILS, "%s", err.msg);
    else if (!a.ok)
        tick(v, "gateway", name, FAILS, "%s", a.error);
    else
        tick(v, "gateway", name, HOLDS, "answered by %s", a.backend[0] ? a.backend : "a backend that it does not name");
    free(a.text);
    json_decref(answer);
}

typedef struct seen {
    char names[16][64];
    uint32_t n, failed;
    char error[300];
} seen;

static void see(seen *s, const loami_ask *asks, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = 0;
        if (!asks[i].ok) {
            s->failed++;
            snprintf(s->error, sizeof s->error, "%s", asks[i].error);
            continue;
        }
        while (k < s->n && strcmp(s->names[k], asks[i].backend) != 0) k++;
        if (k == s->n && s->n < 16 && asks[i].backend[0]) memcpy(s->names[s->n++], asks[i].backend, sizeof s->names[0]);
    }
}

static void check_balance(validation *v)
{
    static const char name[] = "Load balancing verified";
    enum { N = 24 };
    loami_ask *asks = asks_of(v, N, 8);
    loami_ask_how how = how_to(v, v->gateway, 4);
    loam_err err = { .msg = "out of memory" };
    seen s = { .n = 0 };
    if (!asks || loami_ask_all(asks, N, &how, &err) < 0) {
        tick(v, "balance", name, FAILS, "%s", err.msg);
        free(asks);
        return;
    }
    see(&s, asks, N);
    if (s.failed)
        tick(v, "balance", name, FAILS, "%u of %d requests failed: %s", s.failed, N, s.error);
    else if (s.n < 2)
        tick(v, "balance", name, FAILS, "all %d requests were answered by %s", N, s.n ? s.names[0] : "a backend without a name");
    else
        tick(v, "balance", name, HOLDS, "%d requests were answered by %u backends: %s, %s%s", N, s.n, s.names[0], s.names[1],
             s.n > 2 ? ", ..." : "");
    loami_asks_free(asks, N);
}

/* ---- failover ------------------------------------------------------------------------------------ */

static bool agreed(const validation *v)
{
    char line[16] = "";
    if (v->yes) return true;
    if (!isatty(STDIN_FILENO)) return false;
    if (v->stop)
        fprintf(stderr, "\n  This stops a backend:  %s\n  Go on? [y/N] ", v->stop);
    else
        fprintf(stderr, "\n  Stop one of the gateway's backends within the next 20 seconds. Ready? [y/N] ");
    fflush(stderr);
    return fgets(line, sizeof line, stdin) && (line[0] == 'y' || line[0] == 'Y');
}

static pid_t run(const char *command)
{
    char *argv[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };
    pid_t pid = -1;
    return posix_spawnp(&pid, "sh", NULL, NULL, argv, environ) == 0 ? pid : -1;
}

static bool ended_well(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return false;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static uint32_t usable(const validation *v)
{
    json_t *answer = NULL;
    loam_err err;
    int status = 0;
    uint32_t n = 0;
    if (get(v, v->gateway, "/health", &status, &answer, &err) == 0)
        n = (uint32_t)json_integer_value(json_object_get(answer, "usable"));
    json_decref(answer);
    return n;
}

/* Streams run while the command stops a backend. */
static bool ask_meanwhile(validation *v, seen *s, pid_t *pid, loam_err *err)
{
    enum { ROUND = 8 };
    bool ok = true;
    double end = loami_now_s() + (v->stop ? 4 : 20);
    if (v->stop) *pid = run(v->stop);
    do {
        loami_ask *asks = asks_of(v, ROUND, LONG_TOKENS);
        loami_ask_how how = how_to(v, v->gateway, 4);
        ok = asks && loami_ask_all(asks, ROUND, &how, err) == 0;
        if (ok) see(s, asks, ROUND);
        loami_asks_free(asks, ROUND);
    } while (ok && loami_now_s() < end);
    return ok;
}

static void check_failover(validation *v)
{
    static const char name[] = "Failover tested";
    loam_err err = { .msg = "out of memory" };
    seen s = { .n = 0 };
    pid_t pid = 0;
    if (!agreed(v)) {
        tick(v, "failover", name, FAILS, "not tested: nobody agreed to a backend being stopped (--yes --stop COMMAND)");
        return;
    }
    uint32_t before = usable(v);
    bool asked = ask_meanwhile(v, &s, &pid, &err), stopped = !v->stop || (pid > 0 && ended_well(pid));
    uint32_t after = usable(v);
    if (!asked)
        tick(v, "failover", name, FAILS, "%s", err.msg);
    else if (!stopped)
        tick(v, "failover", name, FAILS, "the command failed that was to stop a backend");
    else if (after >= before)
        tick(v, "failover", name, FAILS, "no backend was seen to stop: %u usable before, %u after", before, after);
    else if (s.failed)
        tick(v, "failover", name, FAILS, "%u answers failed: %s", s.failed, s.error);
    else
        tick(v, "failover", name, HOLDS, "%u backends of %u left, no answer failed", after, before);
    if (v->start) {
        pid = run(v->start);
        if (pid <= 0 || !ended_well(pid)) fprintf(stderr, "loam validate: the command failed that was to start it again\n");
    }
}

static void check_rollout(validation *v)
{
    static const char name[] = "Production traffic migrated";
    json_t *answer = NULL, *r;
    loam_err err;
    size_t i;
    int status = 0;
    uint32_t done = 0, open = 0;
    char words[300] = "";
    if (get(v, v->gateway, "/gateway/api/rollout", &status, &answer, &err) < 0) {
        tick(v, "rollout", name, FAILS, "%s", err.msg);
        return;
    }
    json_array_foreach(json_object_get(answer, "rollouts"), i, r) {
        const char *state = json_string_value(json_object_get(r, "state")), *pool = json_string_value(json_object_get(r, "pool"));
        if (!state || strcmp(state, "none") == 0) continue;
        done += strcmp(state, "done") == 0;
        open += strcmp(state, "done") != 0;
        size_t n = strlen(words);
        snprintf(words + n, sizeof words - n, "%spool %s: %s, %g %%", n ? "; " : "", pool ? pool : "", state,
                 json_number_value(json_object_get(r, "per_cent")));
    }
    if (status != 200)
        tick(v, "rollout", name, FAILS, "the gateway answers with status %d%s", status, status == 401 ? " (LOAM_ADMIN_KEY)" : "");
    else
        tick(v, "rollout", name, done && !open ? HOLDS : FAILS, "%s", words[0] ? words : "no rollout was started");
    json_decref(answer);
}

/* ---- the whole ----------------------------------------------------------------------------------- */

static void check_all(validation *v)
{
    check_model(v);
    check_health(v);
    if (v->model) {
        check_chat(v, false);
        check_chat(v, true);
        check_speed(v);
    } else {
        tick(v, "chat", "Chat completions working", FAILS, "there is no model");
        tick(v, "streaming", "Streaming functional", FAILS, "there is no model");
        tick(v, "speed", "Performance meets the target", FAILS, "there is no model");
    }
    if (!v->gateway || !v->model) {
        static const char *const left[][2] = { { "gateway", "Gateway integration complete" },
                                               { "balance", "Load balancing verified" },
                                               { "failover", "Failover tested" },
                                               { "rollout", "Production traffic migrated" } };
        for (int i = 0; i < 4; i++)
            tick(v, left[i][0], left[i][1], v->gateway ? FAILS : LEFT_OUT, "%s", v->gateway ? "there is no model" : "no --gateway");
        return;
    }
    check_gateway(v);
    check_balance(v);
    check_rollout(v);
    check_failover(v); /* last: it leaves a backend less */
}

static bool tell(const validation *v)
{
    static const char *const words[] = { "holds", "fails", "left_out" };
    json_t *list = json_array();
    uint32_t n = 0, held = 0;
    for (uint32_t i = 0; i < v->n_checks; i++) {
        const check *c = &v->checks[i];
        n += c->outcome != LEFT_OUT;
        held += c->outcome == HOLDS;
        json_array_append_new(list, json_pack("{ss ss ss ss}", "check", c->key, "name", c->name, "outcome", words[c->outcome],
                                              "words", c->words));
    }
    if (v->json)
        loami_cmd_print_json(json_pack("{sb so}", "holds", held == n, "checks", list));
    else
        printf("\n  %u of %u hold\n", held, n);
    if (!v->json) json_decref(list);
    return held == n;
}

int loami_cmd_validate(int argc, char **argv)
{
    validation v = { .target = 20, .max_tokens = 200, .key = getenv("LOAM_API_KEY") };
    const loami_opt table[] = {
        { "--url", 0, "URL", "the server", LOAMI_OPT_STRING, &v.url, NULL, 0, 0 },
        { "--gateway", 0, "URL", "the gateway in front of it", LOAMI_OPT_STRING, &v.gateway_url, NULL, 0, 0 },
        { "--model", 'm', "M", "its word for the model (default: the first it lists)", LOAMI_OPT_STRING, &v.model_wanted, NULL, 0, 0 },
        { "--target", 0, "TPS", "tok/s that an answer should have (default 20)", LOAMI_OPT_FLOAT, &v.target, NULL, 0, 1e6 },
        { "--max-tokens", 0, "N", "tokens of the answers that are timed (default 200)", LOAMI_OPT_U32, &v.max_tokens, NULL, 2, 1 << 20 },
        { "--stop", 0, "COMMAND", "stops one backend of the gateway, to see it go on", LOAMI_OPT_STRING, &v.stop, NULL, 0, 0 },
        { "--start", 0, "COMMAND", "starts it again afterwards", LOAMI_OPT_STRING, &v.start, NULL, 0, 0 },
        { "--yes", 'y', NULL, "do not ask before", LOAMI_OPT_FLAG, &v.yes, NULL, 0, 0 },
        { "--api-key", 0, "KEY", "sent to both (default: LOAM_API_KEY)", LOAMI_OPT_STRING, &v.key, NULL, 0, 0 },
        { "--json", 0, NULL, "print one JSON object", LOAMI_OPT_FLAG, &v.json, NULL, 0, 0 },
        { 0 },
    };
    loam_err err;
    bool holds = false;
    int rc = loami_opt_parse(argc, argv, table, "tick off a migration's checklist; exit 0 only if all of it holds");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (!v.url || (v.yes && v.gateway_url && !v.stop)) {
        fprintf(stderr, "loam validate: %s (see loam validate --help)\n",
                v.url ? "--yes needs --stop COMMAND: what is to stop a backend" : "--url is needed");
        return LOAMI_EXIT_USAGE;
    }
    rc = loami_server_of(&v.server, v.url, &err);
    if (rc == 0 && v.gateway_url) rc = loami_server_of(&v.gateway, v.gateway_url, &err);
    if (rc == 0) rc = loami_prompts_read(&v.prompts, &v.n_prompts, NULL, &err);
    if (rc == 0) {
        check_all(&v);
        holds = tell(&v);
    }
    loami_prompts_free(v.prompts, v.n_prompts);
    free(v.server);
    free(v.gateway);
    free(v.model);
    return rc < 0 ? loami_cmd_fail("validate", &err) : holds ? LOAMI_EXIT_OK : LOAMI_EXIT_FAIL;
}
