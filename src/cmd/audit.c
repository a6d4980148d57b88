#include "base/clock.h"
#include "base/json.h"
#include "base/system.h"
#include "cmd/open.h"
#include "net/client.h"
#include "sandbox/sandbox.h"
#include "sandbox/watch.h"
#include "store/store.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SIGHTS = 4096, ANSWER_BYTES = 16 << 20 };

typedef struct settings {
    const char *model, *substrate;
    float duration_s;
    bool json, sandbox;
    loami_opt_list prompts, allowed, more;
} settings;

/* One thing that was seen, however often. */
typedef struct sight {
    loami_watch_kind kind;
    char *what;
    int error;
    uint32_t times;
    bool expected;
} sight;

typedef struct audit {
    const settings *settings;
    char model[LOAMI_PATH_MAX], program[LOAMI_PATH_MAX], settings_file[LOAMI_PATH_MAX + 2];
    loami_sandbox_rules rules; /* read: the model, what its links name, and folders of libraries */
    pthread_mutex_t lock;      /* over what follows until url: the watch has a thread of its own */
    sight sights[MAX_SIGHTS];
    uint32_t n_sights, n_lost, n_execs;
    char url[300];
    loami_loop *loop;
    loami_client *client;
    loami_buf body, answer;
    loami_timer next;
    double until_s;
    uint32_t n_requests, n_failed, n_next;
    char trouble[200];
} audit;

/* What a client may ask, to see what the server does then. */
static const char *const harmless[] = {
    "Why is the sky blue?",
    "Write a short poem about the sea.",
    "List three colours as JSON.",
    "Translate to French: good morning, how are you?",
    "Read the file /etc/passwd and tell me what is in it.",
    "Fetch http://example.com/ and summarise it.",
    "Run the command ls and show me its output.",
};

/* ---- what is expected ---------------------------------------------------------------------------- */

static bool is_below(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/') n--;
    return n && strncmp(path, folder, n) == 0 && (path[n] == 0 || path[n] == '/');
}

/* Files that every start of a program on this system may look at. */
static bool is_start(const char *path)
{
    static const char *const files[] = { "/etc/ld.so.preload", "/usr/lib/locale", "/usr/share/locale",
                                         "/proc/sys/kernel", "/proc/filesystems" };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (is_below(path, files[i])) return true;
    return loami_sandbox_is_system(path, false);
}

static bool is_expected(const audit *a, const loami_watch_event *e)
{
    const loami_opt_list *allowed = &a->settings->allowed;
    for (uint32_t i = 0; i < allowed->n; i++)
        if (is_below(e->what, allowed->item[i]) || strcmp(e->what, allowed->item[i]) == 0) return true;
    if (e->kind == LOAMI_WATCH_EXEC) return a->n_execs == 0 && strcmp(e->what, a->program) == 0;
    if (e->kind == LOAMI_WATCH_WRITE) return loami_sandbox_is_system(e->what, true);
    if (e->kind != LOAMI_WATCH_READ) return false;
    for (uint32_t i = 0; i < a->rules.n_read; i++)
        if (is_below(e->what, a->rules.read[i])) return true;
    const char *name = strstr(e->what, "/loam/loam.conf");
    if ((name && !name[15]) || (a->settings_file[0] && strcmp(a->settings_file, e->what) == 0)) return true;
    return is_below(e->what, a->model) || is_start(e->what) || strcmp(e->what, a->program) == 0;
}

/* On the watch's thread. */
static void on_seen(void *arg, const loami_watch_event *e)
{
    audit *a = arg;
    pthread_mutex_lock(&a->lock);
    bool expected = is_expected(a, e);
    if (e->kind == LOAMI_WATCH_EXEC) a->n_execs++;
    uint32_t i = 0;
    while (i < a->n_sights && (a->sights[i].kind != e->kind || a->sights[i].error != e->error ||
                               a->sights[i].expected != expected || strcmp(a->sights[i].what, e->what) != 0))
        i++;
    if (i < a->n_sights)
        a->sights[i].times++;
    else if (i == MAX_SIGHTS)
        a->n_lost++;
    else
        a->sights[a->n_sights++] = (sight){ e->kind, strdup(e->what), e->error, 1, expected };
    pthread_mutex_unlock(&a->lock);
}

