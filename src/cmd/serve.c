#include "api/api.h"
#include "api/share.h"
#include "base/file.h"
#include "base/system.h"
#include "cmd/cmd.h"
#include "cmd/contain.h"
#include "cmd/serve_models.h"
#include "net/keys.h"
#include "net/stderr.h"
#include "net/tls.h"
#include "store/share.h"
#include "store/store.h"
#include "web/web.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CLOSE_S = 8 }; /* for what still runs after the drain: more than the last KV pages take to their files */

typedef struct settings {
    const char *host, *substrate;
    uint32_t port, max_tokens, threads, context, max_queued, max_running, workers;
    uint32_t max_connections, request_s, idle_s, drain_s;
    uint64_t max_body, body_memory;
    float temperature, top_p, min_p;
    uint32_t top_k;
    const char *tls_cert, *tls_key, *key_file;
    uint32_t max_per_address, keep_alive_s;
    bool exact, lenient, log_json, quiet, share, sandbox;
    loami_opt_list served, hosts, origins;
    loami_opt_list models, pinned;
    const char *folder, *kv_type, *kv_dir;
    uint32_t ttl_s, timeout_s, stall_s, step_ms, speculate;
    uint64_t memory, kv_memory, prefix_memory, kv_disk;
    bool log_prompts, exit_on_stall, overcommit, batch_invariant;
} settings;

