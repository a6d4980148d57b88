#include "base/notify.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int fd = -1;

int loami_notify_open(loam_err *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path || !*path || fd >= 0) return 0;
    size_t n = strlen(path);
    if (n >= sizeof a.sun_path || (path[0] != '/' && path[0] != '@'))
        return loami_fail(err, LOAM_E_ARG, "NOTIFY_SOCKET=%s: not a path that a socket can have", path);
    memcpy(a.sun_path, path, n);
    if (path[0] == '@') a.sun_path[0] = 0; /* Linux' abstract names */
    fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (fd < 0) return loami_fail_errno(err, "NOTIFY_SOCKET=%s", path);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (connect(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) == 0)
        return 0;
    int rc = loami_fail_errno(err, "NOTIFY_SOCKET=%s", path);
    close(fd);
    fd = -1;
    return rc;
}

void loami_notify(const char *lines)
{
    if (fd < 0) return;
    ssize_t sent = send(fd, lines, strlen(lines), MSG_DONTWAIT);
    (void)sent;
}

double loami_notify_watchdog_s(void)
{
    const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (fd < 0 || !us || (pid && atol(pid) != (long)getpid())) return 0;
    double s = strtod(us, NULL) * 1e-6;
    return s > 0 ? s : 0;
}
