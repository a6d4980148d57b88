/* net/client.h: HTTP requests to other servers, on the loop's thread. libcurl makes connections, and speaks with TLS;
 * what is said without TLS goes over wires (wire.h).
 *
 * Connections are kept and used again. An answer is handed on as it arrives, and a reader that is full stops
 * it without stopping any other. Nothing here blocks; names are resolved on a thread of libcurl's. */
#ifndef LOAMI_CLIENT_H
#define LOAMI_CLIENT_H

#include "base/buf.h"
#include "net/loop.h"

typedef struct loami_client loami_client;
typedef struct loami_call loami_call; /* one request on its way */

/* max_connections: kept open at most, in use or not; 0 = 1024. */
int loami_client_open(loami_client **out, loami_loop *loop, uint32_t max_connections, loam_err *err);

/* Calls still running are cancelled. */
void loami_client_close(loami_client *c);

typedef enum loami_call_fate {
    LOAMI_CALL_OK = 0,    /* a whole answer came, whatever its status */
    LOAMI_CALL_UNREACHED, /* no connection: nothing of the request was sent */
    LOAMI_CALL_LOST,      /* the connection broke before the end, or what came is not HTTP */
    LOAMI_CALL_LATE,      /* a time limit passed after the request was sent */
} loami_call_fate;

/* Zero is the default everywhere; a time of 0 is no limit. Strings and headers are copied. */
typedef struct loami_call_request {
    const char *method; /* "GET" */
    const char *url;
    const char *const *headers; /* [n_headers] "Name: value" */
    uint32_t n_headers;
    const void *body; /* [n_body] borrowed until the call is over */
    size_t n_body;
    double connect_s;    /* 5 */
    double first_byte_s; /* from the start to the answer's head */
    double idle_s;       /* between two pieces of it; does not count while the reader is full */
    double total_s;
    bool fresh;          /* use no kept connection: one of these may break and the request be sent twice */
    bool insecure;       /* do not check the server's certificate */
    const char *ca_file; /* check it against these, not the system's */
    uint32_t read_bytes; /* taken from the socket at once; 16384 */

    /* The head is complete; see loami_call_header. May be NULL. */
    void (*head)(void *arg, int status);
    /* A piece of the body, taken. False: full, no more until loami_call_resume. */
    bool (*data)(void *arg, const char *bytes, size_t n);
    /* The call is over and freed when this returns. status is 0 if no head came; msg says what went wrong. */
    void (*done)(void *arg, loami_call_fate fate, int status, const char *msg);
    void *arg;
} loami_call_request;

/* Starts a call. No callback comes before this returns. NULL when memory ran out. */
loami_call *loami_call_start(loami_client *c, const loami_call_request *request);

/* Ends it at once, closing its connection; no callback comes any more. May be called from any callback but
 * done. */
void loami_call_cancel(loami_call *call);

/* After data returned false. */
void loami_call_resume(loami_call *call);

/* A header of the answer, once its head came; NULL when absent. Lives as long as the call. */
const char *loami_call_header(const loami_call *call, const char *name);

/* Walks the headers: *at starts at 0. False at the end. */
bool loami_call_next_header(const loami_call *call, size_t *at, const char **name, const char **value);

/* Was the request carried by a new connection, and how long did that take? 0 = a kept one. */
double loami_call_connect_s(const loami_call *call);

#endif
