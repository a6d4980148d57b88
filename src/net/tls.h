/* net/tls.h: the server's certificate and key. TLS 1.2 and 1.3, by OpenSSL. */
#ifndef LOAMI_TLS_H
#define LOAMI_TLS_H

#include "base/err.h"

struct bufferevent;
struct event_base;

typedef struct loami_tls loami_tls;

/* PEM files: the certificate with the chain after it, its key. Messages name the file. */
int loami_tls_open(loami_tls **out, const char *cert, const char *key, loam_err *err);

/* Reads both files again, for the connections to come; on failure the old ones stay. */
int loami_tls_reload(loami_tls *t, loam_err *err);
void loami_tls_close(loami_tls *t);

/* Writes at once, as far as the socket takes it, what no answer is in the way of; and says that no more will come. */
void loami_tls_say(struct bufferevent *bev, const void *bytes, size_t n);

/* For one connection that will be accepted; NULL when memory ran out. */
struct bufferevent *loami_tls_accept(loami_tls *t, struct event_base *base);

#endif
