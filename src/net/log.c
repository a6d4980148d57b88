#include "net/conn.h"

#include "base/clock.h"
#include "base/json.h"
#include "net/stderr.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static void put_out(loami_buf *b)
{
    if (b->data && !b->failed) loami_stderr_put(b->data, b->len);
    loami_buf_free(b);
}

static void put_time(loami_buf *b)
{
    struct timespec now;
    struct tm tm;
    char text[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    loami_buf_printf(b, "%s.%03dZ", text, (int)(now.tv_nsec / 1000000));
}

/* A path is the client's: nothing in it may look like another line, or steer a terminal. */
static void put_plain(loami_buf *b, const char *s)
{
    for (int i = 0; s[i] && i < 200; i++) loami_buf_putc(b, s[i] > ' ' && s[i] < 0x7f ? s[i] : '?');
}

static void put_json(loami_buf *b, const loami_reply *r, double took_s)
{
    loami_buf_puts(b, "{\"time\":\"");
    put_time(b);
    loami_buf_printf(b, "\",\"peer\":\"%s\",\"method\":\"%s\",\"path\":\"", r->peer, r->method);
    for (int i = 0; r->path[i] && i < 200; i++) {
        char c = r->path[i];
        loami_buf_putc(b, c > ' ' && c < 0x7f && c != '"' && c != '\\' ? c : '?');
    }
    loami_buf_printf(b, "\",\"status\":%d,\"bytes\":%llu,\"seconds\":%.4f,\"id\":\"%s\"", r->status,
                     (unsigned long long)r->sent_bytes, took_s, r->id);
    for (uint32_t i = 0; i < r->n_notes; i++) {
        if (r->note[i].text) {
            loami_buf_printf(b, ",\"%s\":", r->note[i].key);
            loami_json_put(b, r->note[i].text, strlen(r->note[i].text));
        } else
            loami_buf_printf(b, ",\"%s\":%.6g", r->note[i].key, r->note[i].number);
    }
    loami_buf_puts(b, "}\n");
}

void loami_log_access(const loami_reply *r)
{
    if (r->server->config.log_off) return;
    double took_s = loami_now_s() - r->start_s;
    loami_buf b = { 0 };
    if (r->server->config.log_json) {
        put_json(&b, r, took_s);
    } else {
        put_time(&b);
        loami_buf_printf(&b, " %s %s ", r->peer, r->method);
        put_plain(&b, r->path);
        loami_buf_printf(&b, " %d %lluB %.3fs %s", r->status, (unsigned long long)r->sent_bytes, took_s,
                         r->id);
        for (uint32_t i = 0; i < r->n_notes; i++) {
            if (r->note[i].text)
                loami_buf_printf(&b, " %s=%s", r->note[i].key, r->note[i].text);
            else
                loami_buf_printf(&b, " %s=%.6g", r->note[i].key, r->note[i].number);
        }
        loami_buf_putc(&b, '\n');
    }
    put_out(&b);
}

void loami_log_text(const loami_reply *r, const char *key, const char *text, size_t n)
{
    loami_buf b = { 0 };
    if (r->server->config.log_off) return;
    loami_buf_puts(&b, "{\"time\":\"");
    put_time(&b);
    loami_buf_printf(&b, "\",\"id\":\"%s\",\"%s\":", r->id, key);
    loami_json_put(&b, text, n);
    loami_buf_puts(&b, "}\n");
    put_out(&b);
}

static void put_words(loami_buf *b, bool json, const char *what, const char *why)
{
    if (json) {
        loami_buf_puts(b, "{\"time\":\"");
        put_time(b);
        loami_buf_printf(b, "\",\"event\":\"%s\",\"why\":", what);
        loami_json_put(b, why, strlen(why));
        loami_buf_puts(b, "}\n");
    } else {
        put_time(b);
        loami_buf_printf(b, " %s: %s\n", what, why);
    }
}

void loami_log_words(const struct loami_server *s, const char *what, const char *why)
{
    loami_buf b = { 0 };
    put_words(&b, s->config.log_json, what, why);
    put_out(&b);
}

static void put_lost(loami_buf *b, bool json, uint64_t n)
{
    char why[80];
    snprintf(why, sizeof why, "%llu lines lost: nobody read them in time", (unsigned long long)n);
    put_words(b, json, "log", why);
}

static void put_lost_json(loami_buf *b, uint64_t n)
{
    put_lost(b, true, n);
}

static void put_lost_plain(loami_buf *b, uint64_t n)
{
    put_lost(b, false, n);
}

void loami_log_open(const struct loami_server *s)
{
    loami_stderr_set_lost(s->config.log_json ? put_lost_json : put_lost_plain);
}
