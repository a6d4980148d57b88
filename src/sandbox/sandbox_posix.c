#include "sandbox/sandbox.h"

#if !defined(__linux__) && !defined(__APPLE__)

#include <stdio.h>

int loami_sandbox_files(loami_sandbox *s, const loami_sandbox_rules *r, loam_err *err)
{
    (void)s, (void)r;
    return loami_fail(err, LOAM_E_UNSUPPORTED, "loam knows no sandbox on this system: leave out --sandbox");
}

int loami_sandbox_seal(loami_sandbox *s, const loami_sandbox_rules *r, loam_err *err)
{
    return loami_sandbox_files(s, r, err);
}

void loami_sandbox_words(const loami_sandbox *s, char out[LOAMI_SANDBOX_TEXT])
{
    (void)s;
    snprintf(out, LOAMI_SANDBOX_TEXT, "none");
}

bool loami_sandbox_is_system(const char *path, bool to_write)
{
    (void)path, (void)to_write;
    return false;
}
#endif
