#include "gateway/ledger.h"

#include "base/json.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

enum { COLUMNS_MAX = 6, WIDTH = 14 };

static const char *const groups[] = { "key", "model", "day", "backend", "pool", "status", NULL };
static const char *const sums[] = { "requests", "failed", "prompt_tokens", "answer_tokens", "seconds",
                                    "ttft_s",   NULL };

/* by, word by word; each becomes a column of the query, and nothing else can. */
static int read_groups(const char *by, const char **out, loam_err *err)
{
    int n = 0;
    while (*by) {
        size_t len = strcspn(by, ",");
        const char *found = NULL;
        for (const char *const *g = groups; *g; g++)
            if (strlen(*g) == len && memcmp(*g, by, len) == 0) found = *g;
        if (!found)
            return loami_fail(err, LOAM_E_ARG,
                              "usage by \"%.*s\": it is counted by key, model, day, backend, pool and status",
                              (int)len, by);
        if (n == COLUMNS_MAX) return loami_fail(err, LOAM_E_ARG, "usage by the same thing twice");
        out[n++] = found;
        by += len + (by[len] == ',');
    }
    return n ? n : loami_fail(err, LOAM_E_ARG, "usage by what? Say --by key,model,day or some of them");
}

static void put_query(loami_buf *q, const char **by, int n, uint32_t days)
{
    loami_buf_puts(q, "SELECT ");
    for (int i = 0; i < n; i++) loami_buf_printf(q, "%s,", by[i]);
    loami_buf_puts(q, "count(*),sum(status<>200),sum(prompt_tokens),sum(answer_tokens),round(sum(total_s),3),"
                      "round(avg(ttft_s),4) FROM usage");
    if (days) loami_buf_printf(q, " WHERE at >= strftime('%%s','now') - 86400 * %u", days);
    loami_buf_puts(q, " GROUP BY ");
    for (int i = 0; i < n; i++) loami_buf_printf(q, "%s%d", i ? "," : "", i + 1);
    loami_buf_puts(q, " ORDER BY ");
    for (int i = 0; i < n; i++) loami_buf_printf(q, "%s%d", i ? "," : "", i + 1);
}

static void put_json_row(loami_buf *out, sqlite3_stmt *s, const char **by, int n_by, bool first)
{
    loami_buf_puts(out, first ? "\n  {" : ",\n  {");
    for (int i = 0; i < sqlite3_column_count(s); i++) {
        const char *v = (const char *)sqlite3_column_text(s, i);
        loami_buf_printf(out, "%s\"%s\":", i ? "," : "", i < n_by ? by[i] : sums[i - n_by]);
        if (!v)
            loami_buf_puts(out, "null");
        else if (sqlite3_column_type(s, i) == SQLITE_TEXT)
            loami_json_put(out, v, strlen(v));
        else
            loami_buf_puts(out, v);
    }
    loami_buf_putc(out, '}');
}

static void put_text_row(loami_buf *out, sqlite3_stmt *s)
{
    for (int i = 0; i < sqlite3_column_count(s); i++) {
        const char *v = (const char *)sqlite3_column_text(s, i);
        bool text = sqlite3_column_type(s, i) == SQLITE_TEXT;
        loami_buf_printf(out, text ? "%-*s " : "%*s ", text ? 2 * WIDTH : WIDTH, v && v[0] ? v : "-");
    }
    loami_buf_putc(out, '\n');
}

int loami_ledger_report(loami_buf *out, const char *path, const char *by, uint32_t days, bool as_json,
                        loam_err *err)
{
    const char *columns[COLUMNS_MAX];
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    loami_buf query = { 0 };
    int n = read_groups(by, columns, err), rc = n < 0 ? n : 0, step = SQLITE_DONE;

    if (rc < 0) return rc;
    put_query(&query, columns, n, days);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(db, 5000) != SQLITE_OK ||
        sqlite3_prepare_v2(db, query.data, -1, &s, NULL) != SQLITE_OK) {
        rc = loami_fail(err, LOAM_E_IO, "%s: %s", path, db ? sqlite3_errmsg(db) : "out of memory");
        goto out;
    }
    if (as_json) loami_buf_putc(out, '[');
    for (int i = 0; i < n + 6 && !as_json; i++) {
        bool text = i < n && strcmp(columns[i], "status") != 0;
        loami_buf_printf(out, text ? "%-*s " : "%*s ", text ? 2 * WIDTH : WIDTH,
                         i < n ? columns[i] : sums[i - n]);
    }
    if (!as_json) loami_buf_putc(out, '\n');
    for (bool first = true; (step = sqlite3_step(s)) == SQLITE_ROW; first = false) {
        if (as_json)
            put_json_row(out, s, columns, n, first);
        else
            put_text_row(out, s);
    }
    if (as_json) loami_buf_puts(out, "\n]\n");
    if (step != SQLITE_DONE) rc = loami_fail(err, LOAM_E_IO, "%s: %s", path, sqlite3_errmsg(db));
out:
    sqlite3_finalize(s);
    sqlite3_close(db);
    loami_buf_free(&query);
    return rc;
}
