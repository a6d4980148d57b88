#include "base/bandwidth.h"

#include "base/clock.h"
#include "base/system.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    THREADS_MAX = 256,
    PASSES_MIN = 3,
    LANES = 32,                /* sums that do not wait for each other, so that the memory is what is waited for */
    RUNS = 4,                  /* places that a thread reads at in turns, and how far ahead it asks: memory answers several at once */
    AHEAD_BYTES = 2048,
};

typedef struct reader {
    const uint64_t *data;
    size_t n;
    uint64_t sum;
    pthread_t thread;
} reader;

static void *read_all(void *arg)
{
    enum { LINE = 64 / sizeof(uint64_t) };
    reader *r = arg;
    uint64_t sum[LANES] = { 0 };
    size_t each = r->n / RUNS;
    for (size_t i = 0; i + LANES <= each; i += LANES) {
        for (int run = 0; run < RUNS; run++) {
            const uint64_t *at = r->data + (size_t)run * each + i;
            for (int k = 0; k < LANES; k += LINE) __builtin_prefetch((const char *)(at + k) + AHEAD_BYTES, 0, 0);
            for (int k = 0; k < LANES; k++) sum[k] += at[k];
        }
    }
    for (int k = 0; k < LANES; k++) r->sum += sum[k];
    return NULL;
}

/* Seconds of one pass; negative when a thread cannot start. */
static double pass(reader *r, uint32_t n)
{
    double start = loami_now_s();
    uint32_t started = 0;
    for (; started < n - 1; started++)
        if (pthread_create(&r[started].thread, NULL, read_all, &r[started]) != 0) break;
    if (started == n - 1) read_all(&r[n - 1]);
    for (uint32_t i = 0; i < started; i++) pthread_join(r[i].thread, NULL);
    return started == n - 1 ? loami_now_s() - start : -1;
}

int loami_read_bandwidth(double *bytes_per_s, uint32_t threads, double seconds, loam_err *err)
{
    size_t bytes = (size_t)512 << 20;
    uint64_t memory = loami_memory_bytes();
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (memory / 8 < bytes) bytes = (size_t)(memory / 8) & ~(size_t)4095;
    if (!threads) threads = online > 0 ? (uint32_t)online : 1;
    if (threads > THREADS_MAX) threads = THREADS_MAX;
    if (bytes < (size_t)threads << 20) bytes = (size_t)threads << 20;
    uint64_t *data = malloc(bytes);
    reader *r = calloc(threads, sizeof *r);
    double best = 0, start;
    int rc = data && r ? 0 : loami_fail_nomem(err);
    if (rc < 0) goto out;
    memset(data, 1, bytes);
    size_t each = bytes / 8 / threads;
    for (uint32_t i = 0; i < threads; i++) r[i] = (reader){ .data = data + i * each, .n = each };
    start = loami_now_s();
    for (int k = 0; k < PASSES_MIN || loami_now_s() - start < seconds; k++) {
        double s = pass(r, threads);
        if (s < 0) {
            rc = loami_fail(err, LOAM_E_IO, "cannot start %u threads", threads);
            goto out;
        }
        double speed = s > 0 ? (double)(each * 8 * threads) / s : 0;
        if (speed > best) best = speed;
    }
    uint64_t sum = 0;
    for (uint32_t i = 0; i < threads; i++) sum += r[i].sum;
    *bytes_per_s = sum ? best : 0; /* the sums are used: no compiler may leave the reading out */
out:
    free(r);
    free(data);
    return rc;
}
