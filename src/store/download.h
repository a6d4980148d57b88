/* store/download.h: fetching files over HTTP: several at once, large ones in parts over several connections, going
 * on where an earlier run stopped, and kept only when their hashes are right. libcurl's multi interface, one
 * thread, the caller's. */
#ifndef LOAMI_DOWNLOAD_H
#define LOAMI_DOWNLOAD_H

#include "base/buf.h"
#include "base/file.h"

/* How requests are made, by downloads and by what asks the hub's API. Zero is the default everywhere. */
typedef struct loami_fetch_options {
    const char *token;     /* sent as Authorization: Bearer to the URL's own host, never where it redirects to */
    uint32_t retries;      /* without any progress in between, waiting twice as long each time; see below for 0 */
    bool no_retries;
    uint32_t stall_s;      /* a connection may bring nothing for so long; 60 */
    bool (*stopped)(void *arg); /* asked often; true ends the work with LOAM_E_CANCELLED. May be NULL */
    void *arg;
} loami_fetch_options;

enum { LOAMI_RETRIES = 9 }; /* about a minute */

typedef struct loami_answer {
    int status;
    loami_buf body, head;  /* head: "name\0value\0" ... of the last answer in a row of redirects */
} loami_answer;

/* One request whose whole answer, at most limit bytes, is wanted: an API's JSON, or with head_only what HEAD says.
 * HEAD follows redirects within the same host only, as the hub's clients do. Answers of 408, 429 and 5xx and broken
 * connections are tried again. Any other status is success: see out->status. Free with loami_answer_free. */
int loami_fetch(loami_answer *out, const char *url, bool head_only, size_t limit, const loami_fetch_options *o,
                loam_err *err);
const char *loami_answer_header(const loami_answer *a, const char *name); /* NULL when absent */
void loami_answer_free(loami_answer *a);

/* One file of a download. Strings are borrowed. */
typedef struct loami_download_file {
    const char *name;      /* for messages */
    const char *url;
    const char *path;      /* where it will lie; its folder exists */
    const char *lock;      /* a file to hold flock'd meanwhile, as huggingface_hub does; NULL = none */
    uint64_t bytes;
    const char *hash;      /* see loami_part_hash_ok */
} loami_download_file;

typedef struct loami_download_state {
    uint64_t done, total;  /* bytes; done never falls, and counts what was there before */
    uint64_t received;     /* by this run */
    uint32_t files_done, files;
    const char *waiting;   /* a file that another program is downloading, while there is nothing else to do */
} loami_download_state;

typedef struct loami_download_options {
    loami_fetch_options fetch;
    uint32_t connections;  /* 8 */
    uint64_t part_bytes;   /* 64 MiB; smaller files are one part */
    void (*progress)(void *arg, const loami_download_state *s); /* several times a second; may be NULL */
    void *arg;
} loami_download_options;

/* Gets all n files. What is there and whole is left alone. On failure what came stays for the next time. */
int loami_download(const loami_download_file *files, uint32_t n, const loami_download_options *o, loam_err *err);

/* Bytes that loami_download would have to get. */
uint64_t loami_download_missing(const loami_download_file *files, uint32_t n);

#endif
