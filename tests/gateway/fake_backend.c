/* A backend whose pace and faults the gateway's tests and benchmarks command. It speaks enough of the OpenAI
 * API to stand for loam, vLLM and others, and continues answers as they do.
 *
 *     fake_backend [--port N] [--name a] [--kind loam] [--model m] [--health-ms N]
 *
 * It prints its port. Token i of an answer is the text " i.hhh", hhh being a function of seed and i, so that
 * any two answers to one request are equal exactly if no token was lost, doubled or drawn anew. As with a
 * real tokenizer the text of some tokens appears only with the next one's.
 *
 * The last "[fake k=v ...]" in a prompt says: delay=MS a token, prefill=MS before the first, stamp=1 (each
 * token is the time it was sent, in ns), and, of one token number each: die (kill -9 itself), cut (close the
 * connection), stall, error (an error event), stop (finish there without [DONE]). "die.a=3" concerns the
 * backend named a alone.
 *
 * POST /fake {"status":500,"count":2,"retry_after":1} answers the next requests so; {"health":503} and
 * {"health_ms":9000} concern probes; {"hang":1} lets requests without an answer. GET /fake tells what was
 * seen. */
#include "base/clock.h"
#include "base/json.h"
#include "net/server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

typedef struct backend {
    const char *name, *kind, *model;
    loami_loop *loop;
    loami_server *server;
    uint32_t n_requests, n_running, n_gone, n_resumed, most_running;
    int status, count, health, health_ms, hang;
    double retry_after, gone_s;
    char last[4096], last_id[80], last_trace[80], last_key[120];
    uint64_t n_ids;
} backend;

typedef struct answer {
    backend *b;
    loami_reply *reply;
    json_t *body;
    bool chat, stream, usage, ids, paused, begun, samples, gone;
    uint64_t seed;
    uint32_t i, from, most, prompt_tokens;
    uint32_t delay_ms, prefill_ms;
    bool stamp;
    char id[40];
    long created;
    char *prompt;
    loami_timer timer;
    double due_s; /* of the next token */
    uint32_t held; /* tokens whose text is held back */
} answer;

static uint32_t option(const answer *a, const char *key)
{
    const char *at = NULL, *end;
    char words[2][64];
    for (const char *p = strstr(a->prompt, "[fake "); p; p = strstr(p + 1, "[fake ")) at = p;
    if (!at || !(end = strchr(at, ']'))) return 0;
    snprintf(words[0], sizeof words[0], " %s.%s=", key, a->b->name);
    snprintf(words[1], sizeof words[1], " %s=", key);
    for (int i = 0; i < 2; i++) {
        const char *v = strstr(at, words[i]);
        if (v && v < end) return (uint32_t)strtoul(v + strlen(words[i]), NULL, 10);
    }
    return 0;
}

static uint32_t hash_of(uint64_t seed, uint32_t i)
{
    uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 33) % 1000;
}

static void put_token(const answer *a, loami_buf *out, uint32_t i)
{
    struct timespec now;
    if (a->stamp) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        loami_buf_printf(out, " %lld%09ld", (long long)now.tv_sec, now.tv_nsec);
    } else {
        loami_buf_printf(out, " %u.%03u", i, hash_of(a->samples ? a->seed : 0, i));
    }
}

static bool holds_back(const answer *a, uint32_t i)
{
    return !a->stamp && i % 5 == 3 && i + 1 < a->most;
}

/* ---- streams ------------------------------------------------------------------------------------- */

static void put_head(answer *a, loami_buf *out)
{
    loami_buf_printf(out,
                     "data: {\"id\":\"%s\",\"object\":\"%s\",\"created\":%ld,\"model\":\"%s\",\"choices\":[",
                     a->id, a->chat ? "chat.completion.chunk" : "text_completion", a->created, a->b->model);
}

static void put_usage(const answer *a, loami_buf *out)
{
    loami_buf_printf(out, "\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u}",
                     a->prompt_tokens, a->i - a->from, a->prompt_tokens + a->i - a->from);
}

static void free_answer(answer *a)
{
    a->b->n_running--;
    loami_timer_clear(&a->timer);
    json_decref(a->body);
    free(a->prompt);
    free(a);
}

static void finish_stream(answer *a)
{
    loami_buf out = { 0 };
    put_head(a, &out);
    loami_buf_printf(&out, "{\"index\":0,%s,\"finish_reason\":\"length\"}]}\n\n",
                     a->chat ? "\"delta\":{}" : "\"text\":\"\"");
    if (a->usage) {
        put_head(a, &out);
        loami_buf_puts(&out, "],");
        put_usage(a, &out);
        loami_buf_puts(&out, "}\n\n");
    }
    if (!option(a, "stop")) loami_buf_puts(&out, "data: [DONE]\n\n");
    loami_reply_write(a->reply, out.data, out.len);
    loami_buf_free(&out);
    loami_reply_end(a->reply);
    free_answer(a);
}

