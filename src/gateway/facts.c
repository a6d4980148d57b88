#include "gateway/gw.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MODEL_BYTES = 512, TEXT_PREFIX = 512 };
static const double BYTES_A_TOKEN = 4;

/* ---- endpoints ----------------------------------------------------------------------------------- */

static const loami_gw_endpoint endpoints[] = {
    { "/v1/chat/completions", LOAMI_SHAPE_CHAT, true },
    { "/v1/completions", LOAMI_SHAPE_TEXT, true },
    { "/v1/messages", LOAMI_SHAPE_MESSAGES, true },
    { "/v1/messages/count_tokens", LOAMI_SHAPE_OTHER, true },
    { "/v1/responses", LOAMI_SHAPE_RESPONSES, false },
    { "/v1/embeddings", LOAMI_SHAPE_OTHER, true },
    { "/v1/rerank", LOAMI_SHAPE_OTHER, true },
    { "/v1/score", LOAMI_SHAPE_OTHER, true },
    { "/v1/tokenize", LOAMI_SHAPE_OTHER, true },
    { "/v1/audio/transcriptions", LOAMI_SHAPE_OTHER, true },
    { "/api/chat", LOAMI_SHAPE_OLLAMA, true },
    { "/api/generate", LOAMI_SHAPE_OLLAMA, true },
    { "/api/embed", LOAMI_SHAPE_OTHER, true },
    { "/api/embeddings", LOAMI_SHAPE_OTHER, true },
    { "/api/show", LOAMI_SHAPE_OTHER, true },
    { "/rerank", LOAMI_SHAPE_OTHER, true },
    { "/score", LOAMI_SHAPE_OTHER, true },
    { "/tokenize", LOAMI_SHAPE_OTHER, true },
    { "/detokenize", LOAMI_SHAPE_OTHER, true },
    { "/apply-template", LOAMI_SHAPE_OTHER, true },
    { NULL, LOAMI_SHAPE_OTHER, false },
};

const loami_gw_endpoint *loami_gw_endpoint_find(const char *path)
{
    const loami_gw_endpoint *e = endpoints;
    while (e->path && strcmp(e->path, path) != 0) e++;
    return e;
}

/* ---- the body's members -------------------------------------------------------------------------- */

enum member {
    MODEL,
    MESSAGES,
    PROMPT,
    SEED,
    STREAM,
    STREAM_OPTIONS,
    RETURN_IDS,
    MAX_TOKENS,
    MAX_COMPLETION,
    N,
    TEMPERATURE,
    USER,
    TOOLS,
    FUNCTIONS,
    FORMAT,
    CONTINUES,
    LOGPROBS,
    ECHO,
    SUFFIX,
    GUIDED,
    N_MEMBERS
};

static const char *const member_names[N_MEMBERS] = {
    "model",
    "messages",
    "prompt",
    "seed",
    "stream",
    "stream_options",
    "return_token_ids",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "temperature",
    "user",
    "tools",
    "functions",
    "response_format",
    "continue_final_message",
    "logprobs",
    "echo",
    "suffix",
    "structured_outputs",
};

static bool given(loami_span s)
{
    return s.at && !loami_span_is(s, "null");
}

static int read_members(loami_span *m, loami_span body, loami_fault *fault)
{
    loami_peek p = { .in = body };
    loami_span key, value;
    while (loami_peek_next(&p, &key, &value)) {
        int i = 0;
        while (i < N_MEMBERS && !loami_span_key_is(key, member_names[i])) i++;
        if (i == N_MEMBERS) continue;
        if (m[i].at)
            return loami_fault_set(fault, 400, "invalid_json", member_names[i],
                                   "The request has \"%s\" twice.", member_names[i]);
        m[i] = value;
    }
    return p.bad ? loami_fault_set(fault, 400, "invalid_json", "", "The request body is not valid JSON.") : 0;
}

/* The messages up to the first of a user: what a conversation begins with, and keeps. */
static uint64_t hash_prefix(const loami_facts *f, uint32_t most)
{
    loami_span part = f->messages;
    if (part.at && part.at[0] == '[') {
        loami_peek p = { .in = part };
        loami_span key, value;
        while (loami_peek_next(&p, &key, &value)) {
            part.n = (size_t)(value.at - part.at) + value.n;
            if (loami_span_is(loami_peek_get(value, "role"), "\"user\"")) break;
        }
    } else {
        part = f->prompt;
        if (most > TEXT_PREFIX) most = TEXT_PREFIX;
    }
    return part.at ? loami_hash(part.at, part.n < most ? part.n : most, 1) : 0;
}

