/* net/stderr.h: what this process says on stderr while it serves, without ever waiting for whoever reads it.
 *
 * A file takes a line at once. A pipe, a socket or a terminal may not: its reader may be slow, or asleep. So their lines
 * go through a bounded queue to a thread that waits in the caller's place; what does not fit is counted, and told once the
 * reader has caught up. */
#ifndef LOAMI_STDERR_H
#define LOAMI_STDERR_H

#include "base/buf.h"

/* A whole line, with its end. Any thread. */
void loami_stderr_put(const char *line, size_t n);

/* Waits until all is out, for a second at most. Before the process ends. */
void loami_stderr_flush(void);

/* How lost lines are told: say appends a line. Until it is set, in plain words. */
void loami_stderr_set_lost(void (*say)(loami_buf *out, uint64_t n));

uint64_t loami_stderr_lost(void); /* lines, since the start */

#endif
