/* base/notify.h: words to the service manager that started this process, in systemd's protocol
 * (sd_notify(3)): datagrams to the socket that NOTIFY_SOCKET names. Without one nothing happens. */
#ifndef LOAMI_NOTIFY_H
#define LOAMI_NOTIFY_H

#include "base/err.h"

/* Connects. To be called once, before the process forbids itself connections; a socket that cannot be reached
 * is LOAM_E_IO. */
int loami_notify_open(loam_err *err);

/* Sends lines such as "READY=1"; lost when nobody listens. Any thread. */
void loami_notify(const char *lines);

/* How often the manager wants "WATCHDOG=1" at least, in seconds; 0 = not at all. */
double loami_notify_watchdog_s(void);

#endif