static void put_piece(answer *a, loami_buf *out)
{
    put_head(a, out);
    loami_buf_printf(out, "{\"index\":0,%s\"", a->chat ? "\"delta\":{\"content\":" : "\"text\":");
    for (uint32_t k = a->i - a->held; k <= a->i; k++) put_token(a, out, k);
    loami_buf_puts(out, a->chat ? "\"},\"finish_reason\":null" : "\",\"finish_reason\":null");
    if (a->ids) {
        loami_buf_puts(out, ",\"token_ids\":[");
        for (uint32_t k = a->i - a->held; k <= a->i; k++)
            loami_buf_printf(out, "%s%u", k > a->i - a->held ? "," : "", k);
        loami_buf_putc(out, ']');
    }
    loami_buf_puts(out, "}]}\n\n");
    a->held = 0;
}

/* True when the answer ends here by accident. */
static bool accident(answer *a)
{
    if (a->i == 0) return false;
    if (a->i == option(a, "die")) raise(SIGKILL);
    if (a->i == option(a, "stall")) return true;
    if (a->i == option(a, "cut")) {
        loami_reply_drop(a->reply);
        free_answer(a);
        return true;
    }
    if (a->i == option(a, "error")) {
        static const char words[] =
            "data: {\"error\":{\"message\":\"the machine "
            "failed\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\ndata: [DONE]\n\n";
        loami_reply_write(a->reply, words, sizeof words - 1);
        loami_reply_end(a->reply);
        free_answer(a);
        return true;
    }
    return false;
}

static void step(void *arg);

/* At times of the stream's own: those counted from the last token would let streams drift into one burst. */
static bool wait_for_next(answer *a)
{
    double now = loami_now_s();
    a->due_s = (a->due_s ? a->due_s : now) + a->delay_ms * 1e-3;
    return loami_timer_set(a->b->loop, &a->timer, a->due_s > now ? a->due_s - now : 0, step, a);
}

static void step(void *arg)
{
    answer *a = arg;
    loami_buf out = { 0 };
    if (!a->begun && a->chat) {
        put_head(a, &out);
        loami_buf_puts(
            &out,
            "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n");
    }
    a->begun = true;
    do {
        if (out.len) loami_reply_write(a->reply, out.data, out.len);
        loami_buf_clear(&out);
        if (accident(a)) {
            loami_buf_free(&out);
            return;
        }
        if (a->i >= a->most) {
            loami_buf_free(&out);
            finish_stream(a);
            return;
        }
        if (holds_back(a, a->i))
            a->held++;
        else
            put_piece(a, &out);
        a->i++;
        if (out.len) a->paused = !loami_reply_write(a->reply, out.data, out.len);
        loami_buf_clear(&out);
    } while (!a->delay_ms && !a->paused);
    loami_buf_free(&out);
    if (!a->paused) wait_for_next(a);
}

/* ---- whole answers ------------------------------------------------------------------------------- */

