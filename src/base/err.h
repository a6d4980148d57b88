/* base/err.h: how a failure gets its words. Codes and struct are in loam.h. */
#ifndef LOAMI_ERR_H
#define LOAMI_ERR_H

#include "loam.h"

#if defined(__GNUC__)
#define LOAMI_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define LOAMI_PRINTF(fmt, args)
#endif

/* Fills err (may be NULL) and returns code:  return loami_fail(err, LOAM_E_FORMAT, "%s: want 2 dims", name);
 * A message too long is cut at a character border. */
int loami_fail(loam_err *err, int code, const char *fmt, ...) LOAMI_PRINTF(3, 4);

/* The same for a failed system call: appends ": " and strerror(errno); LOAM_E_NOT_FOUND for ENOENT, LOAM_E_NOMEM
 * for ENOMEM, otherwise LOAM_E_IO. */
int loami_fail_errno(loam_err *err, const char *fmt, ...) LOAMI_PRINTF(2, 3);

/* Puts "prefix: " before a message that a callee wrote; returns err's code. */
int loami_fail_in(loam_err *err, const char *fmt, ...) LOAMI_PRINTF(2, 3);

/* LOAM_E_NOMEM with a standard message. */
int loami_fail_nomem(loam_err *err);

#endif
