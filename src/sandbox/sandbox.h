/* sandbox/sandbox.h: a process gives up for good what it does not need.
 *
 * In two halves. loami_sandbox_files, while there is one thread: from then on only the named files exist, in
 * all threads to come. loami_sandbox_seal, when everything is loaded: no thread may start a program, make a
 * connection or open a file any more, but for what the rules say. What is open stays open. Neither can be
 * taken back, and what is refused fails with EPERM or EACCES; nobody is killed.
 *
 * Linux: Landlock (files, and ports from version 4 on) and seccomp. A kernel without Landlock leaves seccomp,
 * which cannot see paths; loami_sandbox_words says what holds. macOS: a sandbox profile, all of it at the
 * seal. Elsewhere both halves fail with LOAM_E_UNSUPPORTED. */
#ifndef LOAMI_SANDBOX_H
#define LOAMI_SANDBOX_H

#include "base/err.h"

enum { LOAMI_SANDBOX_PATHS = 256, LOAMI_SANDBOX_PORTS = 80, LOAMI_SANDBOX_TEXT = 400 };

typedef struct loami_sandbox_rules {
    /* [n_read] files, and folders with all below; those absent are skipped */
    const char *read[LOAMI_SANDBOX_PATHS];
    const char *write[LOAMI_SANDBOX_PATHS]; /* [n_write] likewise; may be made, changed and removed too */
    uint32_t n_read, n_write;
    bool opens_later; /* files are opened after the seal: to be read again, or for models on demand */
    bool connects;    /* connections may be made to connect[0..n_connect) */
    uint16_t connect[LOAMI_SANDBOX_PORTS]; /* TCP ports; of which machine, no kernel can be told here */
    uint32_t n_connect;
    bool resolves;         /* and names looked up: DNS */
    bool without_landlock; /* as on a kernel that has none; for tests */
} loami_sandbox_rules;

/* What holds so far. */
typedef struct loami_sandbox {
    int landlock;      /* its version; 0 = there is none */
    bool files, ports; /* restricted by Landlock */
    bool sealed, opens_later, writes_later, connects;
} loami_sandbox;

/* A model folder's own files may be links to elsewhere: adds the folder and what its links name to r->read.
 * Strings are malloc'd: whoever has r frees them. */
int loami_sandbox_add_folder(loami_sandbox_rules *r, const char *folder, loam_err *err);

int loami_sandbox_files(loami_sandbox *s, const loami_sandbox_rules *r, loam_err *err);
int loami_sandbox_seal(loami_sandbox *s, const loami_sandbox_rules *r, loam_err *err);

/* One line of what is enforced and what is not. */
void loami_sandbox_words(const loami_sandbox *s, char out[LOAMI_SANDBOX_TEXT]);

/* Does every sealed process have this file: is it the system's own (libraries, the clock's zone, /proc/self)?
 */
bool loami_sandbox_is_system(const char *path, bool to_write);

#endif
