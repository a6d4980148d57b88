/* cmd/bench_url.h: `loam bench --url`: how fast a server is, measured from outside. */
#ifndef LOAMI_BENCH_URL_H
#define LOAMI_BENCH_URL_H

#include "cmd/cmd.h"

typedef struct loami_bench_url {
    const char *url, *model, *key, *prompts, *svg;
    uint32_t max_tokens, concurrency, requests;
    float target; /* tok/s; 0 = none */
    bool json;
} loami_bench_url;

/* An exit code: 1 also when the average is below target, or an answer failed. */
int loami_bench_url_run(const loami_bench_url *b);

#endif
