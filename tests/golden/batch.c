/* golden/batch.c: several requests at once through the library, as a server would run them.
 *
 *     batch MODEL SUBSTRATE EXACT(0|1) < requests
 *
 * A request a line: how many tokens to generate, then the prompt's ids. A line of output for each, in order: the
 * chosen ids as id:logprob, then the finish reason's number and the number of prompt tokens. */
#include "loam.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_REQUESTS = 64, MAX_IDS = 8192 };

struct job {
    int32_t ids[MAX_IDS];
    uint32_t n, max_new;
    loam_stream *stream;
    struct { int32_t id; float logprob; } got[MAX_IDS];
    uint32_t n_got;
    int running;
};

static int die(const char *what, const loam_err *err)
{
    fprintf(stderr, "batch: %s: %s\n", what, err->msg);
    return 1;
}

static int parse(struct job *j, char *line)
{
    char *word = strtok(line, " \n");
    if (!word) return -1;
    j->max_new = (uint32_t)strtoul(word, NULL, 10);
    while ((word = strtok(NULL, " \n")) && j->n < MAX_IDS) j->ids[j->n++] = (int32_t)strtol(word, NULL, 10);
    return 0;
}

/* Takes one step of each stream in turn, so that none is read dry before the others have moved. */
static int drain(struct job *jobs, int n_jobs, loam_err *err)
{
    for (int running = n_jobs; running > 0;) {
        for (int i = 0; i < n_jobs; i++) {
            struct job *j = &jobs[i];
            loam_token t;
            int rc = j->running ? loam_stream_next(j->stream, &t, 60000) : 0;
            if (rc < 0) {
                snprintf(err->msg, sizeof err->msg, "request %d: code %d", i, rc);
                return rc;
            }
            if (rc == 1 && t.id >= 0 && j->n_got < MAX_IDS) {
                j->got[j->n_got].id = t.id;
                j->got[j->n_got++].logprob = t.logprob;
            }
            if (rc == 0 && j->running) {
                j->running = 0;
                running--;
            }
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    static char line[MAX_IDS * 12];
    loam_engine *e = NULL;
    loam_err err = { 0 };
    struct job *jobs = calloc(MAX_REQUESTS, sizeof *jobs);
    int n = 0;

    if (argc != 4 || !jobs) return 2;
    loam_options options = { .model = argv[1], .substrate = argv[2], .exact = argv[3][0] == '1', .threads = 2 };
    if (loam_engine_open(&e, &options, &err) < 0) return die("open", &err);
    while (n < MAX_REQUESTS && fgets(line, sizeof line, stdin))
        if (parse(&jobs[n], line) == 0) n++;
    for (int i = 0; i < n; i++) {
        loam_request r = { .tokens = jobs[i].ids, .n_tokens = jobs[i].n, .max_new = jobs[i].max_new, .want_logprobs = true };
        if (loam_submit(e, &jobs[i].stream, &r, &err) < 0) return die("submit", &err);
        jobs[i].running = 1;
    }
    if (drain(jobs, n, &err) < 0) return die("next", &err);
    for (int i = 0; i < n; i++) {
        loam_result result;
        loam_stream_result(jobs[i].stream, &result);
        for (uint32_t k = 0; k < jobs[i].n_got; k++) printf("%d:%.6f ", jobs[i].got[k].id, (double)jobs[i].got[k].logprob);
        printf("%d %u\n", (int)result.finish, result.prompt_tokens);
        loam_stream_close(jobs[i].stream);
    }
    loam_engine_close(e);
    free(jobs);
    return 0;
}
