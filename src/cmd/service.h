/* cmd/service.h: `loam service`: the server or the gateway under launchd or systemd. One file a service
 * manager; the verbs are in service.c. */
#ifndef LOAMI_SERVICE_H
#define LOAMI_SERVICE_H

#include "base/buf.h"
#include "base/file.h"
#include "cmd/cmd.h"

typedef struct loami_service {
    const char *what;    /* "serve" or "gateway" */
    const char *label;   /* the manager's name for it */
    const char *program; /* absolute */
    const char *user;    /* NULL = launchd: root; systemd: one made up for as long as it runs */
    const char *args[LOAMI_OPT_LIST_MAX + 16]; /* [n_args] after the program */
    uint32_t n_args;
    const char *const *env; /* [n_env] "K=V" */
    uint32_t n_env;
    const char *model; /* its folder, absolute; NULL = unknown */
    uint32_t port;     /* 0 = unknown */
    bool gpu;          /* NVIDIA's devices are needed */
} loami_service;

/* What of a verb is done by another program: lines of words, each ended by NULL; the list ends with another
 * NULL. */
enum { LOAMI_SERVICE_WORDS = 64 };
typedef struct loami_service_steps {
    const char *words[LOAMI_SERVICE_WORDS];
    uint32_t n;
} loami_service_steps;

typedef enum loami_service_verb {
    LOAMI_SERVICE_INSTALL,
    LOAMI_SERVICE_UNINSTALL,
    LOAMI_SERVICE_START,
    LOAMI_SERVICE_STOP,
    LOAMI_SERVICE_STATUS,
    LOAMI_SERVICE_LOGS,
    LOAMI_SERVICE_PRINT,
} loami_service_verb;

typedef struct loami_service_kind {
    const char *name;
    const char *proof;           /* a program that only its systems have */
    const char *labels[2];       /* by default: of the server, of the gateway */
    const char *folder, *suffix; /* where the file goes: FOLDER/LABEL SUFFIX */
    void (*print)(loami_buf *out, const loami_service *s);

    /* Adds what to do after an install wrote the file, before an uninstall removes it, or for the other
     * verbs; and, in after, what an uninstall does then. path: the file's. root: another system's root, which
     * cannot run anything; or NULL. */
    void (*steps)(loami_service_steps *now, loami_service_steps *after, loami_service_verb verb,
                  const loami_service *s, const char *path, const char *root, bool follow);
} loami_service_kind;

extern const loami_service_kind loami_service_launchd, loami_service_systemd;

/* Adds one line of at most 9 words, ended by NULL. */
void loami_service_step(loami_service_steps *to, const char *const words[10]);
#define LOAMI_STEP(to, ...) loami_service_step(to, (const char *const[10]){ __VA_ARGS__ })

#endif
