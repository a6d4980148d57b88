#include "store/download.h"

#include "base/clock.h"
#include "store/curl.h"
#include "store/part.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    CONNECTIONS = 8,
    CONNECTIONS_MAX = 64,
    PART_BYTES = 64 << 20,
    READ_BYTES = 256 << 10,
    HASH_STEP = 4 << 20, /* between two looks at the sockets */
    RESETS_MAX = 2,      /* of a file whose answers or hash were wrong */
    PROGRESS = 64 << 10, /* bytes that make a failure the first one again */
};

typedef struct job {
    const loami_download_file *q;
    loami_part_file part;
    bool *busy;          /* [part.n] somebody fetches it */
    int lock;            /* -1 = not held */
    bool opened, finished;
    bool one_piece;      /* the server knows no ranges */
    uint32_t fails, resets;
    uint64_t since;      /* bytes since the last failure */
    double not_before_s;
} job;

typedef struct transfer {
    CURL *easy;          /* NULL = idle */
    struct curl_slist *headers;
    job *job;
    uint32_t i;          /* the part */
    uint64_t from;       /* in the file, of the first byte asked for */
    bool ranged, begun;
    loami_buf head;
    char why[CURL_ERROR_SIZE];
    enum { FINE, WRONG_RANGE, NO_RANGES, TOO_MUCH, NOT_WRITTEN } trouble;
    struct work *work;
} transfer;

typedef struct work {
    const loami_download_options *o;
    job *jobs;
    uint32_t n, first; /* jobs; the first one that is not finished */
    CURLM *multi;
    transfer transfers[CONNECTIONS_MAX];
    uint32_t connections, running;
    loami_download_state state;
    loam_err *err;
} work;

/* ---- one answer ---------------------------------------------------------------------------------------- */

static size_t on_header(char *line, size_t one, size_t n, void *arg)
{
    transfer *t = arg;
    loami_curl_header(&t->head, line, one * n);
    return t->head.failed ? 0 : one * n;
}

/* "bytes FROM-TO/ALL" must be what was asked for. */
static bool right_range(const transfer *t)
{
    const char *v = loami_curl_find(&t->head, "Content-Range");
    unsigned long long from, to, all;
    char rest;
    const loami_part_file *p = &t->job->part;
    return v && sscanf(v, "bytes %llu-%llu/%llu%c", &from, &to, &all, &rest) == 3 && from == t->from && to >= from &&
           to < loami_part_begin(p, t->i) + loami_part_size(p, t->i) && all == p->bytes;
}

/* What the head of a good answer must say, before its first byte is taken. */
static bool check_begin(transfer *t)
{
    long status = 0;
    curl_off_t length = -1;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    t->begun = true;
    if (status == 206) t->trouble = t->ranged && right_range(t) ? FINE : WRONG_RANGE;
    else if (status == 200 && t->ranged) t->trouble = NO_RANGES;
    else if (status == 200) t->trouble = length >= 0 && (uint64_t)length != t->job->part.bytes ? WRONG_RANGE : FINE;
    return t->trouble == FINE;
}

static size_t on_data(char *bytes, size_t one, size_t n, void *arg)
{
    transfer *t = arg;
    loami_part_file *p = &t->job->part;
    long status = 0;
    n *= one;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200 && status != 206) return n; /* an error's words */
    if (!t->begun && !check_begin(t)) return 0;
    if (n > loami_part_size(p, t->i) - p->done[t->i]) {
        t->trouble = TOO_MUCH;
        return 0;
    }
    if (loami_part_write(p, t->i, bytes, n, t->work->err) < 0) {
        t->trouble = NOT_WRITTEN;
        return 0;
    }
    t->work->state.received += n;
    t->job->since += n;
    if (t->job->since >= PROGRESS) t->job->fails = 0;
    return n;
}

/* ---- starting and ending transfers --------------------------------------------------------------------- */