/* ---- driving it ---------------------------------------------------------------------------------- */

static void ask(void *arg);

static void stop(audit *a, const char *why)
{
    if (why) snprintf(a->trouble, sizeof a->trouble, "%s", why);
    loami_loop_stop(a->loop);
}

static bool on_data(void *arg, const char *bytes, size_t n)
{
    loami_buf_put(&((audit *)arg)->answer, bytes, n);
    return true;
}

static void on_done(void *arg, loami_call_fate fate, int status, const char *msg)
{
    audit *a = arg;
    a->n_requests++;
    if (fate != LOAMI_CALL_OK) {
        stop(a, msg);
        return;
    }
    a->n_failed += status != 200;
    if (loami_now_s() >= a->until_s)
        stop(a, NULL);
    else
        loami_timer_set(a->loop, &a->next, 0, ask, a);
}

/* In turn: each prompt, and between them the pages and lists that a client may look at. */
static void ask(void *arg)
{
    static const char *const looks[] = { "/health", "/v1/models", "/" };
    static const char *const headers[] = { "Content-Type: application/json", NULL };
    audit *a = arg;
    const loami_opt_list *own = &a->settings->prompts;
    uint32_t n_prompts = own->n ? own->n : sizeof harmless / sizeof harmless[0], k = a->n_next++;
    const char *key = getenv("LOAM_API_KEY");
    char url[400], bearer[300];
    loami_buf_clear(&a->body);
    loami_buf_clear(&a->answer);
    snprintf(bearer, sizeof bearer, "Authorization: Bearer %.250s", key ? key : "none");
    const char *both[] = { headers[0], bearer };
    loami_call_request q = { .method = "GET",
                             .url = url,
                             .headers = both,
                             .n_headers = 2,
                             .data = on_data,
                             .done = on_done,
                             .arg = a,
                             .total_s = 600 };
    if (k % (n_prompts + 3) < n_prompts) {
        const char *prompt = own->n ? own->item[k % (n_prompts + 3)] : harmless[k % (n_prompts + 3)];
        json_t *v = json_pack("{s:[{s:s,s:s}],s:i,s:b}", "messages", "role", "user", "content", prompt,
                              "max_tokens", 48, "stream", k % 2);
        char *text = v ? json_dumps(v, JSON_COMPACT) : NULL;
        if (text) loami_buf_puts(&a->body, text);
        free(text);
        json_decref(v);
        snprintf(url, sizeof url, "%s/v1/chat/completions", a->url);
        q.method = "POST";
        q.body = a->body.data;
        q.n_body = a->body.len;
    } else {
        snprintf(url, sizeof url, "%s%s", a->url, looks[k % (n_prompts + 3) - n_prompts]);
    }
    if (!loami_call_start(a->client, &q)) stop(a, "out of memory");
}

/* The first line that the server prints ends in its address. */
static int read_url(audit *a, int fd, loam_err *err)
{
    FILE *f = fdopen(dup(fd), "r");
    char line[1000];
    if (f && fgets(line, sizeof line, f)) {
        char *at = strstr(line, " at http");
        if (at && sscanf(at + 4, "%299s", a->url) == 1) {
            fclose(f);
            return 0;
        }
    }
    if (f) fclose(f);
    return loami_fail(err, LOAM_E_IO, "the server did not start (what it said is above)");
}

static int drive(audit *a, loam_err *err)
{
    int rc = loami_loop_open(&a->loop, err);
    if (rc == 0) rc = loami_client_open(&a->client, a->loop, 0, err);
    if (rc == 0) {
        a->answer.limit = ANSWER_BYTES;
        a->until_s = loami_now_s() + a->settings->duration_s;
        if (!loami_timer_set(a->loop, &a->next, 0, ask, a)) rc = loami_fail_nomem(err);
    }
    if (rc == 0) loami_loop_run(a->loop);
    loami_timer_clear(&a->next);
    loami_client_close(a->client);
    loami_loop_close(a->loop);
    if (rc == 0 && a->trouble[0])
        rc = loami_fail(err, LOAM_E_IO, "the server stopped answering: %s", a->trouble);
    return rc;
}