static int read_settings(settings *s, int argc, char **argv)
{
    const loami_opt table[] = {
        { "--model", 'm', "M",
          "a folder, a name from `loam ls`, or a Hugging Face id in the cache; may be repeated: the first one is "
          "loaded at once, the others when they are asked for",
          LOAMI_OPT_LIST, &s->models, NULL, 0, 0 },
        { "--models-dir", 0, "DIR", "serve every model in it, too, loaded when it is asked for", LOAMI_OPT_STRING,
          &s->folder, NULL, 0, 0 },
        { "--pin", 0, "NAME", "load this model at once and keep it; may be repeated", LOAMI_OPT_LIST, &s->pinned,
          NULL, 0, 0 },
        { "--model-ttl", 0, "SECONDS", "unload a model that nobody used for so long [never]", LOAMI_OPT_U32,
          &s->ttl_s, NULL, 1, 31536000 },
        { "--memory-limit", 0, "BYTES",
          "of all models: weights, KV cache and scratch; the one used longest ago goes when another does not fit "
          "[three quarters of the machine's]",
          LOAMI_OPT_U64, &s->memory, NULL, 1048576, 9007199254740992.0 },
        { "--host", 0, "ADDRESS", "listen there; 0.0.0.0 = every network [127.0.0.1]",
          LOAMI_OPT_STRING, &s->host, NULL, 0, 0 },
        { "--port", 'p', "N", "listen there; 0 = any free port [8000]", LOAMI_OPT_U32,
          &s->port, NULL, 0, 65535 },
        { "--served-model-name", 0, "NAME",
          "what clients may call the model; may be repeated, the first one is shown", LOAMI_OPT_LIST,
          &s->served, NULL, 0, 0 },
        { "--max-tokens", 0, "N",
          "of an answer whose request does not say; 0 = until the context is full [0]",
          LOAMI_OPT_U32, &s->max_tokens, NULL, 0, 100000000 },
        { "--temp", 0, "T", "temperature where a request does not say [0.7]", LOAMI_OPT_FLOAT, &s->temperature,
          NULL, 0, 100 },
        { "--top-p", 0, "P", "likewise; 1 = off [0.9]", LOAMI_OPT_FLOAT, &s->top_p, NULL, 0, 1 },
        { "--top-k", 0, "K", "likewise [0 = off]", LOAMI_OPT_U32, &s->top_k, NULL, 0, 1048576 },
        { "--min-p", 0, "P", "likewise [0 = off]", LOAMI_OPT_FLOAT, &s->min_p, NULL, 0, 1 },
        { "--threads", 't', "N", "compute threads [physical cores]", LOAMI_OPT_U32, &s->threads,
          NULL, 0, 1024 },
        { "--context", 'c', "N",
          "limit of prompt and answer together, in tokens [the model's, at most 8192]",
          LOAMI_OPT_U32, &s->context, NULL, 0, 100000000 },
        { "--substrate", 0, "S", "auto, cpu, mlx or reference [auto]", LOAMI_OPT_STRING,
          &s->substrate, NULL, 0, 0 },
        { "--exact", 0, NULL, "float activations throughout: slower, for checking", LOAMI_OPT_FLAG, &s->exact,
          NULL, 0, 0 },
        { "--max-running", 0, "N", "requests that run together [32]", LOAMI_OPT_U32, &s->max_running, NULL, 0,
          4096 },
        { "--step-ms", 0, "N", "a step that others decode in takes no more of a prompt than fits [150]",
          LOAMI_OPT_U32, &s->step_ms, NULL, 1, 60000 },
        { "--kv-memory", 0, "BYTES", "of each model's KV cache [65,536 tokens or eight whole contexts, or what the limit leaves]",
          LOAMI_OPT_U64, &s->kv_memory, NULL, 1, 9007199254740992.0 },
        { "--kv-type", 0, "T", "f16 or int8 [f16]", LOAMI_OPT_STRING, &s->kv_type, NULL, 0, 0 },
        { "--prefix-memory", 0, "BYTES", "of it, kept at most for prompts that begin alike [what no request needs]",
          LOAMI_OPT_U64, &s->prefix_memory, NULL, 1, 9007199254740992.0 },
        { "--kv-dir", 0, "DIR", "keep pages of prompts there, over restarts", LOAMI_OPT_STRING, &s->kv_dir, NULL, 0,
          0 },
        { "--kv-disk", 0, "BYTES", "of that folder [8 GiB]", LOAMI_OPT_U64, &s->kv_disk, NULL, 1,
          9007199254740992.0 },
        { "--overcommit", 0, NULL, "start requests when their prompt fits, not their longest answer",
          LOAMI_OPT_FLAG, &s->overcommit, NULL, 0, 0 },
        { "--speculate", 0, "N",
          "guess up to N tokens a step from what stood in prompt and answer before: sooner where the text "
          "repeats itself [0]",
          LOAMI_OPT_U32, &s->speculate, NULL, 0, 32 },
        { "--batch-invariant", 0, NULL, "the same request and seed give the same text, whatever else runs",
          LOAMI_OPT_FLAG, &s->batch_invariant, NULL, 0, 0 },
        { "--max-queued", 0, "N", "requests that may wait; more get 429 [256]", LOAMI_OPT_U32, &s->max_queued,
          NULL, 0, 1000000 },
        { "--max-body", 0, "BYTES", "of a request; more get 413 [33554432]", LOAMI_OPT_U64, &s->max_body,
          NULL, 1024, 4294967296.0 },
        { "--body-memory", 0, "BYTES", "of all requests' bodies together; what doesn't fit gets 503 [268435456]", LOAMI_OPT_U64,
          &s->body_memory, NULL, 1024, 9007199254740992.0 },
        { "--max-connections", 0, "N", "more get 503 [1024]", LOAMI_OPT_U32, &s->max_connections, NULL, 1,
          1000000 },
        { "--max-connections-per-address", 0, "N", "likewise, of one address [no limit]", LOAMI_OPT_U32,
          &s->max_per_address, NULL, 1, 1000000 },
        { "--request-timeout", 0, "SECONDS", "for a request to arrive [30]", LOAMI_OPT_U32, &s->request_s,
          NULL, 1, 86400 },
        { "--idle-timeout", 0, "SECONDS", "of a connection between requests [75]", LOAMI_OPT_U32, &s->idle_s,
          NULL, 1, 86400 },
        { "--keep-alive", 0, "SECONDS", "a silent stream gets a comment that often [15]", LOAMI_OPT_U32,
          &s->keep_alive_s, NULL, 1, 86400 },
        { "--drain-timeout", 0, "SECONDS", "for running answers after SIGTERM [30]", LOAMI_OPT_U32,
          &s->drain_s, NULL, 1, 86400 },
        { "--workers", 0, "N", "threads that parse and tokenise [2]", LOAMI_OPT_U32, &s->workers, NULL, 1,
          64 },
        { "--api-key-file", 0, "FILE",
          "who may use it (see loam key); or one key in the variable LOAM_API_KEY", LOAMI_OPT_STRING,
          &s->key_file, NULL, 0, 0 },
        { "--tls-cert", 0, "FILE", "serve HTTPS with this certificate and chain (PEM); SIGHUP reads it again",
          LOAMI_OPT_STRING, &s->tls_cert, NULL, 0, 0 },
        { "--tls-key", 0, "FILE", "its key (PEM)", LOAMI_OPT_STRING, &s->tls_key, NULL, 0, 0 },
        { "--allow-host", 0, "NAME", "another name in the Host header that is this server; may be repeated",
          LOAMI_OPT_LIST, &s->hosts, NULL, 0, 0 },
        { "--cors-origin", 0, "ORIGIN", "web pages from there may call; may be repeated, \"*\" = any",
          LOAMI_OPT_LIST, &s->origins, NULL, 0, 0 },
        { "--lenient", 0, NULL, "leave unknown parameters of requests instead of refusing them",
          LOAMI_OPT_FLAG, &s->lenient, NULL, 0, 0 },
        { "--answer-timeout", 0, "SECONDS", "of a request, to its last token, unless it says less [none]",
          LOAMI_OPT_U32, &s->timeout_s, NULL, 1, 1000000 },
        { "--stall-timeout", 0, "SECONDS", "an engine without a sign of life for longer makes /health 503 [60]",
          LOAMI_OPT_U32, &s->stall_s, NULL, 1, 86400 },
        { "--exit-on-stall", 0, NULL, "and ends the program, to be started again [on under a service manager]",
          LOAMI_OPT_FLAG, &s->exit_on_stall, NULL, 0, 0 },
        LOAMI_SANDBOX_OPT(s->sandbox),
        { "--log-prompts", 0, NULL, "prompts in the access log, which has none otherwise", LOAMI_OPT_FLAG,
          &s->log_prompts, NULL, 0, 0 },
        { "--share-models", 0, NULL, "let those with a key copy this machine's models (loam pull --from)", LOAMI_OPT_FLAG,
          &s->share, NULL, 0, 0 },
        { "--log-json", 0, NULL, "the access log as JSON lines", LOAMI_OPT_FLAG, &s->log_json, NULL, 0, 0 },
        { "--quiet", 'q', NULL, "no access log", LOAMI_OPT_FLAG, &s->quiet, NULL, 0, 0 },
        { NULL, 0, NULL, NULL, LOAMI_OPT_FLAG, NULL, NULL, 0, 0 },
    };
    int rc = loami_opt_parse(argc, argv, table, "answer the OpenAI API on a port");
    if (rc != 0) return rc;
    if (!s->tls_cert != !s->tls_key) {
        fprintf(stderr, "loam serve: --tls-cert and --tls-key belong together\n");
        return -1;
    }
    if (s->models.n || s->folder) return 0;
    fprintf(stderr,
            "loam serve: which model? Say --model M or set LOAM_MODEL (see loam ls, loam serve --help)\n");
    return -1;
}

