#include "sandbox/sandbox.h"

#ifdef __linux__
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Landlock: landlock(7). Numbers of the kernel's own, for headers older than the kernel ------- */

enum {
    CREATE_RULESET = 444,
    ADD_RULE = 445,
    RESTRICT_SELF = 446,
    RULE_PATH = 1,
    RULE_PORT = 2,
    ASK_VERSION = 1
};

enum {
    FS_EXECUTE = 1 << 0,
    FS_WRITE_FILE = 1 << 1,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_OF_VERSION_1 = (1 << 13) - 1,
    FS_REFER = 1 << 13,    /* version 2 */
    FS_TRUNCATE = 1 << 14, /* version 3 */
    FS_OF_A_FILE = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE,
    NET_CONNECT_TCP = 1 << 1,        /* version 4 */
    SCOPE_ABSTRACT_SOCKETS = 1 << 0, /* version 6 */
    SCOPE_SIGNALS = 1 << 1,
};

struct ruleset {
    uint64_t fs, net, scoped;
};

struct __attribute__((packed)) path_rule {
    uint64_t allowed;
    int32_t fd;
};

struct port_rule {
    uint64_t allowed, port;
};

/* What a program needs of its system: libraries, the clock's zone, what the machine is, harmless devices. */
static const char *const system_read[] = {
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/cuda",
    "/opt/cuda",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/etc/ssl/openssl.cnf",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/vm",
    "/proc/driver/nvidia",
    "/sys/devices",
    "/sys/fs/cgroup",
    "/sys/kernel/mm",
    "/sys/bus/pci",
    "/sys/class",
    "/sys/module/nvidia",
    "/sys/module/nvidia_uvm",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
};
static const char *const system_write[] = {
    "/dev/null",        "/dev/dri",        "/dev/shm",
    "/dev/nvidiactl",   "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools",
    "/dev/nvidia-caps", "/dev/nvidia0",    "/dev/nvidia1",
    "/dev/nvidia2",     "/dev/nvidia3",    "/dev/nvidia4",
    "/dev/nvidia5",     "/dev/nvidia6",    "/dev/nvidia7",
};

/* What a look-up of a name reads. */
static const char *const names_read[] = {
    "/etc/hosts",           "/etc/resolv.conf", "/etc/nsswitch.conf",
    "/etc/host.conf",       "/etc/gai.conf",    "/etc/services",
    "/run/systemd/resolve", "/etc/ssl",         "/usr/share/ca-certificates"
};

static int version(const loami_sandbox_rules *r)
{
    long v = r->without_landlock ? -1 : syscall(CREATE_RULESET, NULL, 0, ASK_VERSION);
    return v > 0 ? (int)v : 0;
}

static int allow_path(int ruleset, const char *path, uint64_t allowed, loam_err *err)
{
    struct stat st;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) return 0;
    struct path_rule rule = { allowed, fd };
    if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode)) rule.allowed &= FS_OF_A_FILE;
    long rc = syscall(ADD_RULE, ruleset, RULE_PATH, &rule, 0);
    int why = errno;
    close(fd);
    errno = why;
    return rc < 0 ? loami_fail_errno(err, "sandbox: %s", path) : 0;
}

static int allow_files(int ruleset, uint64_t all, const loami_sandbox_rules *r, loam_err *err)
{
    const uint64_t reading = FS_READ_FILE | FS_READ_DIR, writing = all & ~(uint64_t)FS_EXECUTE;
    int rc = 0;
    for (size_t i = 0; i < sizeof system_read / sizeof system_read[0] && rc == 0; i++)
        rc = allow_path(ruleset, system_read[i], reading, err);
    for (size_t i = 0; i < sizeof system_write / sizeof system_write[0] && rc == 0; i++)
        rc = allow_path(ruleset, system_write[i], writing, err);
    for (size_t i = 0; r->resolves && i < sizeof names_read / sizeof names_read[0] && rc == 0; i++)
        rc = allow_path(ruleset, names_read[i], reading, err);
    for (uint32_t i = 0; i < r->n_read && rc == 0; i++) rc = allow_path(ruleset, r->read[i], reading, err);
    for (uint32_t i = 0; i < r->n_write && rc == 0; i++) rc = allow_path(ruleset, r->write[i], writing, err);
    return rc;
}

