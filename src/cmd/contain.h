/* cmd/contain.h: what `loam serve` and `loam gateway` do for the machine they run on: --sandbox, and the
 * service manager's READY and WATCHDOG. */
#ifndef LOAMI_CONTAIN_H
#define LOAMI_CONTAIN_H

#include "net/loop.h"
#include "sandbox/sandbox.h"

#define LOAMI_SANDBOX_OPT(v)                                                                                 \
    {                                                                                                        \
        "--sandbox", 0, NULL,                                                                                \
            "once it runs: no other files, no connections out, no programs (see loam audit)",                \
            LOAMI_OPT_FLAG, &(v), NULL, 0, 0                                                                 \
    }

typedef struct loami_containment {
    bool on;
    const char *command; /* for what is said on stderr */
    loami_sandbox_rules rules;
    loami_sandbox state;
    loami_loop *loop;
    loami_timer watchdog;
    bool (*alive)(void *arg);
    void *arg;
} loami_containment;

/* Names that the process may open later, for certificates and keys that are read again: the folder that path
 * is in, and the one that it really is in, because whoever renews a file puts a new one in its place. NULL is
 * nothing. */
void loami_contain_file(loami_containment *c, const char *path);

/* A folder, made by now, whose files are made and changed while it runs. */
void loami_contain_folder(loami_containment *c, const char *path);

/* A backend: its port may be connected to, and its name looked up if it has one. A URL that has no port and
 * no known scheme is LOAM_E_ARG. */
int loami_contain_backend(loami_containment *c, const char *url, loam_err *err);

/* May url be connected to? */
bool loami_contain_reaches(const loami_containment *c, const char *url);

/* Before the first thread is started. Reaches the service manager; with c->on, leaves only c->rules' files.
 */
int loami_contain_begin(loami_containment *c, loam_err *err);

/* All is loaded: seals, says what holds, and reports READY=1. From then on WATCHDOG=1 goes out as often as
 * wanted while alive(arg), on the loop's thread, says so. */
int loami_contain_ready(loami_containment *c, loami_loop *loop, bool (*alive)(void *arg), void *arg,
                        loam_err *err);

/* STOPPING=1; frees what begin and ready took. */
void loami_contain_end(loami_containment *c);

#endif
