#include "base/file.h"
#include "base/notify.h"
#include "cmd/cmd.h"
#include "cmd/contain.h"
#include "cmd/gateway.h"
#include "gateway/gateway.h"
#include "net/stderr.h"
#include "web/gateway.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

/* ---- the running gateway ------------------------------------------------------------------------- */

typedef struct service {
    char **argv; /* how it was started: its successor is started likewise */
    loami_loop *loop;
    loami_gateway *gateway;
    loami_timer on_restart, on_succeeded;
    pid_t successor;
    loami_containment containment;
    const char *path;
} service;

static void say(const char *what, const char *why)
{
    loami_buf b = { 0 };
    loami_buf_printf(&b, "loam gateway: %s%s%s\n", what, why ? ": " : "", why ? why : "");
    if (b.data) loami_stderr_put(b.data, b.len);
    loami_buf_free(&b);
}

/* What was sealed cannot be opened again: a backend at a new port needs a new process. */
static void check_reach(const service *v)
{
    loami_gw_config *c;
    if (!v->containment.on || loami_gw_config_load(&c, v->path, NULL) < 0) return;
    for (uint32_t i = 0; i < c->n_backends; i++)
        if (!loami_contain_reaches(&v->containment, c->backends[i].url))
            say("--sandbox lets this process connect to the ports that it started with alone; start it again "
                "for",
                c->backends[i].url);
    loami_gw_config_unref(c);
}

static void on_reload(void *arg, int rc, const loam_err *err)
{
    if (rc < 0) {
        say("the configuration was not read again", err->msg);
        return;
    }
    say("the configuration was read again", NULL);
    check_reach(arg);
}

/* Starts this program once more with the listening socket, which stays open all the while. The new one says
 * when it is there (SIGUSR1); until then, and if it never does, this one goes on. */
static void restart(void *arg)
{
    service *v = arg;
    char fd_text[40], pid_text[40], *env[512];
    int fd = loami_gateway_fd(v->gateway), n = 0;

    if (fd < 0) return;
    if (v->containment.on) {
        say("--sandbox forbids to start a successor", "let the service manager restart it");
        return;
    }
    snprintf(fd_text, sizeof fd_text, LOAM_LISTEN_FD "=%d", fd);
    snprintf(pid_text, sizeof pid_text, LOAM_PREDECESSOR "=%ld", (long)getpid());
    env[n++] = fd_text;
    env[n++] = pid_text;
    for (char **e = environ; *e && n < 511; e++)
        if (strncmp(*e, "LISTEN_", 7) != 0 && strncmp(*e, LOAM_LISTEN_FD, strlen(LOAM_LISTEN_FD)) != 0 &&
            strncmp(*e, LOAM_PREDECESSOR, strlen(LOAM_PREDECESSOR)) != 0)
            env[n++] = *e;
    env[n] = NULL;
    fcntl(fd, F_SETFD, 0);
    int failed = posix_spawnp(&v->successor, v->argv[0], NULL, NULL, v->argv, env);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (failed) say("the successor cannot be started", strerror(failed));
}

static void on_succeeded(void *arg)
{
    service *v = arg;
    if (!v->successor) return;
    say("a successor has taken over; this process ends with its last answer", NULL);
    loami_gateway_retire(v->gateway);
}

/* A socket that listens already: of a predecessor, or of the service manager (sd_listen_fds(3)). */
static int inherited_socket(void)
{
    const char *fd = getenv(LOAM_LISTEN_FD), *n = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
    if (fd) return atoi(fd);
    return n && pid && atoi(n) >= 1 && atol(pid) == (long)getpid() ? 3 : 0;
}

static bool is_alive(void *arg)
{
    (void)arg; /* this is asked on the loop's thread, which does everything here */
    return true;
}

/* The files that are read and written, and the ports that are connected to, after this. */
static int contain(service *v, const loami_gw_config *config, loam_err *err)
{
    loami_containment *c = &v->containment;
    int rc = 0;
    c->command = "gateway";
    if (!c->on) return loami_contain_begin(c, err);
    loami_contain_file(c, v->path);
    for (uint32_t i = 0; i < config->n_backends && rc == 0; i++) {
        rc = loami_contain_backend(c, config->backends[i].url, err);
        loami_contain_file(c, config->backends[i].ca_file);
        if (strncmp(config->backends[i].url, "https:", 6) == 0 && !config->backends[i].ca_file)
            loami_contain_file(c, "/etc/ssl/certs/ca-certificates.crt");
    }
    char folder[LOAMI_PATH_MAX];
    if (config->usage_file && snprintf(folder, sizeof folder, "%s", config->usage_file) < (int)sizeof folder)
        loami_contain_folder(c, dirname(folder));
    return rc == 0 ? loami_contain_begin(c, err) : rc;
}

