/* gateway/ledger.h: who used how much: a table in an SQLite file. Rows are written by a thread of their own,
 * many at once, so that a slow disk slows nobody's answer. */
#ifndef LOAMI_LEDGER_H
#define LOAMI_LEDGER_H

#include "base/buf.h"

enum {
    LOAMI_LEDGER_WAITING = 65536
}; /* rows; beyond, the disk is too slow, and rows are counted and dropped */

typedef struct loami_ledger loami_ledger;

typedef struct loami_ledger_row {
    int64_t at_s;                     /* unix time */
    const char *key, *backend, *pool; /* live as long as the ledger */
    char model[128], request[72];
    int status;
    uint64_t prompt_tokens, answer_tokens;
    double ttft_s, total_s; /* ttft 0 = nothing was said */
    bool guessed;           /* the backend told no usage */
} loami_ledger_row;

int loami_ledger_open(loami_ledger **out, const char *path, loam_err *err);
void loami_ledger_add(loami_ledger *l, const loami_ledger_row *row);
uint64_t loami_ledger_dropped(loami_ledger *l);

/* Writes what waits. */
void loami_ledger_close(loami_ledger *l);

/* A summary of the file at path: a table as text, or JSON. by: some of key, model, day, backend, pool, status
 * with commas between. days: only as many last ones; 0 = all. */
int loami_ledger_report(loami_buf *out, const char *path, const char *by, uint32_t days, bool as_json,
                        loam_err *err);

#endif
