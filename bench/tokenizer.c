/* bench/tokenizer.c: how long a tokenizer takes. bench/tokenizer.py runs it.
 *
 *     tokenizer TOKENIZER.json
 *
 * On standard input a text: its size in bytes on a line, then its bytes; after it a line for each round
 * wanted. A round answers with a line: the seconds to open, to encode the text, and to encode it again; the
 * number of tokens. */
#include "base/clock.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>

static int measure(const char *path, const char *text, size_t n, loam_err *err)
{
    loami_tokenizer *t = NULL;
    loami_ids ids = { 0 };
    double start = loami_now_s();
    int rc = loami_tokenizer_open(&t, path, err);
    double opened = loami_now_s();
    if (rc == 0) rc = loami_tokenizer_encode(t, &ids, text, n, false, err);
    double first = loami_now_s();
    size_t count = ids.len;
    ids.len = 0;
    if (rc == 0) rc = loami_tokenizer_encode(t, &ids, text, n, false, err);
    double again = loami_now_s();
    if (rc == 0) printf("%.6f %.6f %.6f %zu\n", opened - start, first - opened, again - first, count);
    fflush(stdout);
    free(ids.data);
    loami_tokenizer_close(t);
    return rc;
}

int main(int argc, char **argv)
{
    loam_err err = { 0 };
    char line[64];
    size_t n = fgets(line, sizeof line, stdin) ? strtoul(line, NULL, 10) : 0;
    char *text = malloc(n + 1);
    int rc = argc == 2 && text && n && fread(text, 1, n, stdin) == n ? 0 : -1;
    while (rc == 0 && fgets(line, sizeof line, stdin)) rc = measure(argv[1], text, n, &err);
    if (rc < 0) fprintf(stderr, "bench/tokenizer: %s\n", err.msg[0] ? err.msg
                        : "want a tokenizer.json, and a text on standard input");
    free(text);
    return rc < 0;
}
