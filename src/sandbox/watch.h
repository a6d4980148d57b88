/* sandbox/watch.h: a program under observation: every file that it opens or changes, every connection that it
 * makes and every program that it starts, in all its threads and children. Linux, by seccomp and ptrace: what
 * is watched stops the thread for a moment, nothing else costs anything. */
#ifndef LOAMI_WATCH_H
#define LOAMI_WATCH_H

#include "base/err.h"

#include <sys/types.h>

typedef enum loami_watch_kind {
    LOAMI_WATCH_READ,    /* a file or folder opened for reading */
    LOAMI_WATCH_WRITE,   /* opened for writing, made, changed, renamed or removed */
    LOAMI_WATCH_CONNECT, /* a connection, or a datagram sent */
    LOAMI_WATCH_EXEC,
    LOAMI_WATCH_KINDS
} loami_watch_kind;

typedef struct loami_watch_event {
    loami_watch_kind kind;
    const char *what; /* an absolute path, "address:port" or "unix:path" */
    int error;        /* errno of the call; 0 = it succeeded */
} loami_watch_event;

typedef struct loami_watch loami_watch;

/* Starts argv[0] (a path). seen is called on a thread of the watch's own, one call at a time. Elsewhere than
 * on Linux LOAM_E_UNSUPPORTED. */
int loami_watch_start(loami_watch **out, char *const argv[],
                      void (*seen)(void *arg, const loami_watch_event *e), void *arg, loam_err *err);

/* Its standard output, to read from. */
int loami_watch_stdout(const loami_watch *w);

/* Sends it a signal. */
void loami_watch_signal(loami_watch *w, int number);

/* Waits for its end; returns its exit code, or 128 and the signal that ended it. Frees w; seen is not called
 * any more. */
int loami_watch_end(loami_watch *w);

/* Calls fn with the folder of every shared object that this process has loaded: a program that loads the same looks for
 * them there. Elsewhere than on Linux never. */
void loami_watch_libraries(void (*fn)(void *arg, const char *folder), void *arg);

#endif