/* ---- models ------------------------------------------------------------------------------------------- */

enum { MAX_ROUTES = 64 };

typedef struct service {
    const settings *settings;
    loami_loop *loop;
    loami_server *server;
    loami_keys *keys;
    loami_tls *tls;
    loami_api *api;
    loami_serve_models models;
    loam_err err;
    int rc; /* of the start */
    loami_containment containment;
    loami_route routes[MAX_ROUTES];
} service;

static bool is_alive(void *arg)
{
    return !loami_api_stalled(((service *)arg)->api);
}

static void on_started(void *arg, int rc, const loam_err *err)
{
    service *v = arg;
    const settings *s = v->settings;
    v->rc = rc;
    if (rc < 0) v->err = *err;
    else v->rc = loami_contain_ready(&v->containment, v->loop, is_alive, v, &v->err);
    if (v->rc < 0) {
        loami_loop_stop(v->loop);
        return;
    }
    const char *host = strcmp(s->host, "0.0.0.0") == 0 || strcmp(s->host, "::") == 0 ? "127.0.0.1" : s->host;
    char url[320], more[40] = "";
    snprintf(url, sizeof url, strchr(host, ':') ? "%s://[%s]:%u" : "%s://%s:%u", v->tls ? "https" : "http",
             host, loami_server_port(v->server));
    const char *device = loami_api_device(v->api);
    if (v->models.n > 1) snprintf(more, sizeof more, " and %u more", v->models.n - 1);
    printf("loam: %s%s%s%s at %s\n"
           "chat: %s/\n"
           "try:  curl %s/v1/chat/completions -H 'Content-Type: application/json' -d "
           "'{\"messages\":[{\"role\":\"user\",\"content\":\"Why is the sky blue?\"}],\"max_tokens\":100}'\n",
           v->models.list[0].names[0], more, device ? " on " : "", device ? device : "", url, url, url);
    fflush(stdout);
}

