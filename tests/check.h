/* tests/check.h: what the C tests share: cmocka with the headers it wants, and checks of loam's own habits. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "loam.h"

#include <string.h>

/* The call fails with this code, fills err with it, and its message has these words. */
#define CHECK_FAILS(call, err, want_code, words)                                                                    \
    do {                                                                                                            \
        memset(&(err), 0, sizeof(err));                                                                             \
        int rc_ = (call);                                                                                           \
        if (rc_ != (want_code) || (err).code != (want_code) || !strstr((err).msg, words))                           \
            fail_msg("%s: returned %d, want %d, \"%s\"; err says %d, \"%s\"", #call, rc_, (int)(want_code), words,  \
                     (err).code, (err).msg);                                                                        \
    } while (0)

/* The call succeeds with this value and leaves err alone. */
#define CHECK_OK(call, err, want)                                                                                   \
    do {                                                                                                            \
        (err) = (loam_err){ .code = 77, .msg = "untouched" };                                                       \
        int rc_ = (call);                                                                                           \
        if (rc_ != (want)) fail_msg("%s: returned %d, want %d: %s", #call, rc_, (int)(want), (err).msg);            \
        if ((err).code != 77 || strcmp((err).msg, "untouched") != 0)                                                \
            fail_msg("%s: succeeded and wrote to err: %s", #call, (err).msg);                                       \
    } while (0)

#endif
