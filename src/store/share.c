#include "store/share.h"

#include "base/json.h"
#include "store/hub.h"
#include "store/part.h"
#include "store/store.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIST_BYTES_MAX = 16 << 20 };

/* A model as it is shared. */
typedef struct model {
    char path[LOAMI_PATH_MAX];
    char commit[65];
    bool from_store;
    json_t *files; /* of a store model: loam.json's "files" */
    json_t *list;  /* siblings while they are made */
    loam_err *err;
} model;

static int no_model(const char *id, loam_err *err)
{
    return loami_fail(err, LOAM_E_NOT_FOUND, "no model %.200s is shared here", id);
}

/* A store model has no commit; the hash of its list of hashes changes when the model does. */
static int read_list(model *m, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    json_t *root = NULL;
    int rc = loami_path_join(path, m->path, "loam.json", err);
    if (rc == 0) rc = loami_json_load(&root, path, LIST_BYTES_MAX, err);
    if (rc < 0) return rc;
    m->files = json_incref(json_object_get(root, "files"));
    json_decref(root);
    char *text = json_is_object(m->files) ? json_dumps(m->files, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (!text) return loami_fail(err, LOAM_E_FORMAT, "%s: has no \"files\"", path);
    bool ok = EVP_Digest(text, strlen(text), digest, &n, EVP_sha1(), NULL);
    free(text);
    if (!ok) return loami_fail_nomem(err);
    for (unsigned i = 0; i < 20; i++) snprintf(m->commit + 2 * i, 3, "%02x", digest[i]);
    return 0;
}

static int open_model(model *m, const char *id, const char *revision, loam_err *err)
{
    char name[512], clean[256], rev[256];
    loam_err why;
    *m = (model){ .err = err };
    bool plain = loami_store_path(m->path, id, NULL) == 0;
    if (plain && loami_dir_exists(m->path)) {
        m->from_store = true;
        if (read_list(m, &why) < 0) return no_model(id, err);
        if (strcmp(revision, "main") == 0 || strcmp(revision, m->commit) == 0) return 0;
        return loami_fail(err, LOAM_E_NOT_FOUND, "%.100s has no revision %.100s", id, revision);
    }
    /* store_find takes paths too: only what is a name of the hub gets that far */
    snprintf(name, sizeof name, "%.200s@%.200s", id, revision);
    if (!plain || strchr(id, ':') || loami_hub_split(name, clean, rev, &why) < 0 ||
        loami_store_hub_path(m->path, clean, &why) < 0 || !loami_dir_exists(m->path) || loami_dir_exists(name) ||
        loami_store_find(m->path, name, &why) < 0)
        return no_model(id, err);
    const char *base = strrchr(m->path, '/');
    loami_hub_etag(m->commit, base ? base + 1 : "");
    return m->commit[0] ? 0 : no_model(id, err);
}

static void close_model(model *m)
{
    json_decref(m->files);
    json_decref(m->list);
}

/* The hash of a file that may be shared; LOAM_E_NOT_FOUND otherwise. */
static int file_of(const model *m, const char *name, char path[LOAMI_PATH_MAX], char hash[65], loam_err *err)
{
    char target[LOAMI_PATH_MAX];
    struct stat st;
    int rc = loami_hub_name_ok(name) ? loami_path_join(path, m->path, name, err) : LOAM_E_NOT_FOUND;
    hash[0] = 0;
    if (rc == 0 && m->from_store) {
        const char *want = json_string_value(json_object_get(json_object_get(m->files, name), "sha256"));
        bool plain = !strchr(name, '/') && lstat(path, &st) == 0 && S_ISREG(st.st_mode);
        if (want && plain && strlen(want) == 64) loami_hub_etag(hash, want);
    } else if (rc == 0) { /* a link to ../../blobs/HASH, and to nowhere else */
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        char *slash = strrchr(target, '/');
        if (slash && slash - target >= 6 && strncmp(slash - 6, "/blobs", 6) == 0 && strstr(target, "../..") == target &&
            strspn(target, "./") == (size_t)(slash - 5 - target))
            loami_hub_etag(hash, slash + 1);
    }
    if (hash[0] && stat(path, &st) == 0 && S_ISREG(st.st_mode)) return 0;
    return loami_fail(err, LOAM_E_NOT_FOUND, "no file %.200s is shared", name);
}

int loami_store_share_file(char path[LOAMI_PATH_MAX], char hash[65], char commit[65], const char *id, const char *revision,
                           const char *name, loam_err *err)
{
    model m;
    int rc = open_model(&m, id, revision, err);
    if (rc == 0) rc = file_of(&m, name, path, hash, err);
    memcpy(commit, m.commit, sizeof m.commit);
    close_model(&m);
    return rc;
}

/* Files of the model's own folder; what lies deeper in a repository is not what runs it. */
static int add_file(void *arg, const char *name)
{
    model *m = arg;
    char path[LOAMI_PATH_MAX], hash[65];
    struct stat st;
    if (file_of(m, name, path, hash, NULL) < 0 || stat(path, &st) < 0) return 0;
    json_int_t bytes = (json_int_t)st.st_size;
    json_t *o = strlen(hash) == 64 ? json_pack("{s:s,s:I,s:{s:s,s:I,s:i}}", "rfilename", name, "size", bytes, "lfs", "sha256", hash,
                                               "size", bytes, "pointerSize", 0)
                                   : json_pack("{s:s,s:I,s:s}", "rfilename", name, "size", bytes, "blobId", hash);
    return json_array_append_new(m->list, o) < 0 ? loami_fail_nomem(m->err) : 0;
}

static int put_json(loami_buf *out, json_t *o, loam_err *err)
{
    char *text = o ? loami_json_text(o) : NULL;
    json_decref(o);
    if (!text) return loami_fail_nomem(err);
    loami_buf_puts(out, text);
    free(text);
    return out->failed ? loami_fail_nomem(err) : 0;
}

int loami_store_share_model(loami_buf *json, const char *id, const char *revision, loam_err *err)
{
    model m;
    int rc = open_model(&m, id, revision, err);
    if (rc == 0) {
        m.list = json_array();
        rc = m.list ? loami_dir_each(m.path, add_file, &m, err) : loami_fail_nomem(err);
    }
    if (rc == 0)
        rc = put_json(json, json_pack("{s:s,s:s,s:s,s:b,s:O}", "id", id, "modelId", id, "sha", m.commit, "loam_store",
                                      m.from_store, "siblings", m.list), err);
    close_model(&m);
    return rc;
}

static int add_model(void *arg, const loami_store_entry *e)
{
    model m;
    bool shared = open_model(&m, e->name, "main", NULL) == 0;
    close_model(&m);
    if (!shared) return 0;
    json_t *o = json_pack("{s:s,s:I}", "id", e->name, "bytes", (json_int_t)e->bytes);
    return json_array_append_new(arg, o) < 0 ? LOAM_E_NOMEM : 0;
}

int loami_store_share_list(loami_buf *json, loam_err *err)
{
    json_t *list = json_array();
    int rc = list ? loami_store_each(add_model, list, err) : loami_fail_nomem(err);
    if (rc == 0) return put_json(json, list, err);
    json_decref(list);
    return rc;
}