/* A service manager starts it again: launchd names the service, systemd gives a socket to tell it things. */
static bool under_a_manager(void)
{
    const char *launchd = getenv("XPC_SERVICE_NAME"), *systemd = getenv("NOTIFY_SOCKET");
    return (systemd && systemd[0]) ||
           (launchd && launchd[0] && strcmp(launchd, "0") != 0 && strncmp(launchd, "application.", 12) != 0);
}

/* Nothing can be waited for: what hangs may hold any lock. */
static void on_stall(void *arg, const char *model, double step_s)
{
    service *v = arg;
    char why[200];
    bool ends = v->settings->exit_on_stall || under_a_manager();
    snprintf(why, sizeof why, "model %.100s: its engine gave no sign of life for %.0f s%s", model, step_s,
             ends ? "; the program ends" : "");
    loami_server_log(v->server, "stalled", why);
    if (!ends) return;
    loami_stderr_flush();
    _exit(LOAMI_EXIT_FAIL);
}

static void on_drain(void *arg)
{
    loami_api_drain(arg);
}

static void on_drain_late(void *arg)
{
    loami_api_cancel_all(arg);
}

/* When all was told to end, something may not: a step that hangs, or a disk that pages are written to. Whoever stops a server has waited
 * for --drain-timeout already. */
static void *leave(void *unused)
{
    static const char left[] = "loam serve: something still runs and does not end: left as it is\n";
    (void)unused;
    nanosleep(&(struct timespec){ .tv_sec = CLOSE_S }, NULL);
    loami_stderr_put(left, sizeof left - 1);
    loami_stderr_flush();
    _exit(LOAMI_EXIT_FAIL);
}

static void leave_soon(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, leave, NULL) == 0) pthread_detach(thread);
}

/* ---- the page at / ------------------------------------------------------------------------------------ */

/* Nothing from elsewhere, nothing inline, no frame around it: what a model writes has no way to run. */
static const char page_policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static void get_page(loami_reply *r, void *arg)
{
    const loami_web_file *file = loami_web_files;
    (void)arg;
    while (file[1].path && strcmp(file->path, loami_reply_path(r)) != 0) file++;
    loami_reply_set(r, "Content-Security-Policy", page_policy);
    loami_reply_set(r, "Referrer-Policy", "no-referrer");
    loami_reply_set(r, "Cache-Control", "no-cache");
    loami_reply_send(r, 200, file->type, file->data, file->size);
}

