#include "net/stderr.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    QUEUE_BYTES = 1 << 20, /* some thousand lines: a reader may sleep for seconds under load */
    FLUSH_S = 1,
};

/* One a process, as stderr is. */
static struct {
    pthread_mutex_t lock;   /* over all of it, but not while the thread writes */
    pthread_cond_t come, out; /* a line came; all is out */
    char ring[QUEUE_BYTES];
    size_t head, n;         /* first byte, how many */
    uint64_t lost, untold;
    void (*say_lost)(loami_buf *out, uint64_t n);
    bool known, file;       /* what stderr is was looked at; it is a file */
    bool threaded, busy;    /* there is a thread; it has taken what is not out yet */
} q = { .lock = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER, .out = PTHREAD_COND_INITIALIZER };

static bool write_all(const char *bytes, size_t n)
{
    while (n) {
        ssize_t k = write(STDERR_FILENO, bytes, n);
        if (k < 0 && errno == EAGAIN) poll(&(struct pollfd){ .fd = STDERR_FILENO, .events = POLLOUT }, 1, -1);
        else if (k < 0 && errno != EINTR) return false;
        else if (k > 0) bytes += k, n -= (size_t)k;
    }
    return true;
}

/* ---- the thread --------------------------------------------------------------------------------------- */

/* Whole lines as far as they fit into what a pipe takes in one piece, so that others' lines don't come between. */
static size_t take(char *to)
{
    size_t n = q.n < PIPE_BUF ? q.n : PIPE_BUF, whole = 0;
    for (size_t i = 0; i < n; i++) {
        to[i] = q.ring[(q.head + i) % QUEUE_BYTES];
        if (to[i] == '\n') whole = i + 1;
    }
    if (whole) n = whole;
    q.head = (q.head + n) % QUEUE_BYTES;
    q.n -= n;
    return n;
}

static void put_lost(loami_buf *out, uint64_t n)
{
    loami_buf_printf(out, "loam: %llu lines of the log were lost: nobody read them in time\n", (unsigned long long)n);
}

/* The queue is empty: what comes now stands behind this. */
static void tell_lost(void)
{
    loami_buf b = { 0 };
    uint64_t n = q.untold;
    q.untold = 0;
    (q.say_lost ? q.say_lost : put_lost)(&b, n);
    pthread_mutex_unlock(&q.lock);
    write_all(b.data, b.len);
    loami_buf_free(&b);
    pthread_mutex_lock(&q.lock);
}

static void *write_out(void *unused)
{
    char piece[PIPE_BUF];
    (void)unused;
    pthread_mutex_lock(&q.lock);
    for (;;) {
        while (q.n) {
            size_t n = take(piece);
            pthread_mutex_unlock(&q.lock);
            write_all(piece, n);
            pthread_mutex_lock(&q.lock);
        }
        if (q.untold) {
            tell_lost();
            continue;
        }
        q.busy = false;
        pthread_cond_broadcast(&q.out);
        while (!q.n) pthread_cond_wait(&q.come, &q.lock);
        q.busy = true;
    }
    return NULL;
}

/* ---- lines -------------------------------------------------------------------------------------------- */

static void look(void)
{
    struct stat st;
    pthread_t thread;
    q.known = true;
    q.file = fstat(STDERR_FILENO, &st) < 0 || S_ISREG(st.st_mode);
    if (q.file || pthread_create(&thread, NULL, write_out, NULL) != 0) return;
    pthread_detach(thread); /* it may wait for a reader when the process ends */
    q.threaded = q.busy = true;
}

static void queue(const char *line, size_t n)
{
    if (!q.threaded || q.untold || n > QUEUE_BYTES - q.n) { /* those behind a gap are lost until it was told */
        q.lost++;
        q.untold++;
        return;
    }
    for (size_t i = 0; i < n; i++) q.ring[(q.head + q.n + i) % QUEUE_BYTES] = line[i];
    q.n += n;
    if (!q.busy) pthread_cond_signal(&q.come);
}

void loami_stderr_put(const char *line, size_t n)
{
    pthread_mutex_lock(&q.lock);
    if (!q.known) look();
    if (!q.file)
        queue(line, n);
    else if (!write_all(line, n))
        q.lost++;
    pthread_mutex_unlock(&q.lock);
}

void loami_stderr_flush(void)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += FLUSH_S;
    pthread_mutex_lock(&q.lock);
    while (q.threaded && (q.n || q.busy))
        if (pthread_cond_timedwait(&q.out, &q.lock, &end) != 0) break;
    pthread_mutex_unlock(&q.lock);
}

void loami_stderr_set_lost(void (*say)(loami_buf *out, uint64_t n))
{
    pthread_mutex_lock(&q.lock);
    q.say_lost = say;
    pthread_mutex_unlock(&q.lock);
}

uint64_t loami_stderr_lost(void)
{
    pthread_mutex_lock(&q.lock);
    uint64_t n = q.lost;
    pthread_mutex_unlock(&q.lock);
    return n;
}
