#include "cmd/open.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "1,2,3" to ids, malloc'd; -1 at a mistake. */
static int parse_ids(const char *list, int32_t **ids)
{
    size_t n = 0;
    int32_t *out = malloc((strlen(list) + 1) * sizeof *out);
    if (!out) return -1;
    for (const char *p = list; *p;) {
        char *end;
        errno = 0;
        long v = strtol(p, &end, 10);
        if (end == p || errno || v < 0 || v > INT32_MAX || (*end && *end != ',') || (*end == ',' && !end[1])) {
            free(out);
            return -1;
        }
        out[n++] = (int32_t)v;
        p = *end ? end + 1 : end;
    }
    *ids = out;
    return (int)n;
}

static int print(const float *logits, uint32_t n, bool json)
{
    if (!json) {
        for (uint32_t i = 0; i < n; i++) printf("%.9g\n", logits[i]);
        return LOAMI_EXIT_OK;
    }
    printf("{\"logits\":[");
    for (uint32_t i = 0; i < n; i++) printf("%s%.9g", i ? "," : "", logits[i]);
    printf("]}\n");
    return LOAMI_EXIT_OK;
}

int loami_cmd_logits(int argc, char **argv)
{
    loami_model_opts run = { 0 };
    const char *tokens = NULL;
    bool json = false;
    const loami_opt table[] = {
        LOAMI_MODEL_OPTS(run),
        { "--tokens", 0, "1,2,3", "the ids to run", LOAMI_OPT_STRING, &tokens, NULL, 0, 0 },
        { "--json", 0, NULL, "print {\"logits\":[...]}", LOAMI_OPT_FLAG, &json, NULL, 0, 0 },
        { 0 },
    };
    int rc = loami_opt_parse(argc, argv, table, "the logits after the last of some tokens, for checking");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    int32_t *ids = NULL;
    int n = tokens ? parse_ids(tokens, &ids) : 0;
    if (n <= 0) {
        fprintf(stderr, "loam logits: --tokens wants ids separated by commas, such as 1,2,3\n");
        return LOAMI_EXIT_USAGE;
    }
    loam_engine *e;
    loam_err err;
    run.engine.max_running = 1;
    rc = loami_cmd_open(&e, "logits", &run);
    if (rc == 0) {
        uint32_t vocab = loam_engine_info(e)->vocab_tokens;
        float *logits = malloc(vocab * sizeof *logits);
        if (!logits) rc = LOAMI_EXIT_FAIL;
        else if (loam_logits(e, ids, (uint32_t)n, logits, &err) < 0) rc = loami_cmd_fail("logits", &err);
        else rc = print(logits, vocab, json);
        free(logits);
        loam_engine_close(e);
    }
    free(ids);
    return rc;
}