static const loami_share_source shared = { loami_store_share_list, loami_store_share_model, loami_store_share_file };

static void collect_routes(loami_route *to, bool share)
{
    uint32_t n = 0;
    for (const loami_route *t = loami_api_routes; t->method && n + 1 < MAX_ROUTES; t++) to[n++] = *t;
    for (const loami_web_file *f = loami_web_files; f->path && n + 1 < MAX_ROUTES; f++)
        to[n++] = (loami_route){ "GET", f->path, get_page, true };
    for (const loami_route *t = loami_share_routes; share && t->method && n + 1 < MAX_ROUTES; t++) to[n++] = *t;
    to[n] = (loami_route){ 0 };
}

/* ---- serving ------------------------------------------------------------------------------------------ */

static bool is_local(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0;
}

static int open_guards(service *v, const settings *s, loam_err *err)
{
    const char *plain = getenv("LOAM_API_KEY");
    int rc = 0;
    if (plain && !plain[0]) plain = NULL;
    if (s->key_file || plain) rc = loami_keys_open(&v->keys, s->key_file, plain, err);
    if (rc == 0 && s->share && !v->keys)
        rc = loami_fail(err, LOAM_E_ARG, "--share-models needs --api-key-file or LOAM_API_KEY: models are not for everyone");
    if (rc == 0 && s->tls_cert) rc = loami_tls_open(&v->tls, s->tls_cert, s->tls_key, err);
    return rc;
}

/* Whatever may be shared. */
static int contain_store(loami_containment *c, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    c->rules.opens_later = true;
    int rc = loami_store_home(path, err);
    if (rc == 0) rc = loami_sandbox_add_folder(&c->rules, path, err);
    if (rc == 0) rc = loami_store_hub(path, err);
    return rc == 0 ? loami_sandbox_add_folder(&c->rules, path, err) : rc;
}

/* The files that are used after this: the models', the cache's, and those that SIGHUP reads again. */
static int contain(service *v, const settings *s, loam_err *err)
{
    loami_containment *c = &v->containment;
    int rc = 0;
    c->on = s->sandbox;
    c->command = "serve";
    if (!c->on) return loami_contain_begin(c, err);
    rc = loam_preload(s->substrate, err);
    for (uint32_t i = 0; i < v->models.n && rc == 0; i++)
        rc = loami_sandbox_add_folder(&c->rules, v->models.list[i].options.model, err);
    if (rc == 0 && s->kv_dir) rc = loami_dir_make(s->kv_dir, err);
    if (rc < 0) return rc;
    if (s->kv_dir) loami_contain_folder(c, s->kv_dir);
    if (s->share) rc = contain_store(c, err);
    if (rc < 0) return rc;
    c->rules.opens_later |= v->models.n > 1 || s->folder || s->ttl_s; /* models that are loaded when they are asked for */
    loami_contain_file(c, s->key_file);
    loami_contain_file(c, s->tls_cert);
    loami_contain_file(c, s->tls_key);
    return loami_contain_begin(c, err);
}

static int open_server(service *v, const settings *s, loam_err *err)
{
    loami_server_config server = {
        .host = s->host,
        .port = (uint16_t)s->port,
        .routes = v->routes,
        .arg = v->api,
        .max_body_bytes = (size_t)s->max_body,
        .max_bodies_bytes = (size_t)s->body_memory,
        .max_connections = s->max_connections,
        .max_per_address = s->max_per_address,
        .keys = v->keys,
        .tls = v->tls,
        .request_s = s->request_s,
        .idle_s = s->idle_s,
        .drain_s = s->drain_s,
        .hosts = s->hosts.item,
        .n_hosts = s->hosts.n,
        .origins = s->origins.item,
        .n_origins = s->origins.n,
        .log_off = s->quiet,
        .log_json = s->log_json,
        .take_ids = true,
        .on_drain = on_drain,
        .on_drain_late = on_drain_late,
    };
    int rc = loami_server_open(&v->server, v->loop, &server, err);
    if (rc == 0 && !v->keys && !is_local(s->host))
        fprintf(stderr, "loam serve: note: whoever reaches %s may use this server; --api-key-file says who may\n",
                s->host);
    return rc;
}