static int start(work *w, transfer *t, job *j, uint32_t i)
{
    loami_part_file *p = &j->part;
    char range[64];
    uint64_t end = loami_part_begin(p, i) + loami_part_size(p, i);
    loami_buf head = t->head; /* keeps its memory */
    loami_buf_clear(&head);
    *t = (transfer){ .job = j, .i = i, .head = head, .work = w };
    t->from = loami_part_begin(p, i) + p->done[i];
    t->ranged = p->n > 1 || t->from > 0;
    t->easy = loami_curl_new(j->q->url, &w->o->fetch, &t->headers);
    if (!t->easy) return loami_fail_nomem(w->err);
    snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)t->from, (unsigned long long)(end - 1));
    if (t->ranged) curl_easy_setopt(t->easy, CURLOPT_RANGE, range);
    curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    curl_easy_setopt(t->easy, CURLOPT_ERRORBUFFER, t->why);
    curl_easy_setopt(t->easy, CURLOPT_BUFFERSIZE, (long)READ_BYTES);
    curl_easy_setopt(t->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(t->easy, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
    curl_multi_add_handle(w->multi, t->easy);
    j->busy[i] = true;
    w->running++;
    return 0;
}

static void stop(work *w, transfer *t)
{
    if (!t->easy) return;
    curl_multi_remove_handle(w->multi, t->easy);
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->headers);
    t->job->busy[t->i] = false;
    t->easy = NULL;
    t->headers = NULL;
    w->running--;
}

static void stop_all_of(work *w, const job *j)
{
    for (uint32_t k = 0; k < w->connections; k++)
        if (w->transfers[k].easy && w->transfers[k].job == j) stop(w, &w->transfers[k]);
}

/* ---- files --------------------------------------------------------------------------------------------- */

static void close_job(job *j)
{
    loami_part_close(&j->part);
    free(j->busy);
    j->busy = NULL;
    if (j->lock >= 0) close(j->lock);
    j->lock = -1;
    j->opened = false;
}

