/* golden/detok.c: streams ids through a tokenizer's detokenizer, as an answer is shown.
 *
 *     detok TOKENIZER.json < lines
 *
 * A JSON array of ids a line; a JSON string a line out. Every piece must be whole characters. */
#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int stream(const loami_tokenizer *t, const json_t *ids, loami_buf *all, loam_err *err)
{
    loami_detok *d = NULL;
    loami_buf piece = { 0 };
    size_t n = json_array_size(ids);
    int rc = loami_detok_open(&d, t, false, err);
    for (size_t i = 0; rc == 0 && i <= n; i++) {
        loami_buf_clear(&piece);
        if (i < n) rc = loami_detok_put(d, &piece, (int32_t)json_integer_value(json_array_get(ids, i)), err);
        else rc = loami_detok_flush(d, &piece, err);
        if (rc == 0 && piece.len && !loami_utf8_valid(piece.data, piece.len))
            rc = loami_fail(err, LOAM_E_FORMAT, "half a character");
        if (piece.len) loami_buf_put(all, piece.data, piece.len);
    }
    loami_detok_close(d);
    loami_buf_free(&piece);
    return rc;
}

int main(int argc, char **argv)
{
    loam_err err = { 0 };
    loami_tokenizer *t = NULL;
    char *text = NULL;
    size_t n = 0;
    int rc = argc == 2 ? loami_tokenizer_open(&t, argv[1], &err)
                       : loami_fail(&err, LOAM_E_ARG, "want a tokenizer.json");
    if (rc == 0) rc = loami_file_read(&text, &n, "-", 1 << 30, &err);
    for (char *p = text, *end = text + n; rc == 0 && p < end;) {
        char *stop = memchr(p, '\n', (size_t)(end - p));
        json_t *ids = NULL;
        loami_buf all = { 0 };
        if (!stop) stop = end;
        rc = loami_json_parse(&ids, p, (size_t)(stop - p), "line", &err);
        if (rc == 0) rc = stream(t, ids, &all, &err);
        if (rc == 0) {
            json_t *s = json_stringn(all.data ? all.data : "", all.len);
            char *out = loami_json_text(s);
            puts(out);
            free(out);
            json_decref(s);
        }
        loami_buf_free(&all);
        json_decref(ids);
        p = stop < end ? stop + 1 : end;
    }
    free(text);
    loami_tokenizer_close(t);
    if (rc < 0) fprintf(stderr, "detok: %s\n", err.msg);
    return rc < 0;
}
