#include "cmd/service.h"

#include <stdio.h>
#include <string.h>

static void put_text(loami_buf *o, const char *s)
{
    for (; *s; s++) {
        if (*s == '&')
            loami_buf_puts(o, "&amp;");
        else if (*s == '<')
            loami_buf_puts(o, "&lt;");
        else if (*s == '>')
            loami_buf_puts(o, "&gt;");
        else
            loami_buf_putc(o, *s);
    }
}

static void put_string(loami_buf *o, const char *indent, const char *s)
{
    loami_buf_printf(o, "%s<string>", indent);
    put_text(o, s);
    loami_buf_puts(o, "</string>\n");
}

static void put_pair(loami_buf *o, const char *key, const char *value)
{
    loami_buf_printf(o, "    <key>%s</key>\n", key);
    put_string(o, "    ", value);
}

static void put_env(loami_buf *o, const loami_service *s)
{
    if (!s->n_env) return;
    loami_buf_puts(o, "    <key>EnvironmentVariables</key>\n    <dict>\n");
    for (uint32_t i = 0; i < s->n_env; i++) {
        const char *equals = strchr(s->env[i], '=');
        loami_buf_printf(o, "        <key>%.*s</key>\n", (int)(equals - s->env[i]), s->env[i]);
        put_string(o, "        ", equals + 1);
    }
    loami_buf_puts(o, "    </dict>\n");
}

/* Keys: launchd.plist(5). Interactive: the system does not slow it down for being in the background. */
static void print(loami_buf *o, const loami_service *s)
{
    char path[300];
    loami_buf_puts(o, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                      "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
                      "\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n"
                      "<plist version=\"1.0\">\n<dict>\n");
    put_pair(o, "Label", s->label);
    loami_buf_puts(o, "    <key>ProgramArguments</key>\n    <array>\n");
    put_string(o, "        ", s->program);
    for (uint32_t i = 0; i < s->n_args; i++) put_string(o, "        ", s->args[i]);
    loami_buf_puts(o, "    </array>\n");
    if (s->user) put_pair(o, "UserName", s->user);
    put_env(o, s);
    put_pair(o, "WorkingDirectory", "/");
    snprintf(path, sizeof path, "/var/log/%.200s.log", s->label);
    put_pair(o, "StandardOutPath", path);
    snprintf(path, sizeof path, "/var/log/%.200s.error.log", s->label);
    put_pair(o, "StandardErrorPath", path);
    put_pair(o, "ProcessType", "Interactive");
    loami_buf_puts(o, "    <key>RunAtLoad</key>\n    <true/>\n    <key>KeepAlive</key>\n    <true/>\n"
                      "    <key>ThrottleInterval</key>\n    <integer>10</integer>\n    "
                      "<key>ExitTimeOut</key>\n    <integer>60</integer>\n"
                      "    <key>Umask</key>\n    <integer>63</integer>\n"
                      "    <key>SoftResourceLimits</key>\n    <dict>\n        <key>NumberOfFiles</key>\n     "
                      "   <integer>65536</integer>\n    </dict>\n"
                      "    <key>HardResourceLimits</key>\n    <dict>\n        <key>NumberOfFiles</key>\n     "
                      "   <integer>65536</integer>\n    </dict>\n"
                      "</dict>\n</plist>\n");
}

static void make_log(loami_service_steps *now, const loami_service *s, const char *log)
{
    LOAMI_STEP(now, "touch", log);
    if (s->user) LOAMI_STEP(now, "chown", s->user, log);
}

/* KeepAlive starts again whatever ends, so that stopping is unloading. */
static void steps(loami_service_steps *now, loami_service_steps *after, loami_service_verb verb,
                  const loami_service *s, const char *path, const char *root, bool follow)
{
    static char name[300], log[300], error_log[300]; /* of this process's one command */
    (void)after;
    snprintf(name, sizeof name, "system/%.200s", s->label);
    snprintf(log, sizeof log, "/var/log/%.200s.log", s->label);
    snprintf(error_log, sizeof error_log, "/var/log/%.200s.error.log", s->label);
    if (root) return; /* launchd loads what lies there when that system starts */
    switch (verb) {
    case LOAMI_SERVICE_INSTALL:
        make_log(now, s, log);
        make_log(now, s, error_log);
        LOAMI_STEP(now, "launchctl", "enable", name);
        LOAMI_STEP(now, "-launchctl", "bootout", name);
        LOAMI_STEP(now, "launchctl", "bootstrap", "system", path);
        break;
    case LOAMI_SERVICE_UNINSTALL: LOAMI_STEP(now, "-launchctl", "bootout", name); break;
    case LOAMI_SERVICE_START: LOAMI_STEP(now, "launchctl", "bootstrap", "system", path); break;
    case LOAMI_SERVICE_STOP: LOAMI_STEP(now, "launchctl", "bootout", name); break;
    case LOAMI_SERVICE_STATUS: LOAMI_STEP(now, "launchctl", "print", name); break;
    case LOAMI_SERVICE_LOGS:
        LOAMI_STEP(now, "tail", "-n", "100", follow ? "-f" : log, follow ? log : error_log,
                   follow ? error_log : NULL);
        break;
    case LOAMI_SERVICE_PRINT: break;
    }
}

const loami_service_kind loami_service_launchd = {
    .name = "launchd",
    .proof = "launchctl",
    .labels = { "com.loam.server", "com.loam.gateway" },
    .folder = "/Library/LaunchDaemons",
    .suffix = ".plist",
    .print = print,
    .steps = steps,
};
