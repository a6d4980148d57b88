#include "base/file.h"
#include "base/json.h"
#include "cmd/cmd.h"
#include "store/store.h"
#include "text/tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT_BYTES = 1 << 30 };

typedef struct job {
    loami_tokenizer *t;
    bool json, lines, decode, no_special;
} job;

static int find_tokenizer(char *path, const char *model, loam_err *err)
{
    char dir[LOAMI_PATH_MAX];
    int rc = loami_store_find(dir, model, err);
    return rc < 0 ? rc : loami_path_join(path, dir, "tokenizer.json", err);
}

static int write_out(const loami_buf *b, loam_err *err)
{
    if (b->failed) return loami_fail_nomem(err);
    if (b->len && fwrite(b->data, 1, b->len, stdout) != b->len)
        return loami_fail_errno(err, "standard output");
    return 0;
}

static void put_ids(loami_buf *out, const loami_ids *ids, const char *between)
{
    for (size_t i = 0; i < ids->len; i++) {
        char text[16];
        loami_buf_put(out, text, (size_t)snprintf(text, sizeof text, "%s%d", i ? between : "", ids->data[i]));
    }
}

static int put_json(loami_buf *out, json_t *value, loam_err *err)
{
    char *text = value ? loami_json_text(value) : NULL;
    if (!text) return loami_fail_nomem(err);
    loami_buf_puts(out, text);
    free(text);
    return 0;
}

/* ---- encode ---- */

static int put_encoding(const job *j, loami_buf *out, const loami_ids *ids, loam_err *err)
{
    json_t *tokens = json_array();
    int rc = 0;
    loami_buf_puts(out, "{\"ids\":[");
    put_ids(out, ids, ",");
    loami_buf_puts(out, "],\"tokens\":");
    for (size_t i = 0; i < ids->len; i++) {
        size_t n = 0;
        const char *s = loami_tokenizer_token(j->t, ids->data[i], &n);
        json_array_append_new(tokens, s ? json_stringn(s, n) : json_null());
    }
    rc = put_json(out, tokens, err);
    json_decref(tokens);
    loami_buf_printf(out, ",\"count\":%zu}\n", ids->len);
    return rc;
}

static int encode(const job *j, loami_buf *out, const char *text, size_t n, loam_err *err)
{
    loami_ids ids = { 0 };
    int rc = loami_tokenizer_encode(j->t, &ids, text, n, !j->no_special, err);
    if (rc == 0 && j->json) {
        rc = put_encoding(j, out, &ids, err);
    } else if (rc == 0) {
        loami_buf_puts(out, j->lines ? "[" : "");
        put_ids(out, &ids, j->lines ? "," : " ");
        loami_buf_puts(out, j->lines ? "]\n" : "\n");
    }
    free(ids.data);
    return rc;
}

static int encode_line(const job *j, loami_buf *out, const json_t *line, loam_err *err)
{
    if (!json_is_string(line)) return loami_fail(err, LOAM_E_FORMAT, "must be a JSON string");
    return encode(j, out, json_string_value(line), json_string_length(line), err);
}

/* ---- decode ---- */

static int put_text(const job *j, loami_buf *out, const loami_ids *ids, loam_err *err)
{
    loami_buf text = { 0 };
    int rc = loami_tokenizer_decode(j->t, &text, ids->data, ids->len, j->no_special, err);
    if (rc == 0 && (j->json || j->lines)) {
        json_t *s = json_stringn(text.data ? text.data : "", text.len);
        loami_buf_puts(out, j->json ? "{\"text\":" : "");
        rc = put_json(out, s, err);
        loami_buf_puts(out, j->json ? "}\n" : "\n");
        json_decref(s);
    } else if (rc == 0) {
        loami_buf_put(out, text.data ? text.data : "", text.len);
    }
    loami_buf_free(&text);
    return rc;
}

static bool valid_id(long long v)
{
    return v >= 0 && v <= INT32_MAX;
}

/* Numbers with white space or commas between. */
static int decode(const job *j, loami_buf *out, const char *text, size_t n, loam_err *err)
{
    loami_ids ids = { 0 };
    int rc = 0;
    for (const char *p = text, *end = text + n; rc == 0 && p < end;) {
        if (strchr(" \t\r\n,", *p)) {
            p++;
            continue;
        }
        char *stop;
        errno = 0;
        long long v = strtoll(p, &stop, 10);
        if (stop == p || errno || !valid_id(v))
            rc = loami_fail(err, LOAM_E_ARG, "standard input, byte %zu: must be a token id",
                            (size_t)(p - text));
        else if (!loami_ids_put(&ids, (int32_t)v)) rc = loami_fail_nomem(err);
        p = stop;
    }
    if (rc == 0) rc = put_text(j, out, &ids, err);
    free(ids.data);
    return rc;
}

