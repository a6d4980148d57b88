#include "base/err.h"
#include "base/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int set(loam_err *err, int code, const char *fmt, va_list ap)
{
    if (!err) return code;
    char buf[sizeof err->msg];
    vsnprintf(buf, sizeof buf, fmt, ap);
    buf[loami_utf8_cut(buf, strlen(buf))] = 0;
    memcpy(err->msg, buf, sizeof buf);
    err->code = code;
    return code;
}

int loami_fail(loam_err *err, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set(err, code, fmt, ap);
    va_end(ap);
    return code;
}

int loami_fail_errno(loam_err *err, const char *fmt, ...)
{
    int e = errno;
    int code = e == ENOENT ? LOAM_E_NOT_FOUND : e == ENOMEM ? LOAM_E_NOMEM : LOAM_E_IO;
    char what[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return loami_fail(err, code, "%s: %s", what, strerror(e));
}

int loami_fail_in(loam_err *err, const char *fmt, ...)
{
    if (!err) return LOAM_E_FORMAT;
    char prefix[256], old[sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(prefix, sizeof prefix, fmt, ap);
    va_end(ap);
    memcpy(old, err->msg, sizeof old);
    return loami_fail(err, err->code, "%s: %s", prefix, old);
}

int loami_fail_nomem(loam_err *err)
{
    return loami_fail(err, LOAM_E_NOMEM, "out of memory");
}
