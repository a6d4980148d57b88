#include "base/json.h"
#include "cmd/gateway.h"
#include "gateway/config.h"
#include "net/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double ANSWER_S = 10;
enum { ANSWER_BYTES = 64 << 20 };

typedef struct asking {
    loami_loop *loop;
    loami_buf answer;
    int status;
    bool reached;
    char msg[200];
} asking;

static bool on_data(void *arg, const char *bytes, size_t n)
{
    loami_buf_put(&((asking *)arg)->answer, bytes, n);
    return true;
}

static void on_done(void *arg, loami_call_fate fate, int status, const char *msg)
{
    asking *a = arg;
    a->status = status;
    a->reached = fate == LOAMI_CALL_OK;
    snprintf(a->msg, sizeof a->msg, "%s", msg);
    loami_loop_stop(a->loop);
}

/* Where a command finds the gateway, and the key for it: from --url and the environment, or from the
 * configuration. */
typedef struct target {
    const char *config, *url, *name;
    bool json;
    char found[300];
    const char *key;
    loami_gw_config *c;
} target;

static int find(target *t, loam_err *err)
{
    t->key = getenv("LOAM_ADMIN_KEY");
    if (t->url) return 0;
    int rc = loami_gw_config_load(&t->c, t->config, err);
    if (rc < 0) return rc;
    const char *host = strcmp(t->c->host, "0.0.0.0") == 0 ? "127.0.0.1"
                       : strcmp(t->c->host, "::") == 0    ? "::1"
                                                          : t->c->host;
    snprintf(t->found, sizeof t->found, strchr(host, ':') ? "http://[%.255s]:%u" : "http://%.255s:%u", host,
             t->c->port);
    t->url = t->found;
    if (!t->key) t->key = t->c->admin_key;
    return 0;
}

static int said_no(const asking *a, const target *t, loam_err *err)
{
    json_t *v = NULL;
    if (!a->reached) return loami_fail(err, LOAM_E_IO, "no answer from %s: %s", t->url, a->msg);
    if (loami_json_parse(&v, a->answer.data ? a->answer.data : "", a->answer.len, "answer", NULL) < 0)
        return loami_fail(err, LOAM_E_IO, "%s answers with status %d", t->url, a->status);
    const char *words = json_string_value(json_object_get(json_object_get(v, "error"), "message"));
    loami_fail(err, LOAM_E_ARG, "%s", words ? words : "it answers with an error");
    json_decref(v);
    return err->code;
}

static int ask(target *t, const char *method, const char *path, const char *body, loami_buf *out,
               loam_err *err)
{
    asking a = { .answer = { .limit = ANSWER_BYTES } };
    loami_client *client = NULL;
    loami_buf url = { 0 }, key = { 0 };
    int rc = find(t, err);

    if (rc == 0) rc = loami_loop_open(&a.loop, err);
    if (rc == 0) rc = loami_client_open(&client, a.loop, 0, err);
    if (rc < 0) goto out;
    loami_buf_printf(&url, "%s%s", t->url, path);
    loami_buf_printf(&key, "Authorization: Bearer %s", t->key ? t->key : "");
    const char *headers[] = { "Content-Type: application/json", key.data };
    loami_call_request q = { .method = method,
                             .url = url.data,
                             .headers = headers,
                             .n_headers = t->key ? 2 : 1,
                             .body = body,
                             .n_body = body ? strlen(body) : 0,
                             .total_s = ANSWER_S,
                             .data = on_data,
                             .done = on_done,
                             .arg = &a };
    if (url.failed || key.failed || !loami_call_start(client, &q)) {
        rc = loami_fail_nomem(err);
        goto out;
    }
    loami_loop_run(a.loop);
    if (!a.reached || a.status != 200)
        rc = said_no(&a, t, err);
    else
        *out = a.answer, a.answer = (loami_buf){ 0 };
out:
    loami_client_close(client);
    loami_loop_close(a.loop);
    loami_buf_free(&a.answer);
    loami_buf_free(&url);
    loami_buf_free(&key);
    return rc;
}

static int read_target(target *t, int argc, char **argv, bool named, const char *about)
{
    t->config = "gateway.json";
    const loami_opt table[] = {
        { "--config", 'c', "FILE", "the gateway's configuration, which says where it listens [gateway.json]",
          LOAMI_OPT_STRING, &t->config, NULL, 0, 0 },
        { "--url", 0, "URL",
          "where it listens, without its configuration; its admin key is in LOAM_ADMIN_KEY", LOAMI_OPT_STRING,
          &t->url, NULL, 0, 0 },
        { "--json", 0, NULL, "the answer as it comes", LOAMI_OPT_FLAG, &t->json, NULL, 0, 0 },
        { NULL, 0, named ? "BACKEND" : NULL, named ? "its name" : NULL, LOAMI_OPT_STRING, &t->name, NULL, 0,
          0 },
        { NULL, 0, NULL, NULL, LOAMI_OPT_FLAG, NULL, NULL, 0, 0 },
    };
    int rc = loami_opt_parse(argc, argv, table, about);
    if (rc != 0 || !named || t->name) return rc;
    fprintf(stderr, "loam %s: which backend? (see loam gateway status)\n", argv[0]);
    return -1;
}

