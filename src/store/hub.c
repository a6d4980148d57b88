#include "store/hub.h"

#include "base/json.h"
#include "store/part.h"
#include "store/store.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { ANSWER_BYTES_MAX = 32 << 20, TOKEN_FILE_MAX = 4096, DEPTH_MAX = 16, PART_MAX = 255 };

/* ---- the environment ----------------------------------------------------------------------------------- */

static const char *variable(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

static bool is_true(const char *v)
{
    static const char *const words[] = { "1", "true", "yes", "on" };
    for (size_t i = 0; v && i < sizeof words / sizeof *words; i++)
        if (strcasecmp(v, words[i]) == 0) return true;
    return false;
}

/* A token becomes a header: it must be one word. */
static int take_token(loami_hub *h, const char *text, const char *from, loam_err *err)
{
    size_t skip = strspn(text, " \t\r\n"), n = strcspn(text + skip, " \t\r\n");
    const char *rest = text + skip + n;
    bool ok = n < sizeof h->token && !rest[strspn(rest, " \t\r\n")];
    for (size_t i = 0; ok && i < n; i++) ok = text[skip + i] > ' ' && text[skip + i] < 0x7f;
    if (!ok) return loami_fail(err, LOAM_E_ARG, "%s: this is no token: one word of letters and digits", from);
    memcpy(h->token, text + skip, n);
    h->token[n] = 0;
    return 0;
}

static int read_token(loami_hub *h, loam_err *err)
{
    static const char *const names[] = { "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN" };
    char path[LOAMI_PATH_MAX], *text;
    size_t n;
    for (int i = 0; i < 2; i++)
        if (variable(names[i])) return take_token(h, variable(names[i]), names[i], err);
    int rc = loami_store_hf_file(path, "HF_TOKEN_PATH", "token", NULL);
    if (rc < 0 || !loami_file_exists(path)) return 0;
    if ((rc = loami_file_read(&text, &n, path, TOKEN_FILE_MAX, err)) < 0) return rc;
    rc = take_token(h, text, path, err);
    free(text);
    return rc;
}

int loami_hub_environment(loami_hub *out, loam_err *err)
{
    const char *endpoint = variable("HF_ENDPOINT");
    *out = (loami_hub){ .offline = is_true(variable("HF_HUB_OFFLINE")) };
    if (!endpoint) endpoint = "https://huggingface.co";
    int n = snprintf(out->endpoint, sizeof out->endpoint, "%s", endpoint);
    if (n >= (int)sizeof out->endpoint ||
        (strncasecmp(endpoint, "http://", 7) != 0 && strncasecmp(endpoint, "https://", 8) != 0))
        return loami_fail(err, LOAM_E_ARG, "HF_ENDPOINT=%.200s: must be http:// or https:// and a host", endpoint);
    while (n > 0 && out->endpoint[n - 1] == '/') out->endpoint[--n] = 0;
    return read_token(out, err);
}

/* ---- names --------------------------------------------------------------------------------------------- */

bool loami_hub_name_ok(const char *name)
{
    size_t n = strlen(name), depth = 0, part = 0;
    if (n == 0 || n > LOAMI_HUB_NAME_MAX) return false;
    for (size_t i = 0; i <= n; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c == '/' || c == 0) {
            const char *s = name + i - part;
            if (part == 0 || part > PART_MAX || ++depth > DEPTH_MAX) return false;
            if (s[0] == '.' && (part == 1 || (part == 2 && s[1] == '.'))) return false;
            part = 0;
        } else {
            if (c < ' ' || c == 0x7f || c == '\\') return false;
            part++;
        }
    }
    return true;
}

int loami_hub_split(const char *spec, char id[256], char revision[256], loam_err *err)
{
    const char *at = strchr(spec, '@');
    size_t n = at ? (size_t)(at - spec) : strlen(spec);
    const char *rev = at ? at + 1 : "main";
    int slashes = 0;
    bool ok = n > 0 && n < 200, first = true;
    for (size_t i = 0; ok && i < n; i++) {
        char c = spec[i];
        slashes += c == '/';
        ok = c == '/' ? !first : first ? isalnum((unsigned char)c) || c == '_' : isalnum((unsigned char)c) || strchr("._-", c);
        first = c == '/';
    }
    if (!ok || first || slashes > 1)
        return loami_fail(err, LOAM_E_ARG, "\"%.100s\": a model of the hub is called ORG/NAME or ORG/NAME@REVISION", spec);
    if (strlen(rev) > 200 || !loami_hub_name_ok(rev) || rev[0] == '-' || strpbrk(rev, " ?*[~^@"))
        return loami_fail(err, LOAM_E_ARG, "\"%.100s\": this is no revision: a branch, a tag or a commit", rev);
    memcpy(id, spec, n);
    id[n] = 0;
    snprintf(revision, 256, "%s", rev);
    return 0;
}

