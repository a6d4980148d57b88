#include "store/hash.h"

#include "base/json.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, LIST_BYTES_MAX = 16 << 20 };

static const char list_name[] = "loam.json";

int loami_hash_file(char hex[LOAMI_HASH_HEX], const char *path, loam_err *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE], *chunk = malloc(CHUNK);
    unsigned n_digest = 0;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    FILE *f = fopen(path, "rb");
    int rc = f ? 0 : loami_fail_errno(err, "%s", path);
    size_t n;
    if (rc == 0 && (!chunk || !md || !EVP_DigestInit_ex(md, EVP_sha256(), NULL))) rc = loami_fail_nomem(err);
    while (rc == 0 && (n = fread(chunk, 1, CHUNK, f)) > 0) EVP_DigestUpdate(md, chunk, n);
    if (rc == 0 && ferror(f)) rc = loami_fail_errno(err, "%s: cannot read", path);
    if (rc == 0) {
        EVP_DigestFinal_ex(md, digest, &n_digest);
        for (unsigned i = 0; i < n_digest && i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
    if (f) fclose(f);
    EVP_MD_CTX_free(md);
    free(chunk);
    return rc;
}

struct walk {
    const char *dir;
    json_t *files; /* being made, or being checked; NULL: blob names */
    unsigned checked;
    loam_err *err;
};

static int add_file(void *arg, const char *name)
{
    struct walk *w = arg;
    char path[LOAMI_PATH_MAX], hex[LOAMI_HASH_HEX];
    struct stat st;
    int rc = loami_path_join(path, w->dir, name, w->err);
    if (rc < 0 || stat(path, &st) < 0 || !S_ISREG(st.st_mode)) return rc;
    if ((rc = loami_hash_file(hex, path, w->err)) < 0) return rc;
    json_t *o = json_pack("{s:I,s:s}", "bytes", (json_int_t)st.st_size, "sha256", hex);
    return json_object_set_new(w->files, name, o) < 0 ? loami_fail_nomem(w->err) : 0;
}

int loami_hash_write(const char *dir, const char *source, loam_err *err)
{
    char path[LOAMI_PATH_MAX], *text = NULL;
    struct walk w = { .dir = dir, .files = json_object(), .err = err };
    int rc = loami_dir_each(dir, add_file, &w, err);
    json_t *o = rc == 0 ? json_pack("{s:i,s:s,s:O}", "version", 1, "source", source, "files", w.files) : NULL;
    if (o) text = json_dumps(o, JSON_INDENT(2));
    if (rc == 0) rc = text ? loami_path_join(path, dir, list_name, err) : loami_fail_nomem(err);
    if (rc == 0) rc = loami_file_write(path, text, strlen(text), err);
    free(text);
    json_decref(o);
    json_decref(w.files);
    return rc;
}

static int compare(struct walk *w, const char *name, const char *want)
{
    char path[LOAMI_PATH_MAX], hex[LOAMI_HASH_HEX];
    int rc = loami_path_join(path, w->dir, name, w->err);
    if (rc == 0) rc = loami_hash_file(hex, path, w->err);
    if (rc < 0) return rc;
    w->checked++;
    return strcmp(hex, want) == 0
               ? 0
               : loami_fail(w->err, LOAM_E_FORMAT,
                            "%s: its SHA-256 is %.16s..., should be %.16s...: changed or damaged", path, hex,
                            want);
}

/* Large files of the Hugging Face cache are links to blobs/SHA256. */
static int check_link(void *arg, const char *name)
{
    struct walk *w = arg;
    char path[LOAMI_PATH_MAX], target[LOAMI_PATH_MAX];
    int rc = loami_path_join(path, w->dir, name, w->err);
    ssize_t n = rc == 0 ? readlink(path, target, sizeof target - 1) : -1;
    if (n <= 0) return rc;
    target[n] = 0;
    const char *blob = strrchr(target, '/');
    blob = blob ? blob + 1 : target;
    return strlen(blob) == 64 && strspn(blob, "0123456789abcdef") == 64 ? compare(w, name, blob) : 0;
}

int loami_hash_check(const char *dir, unsigned *checked, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    json_t *list = NULL, *v;
    const char *name;
    struct walk w = { .dir = dir, .err = err };
    int rc = loami_path_join(path, dir, list_name, err);
    if (rc < 0) return rc;
    if (!loami_file_exists(path)) {
        rc = loami_dir_each(dir, check_link, &w, err);
    } else {
        rc = loami_json_load(&list, path, LIST_BYTES_MAX, err);
        json_object_foreach(json_object_get(list, "files"), name, v) {
            const char *want = json_string_value(json_object_get(v, "sha256"));
            if (rc == 0 && (!want || strchr(name, '/')))
                rc = loami_fail(err, LOAM_E_FORMAT, "%s: \"%.64s\" has no proper entry", path, name);
            if (rc == 0) rc = compare(&w, name, want);
        }
        json_decref(list);
    }
    *checked = w.checked;
    return rc;
}
