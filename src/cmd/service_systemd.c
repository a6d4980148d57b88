#include "cmd/service.h"

#include <string.h>

/* A word of ExecStart= or Environment=: systemd.syntax(7), and % and $ mean something to it. */
static void put_word(loami_buf *o, const char *s, bool command)
{
    bool plain = *s && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@") ==
                           strlen(s);
    if (!plain) loami_buf_putc(o, '"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') loami_buf_putc(o, '\\');
        if (*s == '%' || (*s == '$' && command)) loami_buf_putc(o, *s);
        loami_buf_putc(o, *s);
    }
    if (!plain) loami_buf_putc(o, '"');
}

/* BindReadOnlyPaths= has colons of its own. */
static void put_path(loami_buf *o, const char *s)
{
    for (; *s; s++) {
        if (strchr(":\\ \"", *s)) loami_buf_putc(o, '\\');
        if (*s == '%') loami_buf_putc(o, '%');
        loami_buf_putc(o, *s);
    }
}

static const char hardening[] = "NoNewPrivileges=yes\n"
                                "CapabilityBoundingSet=%s\n"
                                "AmbientCapabilities=%s\n"
                                "ProtectSystem=strict\n"
                                "ProtectHome=tmpfs\n"
                                "PrivateTmp=yes\n"
                                "ProtectProc=invisible\n"
                                "ProtectKernelTunables=yes\n"
                                "ProtectKernelModules=yes\n"
                                "ProtectKernelLogs=yes\n"
                                "ProtectControlGroups=yes\n"
                                "ProtectClock=yes\n"
                                "ProtectHostname=yes\n"
                                "RestrictNamespaces=yes\n"
                                "RestrictRealtime=yes\n"
                                "RestrictSUIDSGID=yes\n"
                                "RemoveIPC=yes\n"
                                "LockPersonality=yes\n"
                                "SystemCallArchitectures=native\n"
                                "SystemCallFilter=@system-service seccomp landlock_create_ruleset "
                                "landlock_add_rule landlock_restrict_self\n"
                                "SystemCallFilter=~@privileged\n"
                                "SystemCallErrorNumber=EPERM\n"
                                "UMask=0077\n";

static void put_hardening(loami_buf *o, const loami_service *s)
{
    const char *capability = s->port && s->port < 1024 ? "CAP_NET_BIND_SERVICE" : "";
    loami_buf_printf(o, hardening, capability, capability);
    loami_buf_puts(o, strcmp(s->what, "gateway") == 0
                          ? "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK\n"
                          : "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n");
    loami_buf_puts(
        o, s->gpu
               ? "DevicePolicy=closed\nDeviceAllow=char-nvidia-frontend rw\nDeviceAllow=char-nvidia-uvm rw\n"
               : "PrivateDevices=yes\n");
    loami_buf_puts(o, "# not MemoryDenyWriteExecute=: PCRE2 and MLX compile while they run\n");
}

static void put_bind(loami_buf *o, const char *path)
{
    loami_buf_puts(o, "BindReadOnlyPaths=");
    put_path(o, path);
    loami_buf_putc(o, '\n');
}

/* What lies in somebody's home is hidden but for this: the model's folder, or of one in the Hugging Face
 * cache the folder that has its blobs too; and the program. */
static void put_binds(loami_buf *o, const loami_service *s)
{
    char folder[LOAMI_PATH_MAX];
    if (strncmp(s->program + 1, "home/", 5) == 0 || strncmp(s->program + 1, "root/", 5) == 0)
        put_bind(o, s->program);
    if (!s->model || strlen(s->model) >= sizeof folder) return;
    strcpy(folder, s->model);
    char *cut = strstr(folder, "/snapshots/");
    if (cut) *cut = 0;
    put_bind(o, folder);
}

static void print(loami_buf *o, const loami_service *s)
{
    bool gateway = strcmp(s->what, "gateway") == 0;
    const char *state = gateway ? "loam-gateway" : "loam";
    loami_buf_printf(
        o,
        "# %s.service, as `loam service print` writes it.\n"
        "[Unit]\nDescription=%s\nDocumentation=man:loam-%s(1)\nWants=network-online.target\nAfter=network-"
        "online.target\n"
        "StartLimitIntervalSec=300\nStartLimitBurst=5\n\n[Service]\nType=notify\nNotifyAccess=%s\nExecStart=",
        s->label,
        gateway ? "loam gateway: one address for several servers of large language models"
                : "loam: a large language model over the OpenAI API",
        s->what, gateway ? "all" : "main");
    put_word(o, s->program, true);
    for (uint32_t i = 0; i < s->n_args; i++) {
        loami_buf_putc(o, ' ');
        put_word(o, s->args[i], true);
    }
    loami_buf_puts(o, "\nExecReload=/bin/kill -HUP "
                      "$MAINPID\nRestart=always\nRestartSec=2\nWatchdogSec=120\nTimeoutStartSec=1800\n"
                      "TimeoutStopSec=60\nLimitNOFILE=65536\n\n");
    if (s->user)
        loami_buf_printf(o, "User=%s\n", s->user);
    else
        loami_buf_puts(o, "DynamicUser=yes\n");
    loami_buf_printf(o,
                     "StateDirectory=%s\nCacheDirectory=%s\nWorkingDirectory=%%S/"
                     "%s\nEnvironment=LOAM_HOME=%%C/%s HF_HOME=%%C/%s/huggingface\n",
                     state, state, state, state, state);
    for (uint32_t i = 0; i < s->n_env; i++) {
        loami_buf_puts(o, "Environment=");
        put_word(o, s->env[i], false);
        loami_buf_putc(o, '\n');
    }
    put_binds(o, s);
    loami_buf_putc(o, '\n');
    put_hardening(o, s);
    loami_buf_puts(o, "\n[Install]\nWantedBy=multi-user.target\n");
}

static void steps(loami_service_steps *now, loami_service_steps *after, loami_service_verb verb,
                  const loami_service *s, const char *path, const char *root, bool follow)
{
    (void)path;
    switch (verb) {
    case LOAMI_SERVICE_INSTALL:
        if (root) {
            LOAMI_STEP(now, "systemctl", "--root", root, "enable", s->label);
            break;
        }
        LOAMI_STEP(now, "systemctl", "daemon-reload");
        LOAMI_STEP(now, "systemctl", "enable", s->label);
        LOAMI_STEP(now, "systemctl", "restart", s->label);
        break;
    case LOAMI_SERVICE_UNINSTALL:
        if (root) {
            LOAMI_STEP(now, "systemctl", "--root", root, "disable", s->label);
            break;
        }
        LOAMI_STEP(now, "systemctl", "disable", "--now", s->label);
        LOAMI_STEP(after, "systemctl", "daemon-reload");
        break;
    case LOAMI_SERVICE_START: LOAMI_STEP(now, "systemctl", "start", s->label); break;
    case LOAMI_SERVICE_STOP: LOAMI_STEP(now, "systemctl", "stop", s->label); break;
    case LOAMI_SERVICE_STATUS: LOAMI_STEP(now, "systemctl", "--no-pager", "status", s->label); break;
    case LOAMI_SERVICE_LOGS:
        LOAMI_STEP(now, "journalctl", "--no-pager", "-n", "100", "-u", s->label, follow ? "-f" : NULL);
        break;
    case LOAMI_SERVICE_PRINT: break;
    }
}

const loami_service_kind loami_service_systemd = {
    .name = "systemd",
    .proof = "systemctl",
    .labels = { "loam", "loam-gateway" },
    .folder = "/etc/systemd/system",
    .suffix = ".service",
    .print = print,
    .steps = steps,
};
