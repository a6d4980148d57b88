#include "sandbox/watch.h"

#ifdef __linux__
#include "base/file.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_THREADS = 4096, PATH_BYTES = LOAMI_PATH_MAX };

/* What is watched, and which of its arguments say what. */
typedef struct call {
    int number;
    enum { OPEN, OPEN2, CHANGE, ADDRESS, PROGRAM } how;
    int folder, path, flags; /* numbers of arguments; -1 = none. ADDRESS: path and its length */
} call;

static const call calls[] = {
    { SCMP_SYS(open), OPEN, -1, 0, 1 },        { SCMP_SYS(openat), OPEN, 0, 1, 2 },
    { SCMP_SYS(openat2), OPEN2, 0, 1, 2 },     { SCMP_SYS(creat), CHANGE, -1, 0, -1 },
    { SCMP_SYS(truncate), CHANGE, -1, 0, -1 }, { SCMP_SYS(unlink), CHANGE, -1, 0, -1 },
    { SCMP_SYS(unlinkat), CHANGE, 0, 1, -1 },  { SCMP_SYS(rename), CHANGE, -1, 1, -1 },
    { SCMP_SYS(renameat), CHANGE, 2, 3, -1 },  { SCMP_SYS(renameat2), CHANGE, 2, 3, -1 },
    { SCMP_SYS(mkdir), CHANGE, -1, 0, -1 },    { SCMP_SYS(mkdirat), CHANGE, 0, 1, -1 },
    { SCMP_SYS(rmdir), CHANGE, -1, 0, -1 },    { SCMP_SYS(link), CHANGE, -1, 1, -1 },
    { SCMP_SYS(linkat), CHANGE, 2, 3, -1 },    { SCMP_SYS(symlink), CHANGE, -1, 1, -1 },
    { SCMP_SYS(symlinkat), CHANGE, 1, 2, -1 }, { SCMP_SYS(chmod), CHANGE, -1, 0, -1 },
    { SCMP_SYS(fchmodat), CHANGE, 0, 1, -1 },  { SCMP_SYS(mknodat), CHANGE, 0, 1, -1 },
    { SCMP_SYS(connect), ADDRESS, -1, 1, 2 },  { SCMP_SYS(sendto), ADDRESS, -1, 4, 5 },
    { SCMP_SYS(execve), PROGRAM, -1, 0, -1 },  { SCMP_SYS(execveat), PROGRAM, 0, 1, -1 },
};
enum { N_CALLS = sizeof calls / sizeof calls[0] };

/* A thread between the beginning and the end of a watched call. */
typedef struct pending {
    pid_t tid;
    loami_watch_kind kind;
    char *what;
} pending;

struct loami_watch {
    char *const *argv;
    void (*seen)(void *arg, const loami_watch_event *e);
    void *arg;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t started;
    bool is_started;
    loam_err err;
    int rc, out[2], status;
    pid_t child;
    pending open[MAX_THREADS];
    uint32_t n_open;
};

/* ---- what a call is about ------------------------------------------------------------------------ */

static ssize_t peek(pid_t tid, uint64_t at, void *to, size_t n)
{
    struct iovec local = { to, n }, remote = { (void *)(uintptr_t)at, n };
    return process_vm_readv(tid, &local, 1, &remote, 1, 0);
}

/* A string; read in pieces, because it may end just before memory that is not there. */
static bool peek_string(pid_t tid, uint64_t at, char *to, size_t size)
{
    for (size_t n = 0; n + 1 < size;) {
        size_t step = 256 - (at + n) % 256;
        if (step > size - 1 - n) step = size - 1 - n;
        ssize_t got = peek(tid, at + n, to + n, step);
        if (got <= 0) return false;
        if (memchr(to + n, 0, (size_t)got)) return true;
        n += (size_t)got;
        to[n] = 0;
    }
    return true;
}

static bool absolute(char *out, pid_t tid, int folder, const char *path)
{
    char link[64], base[PATH_BYTES];
    if (path[0] == '/') return snprintf(out, PATH_BYTES, "%s", path) < PATH_BYTES;
    if (folder == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/%d/cwd", (int)tid);
    else
        snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)tid, folder);
    ssize_t n = readlink(link, base, sizeof base - 1);
    if (n < 0) return false;
    base[n] = 0;
    return snprintf(out, PATH_BYTES, *path ? "%s/%s" : "%s", base, path) < PATH_BYTES;
}

