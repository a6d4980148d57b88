/* golden/embed.c: embeddings through the library.
 *
 *     embed MODEL SUBSTRATE EXACT(0|1) MEAN|LAST|MODEL < texts
 *
 * A text a line, as ids; a line of numbers for each, in order. Beside them another request generates, so that steps of
 * both kinds take turns. */
#include "loam.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXTS = 64, MAX_IDS = 8192 };

static int die(const char *what, const loam_err *err)
{
    fprintf(stderr, "embed: %s: %s\n", what, err->msg);
    return 1;
}

int main(int argc, char **argv)
{
    static char line[MAX_IDS * 12];
    static const char *const names[] = { "MODEL", "MEAN", "LAST" };
    loam_engine *e = NULL;
    loam_stream *beside = NULL;
    loam_err err = { 0 };
    loam_tokens texts[MAX_TEXTS] = { 0 };
    loam_token t;
    uint32_t n = 0, pooling = 0, got = 0;

    if (argc != 5) return 2;
    while (pooling < 2 && strcmp(names[pooling], argv[4]) != 0) pooling++;
    loam_options options = { .model = argv[1], .substrate = argv[2], .exact = argv[3][0] == '1', .threads = 2 };
    if (loam_engine_open(&e, &options, &err) < 0) return die("open", &err);
    while (n < MAX_TEXTS && fgets(line, sizeof line, stdin)) {
        int32_t *ids = calloc(MAX_IDS, sizeof *ids);
        for (char *word = strtok(line, " \n"); word && ids; word = strtok(NULL, " \n"))
            if (texts[n].n < MAX_IDS) ids[texts[n].n++] = (int32_t)strtol(word, NULL, 10);
        texts[n++].ids = ids;
    }
    uint32_t dims = loam_engine_info(e)->embed_dims;
    float *out = calloc((size_t)n * dims, sizeof *out);
    loam_request r = { .tokens = texts[0].ids, .n_tokens = texts[0].n, .max_new = 40, .ignore_eos = true };
    if (!out || loam_submit(e, &beside, &r, &err) < 0) return die("submit", &err);
    if (loam_embed(e, texts, n, (loam_pooling)pooling, out, NULL, &err) < 0) return die("embed", &err);
    while (loam_stream_next(beside, &t, UINT32_MAX) > 0) got += t.id >= 0;
    if (got != 40) return die("the request beside", &err);
    loam_stream_close(beside);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < dims; k++) printf("%.8g ", (double)out[(size_t)i * dims + k]);
        printf("\n");
        free((void *)texts[i].ids);
    }
    free(out);
    loam_engine_close(e);
    return 0;
}
