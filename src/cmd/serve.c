#include "api/api.h"
#include "cmd/cmd.h"
#include "net/keys.h"
#include "net/tls.h"
#include "store/store.h"
#include "web/web.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct settings {
    const char *model, *host, *substrate;
    uint32_t port, max_tokens, threads, context, max_queued, max_running, workers;
    uint32_t max_connections, request_s, idle_s, drain_s;
    uint64_t max_body;
    float temperature, top_p, min_p;
    uint32_t top_k;
    const char *tls_cert, *tls_key, *key_file;
    uint32_t max_per_address, keep_alive_s;
    bool exact, lenient, log_json, quiet;
    loami_opt_list served, hosts, origins;
} settings;

/* Where a setting comes from when its flag is absent: the first variable that is set. */
typedef struct fallback {
    const char *names[2];
    bool *given;         /* by flag */
    const char **string; /* one of the two */
    uint32_t *number;
    uint32_t hi;
} fallback;

static int from_environment(const fallback *f)
{
    for (; f->given; f++) {
        const char *v = NULL, *name = NULL;
        for (int i = 0; i < 2 && f->names[i] && !v; i++) {
            name = f->names[i];
            v = getenv(name);
            if (v && !v[0]) v = NULL;
        }
        if (*f->given || !v) continue;
        if (f->string) {
            *f->string = v;
            continue;
        }
        char *end;
        errno = 0;
        unsigned long n = strtoul(v, &end, 10);
        if (v[0] < '0' || v[0] > '9' || *end || errno || n > f->hi) {
            fprintf(stderr, "loam serve: %s=%s: must be a whole number from 0 to %u\n", name, v, f->hi);
            return -1;
        }
        *f->number = (uint32_t)n;
    }
    return 0;
}

static int read_settings(settings *s, int argc, char **argv)
{
    bool g_model = false, g_host = false, g_port = false, g_max = false, g_threads = false, g_context = false,
         g_sub = false;
    const loami_opt table[] = {
        { "--model", 'm', "M",
          "a folder, a name from `loam ls`, or a Hugging Face id in the cache [LOAM_MODEL, MLX_MODEL]",
          LOAMI_OPT_STRING, &s->model, &g_model, 0, 0 },
        { "--host", 0, "ADDRESS", "listen there; 0.0.0.0 = every network [127.0.0.1; LOAM_HOST, MLX_HOST]",
          LOAMI_OPT_STRING, &s->host, &g_host, 0, 0 },
        { "--port", 'p', "N", "listen there; 0 = any free port [8000; LOAM_PORT, MLX_PORT]", LOAMI_OPT_U32,
          &s->port, &g_port, 0, 65535 },
        { "--served-model-name", 0, "NAME",
          "what clients may call the model; may be repeated, the first one is shown", LOAMI_OPT_LIST,
          &s->served, NULL, 0, 0 },
        { "--max-tokens", 0, "N",
          "of an answer whose request does not say; 0 = until the context is full [0; LOAM_MAX_TOKENS, "
          "MLX_MAX_TOKENS]",
          LOAMI_OPT_U32, &s->max_tokens, &g_max, 0, 100000000 },
        { "--temp", 0, "T", "temperature where a request does not say [0.7]", LOAMI_OPT_FLOAT, &s->temperature,
          NULL, 0, 100 },
        { "--top-p", 0, "P", "likewise; 1 = off [0.9]", LOAMI_OPT_FLOAT, &s->top_p, NULL, 0, 1 },
        { "--top-k", 0, "K", "likewise [0 = off]", LOAMI_OPT_U32, &s->top_k, NULL, 0, 1048576 },
        { "--min-p", 0, "P", "likewise [0 = off]", LOAMI_OPT_FLOAT, &s->min_p, NULL, 0, 1 },
        { "--threads", 't', "N", "compute threads [physical cores; LOAM_THREADS]", LOAMI_OPT_U32, &s->threads,
          &g_threads, 0, 1024 },
        { "--context", 'c', "N",
          "limit of prompt and answer together, in tokens [the model's, at most 8192; LOAM_CONTEXT]",
          LOAMI_OPT_U32, &s->context, &g_context, 0, 100000000 },
        { "--substrate", 0, "S", "auto, cpu, mlx or reference [auto; LOAM_SUBSTRATE]", LOAMI_OPT_STRING,
          &s->substrate, &g_sub, 0, 0 },
        { "--exact", 0, NULL, "float activations throughout: slower, for checking", LOAMI_OPT_FLAG, &s->exact,
          NULL, 0, 0 },
        { "--max-running", 0, "N", "requests that run together [8]", LOAMI_OPT_U32, &s->max_running, NULL, 0,
          4096 },
        { "--max-queued", 0, "N", "requests that may wait; more get 429 [256]", LOAMI_OPT_U32, &s->max_queued,
          NULL, 0, 1000000 },
        { "--max-body", 0, "BYTES", "of a request; more get 413 [33554432]", LOAMI_OPT_U64, &s->max_body,
          NULL, 1024, 4294967296.0 },
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
        { "--log-json", 0, NULL, "the access log as JSON lines", LOAMI_OPT_FLAG, &s->log_json, NULL, 0, 0 },
        { "--quiet", 'q', NULL, "no access log", LOAMI_OPT_FLAG, &s->quiet, NULL, 0, 0 },
        { NULL, 0, NULL, NULL, LOAMI_OPT_FLAG, NULL, NULL, 0, 0 },
    };
    const fallback variables[] = {
        { { "LOAM_MODEL", "MLX_MODEL" }, &g_model, &s->model, NULL, 0 },
        { { "LOAM_HOST", "MLX_HOST" }, &g_host, &s->host, NULL, 0 },
        { { "LOAM_PORT", "MLX_PORT" }, &g_port, NULL, &s->port, 65535 },
        { { "LOAM_MAX_TOKENS", "MLX_MAX_TOKENS" }, &g_max, NULL, &s->max_tokens, 100000000 },
        { { "LOAM_THREADS", NULL }, &g_threads, NULL, &s->threads, 1024 },
        { { "LOAM_CONTEXT", NULL }, &g_context, NULL, &s->context, 100000000 },
        { { "LOAM_SUBSTRATE", NULL }, &g_sub, &s->substrate, NULL, 0 },
        { { NULL, NULL }, NULL, NULL, NULL, 0 },
    };
    int rc = loami_opt_parse(argc, argv, table, "answer the OpenAI API on a port");
    if (rc != 0) return rc;
    if (from_environment(variables) < 0) return -1;
    if (!s->tls_cert != !s->tls_key) {
        fprintf(stderr, "loam serve: --tls-cert and --tls-key belong together\n");
        return -1;
    }
    if (s->model) return 0;
    fprintf(stderr,
            "loam serve: which model? Say --model M or set LOAM_MODEL (see loam ls, loam serve --help)\n");
    return -1;
}