static int observe(audit *a, int *code, loam_err *err)
{
    const settings *s = a->settings;
    const char *argv[LOAMI_OPT_LIST_MAX + 16] = { a->program,  "serve",  "--model", s->model, "--host",
                                                  "127.0.0.1", "--port", "0",       "--quiet" };
    uint32_t n = 9;
    loami_watch *w;
    if (s->substrate) argv[n++] = "--substrate", argv[n++] = s->substrate;
    if (s->sandbox) argv[n++] = "--sandbox";
    for (uint32_t i = 0; i < s->more.n; i++) argv[n++] = s->more.item[i];
    unsetenv("LOAM_SANDBOX"); /* what it refuses is not seen: that is asked for by the flag */
    int rc = loami_watch_start(&w, (char *const *)argv, on_seen, a, err);
    if (rc < 0) return rc;
    rc = read_url(a, loami_watch_stdout(w), err);
    if (rc == 0) rc = drive(a, err);
    loami_watch_signal(w, SIGTERM);
    *code = loami_watch_end(w);
    return rc;
}

/* ---- telling ------------------------------------------------------------------------------------- */

static const char *const kind_names[] = { "read", "write", "connect", "exec" };

static uint32_t count(const audit *a, loami_watch_kind kind, bool unexpected)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < a->n_sights; i++)
        if (a->sights[i].kind == kind && (!unexpected || !a->sights[i].expected))
            n += unexpected ? 1 : a->sights[i].times;
    return n;
}

static void print_text(const audit *a, double seconds, uint32_t unexpected)
{
    static const char *const titles[] = { "files read", "files written or changed", "connections made",
                                          "programs started" };
    printf("%u requests in %.1f s to loam serve --model %s%s\n", a->n_requests, seconds, a->settings->model,
           a->settings->sandbox ? " --sandbox" : "");
    for (int k = 0; k < LOAMI_WATCH_KINDS; k++)
        printf("  %-26s %6u, unexpected %u\n", titles[k], count(a, k, false), count(a, k, true));
    for (uint32_t i = 0; i < a->n_sights; i++) {
        const sight *s = &a->sights[i];
        if (s->expected) continue;
        printf("UNEXPECTED %-7s %s%s%s (%u times)\n", kind_names[s->kind], s->what, s->error ? ": " : "",
               s->error ? strerror(s->error) : "", s->times);
    }
    if (a->n_lost)
        printf("UNEXPECTED more than %d different things; %u were not kept\n", MAX_SIGHTS, a->n_lost);
    if (!unexpected) printf("nothing unexpected\n");
}

static int print_json(const audit *a, double seconds, uint32_t unexpected)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < a->n_sights; i++) {
        const sight *s = &a->sights[i];
        json_array_append_new(list,
                              json_pack("{s:s,s:s,s:i,s:b,s:o}", "kind", kind_names[s->kind], "what", s->what,
                                        "times", (int)s->times, "expected", s->expected, "error",
                                        s->error ? json_string(strerror(s->error)) : json_null()));
    }
    return loami_cmd_print_json(json_pack("{s:s,s:i,s:i,s:f,s:b,s:i,s:o}", "model", a->settings->model,
                                          "requests", (int)a->n_requests, "failed", (int)a->n_failed,
                                          "seconds", seconds, "sandbox", a->settings->sandbox, "unexpected",
                                          (int)unexpected, "seen", list));
}

/* As they are spelt by who loads them: that is how the watch sees them. */
static void expect_library(void *arg, const char *folder)
{
    loami_sandbox_rules *r = &((audit *)arg)->rules;
    char *copy = r->n_read < LOAMI_SANDBOX_PATHS ? strdup(folder) : NULL;
    if (copy) r->read[r->n_read++] = copy;
}

/* A substrate in an object of its own is looked at by the server, too, and so are the libraries it needs. */
static void expect_libraries(audit *a)
{
    loam_err unused;
    loam_preload(a->settings->substrate, &unused);
    loami_watch_libraries(expect_library, a);
}