static void answer_whole(void *arg)
{
    answer *a = arg;
    loami_buf out = { 0 };
    loami_buf_printf(
        &out,
        "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%ld,\"model\":\"%s\",\"choices\":[{\"index\":0,%s\"",
        a->id, a->chat ? "chat.completion" : "text_completion", (long)time(NULL), a->b->model,
        a->chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
    for (; a->i < a->most; a->i++) put_token(a, &out, a->i);
    loami_buf_puts(&out,
                   a->chat ? "\"},\"finish_reason\":\"length\"}]," : "\",\"finish_reason\":\"length\"}],");
    put_usage(a, &out);
    loami_buf_putc(&out, '}');
    loami_reply_send(a->reply, 200, "application/json", out.data, out.len);
    loami_buf_free(&out);
    free_answer(a);
}

/* ---- requests ------------------------------------------------------------------------------------ */

static void on_gone(void *arg)
{
    answer *a = arg;
    a->b->n_gone++;
    a->b->gone_s = loami_now_s();
    loami_reply_end(a->reply);
    free_answer(a);
}

static void on_drained(void *arg)
{
    answer *a = arg;
    if (!a->paused) return;
    a->due_s = 0;
    a->paused = !wait_for_next(a);
}

static uint32_t count_words(const char *s)
{
    uint32_t n = 0;
    for (; *s; s++) n += *s == ' ';
    return n;
}

static void note_headers(backend *b, loami_reply *r)
{
    const char *id = loami_reply_header(r, "X-Request-Id"), *trace = loami_reply_header(r, "traceparent"),
               *key = loami_reply_header(r, "Authorization");
    size_t n;
    const char *body = loami_reply_body(r, &n);
    snprintf(b->last, sizeof b->last, "%.*s", (int)(n < sizeof b->last ? n : sizeof b->last - 1), body);
    snprintf(b->last_id, sizeof b->last_id, "%s", id ? id : "");
    snprintf(b->last_trace, sizeof b->last_trace, "%s", trace ? trace : "");
    snprintf(b->last_key, sizeof b->last_key, "%s", key ? key : "");
}

/* What the answer begins with, when another server began it: its first token here. */
static void read_beginning(answer *a)
{
    json_t *said = json_object_get(json_object_get(a->body, "loam_resume"), "token_ids"),
           *messages = json_object_get(a->body, "messages");
    json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const char *role = json_string_value(json_object_get(last, "role"));
    bool prefills = strcmp(a->b->kind, "llama.cpp") == 0 ||
                    json_is_true(json_object_get(a->body, "continue_final_message"));
    if (json_is_array(said)) {
        a->i = (uint32_t)json_array_size(said);
        a->b->n_resumed++;
        return; /* usage counts them as this answer's */
    }
    if (role && strcmp(role, "assistant") == 0 && prefills)
        a->i = a->from = count_words(json_string_value(json_object_get(last, "content")));
    if (!a->chat && strstr(a->prompt, "]")) a->i = a->from = count_words(strrchr(a->prompt, ']'));
    if (a->from) a->b->n_resumed++;
}

static void collect_prompt(answer *a)
{
    json_t *messages = json_object_get(a->body, "messages"), *m;
    const char *prompt = json_string_value(json_object_get(a->body, "prompt"));
    loami_buf b = { 0 };
    size_t i;
    loami_buf_puts(&b, prompt ? prompt : "");
    json_array_foreach(messages, i, m) {
        const char *s = json_string_value(json_object_get(m, "content"));
        loami_buf_puts(&b, s ? s : "");
    }
    a->prompt = loami_buf_take(&b, NULL);
}

static bool misbehave(backend *b, loami_reply *r)
{
    loami_fault f;
    if (b->count <= 0) return false;
    b->count--;
    if (b->hang) return true; /* the request is forgotten; its memory with it */
    loami_fault_set(&f, b->status, "told_to", "", "Told to fail.");
    f.retry_s = (uint32_t)b->retry_after;
    loami_reply_fail(r, &f);
    return true;
}

static void generate(loami_reply *r, void *arg)
{
    backend *b = arg;
    size_t n;
    const char *body = loami_reply_body(r, &n);
    json_t *v = NULL;
    loami_fault f;
    loam_err err;

    b->n_requests++;
    note_headers(b, r);
    if (misbehave(b, r)) return;
    if (loami_json_parse(&v, body, n, "body", &err) < 0) {
        loami_fault_set(&f, 400, "invalid_json", "", "%s", err.msg);
        loami_reply_fail(r, &f);
        return;
    }
    answer *a = calloc(1, sizeof *a);
    if (!a) abort();
    json_t *temperature = json_object_get(v, "temperature"), *most = json_object_get(v, "max_tokens");
    a->b = b;
    a->created = (long)time(NULL);
    a->reply = r;
    a->body = v;
    a->chat = strstr(loami_reply_path(r), "chat");
    a->stream = json_is_true(json_object_get(v, "stream"));
    a->usage = json_is_true(json_object_get(json_object_get(v, "stream_options"), "include_usage"));
    a->ids = json_is_true(json_object_get(v, "return_token_ids")) && strcmp(b->kind, "loam") == 0;
    a->samples = !temperature || json_number_value(temperature) > 0;
    a->seed = (uint64_t)json_integer_value(json_object_get(v, "seed"));
    collect_prompt(a);
    a->prompt_tokens = 1 + (uint32_t)strlen(a->prompt) / 4;
    a->delay_ms = option(a, "delay");
    a->prefill_ms = option(a, "prefill");
    a->stamp = option(a, "stamp");
    read_beginning(a);
    a->most = (json_is_integer(most) ? (uint32_t)json_integer_value(most) : 8) + a->from;
    snprintf(a->id, sizeof a->id, "cmpl-%s-%u", b->name, b->n_requests);
    b->n_running++;
    if (b->n_running > b->most_running) b->most_running = b->n_running;
    loami_reply_watch(r, on_gone, on_drained, a);
    if (a->stream) loami_reply_start(r, 200, "text/event-stream");
    if (a->stream && !a->prefill_ms)
        step(a);
    else if (a->stream)
        loami_timer_set(b->loop, &a->timer, a->prefill_ms * 1e-3, step, a);
    else if (a->prefill_ms + a->delay_ms == 0)
        answer_whole(a);
    else
        loami_timer_set(b->loop, &a->timer, (a->prefill_ms + a->delay_ms * (a->most - a->i)) * 1e-3,
                        answer_whole, a);
}

static void models(loami_reply *r, void *arg)
{
    backend *b = arg;
    loami_buf out = { 0 };
    const char *owner = strcmp(b->kind, "llama.cpp") == 0 ? "llamacpp"
                        : strcmp(b->kind, "ollama") == 0  ? "library"
                                                          : b->kind;
    loami_buf_printf(&out,
                     "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"created\":1,"
                     "\"owned_by\":\"%s\"}]}",
                     b->model, owner);
    loami_reply_send(r, 200, "application/json", out.data, out.len);
    loami_buf_free(&out);
}

typedef struct late_reply {
    loami_reply *r;
    loami_timer timer;
} late_reply;

static void health_late(void *arg)
{
    late_reply *l = arg;
    loami_reply_send(l->r, 200, "application/json", "{\"status\":\"ok\"}", 15);
    loami_timer_clear(&l->timer);
    free(l);
}

static void health(loami_reply *r, void *arg)
{
    backend *b = arg;
    if (b->health_ms) {
        late_reply *l = calloc(1, sizeof *l);
        if (!l) abort();
        l->r = r;
        loami_timer_set(b->loop, &l->timer, b->health_ms * 1e-3, health_late, l);
        return;
    }
    loami_reply_send(r, b->health ? b->health : 200, "application/json", "{\"status\":\"ok\"}", 15);
}

static void command(loami_reply *r, void *arg)
{
    backend *b = arg;
    size_t n;
    const char *body = loami_reply_body(r, &n);
    json_t *v = NULL;
    if (loami_json_parse(&v, body, n, "body", NULL) == 0) {
        if (json_object_get(v, "status")) b->status = (int)json_integer_value(json_object_get(v, "status"));
        if (json_object_get(v, "health")) b->health = (int)json_integer_value(json_object_get(v, "health"));
        if (json_object_get(v, "health_ms"))
            b->health_ms = (int)json_integer_value(json_object_get(v, "health_ms"));
        b->hang = (int)json_integer_value(json_object_get(v, "hang"));
        b->count = (int)json_integer_value(json_object_get(v, "count"));
        b->retry_after = json_number_value(json_object_get(v, "retry_after"));
        json_decref(v);
    }
    loami_reply_send(r, 200, "application/json", "{}", 2);
}

static void tell(loami_reply *r, void *arg)
{
    backend *b = arg;
    loami_buf out = { 0 };
    loami_buf_printf(&out,
                     "{\"requests\":%u,\"running\":%u,\"most_running\":%u,\"gone\":%u,\"resumed\":%u,\"gone_"
                     "s\":%.6f,\"last\":",
                     b->n_requests, b->n_running, b->most_running, b->n_gone, b->n_resumed, b->gone_s);
    loami_json_put(&out, b->last, strlen(b->last));
    loami_buf_puts(&out, ",\"id\":");
    loami_json_put(&out, b->last_id, strlen(b->last_id));
    loami_buf_puts(&out, ",\"trace\":");
    loami_json_put(&out, b->last_trace, strlen(b->last_trace));
    loami_buf_puts(&out, ",\"key\":");
    loami_json_put(&out, b->last_key, strlen(b->last_key));
    loami_buf_putc(&out, '}');
    loami_reply_send(r, 200, "application/json", out.data, out.len);
    loami_buf_free(&out);
}

static const loami_route routes[] = {
    { "GET", "/health", health, true },
    { "GET", "/api/version", health, true },
    { "GET", "/v1/models", models, true },
    { "GET", "/fake", tell, true },
    { "POST", "/fake", command, true },
    { "POST", "/v1/chat/completions", generate, true },
    { "POST", "/v1/completions", generate, true },
    { "POST", "/v1/responses", generate, true },
    { NULL, NULL, NULL, false },
};

int main(int argc, char **argv)
{
    backend b = { .name = "fake", .kind = "openai", .model = "fake-model" };
    loami_server_config c = {
        .routes = routes, .arg = &b, .log_off = true, .max_connections = 65000, .drain_s = 5
    };
    loam_err err;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--port") == 0)
            c.port = (uint16_t)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--name") == 0)
            b.name = argv[i + 1];
        else if (strcmp(argv[i], "--kind") == 0)
            b.kind = argv[i + 1];
        else if (strcmp(argv[i], "--model") == 0)
            b.model = argv[i + 1];
        else if (strcmp(argv[i], "--health-ms") == 0)
            b.health_ms = atoi(argv[i + 1]);
    }
    if (loami_loop_open(&b.loop, &err) < 0 || loami_server_open(&b.server, b.loop, &c, &err) < 0) {
        fprintf(stderr, "fake_backend: %s\n", err.msg);
        return 1;
    }
    printf("%u\n", loami_server_port(b.server));
    fflush(stdout);
    loami_loop_run(b.loop);
    loami_server_close(b.server);
    loami_loop_close(b.loop);
    return 0;
}
