#include "cmd/admin.h"

#include "cmd/asker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double ANSWER_S = 10;

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

static int said_no(const loami_buf *answer, int status, const loami_admin *t, loam_err *err)
{
    json_t *v = NULL;
    if (loami_json_parse(&v, answer->data ? answer->data : "", answer->len, "answer", NULL) < 0)
        return loami_fail(err, LOAM_E_IO, "%s answers with status %d", t->url, status);
    const char *words = json_string_value(json_object_get(json_object_get(v, "error"), "message"));
    loami_fail(err, LOAM_E_ARG, "%s", words ? words : "it answers with an error");
    json_decref(v);
    return err->code;
}

int loami_admin_ask(loami_admin *t, const char *method, const char *path, const char *body, loami_buf *out,
                    loam_err *err)
{
    loami_buf url = { 0 }, answer = { 0 };
    int status = 0, rc = find(t, err);
    if (rc == 0) loami_buf_printf(&url, "%s%s", t->url, path);
    if (url.failed) rc = loami_fail_nomem(err);
    if (rc == 0) rc = loami_ask_once(url.data, method, body, t->key, ANSWER_S, &answer, &status, err);
    if (rc == 0 && status != 200) rc = said_no(&answer, status, t, err);
    if (rc == 0)
        *out = answer;
    else
        loami_buf_free(&answer);
    loami_buf_free(&url);
    return rc;
}

void loami_admin_done(loami_admin *t)
{
    loami_gw_config_unref(t->c);
    t->c = NULL;
}