static bool address(char *out, pid_t tid, uint64_t at, uint64_t n)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
    } a;
    char text[INET6_ADDRSTRLEN];
    memset(&a, 0, sizeof a);
    if (!at || n < sizeof a.any.sa_family || peek(tid, at, &a, n < sizeof a ? (size_t)n : sizeof a) < 0)
        return false;
    if (a.any.sa_family == AF_INET)
        snprintf(out, PATH_BYTES, "%s:%u", inet_ntop(AF_INET, &a.v4.sin_addr, text, sizeof text),
                 ntohs(a.v4.sin_port));
    else if (a.any.sa_family == AF_INET6)
        snprintf(out, PATH_BYTES, "[%s]:%u", inet_ntop(AF_INET6, &a.v6.sin6_addr, text, sizeof text),
                 ntohs(a.v6.sin6_port));
    else if (a.any.sa_family == AF_UNIX)
        snprintf(out, PATH_BYTES, "unix:%s%.*s", a.local.sun_path[0] ? "" : "@",
                 (int)sizeof a.local.sun_path - 1, a.local.sun_path + !a.local.sun_path[0]);
    else
        snprintf(out, PATH_BYTES, "address family %d", a.any.sa_family);
    return a.any.sa_family != AF_UNSPEC; /* which ends a connection */
}

static bool describe(char *out, loami_watch_kind *kind, pid_t tid, const call *c,
                     const __typeof__(((struct __ptrace_syscall_info *)0)->seccomp) *s)
{
    char path[PATH_BYTES] = "";
    uint64_t flags = c->flags >= 0 ? s->args[c->flags] : 0;
    if (c->how == ADDRESS) {
        *kind = LOAMI_WATCH_CONNECT;
        return address(out, tid, s->args[c->path], flags);
    }
    if (c->how == OPEN2 && peek(tid, flags, &flags, sizeof flags) < 0)
        return false; /* struct open_how begins with them */
    bool writes = c->how == CHANGE ||
                  (c->how <= OPEN2 && ((flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC))));
    *kind = c->how == PROGRAM ? LOAMI_WATCH_EXEC : writes ? LOAMI_WATCH_WRITE : LOAMI_WATCH_READ;
    if (!peek_string(tid, s->args[c->path], path, sizeof path)) return false;
    return absolute(out, tid, c->folder >= 0 ? (int)s->args[c->folder] : AT_FDCWD, path);
}

/* ---- stops --------------------------------------------------------------------------------------- */

/* The thread is about to make a watched call. Returns how it goes on. */
static int at_entry(loami_watch *w, pid_t tid)
{
    struct __ptrace_syscall_info info;
    char what[PATH_BYTES];
    loami_watch_kind kind;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) < 0 ||
        info.op != PTRACE_SYSCALL_INFO_SECCOMP)
        return PTRACE_CONT;
    for (int i = 0; i < N_CALLS; i++) {
        if (calls[i].number < 0 || (uint64_t)calls[i].number != info.seccomp.nr) continue;
        if (!describe(what, &kind, tid, &calls[i], &info.seccomp) || w->n_open == MAX_THREADS)
            return PTRACE_CONT;
        w->open[w->n_open++] = (pending){ tid, kind, strdup(what) };
        return PTRACE_SYSCALL;
    }
    return PTRACE_CONT;
}

/* tid: of the thread; an exec leaves one thread, whose number is the process's. */
static void finish(loami_watch *w, pid_t tid, int error)
{
    for (uint32_t i = 0; i < w->n_open; i++) {
        pending p = w->open[i];
        if (p.tid != tid) continue;
        w->open[i] = w->open[--w->n_open];
        if (p.what) w->seen(w->arg, &(loami_watch_event){ p.kind, p.what, error });
        free(p.what);
        return;
    }
}

static void at_exit_stop(loami_watch *w, pid_t tid)
{
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) < 0 || info.op != PTRACE_SYSCALL_INFO_EXIT)
        return;
    finish(w, tid, info.exit.is_error ? (int)-info.exit.rval : 0);
}

static void at_stop(loami_watch *w, pid_t tid, int status)
{
    int signal = WSTOPSIG(status), event = status >> 16, how = PTRACE_CONT, deliver = 0;
    if (signal == (SIGTRAP | 0x80))
        at_exit_stop(w, tid);
    else if (event == PTRACE_EVENT_SECCOMP)
        how = at_entry(w, tid);
    else if (event == PTRACE_EVENT_EXEC)
        finish(w, tid, 0);
    else if (!event && signal != SIGSTOP && signal != SIGTRAP)
        deliver = signal; /* SIGSTOP: a new thread's first stop */
    ptrace(how, tid, 0, deliver);
}

