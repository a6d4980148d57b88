/* api/run.h: one request on its way through the engine, whatever shape its answer has.
 *
 * Parse, render, tokenise and submit on a worker; then the loop pulls tokens whenever the engine says there
 * are some, and the shape writes them. A client that does not read pauses its own streams and no other; one
 * that leaves ends them. The run is made for a reply and ends it. */
#ifndef LOAMI_RUN_H
#define LOAMI_RUN_H

#include "api/api.h"
#include "api/hold.h"
#include "api/params.h"
#include "net/workers.h"

#include <stdatomic.h>
#include <sys/queue.h>

struct loami_api {
    loami_api_config config;
    loami_loop *loop;
    loami_workers *workers;
    loami_models models;
    loami_timer watch;   /* looks for a stalled engine while requests run */
    bool watching;
    bool draining, ending; /* ending: what still runs is told to stop */
    int64_t opened_s; /* unix time */
    uint64_t id_salt, n_runs, n_calls;
    LIST_HEAD(loami_runs, loami_run) runs;
    LIST_HEAD(loami_errands, loami_errand) errands;
    LIST_HEAD(loami_shares, loami_share) shares;
};

typedef struct loami_prompt {
    int32_t *ids; /* [n], malloc'd */
    uint32_t n;
    char *text; /* malloc'd, for echo; may be NULL */
    char *echo; /* malloc'd: what the answer begins with, though it is the prompt's end; may be NULL */
    const float *logprobs;   /* [n - 1] of ids[1..n), if the request wants them: run->scoring's. See given.c */
    const uint32_t *ranks;   /* [n - 1] */
    const loam_logprob *top; /* [n - 1][request->n_prompt_logprobs] */
} loami_prompt;

typedef struct loami_call {
    char id[64];
    loami_buf name, arguments;
} loami_call;

/* One of the answers to a request (n, times the prompts). An answer that streams holds no more of its text than was
 * not sent yet, which is nothing between two tokens. */
typedef struct loami_choice {
    struct loami_run *run;
    uint32_t index;
    const loami_prompt *prompt;
    loam_stream *stream;
    loam_parser *parser;             /* NULL: all is text */
    bool done, cut;                  /* over; what still comes is not wanted */
    bool answering;                  /* its first token came */
    loam_result result;              /* once done */
    loami_buf text, reasoning;       /* what it consists of */
    loami_call *calls;               /* [n_calls] likewise; when it streams, their ids alone */
    uint32_t n_calls;
    loami_buf logprobs[4];           /* not sent yet: the shape's lists of entries, with commas between */
    loami_buf ids;                   /* likewise, for return_token_ids */
    uint32_t n_tokens;
    size_t n_chars;                  /* of text so far */
} loami_choice;

typedef struct loami_run loami_run;

/* What an endpoint's answer looks like. */
typedef struct loami_shape {
    const char *id_prefix;    /* "chatcmpl-" */
    const char *prompt_field; /* to blame when the prompt is too long: "messages" */
    size_t request_size;      /* of the struct its table fills; the first member is a loami_params */

    /* On a worker: from the body to run->request and run->prompts. */
    int (*parse)(loami_run *run, const json_t *body, loami_fault *f);

    /* Appends one token's entry to c->logprobs. Called only if logprobs were asked for. */
    void (*logprob)(loami_run *run, loami_choice *c, const loam_token *t);

    /* Streaming: whole SSE events appended to run->out. */
    void (*begin)(loami_run *run);                   /* before the first token */
    void (*part)(loami_run *run, loami_choice *c, const loam_part *p); /* with the logprobs and ids so far */
    void (*finish)(loami_run *run, loami_choice *c); /* c->result is there; what is left of logprobs too */
    void (*end)(loami_run *run);                     /* after the last finish */

    /* Not streaming: the whole answer appended to run->out. */
    void (*whole)(loami_run *run);
} loami_shape;

struct loami_run {
    loami_api *api;
    loami_reply *reply;
    const loami_shape *shape;
    char id[48];
    int64_t created_s; /* unix time */
    const char *model; /* the name it was asked for by */
    loami_hold hold;   /* of the model */
    double arrived_s, deadline_s; /* deadline 0 = none */
    double header_s;   /* X-Request-Timeout; 0 = none */
    uint64_t client, salt; /* whose it is, for fairness; and with whom its prompt's pages may be shared */

