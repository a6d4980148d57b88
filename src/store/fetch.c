#include "store/curl.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES_MAX = 64 << 10, REDIRECTS_MAX = 10, CONNECT_S = 15, STALL_S = 60 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode begun;

static void begin(void)
{
    begun = curl_global_init(CURL_GLOBAL_ALL);
}

int loami_curl_begin(loam_err *err)
{
    pthread_once(&once, begin);
    return begun == CURLE_OK ? 0 : loami_fail(err, LOAM_E_IO, "libcurl cannot start");
}

static bool add_header(struct curl_slist **list, const char *line)
{
    struct curl_slist *more = curl_slist_append(*list, line);
    if (more) *list = more;
    return more;
}

/* The certificates that other programs of this field are told to trust: libcurl alone reads no variable. */
static void trust(CURL *e)
{
    static const char *const vars[] = { "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE" };
    for (size_t i = 0; i < sizeof vars / sizeof *vars; i++) {
        const char *v = getenv(vars[i]);
        if (!v || !*v) continue;
        curl_easy_setopt(e, CURLOPT_CAINFO, v);
        return;
    }
}

CURL *loami_curl_new(const char *url, const loami_fetch_options *o, struct curl_slist **headers)
{
    CURL *e = curl_easy_init();
    loami_buf line = { 0 };
    bool safe = strncasecmp(url, "https:", 6) == 0;
    if (!e) return NULL;
    loami_buf_printf(&line, "Authorization: Bearer %s", o->token ? o->token : "");
    bool ok = !line.failed && add_header(headers, "Accept-Encoding: identity") &&
              (!o->token || add_header(headers, line.data)) && curl_easy_setopt(e, CURLOPT_URL, url) == CURLE_OK;
    loami_buf_free(&line);
    char agent[64];
    snprintf(agent, sizeof agent, "loam/%s", loam_version());
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, *headers);
    curl_easy_setopt(e, CURLOPT_USERAGENT, agent);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* each part its own connection */
    curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(e, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, safe ? "https" : "http,https");
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)(o->stall_s ? o->stall_s : STALL_S));
    trust(e);
    if (ok) return e;
    curl_easy_cleanup(e);
    return NULL;
}

/* ---- headers ------------------------------------------------------------------------------------------- */

void loami_curl_header(loami_buf *head, const char *line, size_t n)
{
    head->limit = HEAD_BYTES_MAX;
    while (n && (line[n - 1] == '\r' || line[n - 1] == '\n')) n--;
    if (n >= 5 && memcmp(line, "HTTP/", 5) == 0) loami_buf_clear(head);
    const char *colon = memchr(line, ':', n);
    if (!colon || memchr(line, 0, n)) return;
    size_t n_name = (size_t)(colon - line), from = n_name + 1;
    while (from < n && (line[from] == ' ' || line[from] == '\t')) from++;
    while (n > from && (line[n - 1] == ' ' || line[n - 1] == '\t')) n--;
    if (!loami_buf_reserve(head, n + 2)) return;
    loami_buf_put(head, line, n_name);
    loami_buf_putc(head, 0);
    loami_buf_put(head, line + from, n - from);
    loami_buf_putc(head, 0);
}

const char *loami_curl_find(const loami_buf *head, const char *name)
{
    for (size_t at = 0; at < head->len;) {
        const char *key = head->data + at, *value = key + strlen(key) + 1;
        if (strcasecmp(key, name) == 0) return value;
        at += strlen(key) + strlen(value) + 2;
    }
    return NULL;
}

const char *loami_answer_header(const loami_answer *a, const char *name)
{
    return loami_curl_find(&a->head, name);
}

/* ---- trying again -------------------------------------------------------------------------------------- */

bool loami_curl_retry(CURLcode code, int status)
{
    switch (code) {
    case CURLE_OK: return status == 408 || status == 429 || status >= 500;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_TOO_MANY_REDIRECTS:
    case CURLE_OUT_OF_MEMORY: return false;
    default: return true;
    }
}

double loami_curl_wait_s(const loami_buf *head)
{
    const char *v = loami_curl_find(head, "Retry-After");
    if (v && *v >= '0' && *v <= '9') return strtod(v, NULL);
    if (v) {
        time_t when = curl_getdate(v, NULL);
        double s = difftime(when, time(NULL));
        return when == (time_t)-1 || s < 0 ? 0 : s;
    }
    v = loami_curl_find(head, "RateLimit"); /* "api";r=0;t=55 */
    v = v ? strstr(v, ";t=") : NULL;
    return v && v[3] >= '0' && v[3] <= '9' ? strtod(v + 3, NULL) : 0;
}

double loami_curl_backoff_s(uint32_t k)
{
    return k > 6 ? 15 : 0.2 * (double)(1u << (k - 1));
}

