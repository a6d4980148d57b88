#include "cmd/service.h"
#include "base/system.h"
#include "store/store.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const loami_service_kind *const kinds[] = { &loami_service_launchd, &loami_service_systemd, NULL };

typedef struct settings {
    const char *kind, *what, *label, *user, *model, *host, *config, *program, *root;
    uint32_t port;
    bool no_sandbox, gpu, follow;
    loami_opt_list env, more;
} settings;

void loami_service_step(loami_service_steps *to, const char *const words[10])
{
    for (int i = 0; words[i] && to->n + 2 < LOAMI_SERVICE_WORDS; i++) to->words[to->n++] = words[i];
    to->words[to->n++] = NULL;
}

/* ---- what is asked ------------------------------------------------------------------------------- */

static int wrong(const char *command, const char *what, const char *value)
{
    fprintf(stderr, "loam %s: %s %s (see loam %s --help)\n", command, what, value, command);
    return -1;
}

static int read_settings(settings *s, int argc, char **argv, const char *about)
{
    s->what = "serve";
    const loami_opt table[] = {
        { "--what", 0, "W", "serve or gateway [serve]", LOAMI_OPT_STRING, &s->what, NULL, 0, 0 },
        { "--kind", 0, "K", "launchd or systemd [this machine's]", LOAMI_OPT_STRING, &s->kind, NULL, 0, 0 },
        { "--label", 0, "L",
          "the service's name [launchd: com.loam.server, com.loam.gateway; systemd: loam, loam-gateway]",
          LOAMI_OPT_STRING, &s->label, NULL, 0, 0 },
        { "--user", 0, "U", "who runs it [systemd: one made up for it; launchd: root]", LOAMI_OPT_STRING,
          &s->user, NULL, 0, 0 },
        { "--model", 'm', "M", "as of loam serve", LOAMI_OPT_STRING, &s->model, NULL, 0, 0 },
        { "--host", 0, "ADDRESS", "likewise", LOAMI_OPT_STRING, &s->host, NULL, 0, 0 },
        { "--port", 'p', "N", "likewise", LOAMI_OPT_U32, &s->port, NULL, 1, 65535 },
        { "--config", 'c', "FILE", "as of loam gateway", LOAMI_OPT_STRING, &s->config, NULL, 0, 0 },
        { "--env", 0, "K=V", "a variable of its environment; may be repeated", LOAMI_OPT_LIST, &s->env, NULL,
          0, 0 },
        { "--gpu", 0, NULL, "systemd: it may use NVIDIA's devices", LOAMI_OPT_FLAG, &s->gpu, NULL, 0, 0 },
        { "--no-sandbox", 0, NULL, "run it without --sandbox", LOAMI_OPT_FLAG, &s->no_sandbox, NULL, 0, 0 },
        { "--program", 0, "PATH", "loam's own [this one]", LOAMI_OPT_STRING, &s->program, NULL, 0, 0 },
        { "--root", 0, "DIR", "write into the system that lies there, and start nothing", LOAMI_OPT_STRING,
          &s->root, NULL, 0, 0 },
        { "--follow", 'f', NULL, "logs: and those to come", LOAMI_OPT_FLAG, &s->follow, NULL, 0, 0 },
        { NULL, 0, "FLAGS", "after --: more flags for loam serve or loam gateway", LOAMI_OPT_LIST, &s->more,
          NULL, 0, 0 },
        { NULL, 0, NULL, NULL, LOAMI_OPT_FLAG, NULL, NULL, 0, 0 },
    };
    return loami_opt_parse(argc, argv, table, about);
}

static bool on_path(const char *program)
{
    char path[LOAMI_PATH_MAX];
    const char *dirs = getenv("PATH");
    for (const char *p = dirs ? dirs : "/usr/bin:/bin"; *p;) {
        size_t n = strcspn(p, ":");
        if (n && snprintf(path, sizeof path, "%.*s/%s", (int)n, p, program) < (int)sizeof path &&
            access(path, X_OK) == 0)
            return true;
        p += n + (p[n] == ':');
    }
    return false;
}

static const loami_service_kind *find_kind(const char *command, const char *name)
{
    for (int i = 0; kinds[i]; i++)
        if (name ? strcmp(kinds[i]->name, name) == 0 : on_path(kinds[i]->proof)) return kinds[i];
    if (name)
        wrong(command, "launchd or systemd, not", name);
    else
        wrong(command, "here is neither launchctl nor systemctl; say", "--kind launchd or --kind systemd");
    return NULL;
}

static bool has_controls(const char *s)
{
    for (; s && *s; s++)
        if ((unsigned char)*s < 32 || *s == 127) return true;
    return false;
}

