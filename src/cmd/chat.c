#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "cmd/open.h"

#include <errno.h>
#include <histedit.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HISTORY_LINES = 1000, SAVED_BYTES_MAX = 64 << 20 };

typedef struct chat {
    loami_model_opts run;
    loam_sampling how;
    const char *system;
    uint32_t max_tokens;
    bool verbose;

    loam_engine *engine;
    json_t *messages;        /* the conversation, as the template wants it */
    EditLine *edit;          /* NULL: standard input is not a terminal */
    History *history;
    bool leave;
} chat;

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
    (void)signal;
    interrupted = 1;
}

/* ---- the conversation ----------------------------------------------------------------------------------- */

static void say(chat *c, const char *role, const char *text, size_t len)
{
    json_array_append_new(c->messages, json_pack("{ss ss%}", "role", role, "content", text, len));
}

static void forget_last(chat *c)
{
    json_array_remove(c->messages, json_array_size(c->messages) - 1);
}

static void start_over(chat *c)
{
    json_array_clear(c->messages);
    if (c->system && *c->system) say(c, "system", c->system, strlen(c->system));
}

/* Prints the answer as it comes and keeps it. An interrupted one stays as far as it went. */
static int follow(chat *c, loam_stream *s)
{
    loami_buf text = { 0 };
    loam_token t;
    loam_result r;
    int rc;
    while ((rc = loam_stream_next(s, &t, 50)) != 0) {
        if (interrupted) loam_stream_cancel(s);
        if (rc < 0) continue;
        loami_buf_put(&text, t.text, t.text_len);
        fwrite(t.text, 1, t.text_len, stdout);
        fflush(stdout);
    }
    loam_stream_result(s, &r);
    printf("%s\n", r.finish == LOAM_FINISH_CANCELLED ? " [stopped]" : r.finish == LOAM_FINISH_LENGTH ? " [cut: --max-tokens]" : "");
    if (c->verbose && r.decode_s > 0)
        printf("(%u + %u tokens, %.1f tok/s)\n", r.prompt_tokens, r.new_tokens, (r.new_tokens - 1) / r.decode_s);
    if (r.finish == LOAM_FINISH_ERROR) fprintf(stderr, "loam chat: %s\n", r.msg);
    say(c, "assistant", text.data ? text.data : "", text.len);
    loami_buf_free(&text);
    return r.finish == LOAM_FINISH_ERROR ? -1 : 0;
}

static void answer(chat *c, const char *line)
{
    loam_err err;
    int32_t *ids = NULL;
    loam_stream *s;
    say(c, "user", line, strlen(line));
    int n = loami_cmd_chat_prompt(c->engine, c->messages, &ids, &err);
    int rc = n;
    if (n >= 0) {
        loam_request r = { .tokens = ids, .n_tokens = (uint32_t)n, .max_new = c->max_tokens, .how = c->how };
        rc = loam_submit(c->engine, &s, &r, &err);
    }
    free(ids);
    if (rc < 0) {
        loami_cmd_fail("chat", &err);
        if (rc == LOAM_E_TOO_LONG) fprintf(stderr, "/reset starts a new conversation; --context makes room for a longer one\n");
        forget_last(c);
        return;
    }
    interrupted = 0;
    if (follow(c, s) < 0) {
        forget_last(c);
        forget_last(c);
    }
    loam_stream_close(s);
}

/* ---- commands ------------------------------------------------------------------------------------------- */

static void do_help(chat *c, const char *arg);

static void do_system(chat *c, const char *arg)
{
    static char *kept; /* lives as long as the program */
    free(kept);
    kept = strdup(arg);
    c->system = kept;
    start_over(c);
    printf("%s, conversation cleared\n", *arg ? "system message set" : "no system message");
}

static void do_reset(chat *c, const char *arg)
{
    (void)arg;
    start_over(c);
    printf("conversation cleared\n");
}

static void do_save(chat *c, const char *arg)
{
    loam_err err;
    if (!*arg) {
        printf("/save FILE\n");
        return;
    }
    char *text = json_dumps(c->messages, JSON_INDENT(2));
    int rc = text ? loami_file_write(arg, text, strlen(text), &err) : loami_fail_nomem(&err);
    if (rc < 0) loami_cmd_fail("chat", &err);
    else printf("%zu messages in %s\n", json_array_size(c->messages), arg);
    free(text);
}

/* A list of messages as /save writes it: objects with role and content. */
static int check_messages(const json_t *list, const char *path, loam_err *err)
{
    size_t i;
    json_t *m;
    if (!json_is_array(list)) return loami_fail(err, LOAM_E_FORMAT, "%s: not a list of messages", path);
    json_array_foreach(list, i, m)
        if (!json_is_string(json_object_get(m, "role")) || !json_is_string(json_object_get(m, "content")))
            return loami_fail(err, LOAM_E_FORMAT, "%s: message %zu has no role or content", path, i + 1);
    return 0;
}