static bool sleep_for(double seconds, const loami_fetch_options *o)
{
    double end = loami_now_s() + seconds;
    for (;;) {
        double left = end - loami_now_s();
        if (o->stopped && o->stopped(o->arg)) return false;
        if (left <= 0) return true;
        usleep((useconds_t)((left < 0.1 ? left : 0.1) * 1e6));
    }
}

/* ---- one request --------------------------------------------------------------------------------------- */

typedef struct fetch {
    loami_answer *out;
    const loami_fetch_options *o;
} fetch;

static size_t on_header(char *line, size_t one, size_t n, void *arg)
{
    fetch *f = arg;
    loami_curl_header(&f->out->head, line, one * n);
    return f->out->head.failed ? 0 : one * n;
}

static size_t on_body(char *bytes, size_t one, size_t n, void *arg)
{
    fetch *f = arg;
    loami_buf_put(&f->out->body, bytes, one * n);
    return f->out->body.failed ? 0 : one * n;
}

static int on_wait(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    fetch *f = arg;
    (void)a, (void)b, (void)c, (void)d;
    return f->o->stopped && f->o->stopped(f->o->arg);
}

static int cancelled(loam_err *err)
{
    return loami_fail(err, LOAM_E_CANCELLED, "stopped");
}

/* The next address of a HEAD, which may move on its host but not leave it: what a link leads to has other
 * headers. NULL: none. Free with curl_free. */
static char *moved(CURL *e, const loami_answer *a)
{
    const char *to = loami_answer_header(a, "Location");
    char *next = NULL;
    if (a->status < 300 || a->status > 399 || !to || to[0] != '/' || to[1] == '/') return NULL;
    const char *url = NULL;
    curl_easy_getinfo(e, CURLINFO_EFFECTIVE_URL, &url);
    CURLU *u = curl_url();
    if (u && url && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_set(u, CURLUPART_URL, to, 0) == CURLUE_OK)
        curl_url_get(u, CURLUPART_URL, &next, 0);
    curl_url_cleanup(u);
    return next;
}

static CURLcode ask(CURL *e, loami_answer *out, bool head_only)
{
    CURLcode code = CURLE_OK;
    for (int i = 0; i <= REDIRECTS_MAX; i++) {
        long status = 0;
        loami_buf_clear(&out->body);
        loami_buf_clear(&out->head);
        code = curl_easy_perform(e);
        curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
        out->status = (int)status;
        char *next = code == CURLE_OK && head_only ? moved(e, out) : NULL;
        if (!next) return code;
        curl_easy_setopt(e, CURLOPT_URL, next);
        curl_free(next);
    }
    return CURLE_TOO_MANY_REDIRECTS;
}

int loami_fetch(loami_answer *out, const char *url, bool head_only, size_t limit, const loami_fetch_options *o,
                loam_err *err)
{
    loami_answer a = { .body = { .limit = limit } };
    fetch f = { &a, o };
    char why[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    uint32_t retries = o->no_retries ? 0 : o->retries ? o->retries : LOAMI_RETRIES;
    int rc = loami_curl_begin(err);
    CURL *e = rc == 0 ? loami_curl_new(url, o, &headers) : NULL;
    if (rc == 0 && !e) rc = loami_fail_nomem(err);
    if (rc < 0) goto out;
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, &f);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, &f);
    curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, on_wait);
    curl_easy_setopt(e, CURLOPT_XFERINFODATA, &f);
    curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
    if (head_only) {
        curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
        curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    }
    for (uint32_t k = 1;; k++) {
        why[0] = 0;
        CURLcode code = ask(e, &a, head_only);
        if (code == CURLE_ABORTED_BY_CALLBACK) rc = cancelled(err);
        else if (a.body.failed || a.head.failed)
            rc = loami_fail(err, LOAM_E_FORMAT, "%.300s: an answer of more than %zu bytes", url, limit);
        else if (!loami_curl_retry(code, a.status)) {
            if (code != CURLE_OK)
                rc = loami_fail(err, LOAM_E_IO, "%.200s: %s", url, why[0] ? why : curl_easy_strerror(code));
        } else {
            double wait = code == CURLE_OK ? loami_curl_wait_s(&a.head) : 0;
            if (code == CURLE_OK) snprintf(why, sizeof why, "the server answers %d", a.status);
            if (k > retries || wait > LOAMI_WAIT_MAX_S)
                rc = loami_fail(err, LOAM_E_IO, "%.200s: %s%s", url, why[0] ? why : curl_easy_strerror(code),
                                wait > LOAMI_WAIT_MAX_S ? ", and says to come back much later" : "");
            else if (!sleep_for(wait > 0 ? wait : loami_curl_backoff_s(k), o))
                rc = cancelled(err);
            else
                continue;
        }
        break;
    }
out:
    if (e) curl_easy_cleanup(e);
    curl_slist_free_all(headers);
    if (rc < 0)
        loami_answer_free(&a);
    else
        *out = a;
    return rc;
}

void loami_answer_free(loami_answer *a)
{
    loami_buf_free(&a->body);
    loami_buf_free(&a->head);
}
