#include "store/part.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PARTS_MAX = 1 << 20, CHUNK = 1 << 18, HASH_BYTES = 64 };

/* What lies behind the file's bytes; done[n] follows. Read again only by this machine: its byte order will do. */
typedef struct trailer {
    char magic[8];
    uint64_t bytes, part_bytes, n;
    char hash[HASH_BYTES]; /* without a NUL when it is that long */
} trailer;

static const char magic[8] = "loampar1";

bool loami_part_hash_ok(const char *hash)
{
    size_t n = strlen(hash);
    return (n == 64 || n == 40) && strspn(hash, "0123456789abcdef") == n;
}

static uint64_t count(uint64_t bytes, uint64_t part_bytes)
{
    return bytes / part_bytes + (bytes % part_bytes != 0);
}

uint64_t loami_part_begin(const loami_part_file *p, uint32_t i)
{
    return i * p->part_bytes;
}

uint64_t loami_part_size(const loami_part_file *p, uint32_t i)
{
    uint64_t from = loami_part_begin(p, i);
    return p->bytes - from < p->part_bytes ? p->bytes - from : p->part_bytes;
}

uint64_t loami_part_have(const loami_part_file *p)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < p->n; i++) sum += p->done[i];
    return sum;
}

static int put(loami_part_file *p, const void *data, size_t n, uint64_t at, loam_err *err)
{
    const char *c = data;
    while (n) {
        ssize_t k = pwrite(p->fd, c, n, (off_t)at);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return loami_fail_errno(err, "%s: cannot write %s", p->path, p->name);
        c += k;
        at += (uint64_t)k;
        n -= (size_t)k;
    }
    return 0;
}

static bool get(int fd, void *data, size_t n, uint64_t at)
{
    char *c = data;
    while (n) {
        ssize_t k = pread(fd, c, n, (off_t)at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return false;
        c += k;
        at += (uint64_t)k;
        n -= (size_t)k;
    }
    return true;
}

static int restart_hash(loami_part_file *p, loam_err *err)
{
    char head[40];
    bool sha256 = strlen(p->hash) == 64, ok = true;
    p->hashed = 0;
    for (int i = 0; i < (sha256 ? 1 : 2) && ok; i++) {
        if (!p->md[i]) p->md[i] = EVP_MD_CTX_new();
        ok = p->md[i] && EVP_DigestInit_ex(p->md[i], sha256 ? EVP_sha256() : EVP_sha1(), NULL);
    }
    if (!ok) return loami_fail_nomem(err);
    if (!sha256) { /* git hashes "blob SIZE" and a NUL first */
        int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)p->bytes);
        EVP_DigestUpdate(p->md[0], head, (size_t)n + 1);
    }
    return 0;
}

/* The trailer of a file that was begun before; false: none, or not of this file. */
static bool read_trailer(int fd, loami_part_file *p)
{
    trailer t;
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < 0) return false;
    if ((uint64_t)st.st_size < p->bytes + sizeof t || !get(fd, &t, sizeof t, p->bytes)) return false;
    if (memcmp(t.magic, magic, sizeof magic) != 0 || t.bytes != p->bytes || !t.part_bytes ||
        strncmp(t.hash, p->hash, sizeof t.hash) != 0)
        return false;
    if (t.n != count(p->bytes, t.part_bytes) || t.n > PARTS_MAX ||
        (uint64_t)st.st_size != p->bytes + sizeof t + t.n * sizeof *p->done)
        return false;
    p->done = malloc((size_t)t.n * sizeof *p->done + 1);
    if (!p->done) return false;
    p->n = (uint32_t)t.n;
    p->part_bytes = t.part_bytes;
    bool ok = get(fd, p->done, (size_t)p->n * sizeof *p->done, p->bytes + sizeof t);
    for (uint32_t i = 0; ok && i < p->n; i++) ok = p->done[i] <= loami_part_size(p, i);
    if (!ok) {
        free(p->done);
        p->done = NULL;
    }
    return ok;
}

int loami_part_reset(loami_part_file *p, uint64_t part_bytes, loam_err *err)
{
    trailer t = { .bytes = p->bytes };
    if (!part_bytes) part_bytes = 1;
    if (count(p->bytes, part_bytes) > PARTS_MAX) part_bytes = p->bytes / PARTS_MAX + 1;
    memcpy(t.magic, magic, sizeof magic);
    memcpy(t.hash, p->hash, strlen(p->hash));
    t.part_bytes = p->part_bytes = part_bytes;
    t.n = p->n = (uint32_t)count(p->bytes, part_bytes);
    free(p->done);
    p->done = calloc((size_t)p->n + 1, sizeof *p->done);
    if (!p->done) return loami_fail_nomem(err);
    if (ftruncate(p->fd, 0) < 0) return loami_fail_errno(err, "%s", p->path);
    int rc = put(p, &t, sizeof t, p->bytes, err);
    if (rc == 0) rc = put(p, p->done, p->n * sizeof *p->done, p->bytes + sizeof t, err);
    return rc < 0 ? rc : restart_hash(p, err);
}