/* ---- loading, beside the loop ------------------------------------------------------------------------- */

enum { MAX_ROUTES = 64 };

typedef struct service {
    const settings *settings;
    loami_loop *loop;
    loami_server *server;
    loami_keys *keys;
    loami_tls *tls;
    loami_api *api;
    loam_options options;
    loam_engine *engine;
    loam_err err;
    int loaded; /* loam_engine_open's result */
    bool back;  /* the loading thread is done */
    loami_post post;
    pthread_t thread;
    loami_route routes[MAX_ROUTES];
} service;

static void *load(void *arg)
{
    service *v = arg;
    v->loaded = loam_engine_open(&v->engine, &v->options, &v->err);
    loami_loop_post(v->loop, &v->post);
    return NULL;
}

static void on_loaded(void *arg)
{
    service *v = arg;
    const settings *s = v->settings;
    v->back = true;
    if (v->loaded < 0) {
        loami_loop_stop(v->loop);
        return;
    }
    loami_api_ready(v->api, v->engine);
    const char *host = strcmp(s->host, "0.0.0.0") == 0 || strcmp(s->host, "::") == 0 ? "127.0.0.1" : s->host;
    char url[320];
    snprintf(url, sizeof url, strchr(host, ':') ? "%s://[%s]:%u" : "%s://%s:%u", v->tls ? "https" : "http",
             host, loami_server_port(v->server));
    printf("loam: %s on %s at %s\n"
           "chat: %s/\n"
           "try:  curl %s/v1/chat/completions -H 'Content-Type: application/json' -d "
           "'{\"messages\":[{\"role\":\"user\",\"content\":\"Why is the sky blue?\"}],\"max_tokens\":100}'\n",
           v->options.name, loam_engine_info(v->engine)->device, url, url, url);
    fflush(stdout);
}

static int start_loading(service *v, loam_err *err)
{
    sigset_t all, before; /* signals are the loop's, also in the threads that the engine will start */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&v->thread, NULL, load, v);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? loami_fail(err, LOAM_E_IO, "cannot start a thread: %s", strerror(failed)) : 0;
}