/* ---- status -------------------------------------------------------------------------------------- */

static double percentile(const json_t *hist, double part)
{
    double count = json_number_value(json_object_get(hist, "count"));
    size_t i;
    json_t *bucket;
    json_array_foreach(json_object_get(hist, "buckets"), i, bucket)
        if (json_number_value(json_array_get(bucket, 1)) >= part * count)
            return json_number_value(json_array_get(bucket, 0));
    return 0;
}

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static void print_status(const json_t *v)
{
    size_t i;
    json_t *b, *p;
    printf("%-20s %-9s %-10s %7s %9s %9s %8s %7s %11s  %s\n", "backend", "kind", "state", "running",
           "owed tok", "requests", "failures", "resumed", "TTFT p50/95", "why");
    json_array_foreach(json_object_get(v, "backends"), i, b) {
        const json_t *ttft = json_object_get(b, "ttft"), *why = json_object_get(b, "why");
        double failures = 0;
        const char *key;
        json_t *n;
        json_object_foreach(json_object_get(b, "failures"), key, n) failures += json_number_value(n);
        printf("%-20s %-9s %-10s %7.0f %9.0f %9.0f %8.0f %7.0f %5.3g/%5.3g  %s\n",
               json_string_value(json_object_get(b, "name")), json_string_value(json_object_get(b, "kind")),
               json_string_value(json_object_get(b, "state")), number(b, "inflight"),
               number(b, "owed_tokens"), number(b, "requests"), failures, number(b, "resumed_from"),
               percentile(ttft, 0.5), percentile(ttft, 0.95),
               json_is_string(why) ? json_string_value(why) : "");
    }
    json_array_foreach(json_object_get(v, "pools"), i, p)
        printf("pool %s: %s, %.0f waiting\n", json_string_value(json_object_get(p, "name")),
               json_string_value(json_object_get(p, "policy")), number(p, "queued"));
}

int loami_gateway_status(int argc, char **argv)
{
    target t = { 0 };
    loami_buf answer = { 0 };
    json_t *v = NULL;
    loam_err err;
    int rc = read_target(&t, argc, argv, false, "its backends and pools, as they are now");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    rc = ask(&t, "GET", "/gateway/api/status", NULL, &answer, &err);
    if (rc == 0 && !t.json) rc = loami_json_parse(&v, answer.data, answer.len, "answer", &err);
    if (rc == 0 && t.json)
        printf("%s\n", answer.data);
    else if (rc == 0)
        print_status(v);
    json_decref(v);
    loami_buf_free(&answer);
    loami_gw_config_unref(t.c);
    return rc < 0 ? loami_cmd_fail(argv[0], &err) : LOAMI_EXIT_OK;
}

/* ---- orders -------------------------------------------------------------------------------------- */

static int order(int argc, char **argv, const char *path, bool named, const char *about)
{
    target t = { 0 };
    loami_buf answer = { 0 }, body = { 0 };
    loam_err err;
    int rc = read_target(&t, argc, argv, named, about);
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    loami_buf_puts(&body, "{");
    if (named) {
        loami_buf_puts(&body, "\"backend\":");
        loami_json_put(&body, t.name, strlen(t.name));
    }
    loami_buf_puts(&body, "}");
    rc = ask(&t, "POST", path, body.data, &answer, &err);
    if (rc == 0) printf("%s\n", answer.data);
    loami_buf_free(&answer);
    loami_buf_free(&body);
    loami_gw_config_unref(t.c);
    return rc < 0 ? loami_cmd_fail(argv[0], &err) : LOAMI_EXIT_OK;
}

int loami_gateway_drain_cmd(int argc, char **argv)
{
    return order(argc, argv, "/gateway/api/drain", true,
                 "gives a backend no more requests; those it has go on");
}

int loami_gateway_undrain_cmd(int argc, char **argv)
{
    return order(argc, argv, "/gateway/api/undrain", true, "gives a backend requests again");
}

int loami_gateway_reload_cmd(int argc, char **argv)
{
    return order(argc, argv, "/gateway/api/reload", false,
                 "makes it read its configuration again, as SIGHUP does");
}

int loami_gateway_restart_cmd(int argc, char **argv)
{
    return order(argc, argv, "/gateway/api/restart", false,
                 "puts a new process in its place, as SIGUSR2 does: no connection is refused, no stream cut");
}
