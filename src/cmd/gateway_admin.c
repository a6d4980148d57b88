#include "base/json.h"
#include "cmd/admin.h"
#include "cmd/gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What these commands have in common on their command lines. */
typedef struct target {
    loami_admin at;
    const char *name;
    bool json;
} target;

static int read_target(target *t, int argc, char **argv, bool named, const char *about)
{
    t->at.config = "gateway.json";
    const loami_opt table[] = {
        { "--config", 'c', "FILE", "the gateway's configuration, which says where it listens [gateway.json]",
          LOAMI_OPT_STRING, &t->at.config, NULL, 0, 0 },
        { "--url", 0, "URL",
          "where it listens, without its configuration; its admin key is in LOAM_ADMIN_KEY", LOAMI_OPT_STRING,
          &t->at.url, NULL, 0, 0 },
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
    rc = loami_admin_ask(&t.at, "GET", "/gateway/api/status", NULL, &answer, &err);
    if (rc == 0 && !t.json) rc = loami_json_parse(&v, answer.data, answer.len, "answer", &err);
    if (rc == 0 && t.json)
        printf("%s\n", answer.data);
    else if (rc == 0)
        print_status(v);
    json_decref(v);
    loami_buf_free(&answer);
    loami_admin_done(&t.at);
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
    rc = loami_admin_ask(&t.at, "POST", path, body.data, &answer, &err);
    if (rc == 0) printf("%s\n", answer.data);
    loami_buf_free(&answer);
    loami_buf_free(&body);
    loami_admin_done(&t.at);
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