static void follow(loami_watch *w)
{
    int status;
    pid_t tid;
    while ((tid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
        if (tid <= 0) continue;
        if (WIFSTOPPED(status)) {
            at_stop(w, tid, status);
            continue;
        }
        if (tid == w->child) w->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        finish(w, tid, EINTR); /* it ended in the middle of a call */
    }
}

/* ---- the program --------------------------------------------------------------------------------- */

static void run_child(loami_watch *w, scmp_filter_ctx filter)
{
    dup2(w->out[1], STDOUT_FILENO);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0 || raise(SIGSTOP) != 0 || seccomp_load(filter) != 0) _exit(126);
    execv(w->argv[0], w->argv);
    _exit(127);
}

static int start(loami_watch *w)
{
    enum {
        OPTIONS = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                  PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL
    };
    int status, rc = 0;
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    if (!f) return loami_fail_nomem(&w->err);
    for (int i = 0; i < N_CALLS && rc == 0; i++) {
        rc = seccomp_rule_add(f, SCMP_ACT_TRACE(1), calls[i].number, 0);
        if (rc == -EDOM) rc = 0; /* not a call of this architecture */
    }
    if (rc == 0 && pipe2(w->out, O_CLOEXEC) < 0) rc = -errno;
    if (rc == 0) {
        w->child = fork();
        if (w->child == 0) run_child(w, f);
        if (w->child < 0) rc = -errno;
    }
    seccomp_release(f);
    if (rc != 0)
        return loami_fail(&w->err, LOAM_E_IO, "cannot start the program to watch: %s", strerror(-rc));
    close(w->out[1]);
    if (waitpid(w->child, &status, 0) < 0 || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, w->child, 0, OPTIONS) < 0 || ptrace(PTRACE_CONT, w->child, 0, 0) < 0)
        return loami_fail(
            &w->err, LOAM_E_UNSUPPORTED,
            "this system lets no program be traced (ptrace): in a container it needs --cap-add=SYS_PTRACE");
    return 0;
}

/* ptrace belongs to a thread: this one starts the program and hears of it. */
static void *watch(void *arg)
{
    loami_watch *w = arg;
    int rc = start(w);
    pthread_mutex_lock(&w->lock);
    w->rc = rc;
    w->is_started = true;
    pthread_cond_signal(&w->started);
    pthread_mutex_unlock(&w->lock);
    if (rc == 0) follow(w);
    return NULL;
}

int loami_watch_start(loami_watch **out, char *const argv[],
                      void (*seen)(void *arg, const loami_watch_event *e), void *arg, loam_err *err)
{
    loami_watch *w = calloc(1, sizeof *w);
    if (!w) return loami_fail_nomem(err);
    w->argv = argv;
    w->seen = seen;
    w->arg = arg;
    w->out[0] = w->out[1] = -1;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->started, NULL);
    int failed = pthread_create(&w->thread, NULL, watch, w);
    if (failed) {
        free(w);
        return loami_fail(err, LOAM_E_IO, "cannot start a thread: %s", strerror(failed));
    }
    pthread_mutex_lock(&w->lock);
    while (!w->is_started) pthread_cond_wait(&w->started, &w->lock);
    pthread_mutex_unlock(&w->lock);
    int rc = w->rc;
    if (rc == 0) {
        *out = w;
        return 0;
    }
    if (err) *err = w->err;
    if (w->child > 0) kill(w->child, SIGKILL);
    loami_watch_end(w);
    return rc;
}

int loami_watch_stdout(const loami_watch *w)
{
    return w->out[0];
}

void loami_watch_signal(loami_watch *w, int number)
{
    kill(w->child, number);
}

int loami_watch_end(loami_watch *w)
{
    pthread_join(w->thread, NULL);
    int status = w->status;
    if (w->out[0] >= 0) close(w->out[0]);
    for (uint32_t i = 0; i < w->n_open; i++) free(w->open[i].what);
    free(w);
    return status;
}

/* ---- what is loaded here --------------------------------------------------------------------------- */

typedef struct telling {
    void (*fn)(void *arg, const char *folder);
    void *arg;
} telling;

static int tell_folder(struct dl_phdr_info *info, size_t size, void *arg)
{
    const telling *t = arg;
    char folder[LOAMI_PATH_MAX];
    const char *slash = strrchr(info->dlpi_name, '/');
    size_t n = slash ? (size_t)(slash - info->dlpi_name) : 0;
    (void)size;
    if (n && n < sizeof folder) {
        memcpy(folder, info->dlpi_name, n);
        folder[n] = 0;
        t->fn(t->arg, folder);
    }
    return 0;
}

void loami_watch_libraries(void (*fn)(void *arg, const char *folder), void *arg)
{
    dl_iterate_phdr(tell_folder, &(telling){ fn, arg });
}
#endif