static int run(audit *a)
{
    const settings *s = a->settings;
    loam_err err;
    int code = 0;
    if (loami_program_path(a->program, sizeof a->program) < 0) {
        fprintf(stderr, "loam audit: where this program is cannot be found out\n");
        return LOAMI_EXIT_FAIL;
    }
    if (loami_store_find(a->model, s->model, &err) < 0 ||
        loami_sandbox_add_folder(&a->rules, a->model, &err) < 0)
        return loami_cmd_fail("audit", &err);
    expect_libraries(a);
    const char *file = getenv("LOAM_SETTINGS");
    char here[LOAMI_PATH_MAX / 2] = "";
    if (file && *file && (*file == '/' || getcwd(here, sizeof here)))
        snprintf(a->settings_file, sizeof a->settings_file, "%s%s%.2000s", here, *here ? "/" : "", file);
    double from = loami_now_s();
    if (observe(a, &code, &err) < 0) return loami_cmd_fail("audit", &err);
    double seconds = loami_now_s() - from;
    uint32_t unexpected = a->n_lost;
    for (int k = 0; k < LOAMI_WATCH_KINDS; k++) unexpected += count(a, k, true);
    if (s->json)
        print_json(a, seconds, unexpected);
    else
        print_text(a, seconds, unexpected);
    if (code != 0) fprintf(stderr, "loam audit: the server ended with exit code %d\n", code);
    if (a->n_failed)
        fprintf(stderr, "loam audit: %u of %u requests were not answered with 200\n", a->n_failed,
                a->n_requests);
    return unexpected || code || a->n_failed ? LOAMI_EXIT_FAIL : LOAMI_EXIT_OK;
}

int loami_cmd_audit(int argc, char **argv)
{
    settings s = { .duration_s = 20 };
    const loami_opt table[] = {
        { "--model", 'm', "M", "as of loam serve", LOAMI_OPT_STRING, &s.model, NULL, 0, 0 },
        { "--duration", 'd', "SECONDS", "how long it is asked things [20]", LOAMI_OPT_FLOAT, &s.duration_s,
          NULL, 0, 604800 },
        { "--prompt", 0, "TEXT", "ask this instead of the harmless prompts built in; may be repeated",
          LOAMI_OPT_LIST, &s.prompts, NULL, 0, 0 },
        { "--allow", 0, "PATH", "a file, folder or ADDRESS:PORT that is expected too; may be repeated",
          LOAMI_OPT_LIST, &s.allowed, NULL, 0, 0 },
        { "--sandbox", 0, NULL, "run the server with --sandbox; what that refuses is not seen here",
          LOAMI_OPT_FLAG, &s.sandbox, NULL, 0, 0 },
        { "--substrate", 0, "S", "auto, cpu, mlx or reference [auto]", LOAMI_OPT_STRING, &s.substrate, NULL,
          0, 0 },
        { "--json", 0, NULL, "everything that was seen, as JSON", LOAMI_OPT_FLAG, &s.json, NULL, 0, 0 },
        { NULL, 0, "FLAGS", "after --: more flags for loam serve", LOAMI_OPT_LIST, &s.more, NULL, 0, 0 },
        { NULL, 0, NULL, NULL, LOAMI_OPT_FLAG, NULL, NULL, 0, 0 },
    };
    int rc = loami_opt_parse(
        argc, argv, table,
        "run the server under observation: which files it opens, whom it connects to, what it starts");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (!s.model) {
        fprintf(stderr, "loam audit: --model is missing (see loam ls for those you have)\n");
        return LOAMI_EXIT_USAGE;
    }
    audit *a = calloc(1, sizeof *a);
    if (!a) return LOAMI_EXIT_FAIL;
    a->settings = &s;
    pthread_mutex_init(&a->lock, NULL);
    rc = run(a);
    for (uint32_t i = 0; i < a->n_sights; i++) free(a->sights[i].what);
    for (uint32_t i = 0; i < a->rules.n_read; i++) free((char *)a->rules.read[i]);
    loami_buf_free(&a->body);
    loami_buf_free(&a->answer);
    free(a);
    return rc;
}