static uint64_t hash_session(loami_exchange *x, loami_span user)
{
    const char *header = loami_reply_header(x->reply, x->routes->config->affinity.header);
    uint64_t h = 0;
    if (header && header[0])
        h = loami_hash(header, strlen(header), 2);
    else if (user.at && user.n > 2)
        h = loami_hash(user.at + 1, user.n - 2, 2);
    else
        return 0;
    return h ? h : 1;
}

static void guess_costs(loami_facts *f, const loami_gateway *gw)
{
    size_t bytes = f->messages.at ? f->messages.n : f->prompt.at ? f->prompt.n : f->body.n;
    double answer = gw->answer_guess;
    if (f->n_max && (double)f->n_max < answer) answer = (double)f->n_max;
    f->prompt_cost = 1 + (double)bytes / BYTES_A_TOKEN;
    f->answer_cost = answer;
    f->wish.cost = f->prompt_cost + f->answer_cost;
}

static int read_model(loami_facts *f, loami_exchange *x, loami_fault *fault)
{
    const loami_gw_config *c = x->routes->config;
    if (!given(f->model)) return 0;
    f->asked = loami_span_string(f->model, MODEL_BYTES, NULL);
    if (!f->asked) return loami_fault_set(fault, 400, "invalid_value", "model", "'model' must be a string.");
    f->name = f->asked;
    for (uint32_t i = 0; i < c->n_aliases; i++)
        if (strcmp(c->aliases[i].key, f->asked) == 0) f->name = c->aliases[i].value;
    if (!f->name[0] || strcmp(f->name, "default") == 0) f->name = NULL;
    return 0;
}

static bool present(loami_span s)
{
    return given(s) && !loami_span_is(s, "[]") && !loami_span_is(s, "false");
}

int loami_facts_read(loami_facts *f, loami_exchange *x, loami_fault *fault)
{
    const char *type = loami_reply_header(x->reply, "Content-Type");
    loami_span m[N_MEMBERS] = { { 0 } };
    uint64_t v;

    f->one_answer = f->plain = true;
    f->wish.most_load = x->routes->config->affinity.load;
    if (x->n_body == 0 || (type && strncasecmp(type, "multipart/", 10) == 0)) {
        f->wish.session = hash_session(x, m[USER]);
        guess_costs(f, x->gw);
        return 0;
    }
    f->body = loami_peek_value(x->body, x->n_body);
    if (!f->body.at || f->body.at[0] != '{')
        return loami_fault_set(fault, 400, "invalid_json", "", "The request body must be a JSON object.");
    if (read_members(m, f->body, fault) < 0) return -1;
    f->model = m[MODEL];
    f->messages = m[MESSAGES];
    f->prompt = m[PROMPT];
    f->seed = m[SEED];
    f->stream_options = m[STREAM_OPTIONS];
    f->return_ids = m[RETURN_IDS];
    f->max_tokens = m[MAX_TOKENS];
    f->max_completion = m[MAX_COMPLETION];
    f->stream = loami_span_is(m[STREAM], "true");
    f->wants_usage = loami_span_is(loami_peek_get(m[STREAM_OPTIONS], "include_usage"), "true");
    f->wants_ids = loami_span_is(m[RETURN_IDS], "true");
    f->continues_last = loami_span_is(m[CONTINUES], "true");
    f->has_seed = given(m[SEED]);
    f->samples = !(loami_span_is(m[TEMPERATURE], "0") || loami_span_is(m[TEMPERATURE], "0.0"));
    f->one_answer = !given(m[N]) || loami_span_is(m[N], "1");
    f->plain = !present(m[TOOLS]) && !present(m[FUNCTIONS]) && !present(m[GUIDED]) && !present(m[ECHO]) &&
               !given(m[SUFFIX]) && !present(m[LOGPROBS]) &&
               (!given(m[FORMAT]) || loami_span_is(loami_peek_get(m[FORMAT], "type"), "\"text\""));
    loami_span form = given(m[FORMAT]) ? loami_peek_get(m[FORMAT], "type") : (loami_span){ 0 };
    f->wants_json = loami_span_is(form, "\"json_object\"") || loami_span_is(form, "\"json_schema\"");
    if (loami_span_u64(m[MAX_TOKENS], &v)) f->n_max = v;
    if (loami_span_u64(m[MAX_COMPLETION], &v)) f->n_max = v;
    if (read_model(f, x, fault) < 0) return -1;
    f->wish.prefix = hash_prefix(f, x->routes->config->affinity.prefix_bytes);
    f->wish.session = hash_session(x, m[USER]);
    guess_costs(f, x->gw);
    return 0;
}

void loami_facts_free(loami_facts *f)
{
    free(f->asked);
}
