#include "cmd/work.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile sig_atomic_t stopped;
static const char *label;
static int shown = -1; /* per cent on the screen; -1 = nothing */

static void on_signal(int sig)
{
    (void)sig;
    stopped = 1;
}

static int step(void *arg, uint64_t done, uint64_t total)
{
    int percent = total ? (int)(100 * (double)done / (double)total) : 0;
    (void)arg;
    if (percent != shown && isatty(STDERR_FILENO)) {
        shown = percent;
        fprintf(stderr, "\r%s %3d %%", label, percent);
        fflush(stderr);
    }
    return stopped ? -1 : 0;
}

static void say(void *arg, const char *line)
{
    (void)arg;
    loami_work_end();
    printf("  %s\n", line);
}

loami_progress loami_work_begin(const char *what)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction a = { .sa_handler = on_signal };
    sigemptyset(&a.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &a, NULL);
    label = what;
    return (loami_progress){ .step = step, .say = say };
}

void loami_work_end(void)
{
    if (shown >= 0) fprintf(stderr, "\r\033[K");
    shown = -1;
}

bool loami_work_stopped(void)
{
    return stopped;
}

void loami_bytes_text(char out[32], uint64_t bytes)
{
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
    double v = (double)bytes;
    int u = 0;
    for (; v >= 999.95 && u < 4; u++) v /= 1000;
    snprintf(out, 32, u ? "%.1f %s" : "%.0f %s", v, units[u]);
}