static void do_load(chat *c, const char *arg)
{
    loam_err err;
    json_t *list = NULL;
    if (!*arg) {
        printf("/load FILE\n");
        return;
    }
    int rc = loami_json_load(&list, arg, SAVED_BYTES_MAX, &err);
    if (rc == 0) rc = check_messages(list, arg, &err);
    if (rc < 0) {
        loami_cmd_fail("chat", &err);
        json_decref(list);
        return;
    }
    json_decref(c->messages);
    c->messages = list;
    printf("%zu messages from %s\n", json_array_size(list), arg);
}

static void do_quit(chat *c, const char *arg)
{
    (void)arg;
    c->leave = true;
}

static const struct {
    const char *name, *help;
    void (*run)(chat *c, const char *arg);
} commands[] = {
    { "/help", "print this", do_help },
    { "/system", "TEXT  set the system message and start over", do_system },
    { "/reset", "start over", do_reset },
    { "/save", "FILE  write the conversation", do_save },
    { "/load", "FILE  continue a written one", do_load },
    { "/quit", "leave (Ctrl-D too); Ctrl-C stops an answer", do_quit },
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void do_help(chat *c, const char *arg)
{
    (void)c;
    (void)arg;
    for (size_t i = 0; i < N_COMMANDS; i++) printf("  %-8s %s\n", commands[i].name, commands[i].help);
}

static void obey(chat *c, char *line)
{
    char *arg = line + strcspn(line, " ");
    size_t n = (size_t)(arg - line);
    while (*arg == ' ') arg++;
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strlen(commands[i].name) != n || strncmp(commands[i].name, line, n) != 0) continue;
        commands[i].run(c, arg);
        return;
    }
    printf("%.*s is no command; /help lists them\n", (int)n, line);
}

/* ---- the terminal --------------------------------------------------------------------------------------- */

static char *prompt(EditLine *e)
{
    (void)e;
    return (char *)"> ";
}

static int open_terminal(chat *c)
{
    HistEvent ev;
    struct sigaction sa = { .sa_handler = on_interrupt }; /* no SA_RESTART: reading a line ends too */
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    if (!isatty(STDIN_FILENO)) return 0;
    c->edit = el_init("loam", stdin, stdout, stderr);
    c->history = history_init();
    if (!c->edit || !c->history) return -1;
    history(c->history, &ev, H_SETSIZE, HISTORY_LINES);
    el_set(c->edit, EL_PROMPT, prompt);
    el_set(c->edit, EL_EDITOR, "emacs");
    el_set(c->edit, EL_HIST, history, c->history);
    el_set(c->edit, EL_SIGNAL, 0);
    el_source(c->edit, NULL);
    return 0;
}

static void close_terminal(chat *c)
{
    if (c->history) history_end(c->history);
    if (c->edit) el_end(c->edit);
}

/* The next line without its newline, malloc'd; NULL at the end of input. An interrupted line is empty. */
static char *read_line(chat *c)
{
    char *line = NULL;
    size_t cap = 0;
    interrupted = 0;
    if (!c->edit) {
        ssize_t n = getline(&line, &cap, stdin);
        if (n >= 0) return line;
        free(line);
        return NULL;
    }
    int n;
    const char *typed = el_gets(c->edit, &n);
    if (!typed || n <= 0) {
        if (!interrupted) return NULL;
        printf("\n");
        return strdup("");
    }
    HistEvent ev;
    if (typed[0] != '\n') history(c->history, &ev, H_ENTER, typed);
    return strdup(typed);
}

static void converse(chat *c)
{
    while (!c->leave) {
        char *line = read_line(c);
        if (!line) break;
        line[strcspn(line, "\r\n")] = 0;
        if (line[0] == '/') obey(c, line);
        else if (line[0]) answer(c, line);
        free(line);
    }
    if (c->edit && !c->leave) printf("\n");
}

int loami_cmd_chat(int argc, char **argv)
{
    chat c = { .how.temperature = 0.7f, .how.top_p = 0.95f, .max_tokens = 1024 };
    const loami_opt table[] = {
        LOAMI_MODEL_OPTS(c.run),
        { "--system", 0, "TEXT", "a system message", LOAMI_OPT_STRING, &c.system, NULL, 0, 0 },
        { "--max-tokens", 'n', "N", "tokens of an answer at most (default 1024)", LOAMI_OPT_U32, &c.max_tokens, NULL, 1, 1 << 20 },
        LOAMI_SAMPLING_OPTS(c.how),
        { "--verbose", 'v', NULL, "print tokens per second after each answer", LOAMI_OPT_FLAG, &c.verbose, NULL, 0, 0 },
        { 0 },
    };
    int rc = loami_opt_parse(argc, argv, table, "talk with a model in the terminal (temperature 0.7, top-p 0.95 unless told)");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    c.run.engine.max_running = 1;
    rc = loami_cmd_open(&c.engine, "chat", &c.run);
    if (rc != 0) return rc;
    c.messages = json_array();
    start_over(&c);
    if (open_terminal(&c) < 0) {
        fprintf(stderr, "loam chat: the terminal can't be set up\n");
        rc = LOAMI_EXIT_FAIL;
    } else {
        if (c.edit) printf("%s on %s. /help lists commands.\n", loam_engine_info(c.engine)->name, loam_engine_info(c.engine)->device);
        converse(&c);
    }
    close_terminal(&c);
    json_decref(c.messages);
    loam_engine_close(c.engine);
    return rc;
}
