#include "api/share.h"

#include "api/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_BYTES = 1 << 20 };

/* One request: prepared on a worker; a file is then read there piece by piece, and written on the loop. */
struct loami_share {
    const loami_share_source *source;
    loami_reply *reply;
    char tail[2048], range[128];
    bool ranged, head, gone, busy; /* busy: with a worker */
    loami_buf json;                /* the answer, when it is no file */
    loami_share_file file;
    int fd;                        /* of the file, -1 = none */
    uint64_t bytes, at, left;
    char *piece;                   /* [PIECE_BYTES] */
    size_t n_piece;
    int rc;
    loam_err err;
    loami_task task;
    loami_workers *workers;
    LIST_ENTRY(loami_share) next;
};

static void share_free(struct loami_share *s)
{
    LIST_REMOVE(s, next);
    if (s->fd >= 0) close(s->fd);
    loami_buf_free(&s->json);
    free(s->piece);
    free(s);
}

/* ---- what is asked for --------------------------------------------------------------------------------- */

/* Digits alone: a number that wraps or wanders is no range. */
static bool number(const char **s, uint64_t *out)
{
    const char *c = *s;
    if (*c < '0' || *c > '9') return false;
    for (*out = 0; *c >= '0' && *c <= '9'; c++) {
        if (*out > (UINT64_MAX >> 1) / 10) return false;
        *out = *out * 10 + (uint64_t)(*c - '0');
    }
    *s = c;
    return true;
}

int loami_share_range(const char *header, uint64_t bytes, uint64_t *from, uint64_t *n)
{
    uint64_t to = UINT64_MAX;
    *from = 0;
    *n = bytes;
    if (!header || strncmp(header, "bytes=", 6) != 0) return 0;
    const char *s = header + 6;
    if (!number(&s, from) || *s++ != '-' || (*s && !number(&s, &to)) || *s || to < *from) {
        *from = 0; /* several ranges, or the last n bytes: all of it is a right answer too */
        return 0;
    }
    if (*from >= bytes) return -1;
    *n = (to < bytes ? to + 1 : bytes) - *from;
    return 1;
}

static int open_file(struct loami_share *s, const char *id, const char *revision, const char *name)
{
    struct stat st;
    loami_share_file *f = &s->file;
    int rc = s->source->file(f->path, f->hash, f->commit, id, revision, name, &s->err);
    if (rc < 0) return rc;
    s->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (s->fd < 0) return loami_fail_errno(&s->err, "%s", name);
    if (fstat(s->fd, &st) < 0 || !S_ISREG(st.st_mode)) return loami_fail(&s->err, LOAM_E_NOT_FOUND, "%s is no file", name);
    s->bytes = (uint64_t)st.st_size;
    s->piece = malloc(PIECE_BYTES);
    return s->piece ? 0 : loami_fail_nomem(&s->err);
}

/* "api/models", "api/models/ID", "api/models/ID/revision/REV" or "ID/resolve/REV/FILE". */
static int prepare(struct loami_share *s)
{
    static const char models[] = "api/models", revision[] = "/revision/", resolve[] = "/resolve/";
    char *t = s->tail, *mark;
    size_t n = sizeof models - 1;
    if (strncmp(t, models, n) == 0 && (t[n] == 0 || t[n] == '/')) {
        if (t[n] == 0) return s->source->list(&s->json, &s->err);
        mark = strstr(t + n + 1, revision);
        if (mark) *mark = 0;
        return s->source->model(&s->json, t + n + 1, mark ? mark + sizeof revision - 1 : "main", &s->err);
    }
    mark = strstr(t, resolve);
    if (mark) {
        char *rev = mark + sizeof resolve - 1, *slash = strchr(rev, '/');
        *mark = 0;
        if (slash) {
            *slash = 0;
            return open_file(s, t, rev, slash + 1);
        }
    }
    return loami_fail(&s->err, LOAM_E_NOT_FOUND, "there is nothing there");
}

/* ---- sending it ---------------------------------------------------------------------------------------- */

static void read_work(void *arg)
{
    struct loami_share *s = arg;
    ssize_t k = pread(s->fd, s->piece, s->left < PIECE_BYTES ? (size_t)s->left : PIECE_BYTES, (off_t)s->at);
    s->n_piece = k > 0 ? (size_t)k : 0; /* a file that became shorter: the client sees its answer cut */
}

static void read_more(void *arg);

static void read_done(void *arg)
{
    struct loami_share *s = arg;
    s->busy = false;
    s->gone |= loami_reply_gone(s->reply); /* also before it was watched */
    if (s->gone || (s->left && !s->n_piece)) {
        if (s->gone)
            loami_reply_end(s->reply);
        else
            loami_reply_drop(s->reply);
        share_free(s);
        return;
    }
    s->at += s->n_piece;
    s->left -= s->n_piece;
    bool room = s->n_piece == 0 || loami_reply_write(s->reply, s->piece, s->n_piece);
    if (s->left == 0) {
        loami_reply_end(s->reply);
        share_free(s);
    } else if (room) {
        read_more(s);
    }
}