static void on_drain(void *arg)
{
    loami_api_drain(arg);
}

static void on_drain_late(void *arg)
{
    loami_api_cancel_all(arg);
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

static void collect_routes(loami_route *to)
{
    uint32_t n = 0;
    for (const loami_route *t = loami_api_routes; t->method && n + 1 < MAX_ROUTES; t++) to[n++] = *t;
    for (const loami_web_file *f = loami_web_files; f->path && n + 1 < MAX_ROUTES; f++)
        to[n++] = (loami_route){ "GET", f->path, get_page, true };
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
    if (rc == 0 && s->tls_cert) rc = loami_tls_open(&v->tls, s->tls_cert, s->tls_key, err);
    return rc;
}

static int run(service *v, const settings *s, const char *const *names, uint32_t n_names, loam_err *err)
{
    loami_api_config api = {
        .names = names,
        .n_names = n_names,
        .max_tokens = s->max_tokens,
        .sampling = { .temperature = s->temperature,
                      .top_p = s->top_p,
                      .top_k = s->top_k,
                      .min_p = s->min_p },
        .workers = s->workers,
        .keep_alive_s = s->keep_alive_s,
        .lenient = s->lenient,
    };
    collect_routes(v->routes);
    int rc = open_guards(v, s, err);
    if (rc == 0) rc = loami_loop_open(&v->loop, err);
    if (rc == 0) rc = loami_api_open(&v->api, v->loop, &api, err);
    if (rc < 0) return rc;
    loami_server_config server = {
        .host = s->host,
        .port = (uint16_t)s->port,
        .routes = v->routes,
        .arg = v->api,
        .max_body_bytes = (size_t)s->max_body,
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
        .on_drain = on_drain,
        .on_drain_late = on_drain_late,
    };
    rc = loami_server_open(&v->server, v->loop, &server, err);
    if (rc == 0 && !v->keys && !is_local(s->host))
        fprintf(stderr, "loam serve: note: whoever reaches %s may use this server; --api-key-file says who may\n",
                s->host);
    if (rc == 0) rc = start_loading(v, err);
    if (rc < 0) return rc;
    loami_loop_run(v->loop);
    if (!v->back) { /* told to stop while still loading, which nothing can hurry: leave it */
        fflush(NULL);
        _exit(LOAMI_EXIT_OK);
    }
    pthread_join(v->thread, NULL);
    if (v->loaded < 0) *err = v->err;
    return v->loaded;
}

/* The names a client may use: those that were served explicitly, then as it was given here, then its
 * folder's. */
static uint32_t collect_names(const char **names, const settings *s, const char *path)
{
    uint32_t n = 0;
    const char *base = strrchr(path, '/');
    const char *more[] = { strchr(s->model, '/') == s->model || s->model[0] == '.' ? NULL : s->model,
                           base && base[1] ? base + 1 : path, s->model };
    for (uint32_t i = 0; i < s->served.n; i++) names[n++] = s->served.item[i];
    for (int i = 0; i < 3; i++) {
        bool known = !more[i];
        for (uint32_t k = 0; k < n && !known; k++) known = strcmp(names[k], more[i]) == 0;
        if (!known) names[n++] = more[i];
    }
    return n;
}

int loami_cmd_serve(int argc, char **argv)
{
    settings s = { .host = "127.0.0.1", .port = 8000, .temperature = 0.7f, .top_p = 0.9f };
    service v = { .settings = &s };
    loam_err err;
    char path[LOAMI_PATH_MAX];
    const char *names[LOAMI_OPT_LIST_MAX + 3];

    int rc = read_settings(&s, argc, argv);
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (loami_store_find(path, s.model, &err) < 0) return loami_cmd_fail(argv[0], &err);
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--) path[n - 1] = 0;
    uint32_t n_names = collect_names(names, &s, path);

    v.post = (loami_post){ .run = on_loaded, .arg = &v };
    v.options = (loam_options){
        .model = path,
        .name = names[0],
        .substrate = s.substrate,
        .threads = s.threads,
        .context_tokens = s.context,
        .max_queued = s.max_queued,
        .max_running = s.max_running,
        .exact = s.exact,
    };
    rc = run(&v, &s, names, n_names, &err);
    loami_api_close(v.api);
    loami_server_close(v.server);
    loami_keys_close(v.keys);
    loami_tls_close(v.tls);
    loam_engine_close(v.engine);
    loami_loop_close(v.loop);
    return rc < 0 ? loami_cmd_fail(argv[0], &err) : LOAMI_EXIT_OK;
}