/* A restarted gateway is not the process that the service manager started: it says so. */
static int ready(service *v, loam_err *err)
{
    char lines[40];
    snprintf(lines, sizeof lines, "MAINPID=%ld", (long)getpid());
    if (getenv(LOAM_PREDECESSOR)) loami_notify(lines);
    return loami_contain_ready(&v->containment, v->loop, is_alive, v, err);
}

static void tell_predecessor(void)
{
    const char *pid = getenv(LOAM_PREDECESSOR);
    if (pid && atol(pid) == (long)getppid()) kill(getppid(), SIGUSR1);
    unsetenv(LOAM_PREDECESSOR);
    unsetenv(LOAM_LISTEN_FD);
}

static int serve(service *v, loami_gw_config *config, const char *path, loam_err *err)
{
    loami_gateway_options o = { .path = path,
                                .pages = loami_gateway_pages,
                                .listen_fd = inherited_socket(),
                                .on_reload = on_reload,
                                .on_restart = v->containment.on ? NULL : restart,
                                .arg = v };
    v->path = path;
    int rc = contain(v, config, err);
    if (rc == 0) rc = loami_loop_open(&v->loop, err);
    if (rc == 0) rc = loami_gateway_open(&v->gateway, v->loop, config, &o, err);
    if (rc < 0) return rc;
    signal(SIGCHLD, SIG_IGN);
    if (!loami_signal_watch(v->loop, &v->on_restart, SIGUSR2, restart, v) ||
        !loami_signal_watch(v->loop, &v->on_succeeded, SIGUSR1, on_succeeded, v))
        return loami_fail(err, LOAM_E_IO, "cannot watch for signals");
    const char *host = strcmp(config->host, "0.0.0.0") == 0 || strcmp(config->host, "::") == 0 ? "127.0.0.1"
                                                                                               : config->host;
    printf(strchr(host, ':') ? "loam gateway: %u backends in %u pools at http://[%s]:%u\n"
                             : "loam gateway: %u backends in %u pools at http://%s:%u\n",
           config->n_backends, config->n_pools, host, loami_gateway_port(v->gateway));
    fflush(stdout);
    rc = ready(v, err);
    if (rc < 0) return rc;
    tell_predecessor();
    loami_loop_run(v->loop);
    return 0;
}

static int run(int argc, char **argv)
{
    const char *path = "gateway.json";
    bool check = false, sandbox = false;
    const loami_opt table[] = {
        { "--config", 'c', "FILE", "backends, pools, keys: see docs/gateway.md [gateway.json]",
          LOAMI_OPT_STRING, &path, NULL, 0, 0 },
        { "--check", 0, NULL, "read the configuration, say what is wrong with it, and end", LOAMI_OPT_FLAG,
          &check, NULL, 0, 0 },
        LOAMI_SANDBOX_OPT(sandbox),
        { NULL, 0, NULL, NULL, LOAMI_OPT_FLAG, NULL, NULL, 0, 0 },
    };
    service v = { .argv = argv - 1 };
    loami_gw_config *config;
    loam_err err;
    int rc = loami_opt_parse(argc, argv, table,
                             "one address in front of several servers; also: status, drain, undrain, reload, "
                             "restart, usage, export");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (loami_gw_config_load(&config, path, &err) < 0) return loami_cmd_fail(argv[0], &err);
    if (check) {
        printf("%s: %u backends, %u pools, %u keys: fine\n", path, config->n_backends, config->n_pools,
               config->n_keys);
        loami_gw_config_unref(config);
        return LOAMI_EXIT_OK;
    }
    v.containment.on = sandbox;
    rc = serve(&v, config, path, &err);
    loami_contain_end(&v.containment);
    loami_timer_clear(&v.on_restart);
    loami_timer_clear(&v.on_succeeded);
    loami_gateway_close(v.gateway);
    loami_loop_close(v.loop);
    loami_gw_config_unref(config);
    return rc < 0 ? loami_cmd_fail(argv[0], &err) : LOAMI_EXIT_OK;
}

const loami_command loami_gateway_verbs[] = {
    { "gateway status", loami_gateway_status, NULL, NULL },
    { "gateway drain", loami_gateway_drain_cmd, NULL, NULL },
    { "gateway undrain", loami_gateway_undrain_cmd, NULL, NULL },
    { "gateway reload", loami_gateway_reload_cmd, NULL, NULL },
    { "gateway restart", loami_gateway_restart_cmd, NULL, NULL },
    { "gateway usage", loami_gateway_usage, NULL, NULL },
    { "gateway export", loami_gateway_export, NULL, NULL },
    { NULL, NULL, NULL, NULL },
};

int loami_cmd_gateway(int argc, char **argv)
{
    return argc < 2 || argv[1][0] == '-' ? run(argc, argv)
                                         : loami_cmd_verb("gateway", loami_gateway_verbs, argc, argv);
}