static int decode_line(const job *j, loami_buf *out, const json_t *line, loam_err *err)
{
    loami_ids ids = { 0 };
    int rc = json_is_array(line) ? 0 : loami_fail(err, LOAM_E_FORMAT, "must be a JSON array of token ids");
    for (size_t i = 0; rc == 0 && i < json_array_size(line); i++) {
        const json_t *v = json_array_get(line, i);
        if (!json_is_integer(v) || !valid_id(json_integer_value(v)))
            rc = loami_fail(err, LOAM_E_FORMAT, "must be a JSON array of token ids");
        else if (!loami_ids_put(&ids, (int32_t)json_integer_value(v))) rc = loami_fail_nomem(err);
    }
    if (rc == 0) rc = put_text(j, out, &ids, err);
    free(ids.data);
    return rc;
}

/* ---- the command ---- */

static int run_lines(const job *j, const char *text, size_t n, loam_err *err)
{
    size_t number = 0;
    int rc = 0;
    loami_buf out = { 0 };
    for (const char *p = text, *end = text + n; rc == 0 && p < end;) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        char where[48];
        json_t *line = NULL;
        if (!stop) stop = end;
        snprintf(where, sizeof where, "standard input, line %zu", ++number);
        rc = loami_json_parse(&line, p, (size_t)(stop - p), where, err);
        if (rc == 0) {
            loami_buf_clear(&out);
            rc = j->decode ? decode_line(j, &out, line, err) : encode_line(j, &out, line, err);
            if (rc < 0) loami_fail_in(err, "%s", where);
        }
        if (rc == 0) rc = write_out(&out, err);
        json_decref(line);
        p = stop < end ? stop + 1 : end;
    }
    loami_buf_free(&out);
    return rc;
}

static int run(const job *j, loam_err *err)
{
    char *text;
    size_t n;
    int rc = loami_file_read(&text, &n, "-", INPUT_BYTES, err);
    if (rc < 0) return rc;
    if (j->lines) {
        rc = run_lines(j, text, n, err);
    } else {
        loami_buf out = { 0 };
        rc = j->decode ? decode(j, &out, text, n, err) : encode(j, &out, text, n, err);
        if (rc == 0) rc = write_out(&out, err);
        loami_buf_free(&out);
    }
    free(text);
    if (rc == 0 && fflush(stdout) != 0) rc = loami_fail_errno(err, "standard output");
    return rc;
}

int loami_cmd_tokenize(int argc, char **argv)
{
    const char *model = NULL, *file = NULL;
    char path[LOAMI_PATH_MAX];
    job j = { 0 };
    loam_err err = { 0 };
    const loami_opt table[] = {
        { .name = "--model", .letter = 'm', .arg = "M", .help = "take the tokenizer of model M",
          .kind = LOAMI_OPT_STRING, .value = &model },
        { .name = "--tokenizer", .arg = "FILE", .help = "take this tokenizer.json",
          .kind = LOAMI_OPT_STRING, .value = &file },
        { .name = "--decode", .letter = 'd', .help = "ids on stdin, text out",
          .kind = LOAMI_OPT_FLAG, .value = &j.decode },
        { .name = "--no-special", .help = "add no special tokens; with --decode leave them out",
          .kind = LOAMI_OPT_FLAG, .value = &j.no_special },
        { .name = "--json", .help = "print an object: ids, tokens, count; or text",
          .kind = LOAMI_OPT_FLAG, .value = &j.json },
        { .name = "--json-lines",
          .help = "a JSON string a line in, an array of ids a line out; with --decode the reverse",
          .kind = LOAMI_OPT_FLAG, .value = &j.lines },
        { 0 },
    };
    int rc = loami_opt_parse(argc, argv, table, "text on stdin, token ids out");
    if (rc != 0) return rc < 0 ? LOAMI_EXIT_USAGE : LOAMI_EXIT_OK;
    if (!model == !file) {
        fprintf(stderr, "loam tokenize: give either --model or --tokenizer (see loam tokenize --help)\n");
        return LOAMI_EXIT_USAGE;
    }
    if (!file) {
        rc = find_tokenizer(path, model, &err);
        file = path;
    }
    if (rc == 0) rc = loami_tokenizer_open(&j.t, file, &err);
    if (rc == 0) rc = run(&j, &err);
    loami_tokenizer_close(j.t);
    return rc < 0 ? loami_cmd_fail("tokenize", &err) : LOAMI_EXIT_OK;
}
