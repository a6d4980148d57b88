#include "cmd/admin.h"

#include "base/json.h"
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

static int find(loami_admin *t, loam_err *err)
{
    if (t->c) return 0;
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

static int said_no(const asking *a, const loami_admin *t, loam_err *err)
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

int loami_admin_ask(loami_admin *t, const char *method, const char *path, const char *body, loami_buf *out,
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

void loami_admin_done(loami_admin *t)
{
    loami_gw_config_unref(t->c);
    t->c = NULL;
}
