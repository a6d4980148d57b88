#include "net/tls.h"

#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

struct loami_tls {
    char *cert, *key;
    SSL_CTX *ctx;
};

static int fail(loam_err *err, const char *path, const char *what)
{
    unsigned long code = ERR_get_error();
    const char *why = code ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return loami_fail(err, LOAM_E_FORMAT, "%s: %s: %s", path, what, why ? why : "unknown reason");
}

static int load(SSL_CTX **out, const loami_tls *t, loam_err *err)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    int rc = 0;
    ERR_clear_error();
    if (!ctx) return loami_fail_nomem(err);
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS); /* an idle connection costs little */
    if (SSL_CTX_use_certificate_chain_file(ctx, t->cert) != 1)
        rc = fail(err, t->cert, "not a certificate in PEM form");
    else if (SSL_CTX_use_PrivateKey_file(ctx, t->key, SSL_FILETYPE_PEM) != 1)
        rc = fail(err, t->key, "not this certificate's key in PEM form");
    else if (SSL_CTX_check_private_key(ctx) != 1)
        rc = fail(err, t->key, "not the key of this certificate");
    if (rc < 0)
        SSL_CTX_free(ctx);
    else
        *out = ctx;
    return rc;
}

int loami_tls_open(loami_tls **out, const char *cert, const char *key, loam_err *err)
{
    loami_tls *t = calloc(1, sizeof *t);
    if (t) {
        t->cert = strdup(cert);
        t->key = strdup(key);
    }
    int rc = t && t->cert && t->key ? load(&t->ctx, t, err) : loami_fail_nomem(err);
    if (rc < 0)
        loami_tls_close(t);
    else
        *out = t;
    return rc;
}

int loami_tls_reload(loami_tls *t, loam_err *err)
{
    SSL_CTX *fresh;
    int rc = load(&fresh, t, err);
    if (rc < 0) return rc;
    SSL_CTX_free(t->ctx); /* open connections hold it themselves */
    t->ctx = fresh;
    return 0;
}

void loami_tls_close(loami_tls *t)
{
    if (!t) return;
    SSL_CTX_free(t->ctx);
    free(t->cert);
    free(t->key);
    free(t);
}

struct bufferevent *loami_tls_accept(loami_tls *t, struct event_base *base)
{
    SSL *ssl = SSL_new(t->ctx);
    if (!ssl) return NULL;
    struct bufferevent *bev = bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                                             BEV_OPT_CLOSE_ON_FREE);
    if (bev)
        bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    else
        SSL_free(ssl);
    return bev;
}

void loami_tls_say(struct bufferevent *bev, const void *bytes, size_t n)
{
    SSL *ssl = bufferevent_openssl_get_ssl(bev);
    if (SSL_write(ssl, bytes, (int)n) > 0) SSL_shutdown(ssl);
    ERR_clear_error();
}
