#include "rollout/rollout.h"

#include <string.h>

const char *const loami_stickies[] = { "conversation", "session", "key", NULL };

static int read_word(char *out, const json_t *v, const char *what, const char *key, loam_err *err)
{
    size_t n = json_string_length(v);
    if (!json_is_string(v) || n == 0 || n >= LOAMI_NAME_BYTES || strlen(json_string_value(v)) != n)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s must be a string of 1 to %d bytes", what, key,
                          LOAMI_NAME_BYTES - 1);
    memcpy(out, json_string_value(v), n + 1);
    return 0;
}

/* "a", or ["a", "b"] */
static int read_words(loami_words *w, const json_t *v, const char *what, const char *key, loam_err *err)
{
    int rc = 0;
    w->n = 0;
    if (json_is_string(v)) return read_word(w->word[w->n++], v, what, key, err);
    if (!json_is_array(v) || json_array_size(v) == 0 || json_array_size(v) > LOAMI_WORDS_MAX)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s must be a string, or an array of 1 to %d of them", what, key,
                          LOAMI_WORDS_MAX);
    for (size_t i = 0; rc == 0 && i < json_array_size(v); i++)
        rc = read_word(w->word[w->n++], json_array_get(v, i), what, key, err);
    return rc;
}

static int read_steps(loami_plan *p, const json_t *v, const char *what, loam_err *err)
{
    size_t n = json_array_size(v);
    double before = -1;
    if (!json_is_array(v) || n == 0 || n > LOAMI_STEPS_MAX)
        return loami_fail(err, LOAM_E_FORMAT, "%s: steps must be an array of 1 to %d numbers", what, LOAMI_STEPS_MAX);
    for (size_t i = 0; i < n; i++) {
        double step = json_number_value(json_array_get(v, i));
        if (!json_is_number(json_array_get(v, i)) || !(step > before && step <= 100))
            return loami_fail(err, LOAM_E_FORMAT, "%s: steps must rise from 0 to 100, as [10, 50, 100]", what);
        p->steps[i] = before = step;
    }
    if (before < 100) return loami_fail(err, LOAM_E_FORMAT, "%s: the last of the steps must be 100", what);
    p->n_steps = (uint32_t)n;
    return 0;
}

static int read_double(double *out, const json_t *v, const char *what, const char *key, double lo, double hi,
                       loam_err *err)
{
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= lo && x <= hi))
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s must be a number from %g to %g", what, key, lo, hi);
    *out = x;
    return 0;
}

static int read_count(uint32_t *out, const json_t *v, const char *what, const char *key, uint32_t lo, uint32_t hi,
                      loam_err *err)
{
    if (!json_is_integer(v) || json_integer_value(v) < lo || json_integer_value(v) > hi)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s must be a whole number from %u to %u", what, key, lo, hi);
    *out = (uint32_t)json_integer_value(v);
    return 0;
}

static int read_sticky(loami_plan *p, const json_t *v, const char *what, loam_err *err)
{
    for (int i = 0; json_is_string(v) && loami_stickies[i]; i++) {
        p->sticky = i;
        if (strcmp(loami_stickies[i], json_string_value(v)) == 0) return 0;
    }
    return loami_fail(err, LOAM_E_FORMAT, "%s: sticky must be \"conversation\", \"session\" or \"key\"", what);
}

static int read_bool(bool *out, const json_t *v, const char *what, const char *key, loam_err *err)
{
    if (!json_is_boolean(v)) return loami_fail(err, LOAM_E_FORMAT, "%s: %s must be true or false", what, key);
    *out = json_is_true(v);
    return 0;
}

