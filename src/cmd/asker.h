/* cmd/asker.h: asking servers that speak the OpenAI API, and measuring what comes: for bench --url, compare
 * and validate. */
#ifndef LOAMI_ASKER_H
#define LOAMI_ASKER_H

#include "base/json.h"

/* One chat request. */
typedef struct loami_ask {
    const char *messages; /* JSON: an array of messages; borrowed */
    const char *server;   /* another one than the run's, or NULL; borrowed */
    uint32_t max_tokens;
    bool whole; /* not as a stream */

    /* what came of it */
    int status;    /* 0: nothing */
    bool ok, done; /* a whole answer; [DONE] was there */
    char error[200], finish[24], backend[64];
    double start_s, ttft_s, total_s, itl_s; /* itl: mean between two tokens, 0 = not known */
    uint32_t tokens, prompt_tokens, pieces;
    char *text; /* malloc'd; "" when there is none */
    size_t n_text;
} loami_ask;

typedef struct loami_ask_how {
    const char *server; /* without /v1 and a slash */
    const char *model;
    const char *key; /* or NULL */
    uint32_t concurrency;
    double timeout_s;
    void (*answered)(void *arg, const loami_ask *a); /* or NULL */
    void *arg;
} loami_ask_how;

/* Asks all of them, `concurrency` at once, in order. An answer that fails is told in it, and is no failure
 * here. */
int loami_ask_all(loami_ask *asks, uint32_t n, const loami_ask_how *how, loam_err *err);
void loami_asks_free(loami_ask *asks, uint32_t n);

/* One request for something else; *status is what it answered. out is the caller's; its limit, if it has one, holds. */
int loami_ask_once(const char *url, const char *method, const char *body, const char *key, double timeout_s,
                   loami_buf *out, int *status, loam_err *err);

/* url without a slash or /v1 at its end, malloc'd; LOAM_E_ARG when it is none. */
int loami_server_of(char **out, const char *url, loam_err *err);

/* The first model that the server lists, malloc'd, or a copy of `wanted`. */
int loami_model_of(char **out, const char *server, const char *wanted, const char *key, loam_err *err);

/* The five prompts that tok/s are measured with by default, NULL at the end. */
extern const char *const loami_prompts[];

/* A list of prompts as messages, malloc'd strings. path NULL: the five. A file has a prompt a line, or a JSON
 * object a line: {"prompt": "..."} or {"messages": [...]}. */
typedef struct loami_prompt {
    char *messages; /* JSON */
    char *name;     /* the words of the last user message */
} loami_prompt;
int loami_prompts_read(loami_prompt **out, uint32_t *n, const char *path, loam_err *err);
void loami_prompts_free(loami_prompt *p, uint32_t n);

#endif
