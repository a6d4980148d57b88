#include "base/json.h"
#include "cmd/asker.h"
#include "cmd/cmd.h"
#include "cmd/open.h"
#include "cmd/work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double ANSWER_S = 10;
enum { ANSWER_BYTES = 16 << 20 };

/* The answer to GET url, parsed; the caller's. */
static int ask(json_t **out, const char *url, loam_err *err)
{
    loami_buf answer = { .limit = ANSWER_BYTES };
    const char *secret = getenv("LOAM_API_KEY");
    loam_err why;
    int status = 0;
    int rc = loami_ask_once(url, "GET", NULL, secret && secret[0] ? secret : NULL, ANSWER_S, &answer, &status, &why);
    if (rc < 0)
        loami_fail(err, rc, rc == LOAM_E_IO ? "%s (is loam serve running there?)" : "%s", why.msg);
    else
        rc = loami_json_parse(out, answer.data ? answer.data : "", answer.len, url, err);
    if (rc == 0 && status != 200) {
        const char *words = json_string_value(json_object_get(json_object_get(*out, "error"), "message"));
        rc = loami_fail(err, LOAM_E_IO, "%s: %s", url, words ? words : "it answers with an error");
        json_decref(*out);
    }
    loami_buf_free(&answer);
    return rc;
}

static const char *text(const json_t *m, const char *key)
{
    const char *s = json_string_value(json_object_get(m, key));
    return s ? s : "";
}

static void print(const json_t *models)
{
    size_t i;
    json_t *m;
    printf("%-44s %-12s %10s %9s  %s\n", "NAME", "STATE", "MEMORY", "REQUESTS", "UNTIL");
    json_array_foreach(models, i, m) {
        char bytes[32] = "-", until[40] = "";
        json_int_t n = json_integer_value(json_object_get(m, "memory_bytes"));
        const json_t *left = json_object_get(m, "unloads_in_s");
        if (strcmp(text(m, "id"), text(m, "root")) != 0) continue; /* another name of the same model */
        if (n > 0) loami_bytes_text(bytes, (uint64_t)n);
        if (json_is_true(json_object_get(m, "pinned")))
            snprintf(until, sizeof until, "pinned");
        else if (json_is_number(left))
            snprintf(until, sizeof until, "in %.0f s", json_number_value(left));
        printf("%-44s %-12s %10s %9lld  %s\n", text(m, "id"), text(m, "state"), bytes,
               (long long)json_integer_value(json_object_get(m, "requests")), until);
    }
}

int loami_cmd_ps(int argc, char **argv)
{
    const char *url = "http://127.0.0.1:8000";
    bool json = false;
    const loami_opt table[] = {
        { "--url", 0, "URL", "of a loam serve; its key comes from LOAM_API_KEY [http://127.0.0.1:8000]",
          LOAMI_OPT_STRING, &url, NULL, 0, 0 },
        { "--json", 0, NULL, "the server's own list", LOAMI_OPT_FLAG, &json, NULL, 0, 0 },
        { 0 },
    };
    loam_err err;
    loami_buf path = { 0 };
    json_t *answer = NULL;
    int rc = loami_opt_parse(argc, argv, table, "tell which models a server has, and what they take");
    if (rc) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    size_t n = strlen(url);
    while (n && url[n - 1] == '/') n--;
    loami_buf_printf(&path, "%.*s/v1/models", (int)n, url);
    rc = path.failed ? loami_fail_nomem(&err) : ask(&answer, path.data, &err);
    loami_buf_free(&path);
    if (rc < 0) return loami_cmd_fail("ps", &err);
    json_t *models = json_incref(json_object_get(answer, "data"));
    json_decref(answer);
    if (json) return loami_cmd_print_json(models);
    print(models);
    json_decref(models);
    return LOAMI_EXIT_OK;
}