static int read_member(loami_plan *p, const char *key, const json_t *v, const char *what, loam_err *err)
{
    char place[200];
    if (strcmp(key, "pool") == 0) return read_word(p->pool, v, what, key, err);
    if (strcmp(key, "from") == 0) return read_words(&p->from, v, what, key, err);
    if (strcmp(key, "to") == 0) return read_words(&p->to, v, what, key, err);
    if (strcmp(key, "steps") == 0) return read_steps(p, v, what, err);
    if (strcmp(key, "min_requests") == 0)
        return read_count(&p->min_requests, v, what, key, 0, 1000000000, err);
    if (strcmp(key, "min_time_s") == 0) return read_double(&p->min_time_s, v, what, key, 0, 1e8, err);
    if (strcmp(key, "sticky") == 0) return read_sticky(p, v, what, err);
    if (strcmp(key, "idle_s") == 0) return read_double(&p->idle_s, v, what, key, 1, 1e8, err);
    if (strcmp(key, "warm") == 0) return read_bool(&p->warm, v, what, key, err);
    if (strcmp(key, "shadow") == 0) return read_double(&p->shadow, v, what, key, 0, 1, err);
    if (strcmp(key, "shadow_running") == 0) return read_count(&p->shadow_running, v, what, key, 1, 64, err);
    if (strcmp(key, "shadow_tokens_per_minute") == 0)
        return read_count(&p->shadow_tokens_minute, v, what, key, 1, 1000000000, err);
    if (strcmp(key, "gate") == 0) {
        size_t n = strlen(what);
        if (n > sizeof place - 8) n = sizeof place - 8;
        memcpy(place, what, n);
        memcpy(place + n, ": gate", 7);
        return loami_gate_read(&p->gate, v, place, err);
    }
    return loami_fail(err, LOAM_E_FORMAT, "%s: unknown field \"%.60s\"", what, key);
}

int loami_plan_read(loami_plan *p, const json_t *v, const char *what, loam_err *err)
{
    const char *key;
    json_t *value;
    *p = (loami_plan){ .steps = { 10, 50, 100 },
                       .n_steps = 3,
                       .min_requests = 500,
                       .min_time_s = 600,
                       .idle_s = 1800,
                       .warm = true,
                       .shadow_running = 2,
                       .shadow_tokens_minute = 20000 };
    loami_gate_default(&p->gate);
    if (!json_is_object(v)) return loami_fail(err, LOAM_E_FORMAT, "%s: must be an object", what);
    json_object_foreach((json_t *)v, key, value) {
        int rc = read_member(p, key, value, what, err);
        if (rc < 0) return rc;
    }
    if (!p->from.n || !p->to.n)
        return loami_fail(err, LOAM_E_FORMAT, "%s: say \"from\" and \"to\": the names, kinds or labels of backends",
                          what);
    return 0;
}

static void put_text(loami_buf *out, const char *s)
{
    loami_json_put(out, s, strlen(s));
}

static void put_words(loami_buf *out, const char *key, const loami_words *w)
{
    loami_buf_printf(out, ",\"%s\":[", key);
    for (uint32_t i = 0; i < w->n; i++) {
        if (i) loami_buf_putc(out, ',');
        put_text(out, w->word[i]);
    }
    loami_buf_putc(out, ']');
}

void loami_plan_write(const loami_plan *p, loami_buf *out)
{
    if (p->pool[0]) {
        loami_buf_puts(out, "\"pool\":");
        put_text(out, p->pool);
        loami_buf_putc(out, ',');
    }
    loami_buf_puts(out, "\"steps\":[");
    for (uint32_t i = 0; i < p->n_steps; i++) loami_buf_printf(out, "%s%.17g", i ? "," : "", p->steps[i]);
    loami_buf_putc(out, ']');
    put_words(out, "from", &p->from);
    put_words(out, "to", &p->to);
    loami_buf_printf(out,
                     ",\"min_requests\":%u,\"min_time_s\":%.17g,\"sticky\":\"%s\",\"idle_s\":%.17g,\"warm\":%s,"
                     "\"shadow\":%.17g,\"shadow_running\":%u,\"shadow_tokens_per_minute\":%u,\"gate\":",
                     p->min_requests, p->min_time_s, loami_stickies[p->sticky], p->idle_s, p->warm ? "true" : "false",
                     p->shadow, p->shadow_running, p->shadow_tokens_minute);
    loami_gate_write(&p->gate, out);
}