static int allow_port(int ruleset, uint16_t port, loam_err *err)
{
    struct port_rule rule = { NET_CONNECT_TCP, port };
    return syscall(ADD_RULE, ruleset, RULE_PORT, &rule, 0) < 0
               ? loami_fail_errno(err, "sandbox: port %u", port)
               : 0;
}

int loami_sandbox_files(loami_sandbox *s, const loami_sandbox_rules *r, loam_err *err)
{
    *s = (loami_sandbox){ .landlock = version(r),
                          .opens_later = r->opens_later,
                          .writes_later = r->n_write > 0,
                          .connects = r->connects };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return loami_fail_errno(err, "sandbox: no_new_privs");
    if (!s->landlock) return 0;
    struct ruleset wanted = {
        .fs = FS_OF_VERSION_1 | (s->landlock >= 2 ? FS_REFER : 0) | (s->landlock >= 3 ? FS_TRUNCATE : 0),
        .net = s->landlock >= 4 ? NET_CONNECT_TCP : 0,
        .scoped = s->landlock >= 6 ? SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS : 0,
    };
    size_t size = s->landlock >= 6   ? sizeof wanted
                  : s->landlock >= 4 ? 2 * sizeof(uint64_t)
                                     : sizeof(uint64_t);
    int ruleset = (int)syscall(CREATE_RULESET, &wanted, size, 0);
    if (ruleset < 0) return loami_fail_errno(err, "sandbox: landlock_create_ruleset");
    int rc = allow_files(ruleset, wanted.fs, r, err);
    for (uint32_t i = 0; wanted.net && r->connects && i < r->n_connect && rc == 0; i++)
        rc = allow_port(ruleset, r->connect[i], err);
    if (rc == 0 && wanted.net && r->resolves) rc = allow_port(ruleset, 53, err);
    if (rc == 0 && syscall(RESTRICT_SELF, ruleset, 0) < 0)
        rc = loami_fail_errno(err, "sandbox: landlock_restrict_self");
    close(ruleset);
    s->files = rc == 0;
    s->ports = rc == 0 && wanted.net;
    return rc;
}

static bool is_below(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && (!path[n] || path[n] == '/');
}

bool loami_sandbox_is_system(const char *path, bool to_write)
{
    for (size_t i = 0; i < sizeof system_write / sizeof system_write[0]; i++)
        if (is_below(path, system_write[i])) return true;
    for (size_t i = 0; !to_write && i < sizeof system_read / sizeof system_read[0]; i++)
        if (is_below(path, system_read[i])) return true;
    return false;
}

/* ---- seccomp ------------------------------------------------------------------------------------- */

/* Never needed once all is loaded: other programs, other processes' memory, the machine itself, and ways
 * around the rest. A list of what may be done would be stricter and would break with the next libc, driver or
 * allocator. */
static const int never[] = {
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(fork),
    SCMP_SYS(vfork),
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(setns),
    SCMP_SYS(unshare),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(name_to_handle_at),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(personality),
    SCMP_SYS(acct),
    SCMP_SYS(quotactl),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(mknod),
    SCMP_SYS(mknodat),
};
static const int opening[] = { SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(openat2), SCMP_SYS(creat) };
static const int changing[] = {
    SCMP_SYS(creat),     SCMP_SYS(truncate),    SCMP_SYS(unlink),       SCMP_SYS(unlinkat),
    SCMP_SYS(rename),    SCMP_SYS(renameat),    SCMP_SYS(renameat2),    SCMP_SYS(mkdir),
    SCMP_SYS(mkdirat),   SCMP_SYS(rmdir),       SCMP_SYS(link),         SCMP_SYS(linkat),
    SCMP_SYS(symlink),   SCMP_SYS(symlinkat),   SCMP_SYS(chmod),        SCMP_SYS(fchmodat),
    SCMP_SYS(chown),     SCMP_SYS(lchown),      SCMP_SYS(fchownat),     SCMP_SYS(setxattr),
    SCMP_SYS(lsetxattr), SCMP_SYS(removexattr), SCMP_SYS(lremovexattr),
};
static const int connecting[] = { SCMP_SYS(socket), SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(listen) };

static void refuse(scmp_filter_ctx f, const int *calls, size_t n, int *rc)
{
    for (size_t i = 0; i < n && *rc == 0; i++) {
        *rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), calls[i], 0);
        if (*rc == -EDOM) *rc = 0; /* not a call of this architecture */
    }
}

