#include "sandbox/sandbox.h"

#ifdef __APPLE__
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* sandbox_init(3). Its header calls it deprecated since 10.8; browsers are built on it to this day, and there
 * is no other way to restrict a program that is not an application bundle. */
int sandbox_init(const char *profile, uint64_t flags, char **errorbuf);
void sandbox_free_error(char *errorbuf);

/* A string of the profile's language, which is Scheme's. */
static void put_string(loami_buf *b, const char *s)
{
    loami_buf_putc(b, '"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') loami_buf_putc(b, '\\');
        loami_buf_putc(b, *s);
    }
    loami_buf_putc(b, '"');
}

static void put_paths(loami_buf *b, const char *what, const char *const *paths, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        char *real = realpath(paths[i], NULL); /* the kernel compares resolved paths: /tmp is /private/tmp */
        loami_buf_printf(b, "(allow %s (subpath ", what);
        put_string(b, real ? real : paths[i]);
        loami_buf_puts(b, "))\n");
        free(real);
    }
}

/* Later rules win. Mach services and IOKit stay: Metal compiles its kernels in a service of the system's, and
 * keeps them in the user's own part of /private/var/folders. */
static const char base[] =
    "(version 1)\n"
    "(allow default)\n"
    "(deny process-exec*)\n"
    "(deny process-fork)\n"
    "(deny file-write*)\n"
    "(allow file-write* (literal \"/dev/null\") (subpath \"/private/var/folders\"))\n"
    "(deny file-read-data)\n"
    "(allow file-read-data (subpath \"/System\") (subpath \"/usr/lib\") (subpath \"/usr/share\")\n"
    "    (subpath \"/Library/Apple\") (subpath \"/Library/Preferences\") (subpath \"/private/var/db\")\n"
    "    (subpath \"/private/var/folders\") (subpath \"/dev\") (literal \"/\"))\n"
    "(deny network-outbound)\n"
    "(allow network-outbound (literal \"/private/var/run/syslog\"))\n";

static void put_network(loami_buf *b, const loami_sandbox_rules *r)
{
    for (uint32_t i = 0; r->connects && i < r->n_connect; i++)
        loami_buf_printf(b, "(allow network-outbound (remote tcp \"*:%u\"))\n", r->connect[i]);
    if (!r->connects || !r->resolves) return;
    loami_buf_puts(
        b, "(allow network-outbound (literal \"/private/var/run/mDNSResponder\") (remote udp \"*:53\"))\n"
           "(allow file-read-data (subpath \"/private/etc\"))\n");
}

int loami_sandbox_files(loami_sandbox *s, const loami_sandbox_rules *r, loam_err *err)
{
    (void)err; /* a profile holds for all threads: one, at the seal, is enough */
    *s = (loami_sandbox){ .opens_later = r->opens_later, .connects = r->connects };
    return 0;
}

int loami_sandbox_seal(loami_sandbox *s, const loami_sandbox_rules *r, loam_err *err)
{
    loami_buf b = { 0 };
    char *why = NULL;
    loami_buf_puts(&b, base);
    put_paths(&b, "file-read-data", r->read, r->n_read);
    put_paths(&b, "file-read-data", r->write, r->n_write);
    put_paths(&b, "file-write*", r->write, r->n_write);
    put_network(&b, r);
    char *profile = loami_buf_take(&b, NULL);
    if (!profile) return loami_fail_nomem(err);
    int failed = sandbox_init(profile, 0, &why);
    free(profile);
    if (failed) {
        loami_fail(err, LOAM_E_UNSUPPORTED, "sandbox: %s", why ? why : "the profile was refused");
        if (why) sandbox_free_error(why);
        return LOAM_E_UNSUPPORTED;
    }
    s->files = s->ports = s->sealed = true;
    return 0;
}

void loami_sandbox_words(const loami_sandbox *s, char out[LOAMI_SANDBOX_TEXT])
{
    snprintf(out, LOAMI_SANDBOX_TEXT, "files by a sandbox profile; %s, no program is started",
             s->connects ? "connections to the backends' ports alone (not: their addresses)"
                         : "no connection is made");
}

bool loami_sandbox_is_system(const char *path, bool to_write)
{
    (void)path, (void)to_write;
    return false;
}
#endif