static bool is_there(const loami_download_file *q)
{
    struct stat st;
    return stat(q->path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == q->bytes;
}

/* 1: held; 0: somebody else has it. A lock file that its holder removed meanwhile is none. */
static int take_lock(job *j, loam_err *err)
{
    struct stat a, b;
    if (!j->q->lock) return 1;
    int fd = open(j->q->lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return loami_fail_errno(err, "%s", j->q->lock);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int e = errno;
        close(fd);
        if (e == EWOULDBLOCK || e == EINTR) return 0;
        return e == ENOSYS || e == ENOLCK || e == EOPNOTSUPP ? 1 : loami_fail_errno(err, "%s", j->q->lock);
    }
    if (fstat(fd, &a) < 0 || stat(j->q->lock, &b) < 0 || a.st_ino != b.st_ino) {
        close(fd);
        return 0;
    }
    j->lock = fd;
    return 1;
}

static int allocate_busy(job *j, loam_err *err)
{
    free(j->busy);
    j->busy = calloc((size_t)j->part.n + 1, sizeof *j->busy);
    return j->busy ? 0 : loami_fail_nomem(err);
}

static uint64_t part_bytes(const work *w, const job *j)
{
    if (j->one_piece) return j->q->bytes ? j->q->bytes : 1;
    return w->o->part_bytes ? w->o->part_bytes : PART_BYTES;
}

/* Lock and part file of a job whose turn it is. 1: open or finished; 0: it must wait. */
static int open_job(work *w, job *j)
{
    int rc = take_lock(j, w->err);
    if (rc == 0) {
        j->not_before_s = loami_now_s() + 0.2;
        w->state.waiting = j->q->name;
    }
    if (rc <= 0) return rc;
    if (is_there(j->q)) {
        j->finished = true;
        close_job(j);
        return 1;
    }
    rc = loami_part_open(&j->part, j->q->path, j->q->name, j->q->bytes, j->q->hash, part_bytes(w, j), w->err);
    if (rc < 0) return rc;
    j->opened = true;
    rc = allocate_busy(j, w->err);
    return rc < 0 ? rc : 1;
}

static int reset(work *w, job *j)
{
    stop_all_of(w, j);
    int rc = loami_part_reset(&j->part, part_bytes(w, j), w->err);
    return rc < 0 ? rc : allocate_busy(j, w->err);
}

/* ---- failures ------------------------------------------------------------------------------------------ */

/* Connections that break together count as one failure. */
static int again_later(work *w, job *j, double wait_s, const char *why)
{
    const loami_fetch_options *f = &w->o->fetch;
    uint32_t retries = f->no_retries ? 0 : f->retries ? f->retries : LOAMI_RETRIES;
    double now = loami_now_s();
    if (now < j->not_before_s) {
        if (now + wait_s > j->not_before_s) j->not_before_s = now + wait_s;
        return 0;
    }
    if (wait_s > LOAMI_WAIT_MAX_S)
        return loami_fail(w->err, LOAM_E_IO, "%s: %s, and says to come back in %.0f s", j->q->name, why, wait_s);
    if (++j->fails > retries)
        return loami_fail(w->err, LOAM_E_IO, "%s: %s; run it again to go on where it stopped", j->q->name, why);
    j->since = 0;
    j->not_before_s = now + (wait_s > 0 ? wait_s : loami_curl_backoff_s(j->fails));
    return 0;
}

static int from_the_start(work *w, job *j, const char *why)
{
    if (++j->resets > RESETS_MAX) {
        unlink(j->part.path);
        return loami_fail(w->err, LOAM_E_FORMAT, "%s: %s, each time it was tried", j->q->name, why);
    }
    return reset(w, j);
}

static int refused(work *w, const job *j, const transfer *t, long status)
{
    const char *words = loami_curl_find(&t->head, "X-Error-Message");
    return loami_fail(w->err, status == 404 ? LOAM_E_NOT_FOUND : LOAM_E_IO, "%s: the server answers %ld%s%.200s",
                      j->q->name, status, words ? ": " : "", words ? words : "");
}

/* A transfer is over: what to do about its job. */
static int ended(work *w, transfer *t, CURLcode code)
{
    job *j = t->job;
    long status = 0;
    char why[CURL_ERROR_SIZE + 64];
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    snprintf(why, sizeof why, "%s", t->why[0] ? t->why : curl_easy_strerror(code));
    bool got = code == CURLE_OK && (status == 200 || status == 206);
    if (got && !t->begun) check_begin(t); /* an empty answer */
    int trouble = t->trouble;
    stop(w, t);

    if (trouble == NOT_WRITTEN) return w->err ? w->err->code : LOAM_E_IO;
    if (trouble == NO_RANGES) return j->one_piece = true, reset(w, j);
    if (trouble == WRONG_RANGE) return from_the_start(w, j, "the server sends another range than was asked for");
    if (trouble == TOO_MUCH) return from_the_start(w, j, "the server sends more than was asked for");
    if (code == CURLE_OK && status == 416)
        return from_the_start(w, j, "the server says the file is shorter (416)");
    if (got) {
        if (j->part.done[t->i] == loami_part_size(&j->part, t->i)) return 0;
        return again_later(w, j, 0, "the answer ended early");
    }
    if (j->one_piece && code != CURLE_OK) { /* what came cannot be gone on with */
        int rc = reset(w, j);
        if (rc < 0) return rc;
    }
    if (!loami_curl_retry(code, (int)status))
        return code == CURLE_OK ? refused(w, j, t, status)
                                : loami_fail(w->err, LOAM_E_IO, "%s: %s", j->q->name, why);
    if (code == CURLE_OK) snprintf(why, sizeof why, "the server answers %ld", status);
    return again_later(w, j, code == CURLE_OK ? loami_curl_wait_s(&t->head) : 0, why);
}

/* ---- the round ----------------------------------------------------------------------------------------- */

/* Whole and right: keep it. Whole and wrong: once more from the start. */
static int settle(work *w, job *j)
{
    loam_err why;
    if (loami_part_check(&j->part, &why) < 0) {
        if (++j->resets <= 1) return reset(w, j);
        unlink(j->part.path);
        return loami_fail(w->err, why.code,
                          "%s, twice: what the server has, or what lies between, is damaged", why.msg);
    }
    int rc = loami_part_keep(&j->part, j->q->path, w->err);
    j->finished = true;
    close_job(j);
    return rc;
}

/* Hashes a little of the first file that has something to hash. 1: there may be more. */
static int hash_some(work *w)
{
    for (uint32_t k = w->first; k < w->n; k++) {
        job *j = &w->jobs[k];
        if (!j->opened) continue;
        int rc = loami_part_hash(&j->part, HASH_STEP, w->err);
        if (rc >= 0 && loami_part_whole(&j->part)) rc = settle(w, j) < 0 ? w->err->code : 1;
        if (rc != 0) return rc;
    }
    return 0;
}

/* The next part that nobody fetches. 1 with *job and *i; 0: none for now. */
static int next_part(work *w, job **out, uint32_t *i)
{
    double now = loami_now_s();
    for (uint32_t k = w->first; k < w->n; k++) {
        job *j = &w->jobs[k];
        if (j->finished || now < j->not_before_s) continue;
        if (!j->opened) {
            int rc = open_job(w, j);
            if (rc < 0) return rc;
            if (rc == 0 || j->finished) continue;
        }
        for (*i = 0; *i < j->part.n; ++*i) {
            if (j->busy[*i] || j->part.done[*i] == loami_part_size(&j->part, *i)) continue;
            *out = j;
            return 1;
        }
    }
    return 0;
}

static int fill(work *w)
{
    for (uint32_t k = 0; k < w->connections; k++) {
        job *j;
        uint32_t i;
        if (w->transfers[k].easy) continue;
        int rc = next_part(w, &j, &i);
        if (rc == 1) rc = start(w, &w->transfers[k], j, i) < 0 ? w->err->code : 1;
        if (rc <= 0) return rc;
    }
    return 0;
}

static void report(work *w)
{
    loami_download_state *s = &w->state;
    uint64_t done = 0;
    s->files_done = 0;
    for (uint32_t k = 0; k < w->n; k++) {
        const job *j = &w->jobs[k];
        s->files_done += j->finished;
        done += j->finished ? j->q->bytes : j->opened ? loami_part_have(&j->part) : 0;
    }
    if (done > s->done) s->done = done;
    if (w->running) s->waiting = NULL;
    if (w->o->progress) w->o->progress(w->o->arg, s);
}

static int turn(work *w)
{
    CURLMsg *m;
    int left, rc = fill(w);
    if (rc < 0) return rc;
    curl_multi_perform(w->multi, &left);
    while ((m = curl_multi_info_read(w->multi, &left))) {
        transfer *t;
        if (m->msg != CURLMSG_DONE) continue;
        CURLcode code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        if ((rc = ended(w, t, code)) < 0) return rc;
    }
    if ((rc = hash_some(w)) < 0) return rc;
    while (w->first < w->n && w->jobs[w->first].finished) w->first++;
    report(w);
    if (w->o->fetch.stopped && w->o->fetch.stopped(w->o->fetch.arg))
        return loami_fail(w->err, LOAM_E_CANCELLED, "stopped; run it again to go on where it stopped");
    if (w->first < w->n) curl_multi_poll(w->multi, NULL, 0, rc ? 0 : 100, NULL);
    return 0;
}

int loami_download(const loami_download_file *files, uint32_t n, const loami_download_options *o, loam_err *err)
{
    loam_err own; /* failures are told by code, and always have words */
    work *w = calloc(1, sizeof *w);
    job *jobs = calloc((size_t)n + 1, sizeof *jobs);
    int rc = w && jobs ? loami_curl_begin(err) : loami_fail_nomem(err);
    if (rc < 0) goto out;
    w->o = o;
    w->jobs = jobs;
    w->n = n;
    w->err = err ? err : &own;
    w->connections = o->connections ? o->connections : CONNECTIONS;
    if (w->connections > CONNECTIONS_MAX) w->connections = CONNECTIONS_MAX;
    w->multi = curl_multi_init();
    if (!w->multi) {
        rc = loami_fail_nomem(err);
        goto out;
    }
    w->state.files = n;
    for (uint32_t k = 0; k < n; k++) {
        jobs[k] = (job){ .q = &files[k], .lock = -1, .part = { .fd = -1 }, .finished = is_there(&files[k]) };
        w->state.total += files[k].bytes;
    }
    while (w->first < n && jobs[w->first].finished) w->first++;
    while (rc == 0 && w->first < n) rc = turn(w);
    report(w);
out:
    for (uint32_t k = 0; w && k < w->connections; k++) {
        stop(w, &w->transfers[k]);
        loami_buf_free(&w->transfers[k].head);
    }
    for (uint32_t k = 0; w && jobs && k < w->n; k++) close_job(&jobs[k]);
    if (w && w->multi) curl_multi_cleanup(w->multi);
    free(jobs);
    free(w);
    return rc;
}

uint64_t loami_download_missing(const loami_download_file *files, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        if (!is_there(&files[i])) sum += files[i].bytes - loami_part_found(files[i].path, files[i].bytes, files[i].hash);
    return sum;
}