#define REFUSE(f, calls, rc) refuse(f, calls, sizeof(calls) / sizeof(calls)[0], rc)

/* The argument, under mask, is value. */
static struct scmp_arg_cmp argument(unsigned number, uint64_t mask, uint64_t value)
{
    return (
        struct scmp_arg_cmp){ .arg = number, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value };
}

static void refuse_if(scmp_filter_ctx f, int call, struct scmp_arg_cmp when, int *rc)
{
    if (*rc == 0) *rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), call, 1, when);
    if (*rc == -EDOM) *rc = 0;
}

/* A thread is a clone that shares; anything else would be a process. clone3 hides its flags behind a pointer:
 * libc falls back to clone when it is told that there is none. */
static void refuse_processes(scmp_filter_ctx f, int *rc)
{
    refuse_if(f, SCMP_SYS(clone), argument(0, CLONE_THREAD, 0), rc);
    if (*rc == 0) *rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

static void refuse_files(scmp_filter_ctx f, const loami_sandbox_rules *r, int *rc)
{
    if (!r->opens_later) REFUSE(f, opening, rc);
    if (r->n_write) return; /* Landlock's matter */
    REFUSE(f, changing, rc);
    if (!r->opens_later) return;
    for (unsigned mode = O_WRONLY; mode <= O_RDWR; mode++) {
        refuse_if(f, SCMP_SYS(open), argument(1, O_ACCMODE, mode), rc);
        refuse_if(f, SCMP_SYS(openat), argument(2, O_ACCMODE, mode), rc);
    }
    if (*rc == 0) *rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(openat2), 0);
}

static void refuse_network(scmp_filter_ctx f, const loami_sandbox_rules *r, int *rc)
{
    if (!r->connects) {
        REFUSE(f, connecting, rc);
        refuse_if(f, SCMP_SYS(sendto), (struct scmp_arg_cmp){ .arg = 4, .op = SCMP_CMP_NE }, rc);
        return;
    }
    static const int families[] = { AF_INET, AF_INET6 }, types[] = { SOCK_DGRAM, SOCK_RAW };
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 2; k++) {
            if (types[k] == SOCK_DGRAM && r->resolves) continue;
            if (*rc == 0)
                *rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 2,
                                       argument(0, UINT32_MAX, (uint64_t)families[i]),
                                       argument(1, 0xf, (uint64_t)types[k]));
        }
    refuse_if(f, SCMP_SYS(socket), argument(0, UINT32_MAX, AF_PACKET), rc);
}

int loami_sandbox_seal(loami_sandbox *s, const loami_sandbox_rules *r, loam_err *err)
{
    int rc = 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return loami_fail_errno(err, "sandbox: no_new_privs");
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    if (!f) return loami_fail_nomem(err);
    rc = seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1);
    REFUSE(f, never, &rc);
    refuse_processes(f, &rc);
    refuse_files(f, r, &rc);
    refuse_network(f, r, &rc);
    if (rc == 0) rc = seccomp_load(f);
    seccomp_release(f);
    if (rc != 0) return loami_fail(err, LOAM_E_UNSUPPORTED, "sandbox: seccomp: %s", strerror(-rc));
    s->sealed = true;
    return 0;
}

/* ---- words --------------------------------------------------------------------------------------- */

void loami_sandbox_words(const loami_sandbox *s, char out[LOAMI_SANDBOX_TEXT])
{
    char files[120];
    if (s->files)
        snprintf(files, sizeof files, "files by Landlock (version %d)", s->landlock);
    else
        snprintf(files, sizeof files, "this kernel has no Landlock%s",
                 s->writes_later  ? ": WHICH FILES ARE READ AND WRITTEN IS NOT RESTRICTED"
                 : s->opens_later ? ": WHICH FILES ARE READ IS NOT RESTRICTED"
                                  : "");
    snprintf(out, LOAMI_SANDBOX_TEXT, "%s; %s%s%s", files, s->opens_later ? "" : "no file is opened, ",
             s->connects && s->ports ? "connections to the backends' ports alone (not: their addresses), "
             : s->connects           ? "WHERE CONNECTIONS GO IS NOT RESTRICTED, "
                                     : "no connection is made, ",
             "no program is started");
}
#endif