static int run(service *v, const settings *s, loam_err *err)
{
    loami_api_config api = {
        .models = { .models = v->models.list,
                    .n_models = v->models.n,
                    .lazy = s->models.n == 0,
                    .memory_bytes = s->memory,
                    .ttl_s = s->ttl_s,
                    .started = on_started,
                    .arg = v },
        .max_tokens = s->max_tokens,
        .sampling = { .temperature = s->temperature,
                      .top_p = s->top_p,
                      .top_k = s->top_k,
                      .min_p = s->min_p },
        .workers = s->workers,
        .keep_alive_s = s->keep_alive_s,
        .lenient = s->lenient,
        .log_prompts = s->log_prompts,
        .timeout_s = s->timeout_s,
        .stall_s = s->stall_s,
        .on_stall = on_stall,
        .stall_arg = v,
        .share = s->share ? &shared : NULL,
    };
    if (!api.models.memory_bytes && v->models.n > 1) api.models.memory_bytes = loami_memory_share_bytes();
    collect_routes(v->routes, s->share);
    int rc = open_guards(v, s, err);
    if (rc == 0) rc = contain(v, s, err); /* before any thread: those to come are held by it too */
    if (rc == 0) rc = loami_loop_open(&v->loop, err);
    if (rc == 0) rc = loami_api_open(&v->api, v->loop, &api, err);
    if (rc < 0) return rc;
    rc = open_server(v, s, err);
    if (rc == 0) rc = loami_api_start(v->api, err);
    if (rc < 0) return rc;
    loami_loop_run(v->loop);
    leave_soon();
    if (v->rc < 0) {
        *err = v->err;
        return v->rc;
    }
    if (loami_api_busy(v->api)) { /* told to stop while a model loads, which nothing can hurry: leave it */
        fflush(NULL);
        _exit(LOAMI_EXIT_OK);
    }
    return 0;
}

static loam_options engine_options(const settings *s)
{
    return (loam_options){
        .substrate = s->substrate,
        .threads = s->threads,
        .context_tokens = s->context,
        .max_queued = s->max_queued,
        .max_running = s->max_running,
        .exact = s->exact,
        .step_ms = s->step_ms,
        .memory_bytes = s->memory,
        .kv_bytes = s->kv_memory,
        .prefix_bytes = s->prefix_memory,
        .kv_type = s->kv_type,
        .overcommit = s->overcommit,
        .speculate_tokens = s->speculate,
        .batch_invariant = s->batch_invariant,
        .kv_dir = s->kv_dir,
        .kv_disk_bytes = s->kv_disk,
    };
}

int loami_cmd_serve(int argc, char **argv)
{
    settings s = { .host = "127.0.0.1", .port = 8000, .temperature = 0.7f, .top_p = 0.9f };
    service v = { .settings = &s };
    loam_err err;

    int rc = read_settings(&s, argc, argv);
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    loami_serve_wish wish = { s.models, s.folder, s.served, s.pinned, engine_options(&s) };
    rc = loami_serve_models_find(&v.models, &wish, &err);
    if (rc == 0) rc = run(&v, &s, &err);
    loami_contain_end(&v.containment);
    loami_api_close(v.api);
    loami_server_close(v.server);
    loami_keys_close(v.keys);
    loami_tls_close(v.tls);
    loami_loop_close(v.loop);
    loami_serve_models_free(&v.models);
    return rc < 0 ? loami_cmd_fail(argv[0], &err) : LOAMI_EXIT_OK;
}