/* What ends in a file that root's programs read is checked first. */
static int check(const char *command, const settings *s, const loami_service *v)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    if (!*v->label || v->label[0] == '.' || v->label[0] == '-' || strlen(v->label) > 120 ||
        v->label[strspn(v->label, name)] == '/')
        return wrong(command, "not a label:", v->label);
    for (const char *p = v->label; *p; p++)
        if (!strchr(name, *p) && !strchr(".-@", *p))
            return wrong(command, "a label has letters, digits and . _ - @ alone:", v->label);
    for (const char *p = s->user; p && *p; p++)
        if (!strchr(name, *p) && !strchr(".-", *p)) return wrong(command, "not a user's name:", s->user);
    for (uint32_t i = 0; i < s->env.n; i++) {
        size_t n = strspn(s->env.item[i], name);
        if (!n || s->env.item[i][n] != '=')
            return wrong(command, "--env takes NAME=VALUE, not", s->env.item[i]);
        if (has_controls(s->env.item[i])) return wrong(command, "a control character in", "--env");
    }
    for (uint32_t i = 0; i < v->n_args; i++)
        if (has_controls(v->args[i])) return wrong(command, "a control character in", "a flag's value");
    return 0;
}

static void arg(loami_service *v, const char *flag, const char *value)
{
    if (!value) return;
    v->args[v->n_args++] = flag;
    v->args[v->n_args++] = value;
}

/* What is needed of each place: strings that v points to. */
typedef struct strings {
    char program[LOAMI_PATH_MAX], model[LOAMI_PATH_MAX], config[LOAMI_PATH_MAX], port[16];
} strings;

static int make(loami_service *v, const settings *s, const loami_service_kind *kind, strings *t, bool install,
                loam_err *err)
{
    bool gateway = strcmp(s->what, "gateway") == 0;
    if (!gateway && strcmp(s->what, "serve") != 0)
        return loami_fail(err, LOAM_E_ARG, "--what is serve or gateway, not %s", s->what);
    if (!s->program && loami_program_path(t->program, sizeof t->program) < 0)
        return loami_fail(err, LOAM_E_ARG, "where this program is cannot be found out; say --program PATH");
    *v = (loami_service){ .what = s->what,
                          .label = s->label ? s->label : kind->labels[gateway],
                          .program = s->program ? s->program : t->program,
                          .user = s->user,
                          .env = s->env.item,
                          .n_env = s->env.n,
                          .port = s->port,
                          .gpu = s->gpu };
    if (v->program[0] != '/')
        return loami_fail(err, LOAM_E_ARG, "--program %s: an absolute path is wanted", v->program);
    arg(v, s->what, s->what);
    v->n_args = 1;
    if (!gateway && s->model) {
        loam_err why;
        bool found = loami_store_find(t->model, s->model, &why) == 0;
        char *real = found ? realpath(t->model, NULL) : NULL;
        if (real && snprintf(t->model, sizeof t->model, "%s", real) < (int)sizeof t->model)
            v->model = t->model;
        free(real);
        if (!found && install) return loami_fail(err, why.code, "%s", why.msg);
        arg(v, "--model", v->model ? v->model : s->model);
        if (v->model && s->model[0] != '/' && s->model[0] != '.') arg(v, "--served-model-name", s->model);
    }
    if (gateway) {
        char *real = realpath(s->config ? s->config : "/etc/loam/gateway.json", NULL);
        if (!real && install)
            return loami_fail_errno(err, "%s",
                                    s->config ? s->config : "/etc/loam/gateway.json: say --config FILE");
        snprintf(t->config, sizeof t->config, "%s",
                 real        ? real
                 : s->config ? s->config
                             : "/etc/loam/gateway.json");
        free(real);
        arg(v, "--config", t->config);
    } else {
        arg(v, "--host", s->host);
        snprintf(t->port, sizeof t->port, "%u", s->port);
        arg(v, "--port", s->port ? t->port : NULL);
    }
    if (!s->no_sandbox) v->args[v->n_args++] = "--sandbox";
    for (uint32_t i = 0; i < s->more.n; i++) v->args[v->n_args++] = s->more.item[i];
    return 0;
}

/* ---- what is done -------------------------------------------------------------------------------- */