static void read_more(void *arg)
{
    struct loami_share *s = arg;
    if (s->busy) return;
    s->task = (loami_task){ .work = read_work, .done = read_done, .arg = s };
    s->busy = true;
    if (loami_workers_run(s->workers, &s->task)) return;
    read_work(s); /* all workers have long queues: a piece read here delays the others less than a cut copy */
    s->busy = false;
    read_done(s);
}

static void on_gone(void *arg)
{
    struct loami_share *s = arg;
    s->gone = true;
    if (s->busy) return;
    loami_reply_end(s->reply);
    share_free(s);
}

static void send_file(struct loami_share *s)
{
    char text[128];
    loami_fault f;
    int ranged = loami_share_range(s->ranged ? s->range : NULL, s->bytes, &s->at, &s->left);
    snprintf(text, sizeof text, "\"%s\"", s->file.hash);
    loami_reply_set(s->reply, "ETag", text);
    loami_reply_set(s->reply, "X-Repo-Commit", s->file.commit);
    loami_reply_set(s->reply, "Accept-Ranges", "bytes");
    if (ranged < 0) {
        snprintf(text, sizeof text, "bytes */%llu", (unsigned long long)s->bytes);
        loami_reply_set(s->reply, "Content-Range", text);
        loami_fault_set(&f, 416, "range_not_satisfiable", "", "The file has %llu bytes.", (unsigned long long)s->bytes);
        loami_reply_fail(s->reply, &f);
        share_free(s);
        return;
    }
    if (ranged) {
        snprintf(text, sizeof text, "bytes %llu-%llu/%llu", (unsigned long long)s->at,
                 (unsigned long long)(s->at + s->left - 1), (unsigned long long)s->bytes);
        loami_reply_set(s->reply, "Content-Range", text);
    }
    snprintf(text, sizeof text, "%llu", (unsigned long long)s->left);
    loami_reply_set(s->reply, "Content-Length", text);
    loami_reply_start(s->reply, ranged ? 206 : 200, "application/octet-stream");
    if (s->head) s->left = 0;
    loami_reply_watch(s->reply, on_gone, read_more, s);
    if (s->left)
        read_more(s);
    else
        read_done(s);
}

static void prepare_work(void *arg)
{
    struct loami_share *s = arg;
    s->rc = prepare(s);
    if (s->rc >= 0 && s->json.failed) s->rc = loami_fail_nomem(&s->err);
}

static void prepare_done(void *arg)
{
    struct loami_share *s = arg;
    loami_fault f;
    s->busy = false;
    if (s->rc >= 0 && s->fd >= 0) {
        send_file(s);
        return;
    }
    if (s->rc >= 0) {
        loami_reply_send(s->reply, 200, "application/json", s->json.data, s->json.len);
    } else {
        bool none = s->rc == LOAM_E_NOT_FOUND || s->rc == LOAM_E_ARG;
        if (none) loami_reply_set(s->reply, "X-Error-Code", "EntryNotFound");
        loami_fault_set(&f, none ? 404 : 500, none ? "not_found" : NULL, "", "%s", s->err.msg);
        loami_reply_fail(s->reply, &f);
    }
    share_free(s);
}

/* ---- the routes ---------------------------------------------------------------------------------------- */

static void share(loami_reply *r, void *api)
{
    loami_api *a = api;
    loami_fault f;
    struct loami_share *s = calloc(1, sizeof *s);
    const char *range = loami_reply_header(r, "Range"), *tail = loami_reply_tail(r);
    if (!s) {
        loami_fault_set(&f, 503, "out_of_memory", "", "Out of memory.");
        loami_reply_fail(r, &f);
        return;
    }
    *s = (struct loami_share){ .source = a->config.share, .reply = r, .fd = -1, .workers = a->workers, .busy = true };
    s->head = strcmp(loami_reply_method(r), "HEAD") == 0;
    s->ranged = range && strlen(range) < sizeof s->range;
    if (s->ranged) snprintf(s->range, sizeof s->range, "%s", range);
    snprintf(s->tail, sizeof s->tail, "%s", tail);
    s->task = (loami_task){ .work = prepare_work, .done = prepare_done, .arg = s };
    LIST_INSERT_HEAD(&a->shares, s, next);
    if (strlen(tail) < sizeof s->tail && loami_workers_run(a->workers, &s->task)) return;
    share_free(s);
    loami_fault_set(&f, 429, "queue_full", "", "The server has too many requests waiting. Try again later.");
    loami_reply_fail(r, &f);
}

const loami_route loami_share_routes[] = {
    { "GET", "/share/*", share, false },
    { NULL, NULL, NULL, false },
};

void loami_share_abandon_all(loami_api *a)
{
    while (!LIST_EMPTY(&a->shares)) {
        struct loami_share *s = LIST_FIRST(&a->shares);
        loami_reply_end(s->reply);
        share_free(s);
    }
}
