#include "sandbox/watch.h"

#ifndef __linux__
int loami_watch_start(loami_watch **out, char *const argv[],
                      void (*seen)(void *arg, const loami_watch_event *e), void *arg, loam_err *err)
{
    (void)out, (void)argv, (void)seen, (void)arg;
    return loami_fail(
        err, LOAM_E_UNSUPPORTED,
        "this system lets no program watch another one's files and connections; on macOS root can: "
        "sudo fs_usage -w -f filesys,network loam (docs/operations.md)");
}

int loami_watch_stdout(const loami_watch *w)
{
    (void)w;
    return -1;
}

void loami_watch_signal(loami_watch *w, int number)
{
    (void)w, (void)number;
}

int loami_watch_end(loami_watch *w)
{
    (void)w;
    return -1;
}

void loami_watch_libraries(void (*fn)(void *arg, const char *folder), void *arg)
{
    (void)fn, (void)arg;
}
#endif