/* Runs one line; a leading dash of the program's name: it may fail. */
static int run_line(const char *command, const char *const *words)
{
    bool may_fail = words[0][0] == '-';
    char *argv[LOAMI_SERVICE_WORDS];
    int n = 0, status = 0;
    pid_t child;
    fprintf(stderr, "loam %s:", command);
    for (; words[n]; n++) {
        argv[n] = (char *)words[n] + (n == 0 && may_fail);
        fprintf(stderr, " %s", argv[n]);
    }
    argv[n] = NULL;
    fprintf(stderr, "\n");
    int failed = posix_spawnp(&child, argv[0], NULL, NULL, argv, environ);
    if (failed) {
        fprintf(stderr, "loam %s: %s: %s\n", command, argv[0], strerror(failed));
        return may_fail ? 0 : LOAMI_EXIT_FAIL;
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return may_fail || (WIFEXITED(status) && WEXITSTATUS(status) == 0) ? 0 : LOAMI_EXIT_FAIL;
}

static int run_steps(const char *command, const loami_service_steps *steps)
{
    for (uint32_t i = 0; i < steps->n;) {
        if (run_line(command, steps->words + i) != 0) return LOAMI_EXIT_FAIL;
        while (steps->words[i]) i++;
        i++;
    }
    return LOAMI_EXIT_OK;
}

static int write_file(const char *command, const char *path, const loami_buf *text)
{
    loam_err err;
    char folder[LOAMI_PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    int rc = loami_dir_make(folder, &err);
    if (rc == 0) rc = loami_file_write(path, text->data, text->len, &err);
    if (rc < 0) {
        loami_cmd_fail(command, &err);
        if (geteuid() != 0)
            fprintf(stderr, "loam %s: root alone may install a service: sudo loam %s ...\n", command,
                    command);
        return LOAMI_EXIT_FAIL;
    }
    fprintf(stderr, "loam %s: wrote %s\n", command, path);
    return LOAMI_EXIT_OK;
}

static int act(const char *command, loami_service_verb verb, const settings *s,
               const loami_service_kind *kind, const loami_service *v)
{
    char path[LOAMI_PATH_MAX];
    loami_service_steps now = { .n = 0 }, after = { .n = 0 };
    loami_buf text = { 0 };
    int rc = LOAMI_EXIT_OK;
    if (snprintf(path, sizeof path, "%s%s/%s%s", s->root ? s->root : "", kind->folder, v->label,
                 kind->suffix) >= (int)sizeof path)
        return wrong(command, "too long:", s->root), LOAMI_EXIT_USAGE;
    kind->print(&text, v);
    kind->steps(&now, &after, verb, v, path, s->root, s->follow);
    if (text.failed)
        rc = LOAMI_EXIT_FAIL;
    else if (verb == LOAMI_SERVICE_PRINT)
        fwrite(text.data, 1, text.len, stdout);
    else if (verb == LOAMI_SERVICE_INSTALL)
        rc = write_file(command, path, &text);
    else if (!loami_file_exists(path) && verb != LOAMI_SERVICE_LOGS)
        rc = (wrong(command, "is not installed:", path), LOAMI_EXIT_FAIL);
    if (rc == 0) rc = run_steps(command, &now);
    if (rc == 0 && verb == LOAMI_SERVICE_UNINSTALL) {
        if (unlink(path) < 0)
            rc = (fprintf(stderr, "loam %s: %s: %s\n", command, path, strerror(errno)), LOAMI_EXIT_FAIL);
        else
            fprintf(stderr, "loam %s: removed %s\n", command, path);
    }
    if (rc == 0) rc = run_steps(command, &after);
    loami_buf_free(&text);
    return rc;
}

static int do_verb(int argc, char **argv, loami_service_verb verb, const char *about)
{
    settings s = { 0 };
    loami_service v;
    strings t;
    loam_err err;
    int rc = read_settings(&s, argc, argv, about);
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    const loami_service_kind *kind = find_kind(argv[0], s.kind);
    if (!kind) return LOAMI_EXIT_USAGE;
    if (make(&v, &s, kind, &t, verb == LOAMI_SERVICE_INSTALL, &err) < 0) return loami_cmd_fail(argv[0], &err);
    if (check(argv[0], &s, &v) < 0) return LOAMI_EXIT_USAGE;
    return act(argv[0], verb, &s, kind, &v);
}

#define VERB(name, id, about)                                                                                \
    static int name(int argc, char **argv)                                                                   \
    {                                                                                                        \
        return do_verb(argc, argv, id, about);                                                               \
    }
VERB(install, LOAMI_SERVICE_INSTALL, "write the service's file, start it now and whenever the machine starts")
VERB(uninstall, LOAMI_SERVICE_UNINSTALL, "stop the service and remove its file")
VERB(start, LOAMI_SERVICE_START, "start the installed service")
VERB(stop, LOAMI_SERVICE_STOP, "stop it, until start or the machine's next start")
VERB(status, LOAMI_SERVICE_STATUS, "what the service manager says of it")
VERB(logs, LOAMI_SERVICE_LOGS, "the last lines of its log")
VERB(print, LOAMI_SERVICE_PRINT, "the file that install would write")

const loami_command loami_service_verbs[] = {
    { "service install", install, NULL, NULL }, { "service uninstall", uninstall, NULL, NULL },
    { "service start", start, NULL, NULL },     { "service stop", stop, NULL, NULL },
    { "service status", status, NULL, NULL },   { "service logs", logs, NULL, NULL },
    { "service print", print, NULL, NULL },     { NULL, NULL, NULL, NULL },
};

int loami_cmd_service(int argc, char **argv)
{
    if (argc > 1 && argv[1][0] != '-') return loami_cmd_verb("service", loami_service_verbs, argc, argv);
    const loami_opt table[] = {
        { NULL, 0, "VERB", "install, uninstall, start, stop, status, logs or print", LOAMI_OPT_LIST,
          &(loami_opt_list){ .n = 0 }, NULL, 0, 0 },
        { NULL, 0, NULL, NULL, LOAMI_OPT_FLAG, NULL, NULL, 0, 0 },
    };
    int rc = loami_opt_parse(argc, argv, table,
                             "the server or the gateway as a service of this machine, by launchd or systemd");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    fprintf(stderr, "loam service: which verb? install, uninstall, start, stop, status, logs or print\n");
    return LOAMI_EXIT_USAGE;
}