    loami_params *request; /* the shape's struct */
    loami_prompt *prompts; /* [n_prompts] */
    uint32_t n_prompts;
    loami_choice *choices; /* [n_choices], prompt by prompt */
    uint32_t n_choices, n_done;
    bool parsed;           /* answers go through a loam_parser */
    loam_job *scoring;     /* its prompts' log-probabilities come first; NULL: nobody wants them */
    loam_tokens *texts;    /* [n_prompts] what they are of */
    bool unscored;         /* they are not there yet */
    bool one_call;         /* no more than one call of a tool is wanted */
    bool hide_reasoning;
    char *tools;           /* JSON for the parser, malloc'd, or NULL */
    loam_grammar *grammar; /* that the answers keep to, or NULL */

    loami_fault fault; /* failed: what is wrong */
    bool failed;
    atomic_bool gone; /* the client left */
    double ttft_s;    /* of the first of its answers; 0 = none came yet */
    bool live;        /* back from the worker: the loop owns all of it */
    bool started;     /* the answer has begun to stream */
    bool paused;      /* the client does not read */
    double written_s; /* when something was sent last */
    loami_buf out;
    loami_task task;
    loami_post ready;
    loami_timer keep_alive;
    LIST_ENTRY(loami_run) next;
};

/* Starts a run for a reply, or fails the reply: loading, too busy. */
void loami_run_open(loami_api *a, loami_reply *r, const loami_shape *shape);

/* Ends what is left when loop and workers have stopped. */
void loami_run_abandon_all(loami_api *a);

/* 503 while the first model loads. */
int loami_api_check_ready(const loami_api *a, loami_fault *f);

/* The name under which model is known here, or NULL with f filled (404). NULL and "default" are the first
 * one. */
const char *loami_api_model(const loami_api *a, const char *model, loami_fault *f);

/* A 429 with the time after which coming again makes sense, by the engine's measured rate. Returns -1. */
int loami_fault_busy(loami_fault *f, const loami_served *s, const char *msg);

/* A library error as an HTTP one. Returns -1. */
int loami_fault_from(loami_fault *f, const loam_err *err, const char *param);

/* How a stream or a job ended badly, in the words that its client reads. */
loam_err loami_end_err(int code, const char *msg);

/* Room for n prompts; false when memory ran out. */
bool loami_run_prompts(loami_run *run, uint32_t n);

/* limits.c: what the header X-Request-Timeout says, in seconds; 0 = nothing. */
int loami_header_timeout(const loami_reply *r, double *out, loami_fault *f);

/* limits.c: when a request is over its time, by the least of what the field "timeout", the header and the server say; 0 = never. The
 * field's value is checked with the others. And the milliseconds until then, for the engine: 0 = no limit. */
double loami_deadline(const loami_api *a, const json_t *body, double header_s, double arrived_s);
uint32_t loami_deadline_ms(double deadline_s);

/* limits.c: about what a job's results and the answer made of them take. */
size_t loami_job_bytes(const loam_job_request *r, uint32_t embed_dims);

/* given.c: begins the job of the prompts' log-probabilities; on_ready(run) on the engine's thread when it is to be polled. */
int loami_score_begin(loami_run *run, void (*on_ready)(void *arg), loami_fault *f);

/* given.c: it is over and well: the prompts' logprobs, ranks and top. */
void loami_score_take(loami_run *run, const loam_outcome *r);

/* given.c: ,"prompt_token_ids":[…],"prompt_logprobs":[null,{"ID":{"logprob","rank","decoded_token"},…},…] as far as they
 * were asked for. */
void loami_put_given(loami_buf *out, const loami_run *run, const loami_prompt *p);

/* Frees what a shape's parse has put into the run: request, prompts, tools. They are not to be used after. */
void loami_run_forget_request(loami_run *run);

/* Tokens of its prompts, of those the ones found in the cache, and of its answers. Choices of one prompt share what the first of them
 * computes: found is what the one that found least had. */
typedef struct loami_counts {
    uint64_t prompt, cached, new;
} loami_counts;
loami_counts loami_run_counts(const loami_run *run);

/* {"prompt_tokens":…} over all choices. */
void loami_put_usage(loami_buf *out, const loami_run *run);

/* "stop", "length", "tool_calls". */
const char *loami_finish_name(const loami_choice *c);

/* account.c: a token arrived; a run is over: into the model's statistics, and the request's line in the log. */
void loami_run_account_token(loami_choice *c, const loam_token *t);
void loami_run_account(loami_run *run, loami_ending ending, const char *finish);

/* health.c: requests run: from now on a stalled engine is noticed. Loop's thread. */
void loami_api_watch(loami_api *a);

/* health.c: what a model's engine does: "idle", "prefill", "decode", "stalled". */
const char *loami_api_pulse(const loami_api *a, const loami_served *s);

#endif
