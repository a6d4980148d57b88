#include "cmd/asker.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPTS_BYTES_MAX = 64 << 20, PROMPTS_MAX = 10000 };

const char *const loami_prompts[] = {
    "Explain quantum computing in simple terms",
    "Write a Python function to sort a list",
    "What is the Seven Generations principle?",
    "Describe the architecture of a neural network",
    "How does photosynthesis work?",
    NULL,
};

void loami_prompts_free(loami_prompt *p, uint32_t n)
{
    for (uint32_t i = 0; p && i < n; i++) {
        free(p[i].messages);
        free(p[i].name);
    }
    free(p);
}

static bool from_words(loami_prompt *p, const char *words, size_t n)
{
    loami_buf b = { 0 };
    loami_buf_puts(&b, "[{\"role\":\"user\",\"content\":");
    loami_json_put(&b, words, n);
    loami_buf_puts(&b, "}]");
    p->messages = loami_buf_take(&b, NULL);
    p->name = strndup(words, n);
    return p->messages && p->name;
}

static int from_object(loami_prompt *p, const char *line, size_t n, const char *what, loam_err *err)
{
    json_t *v = NULL;
    int rc = loami_json_parse(&v, line, n, what, err);
    if (rc < 0) return rc;
    const json_t *prompt = json_object_get(v, "prompt"), *messages = json_object_get(v, "messages"), *last;
    if (json_is_string(prompt)) {
        if (!from_words(p, json_string_value(prompt), json_string_length(prompt))) rc = loami_fail_nomem(err);
    } else if (json_array_size(messages)) {
        last = json_array_get(messages, json_array_size(messages) - 1);
        const char *words = json_string_value(json_object_get(last, "content"));
        p->messages = loami_json_text(messages);
        p->name = strdup(words ? words : "(a conversation)");
        if (!p->messages || !p->name) rc = loami_fail_nomem(err);
    } else {
        rc = loami_fail(err, LOAM_E_FORMAT, "%s: must have \"prompt\": \"words\" or \"messages\": [...]", what);
    }
    json_decref(v);
    return rc;
}

static int read_lines(loami_prompt *list, uint32_t *n, const char *text, const char *path, loam_err *err)
{
    uint32_t number = 0;
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, "\n"), used = len;
        char what[300];
        number++;
        while (used && (p[used - 1] == '\r' || p[used - 1] == ' ')) used--;
        snprintf(what, sizeof what, "%.200s:%u", path, number);
        if (used && *n == PROMPTS_MAX)
            return loami_fail(err, LOAM_E_FORMAT, "%s: more than %d prompts", path, PROMPTS_MAX);
        loami_prompt *to = &list[*n];
        int rc = 0;
        if (used) (*n)++;
        if (used && *p == '{')
            rc = from_object(to, p, used, what, err);
        else if (used && !from_words(to, p, used))
            rc = loami_fail_nomem(err);
        if (rc < 0) return rc;
        p += len + (p[len] == '\n');
    }
    return *n ? 0 : loami_fail(err, LOAM_E_FORMAT, "%s: no prompt in it", path);
}

int loami_prompts_read(loami_prompt **out, uint32_t *n, const char *path, loam_err *err)
{
    loami_prompt *list = calloc(PROMPTS_MAX, sizeof *list);
    char *text = NULL;
    size_t len;
    int rc = 0;
    *n = 0;
    if (!list) return loami_fail_nomem(err);
    for (; !path && loami_prompts[*n] && rc == 0; (*n)++)
        if (!from_words(&list[*n], loami_prompts[*n], strlen(loami_prompts[*n]))) rc = loami_fail_nomem(err);
    if (path) rc = loami_file_read(&text, &len, path, PROMPTS_BYTES_MAX, err);
    if (path && rc == 0) rc = read_lines(list, n, text, path, err);
    free(text);
    if (rc < 0)
        loami_prompts_free(list, *n);
    else
        *out = list;
    return rc;
}