static bool commit_ok(const char *s)
{
    size_t n = strlen(s);
    return (n == 40 || n == 64) && strspn(s, "0123456789abcdef") == n;
}

void loami_hub_etag(char hash[65], const char *header)
{
    size_t n;
    hash[0] = 0;
    if (!header) return;
    if (strncmp(header, "W/", 2) == 0) header += 2;
    if (*header == '"') header++;
    n = strcspn(header, "\"");
    if (n != 64 && n != 40) return;
    memcpy(hash, header, n);
    hash[n] = 0;
    if (!loami_part_hash_ok(hash)) hash[0] = 0;
}

/* ---- the API ------------------------------------------------------------------------------------------- */

static bool size_of(const json_t *o, uint64_t *bytes)
{
    const json_t *v = json_object_get(o, "size");
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > (json_int_t)1 << 60) return false;
    *bytes = (uint64_t)json_integer_value(v);
    return true;
}

/* A large file has "lfs" with its SHA-256; others have git's own id. What is missing is asked for later. */
static int read_file(loami_hub_file *f, const json_t *o, const char *what, loam_err *err)
{
    const char *name = NULL, *id = NULL;
    const json_t *lfs = json_object_get(o, "lfs");
    int rc = loami_json_string(o, what, "rfilename", &name, err);
    if (rc < 0) return rc;
    if (!name || !loami_hub_name_ok(name))
        return loami_fail(err, LOAM_E_FORMAT, "%s: \"%.100s\" is no name that a file may have here", what, name ? name : "");
    f->name = strdup(name);
    if (!f->name) return loami_fail_nomem(err);
    bool large = json_is_object(lfs);
    if ((rc = loami_json_string(large ? lfs : o, what, large ? "sha256" : "blobId", &id, err)) < 0) return rc;
    if (id && loami_part_hash_ok(id) && strlen(id) == (large ? 64 : 40) && size_of(large ? lfs : o, &f->bytes))
        snprintf(f->hash, sizeof f->hash, "%s", id);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const loami_hub_file *)a)->name, ((const loami_hub_file *)b)->name);
}

static int read_model(loami_hub_model *m, const json_t *root, const char *what, loam_err *err)
{
    const char *commit = NULL;
    const json_t *list = json_object_get(root, "siblings");
    if (!json_is_object(root)) return loami_fail(err, LOAM_E_FORMAT, "%s: not a JSON object", what);
    int rc = loami_json_string(root, what, "sha", &commit, err);
    if (rc >= 0) rc = loami_json_bool(root, what, "loam_store", &m->from_store, err);
    if (rc < 0) return rc;
    if (!commit || !commit_ok(commit)) return loami_fail(err, LOAM_E_FORMAT, "%s: \"sha\" must be a commit", what);
    memcpy(m->commit, commit, strlen(commit) + 1);
    if (!json_is_array(list)) return loami_fail(err, LOAM_E_FORMAT, "%s: \"siblings\" must be a list of files", what);
    size_t n = json_array_size(list);
    if (n > LOAMI_HUB_FILES_MAX)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %zu files, more than %d", what, n, LOAMI_HUB_FILES_MAX);
    m->files = calloc(n + 1, sizeof *m->files);
    if (!m->files) return loami_fail_nomem(err);
    for (rc = 0; rc == 0 && m->n < n; m->n++) rc = read_file(&m->files[m->n], json_array_get(list, m->n), what, err);
    if (rc < 0) return rc;
    qsort(m->files, m->n, sizeof *m->files, by_name);
    for (uint32_t i = 1; i < m->n; i++)
        if (strcmp(m->files[i - 1].name, m->files[i].name) == 0)
            return loami_fail(err, LOAM_E_FORMAT, "%s: \"%.100s\" is there twice", what, m->files[i].name);
    return 0;
}

int loami_hub_parse(loami_hub_model *out, const char *json, size_t n, const char *what, loam_err *err)
{
    loami_hub_model m = { .n = 0 };
    json_t *root;
    int rc = loami_json_parse(&root, json, n, what, err);
    if (rc < 0) return rc;
    rc = read_model(&m, root, what, err);
    json_decref(root);
    if (rc < 0)
        loami_hub_model_free(&m);
    else
        *out = m;
    return rc;
}

void loami_hub_model_free(loami_hub_model *m)
{
    for (uint32_t i = 0; m->files && i < m->n; i++) free(m->files[i].name);
    free(m->files);
    *m = (loami_hub_model){ .n = 0 };
}

/* ---- asking -------------------------------------------------------------------------------------------- */

