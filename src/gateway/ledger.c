#include "gateway/ledger.h"

#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    BUSY_MS = 5000,
    TOGETHER_MS = 200
}; /* another process may read; rows of so long are one transaction */

struct loami_ledger {
    sqlite3 *db;
    sqlite3_stmt *insert;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t some;
    loami_ledger_row *rows; /* [cap] */
    uint32_t n, cap;
    uint64_t dropped;
    bool closing, running;
};

static const char schema[] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
                             "CREATE TABLE IF NOT EXISTS usage (at INTEGER NOT NULL, day TEXT NOT NULL, key "
                             "TEXT NOT NULL, model TEXT NOT NULL, backend TEXT NOT NULL,"
                             " pool TEXT NOT NULL, request TEXT NOT NULL, status INTEGER NOT NULL, "
                             "prompt_tokens INTEGER NOT NULL, answer_tokens INTEGER NOT NULL,"
                             " guessed INTEGER NOT NULL, ttft_s REAL, total_s REAL NOT NULL);"
                             "CREATE INDEX IF NOT EXISTS usage_day ON usage (day);";

static int failed(sqlite3 *db, const char *path, loam_err *err)
{
    return loami_fail(err, LOAM_E_IO, "%s: %s", path, db ? sqlite3_errmsg(db) : "out of memory");
}

/* ---- writing ------------------------------------------------------------------------------------- */

static bool write_row(loami_ledger *l, const loami_ledger_row *r)
{
    char day[16];
    time_t at = (time_t)r->at_s;
    struct tm tm;
    gmtime_r(&at, &tm);
    strftime(day, sizeof day, "%Y-%m-%d", &tm);
    const char *texts[] = { day, r->key, r->model, r->backend, r->pool, r->request };
    sqlite3_bind_int64(l->insert, 1, r->at_s);
    for (int i = 0; i < 6; i++) sqlite3_bind_text(l->insert, i + 2, texts[i], -1, SQLITE_STATIC);
    sqlite3_bind_int(l->insert, 8, r->status);
    sqlite3_bind_int64(l->insert, 9, (sqlite3_int64)r->prompt_tokens);
    sqlite3_bind_int64(l->insert, 10, (sqlite3_int64)r->answer_tokens);
    sqlite3_bind_int(l->insert, 11, r->guessed);
    if (r->ttft_s > 0)
        sqlite3_bind_double(l->insert, 12, r->ttft_s);
    else
        sqlite3_bind_null(l->insert, 12);
    sqlite3_bind_double(l->insert, 13, r->total_s);
    int rc = sqlite3_step(l->insert);
    sqlite3_reset(l->insert);
    return rc == SQLITE_DONE;
}

static void write_rows(loami_ledger *l, const loami_ledger_row *rows, uint32_t n)
{
    uint32_t bad = 0;
    if (sqlite3_exec(l->db, "BEGIN", NULL, NULL, NULL) != SQLITE_OK) bad = n;
    for (uint32_t i = 0; !bad && i < n; i++) bad += !write_row(l, &rows[i]);
    if (bad)
        sqlite3_exec(l->db, "ROLLBACK", NULL, NULL, NULL);
    else if (sqlite3_exec(l->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        bad = 1;
    if (!bad) return;
    pthread_mutex_lock(&l->lock);
    l->dropped += n;
    pthread_mutex_unlock(&l->lock);
}

static void *run(void *arg)
{
    loami_ledger *l = arg;
    pthread_mutex_lock(&l->lock);
    while (!l->closing || l->n) {
        if (l->n == 0) {
            pthread_cond_wait(&l->some, &l->lock);
            continue;
        }
        if (!l->closing) { /* more will come */
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += TOGETHER_MS * 1000000L;
            until.tv_sec += until.tv_nsec / 1000000000;
            until.tv_nsec %= 1000000000;
            while (!l->closing && pthread_cond_timedwait(&l->some, &l->lock, &until) == 0) {}
        }
        loami_ledger_row *rows = l->rows;
        uint32_t n = l->n;
        l->rows = NULL;
        l->n = l->cap = 0;
        pthread_mutex_unlock(&l->lock);
        write_rows(l, rows, n);
        free(rows);
        pthread_mutex_lock(&l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

int loami_ledger_open(loami_ledger **out, const char *path, loam_err *err)
{
    static const char insert[] =
        "INSERT INTO usage "
        "(at,day,key,model,backend,pool,request,status,prompt_tokens,answer_tokens,guessed,ttft_s,total_s)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)";
    loami_ledger *l = calloc(1, sizeof *l);
    int rc = 0;
    if (!l) return loami_fail_nomem(err);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->some, NULL);
    if (sqlite3_open_v2(path, &l->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(l->db, BUSY_MS) != SQLITE_OK ||
        sqlite3_exec(l->db, schema, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(l->db, insert, -1, &l->insert, NULL) != SQLITE_OK)
        rc = failed(l->db, path, err);
    sigset_t all, before; /* signals are the loop's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (rc == 0) l->running = pthread_create(&l->thread, NULL, run, l) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0 && !l->running) rc = loami_fail(err, LOAM_E_IO, "cannot start a thread");
    if (rc < 0)
        loami_ledger_close(l);
    else
        *out = l;
    return rc;
}

void loami_ledger_add(loami_ledger *l, const loami_ledger_row *row)
{
    pthread_mutex_lock(&l->lock);
    if (l->n == l->cap && l->cap < LOAMI_LEDGER_WAITING) {
        uint32_t cap = l->cap ? l->cap * 2 : 64;
        loami_ledger_row *more = realloc(l->rows, cap * sizeof *more);
        if (more) {
            l->rows = more;
            l->cap = cap;
        }
    }
    if (l->n < l->cap)
        l->rows[l->n++] = *row;
    else
        l->dropped++;
    if (l->n == 1) pthread_cond_signal(&l->some);
    pthread_mutex_unlock(&l->lock);
}

uint64_t loami_ledger_dropped(loami_ledger *l)
{
    pthread_mutex_lock(&l->lock);
    uint64_t n = l->dropped;
    pthread_mutex_unlock(&l->lock);
    return n;
}

void loami_ledger_close(loami_ledger *l)
{
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->closing = true;
    pthread_cond_signal(&l->some);
    pthread_mutex_unlock(&l->lock);
    if (l->running) pthread_join(l->thread, NULL);
    sqlite3_finalize(l->insert);
    sqlite3_close(l->db);
    pthread_cond_destroy(&l->some);
    pthread_mutex_destroy(&l->lock);
    free(l->rows);
    free(l);
}