int loami_part_open(loami_part_file *out, const char *path, const char *name, uint64_t bytes, const char *hash,
                    uint64_t part_bytes, loam_err *err)
{
    loami_part_file p = { .name = name, .hash = hash, .fd = -1, .bytes = bytes };
    if (!loami_part_hash_ok(hash) || bytes > (uint64_t)1 << 60)
        return loami_fail(err, LOAM_E_ARG, "%s: no hash to check it by, or too large", name);
    int n = snprintf(p.path, sizeof p.path, "%s.loam-part", path);
    if (n < 0 || (size_t)n >= sizeof p.path) return loami_fail(err, LOAM_E_ARG, "path too long: %.100s...", path);
    p.fd = open(p.path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (p.fd < 0) return loami_fail_errno(err, "%s", p.path);
    int rc = read_trailer(p.fd, &p) ? restart_hash(&p, err) : loami_part_reset(&p, part_bytes, err);
    if (rc < 0)
        loami_part_close(&p);
    else
        *out = p;
    return rc;
}

void loami_part_close(loami_part_file *p)
{
    if (!p->name) return;
    if (p->fd >= 0) close(p->fd);
    free(p->done);
    EVP_MD_CTX_free(p->md[0]);
    EVP_MD_CTX_free(p->md[1]);
    *p = (loami_part_file){ .fd = -1 };
}

int loami_part_write(loami_part_file *p, uint32_t i, const void *data, size_t n, loam_err *err)
{
    int rc = put(p, data, n, loami_part_begin(p, i) + p->done[i], err);
    if (rc < 0) return rc;
    p->done[i] += n; /* told only after the bytes are there: a kill between the two loses nothing */
    return put(p, &p->done[i], sizeof *p->done, p->bytes + sizeof(trailer) + i * sizeof *p->done, err);
}

int loami_part_hash(loami_part_file *p, uint64_t limit, loam_err *err)
{
    static unsigned char chunk[CHUNK];
    int worked = 0;
    while (p->hashed < p->bytes && limit) {
        uint32_t i = (uint32_t)(p->hashed / p->part_bytes);
        uint64_t there = loami_part_begin(p, i) + p->done[i] - p->hashed;
        size_t n = there < CHUNK ? (size_t)there : CHUNK;
        if (n > limit) n = (size_t)limit;
        if (n == 0) break;
        if (!get(p->fd, chunk, n, p->hashed)) return loami_fail_errno(err, "%s: cannot read", p->path);
        for (int k = 0; k < 2; k++)
            if (p->md[k]) EVP_DigestUpdate(p->md[k], chunk, n);
        p->hashed += n;
        limit -= n;
        worked = 1;
    }
    return worked;
}

bool loami_part_whole(const loami_part_file *p)
{
    return p->hashed == p->bytes;
}

int loami_part_check(loami_part_file *p, loam_err *err)
{
    char hex[2][2 * EVP_MAX_MD_SIZE + 1] = { "", "" };
    for (int k = 0; k < 2 && p->md[k]; k++) {
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned n = 0;
        EVP_DigestFinal_ex(p->md[k], digest, &n);
        for (unsigned i = 0; i < n; i++) snprintf(hex[k] + 2 * i, 3, "%02x", digest[i]);
    }
    if (strcmp(hex[0], p->hash) == 0 || strcmp(hex[1], p->hash) == 0) return 0;
    return loami_fail(err, LOAM_E_FORMAT, "%s: what came has the hash %.16s..., should have %.16s...", p->name,
                      hex[0], p->hash);
}

int loami_part_keep(loami_part_file *p, const char *path, loam_err *err)
{
    if (ftruncate(p->fd, (off_t)p->bytes) < 0 || fsync(p->fd) < 0)
        return loami_fail_errno(err, "%s: cannot write", p->path);
    return rename(p->path, path) < 0 ? loami_fail_errno(err, "%s", path) : 0;
}

uint64_t loami_part_found(const char *path, uint64_t bytes, const char *hash)
{
    loami_part_file p = { .hash = hash, .bytes = bytes };
    char name[LOAMI_PATH_MAX];
    if (snprintf(name, sizeof name, "%s.loam-part", path) >= (int)sizeof name || !loami_part_hash_ok(hash) ||
        bytes > (uint64_t)1 << 60)
        return 0;
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return 0;
    uint64_t have = read_trailer(fd, &p) ? loami_part_have(&p) : 0;
    free(p.done);
    close(fd);
    return have;
}