static void put_escaped(loami_buf *b, const char *s, bool slashes)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (isalnum(c) || strchr("-._~", c) || (slashes && c == '/'))
            loami_buf_putc(b, (char)c);
        else
            loami_buf_printf(b, "%%%02X", c);
    }
}

char *loami_hub_url(const loami_hub *h, const char *id, const char *commit, const char *name)
{
    loami_buf b = { 0 };
    loami_buf_printf(&b, "%s/%s/resolve/", h->endpoint, id);
    put_escaped(&b, commit, false);
    loami_buf_putc(&b, '/');
    put_escaped(&b, name, true);
    return loami_buf_take(&b, NULL);
}

/* What a refusal means to who asked. */
static int refuse(const loami_answer *a, const loami_hub *h, const char *id, const char *revision, loam_err *err)
{
    const char *code = loami_answer_header(a, "X-Error-Code"), *words = loami_answer_header(a, "X-Error-Message");
    if (!code) code = "";
    if (strcmp(code, "GatedRepo") == 0)
        return loami_fail(err, LOAM_E_NOT_FOUND, "%s is only for those who asked: do so at %s/%s, then set HF_TOKEN", id,
                          h->endpoint, id);
    if (strcmp(code, "RevisionNotFound") == 0)
        return loami_fail(err, LOAM_E_NOT_FOUND, "%s has no revision %s", id, revision);
    if (a->status == 401 || a->status == 403)
        return loami_fail(err, LOAM_E_NOT_FOUND, "%s: %s has no such model, or not for %s (status %d%s%.160s)", id,
                          h->endpoint, h->token[0] ? "this token" : "those without a token: set HF_TOKEN", a->status,
                          words ? ": " : "", words ? words : "");
    if (a->status == 404) return loami_fail(err, LOAM_E_NOT_FOUND, "%s has no model %s", h->endpoint, id);
    return loami_fail(err, LOAM_E_IO, "%s: %s answers %d%s%.200s", id, h->endpoint, a->status, words ? ": " : "",
                      words ? words : "");
}

int loami_hub_model_get(loami_hub_model *out, const loami_hub *h, const char *id, const char *revision,
                        const loami_fetch_options *o, loam_err *err)
{
    loami_buf url = { 0 };
    loami_answer a;
    loami_buf_printf(&url, "%s/api/models/%s/revision/", h->endpoint, id);
    put_escaped(&url, revision, false);
    loami_buf_puts(&url, "?blobs=true");
    int rc = url.failed ? loami_fail_nomem(err) : loami_fetch(&a, url.data, false, ANSWER_BYTES_MAX, o, err);
    loami_buf_free(&url);
    if (rc < 0) return rc;
    rc = a.status == 200 ? loami_hub_parse(out, a.body.data ? a.body.data : "", a.body.len, id, err)
                         : refuse(&a, h, id, revision, err);
    loami_answer_free(&a);
    return rc;
}

int loami_hub_look(loami_hub_file *f, const loami_hub *h, const char *id, const loami_hub_model *m,
                   const loami_fetch_options *o, loam_err *err)
{
    char *url = loami_hub_url(h, id, m->commit, f->name), *end;
    loami_answer a;
    int rc = url ? loami_fetch(&a, url, true, ANSWER_BYTES_MAX, o, err) : loami_fail_nomem(err);
    free(url);
    if (rc < 0) return rc;
    const char *linked = loami_answer_header(&a, "X-Linked-Etag"), *size = loami_answer_header(&a, "X-Linked-Size"),
               *commit = loami_answer_header(&a, "X-Repo-Commit");
    if (!size && a.status == 200) size = loami_answer_header(&a, "Content-Length");
    loami_hub_etag(f->hash, linked ? linked : loami_answer_header(&a, "ETag"));
    if (a.status != 200 && (a.status < 300 || a.status > 399 || !linked))
        rc = loami_fail(err, LOAM_E_IO, "%s: %s: the server answers %d", id, f->name, a.status);
    else if (commit && strcmp(commit, m->commit) != 0)
        rc = loami_fail(err, LOAM_E_IO, "%s: %s: the server has moved on to commit %.40s", id, f->name, commit);
    else if (!f->hash[0] || !size || *size < '0' || *size > '9')
        rc = loami_fail(err, LOAM_E_FORMAT, "%s: %s: the server does not say its size and hash, so what it sends could not be checked",
                        id, f->name);
    if (rc == 0) f->bytes = strtoull(size, &end, 10);
    if (rc == 0 && (*end || f->bytes > (uint64_t)1 << 60))
        rc = loami_fail(err, LOAM_E_FORMAT, "%s: %s: a size of %.40s", id, f->name, size);
    loami_answer_free(&a);
    return rc;
}
