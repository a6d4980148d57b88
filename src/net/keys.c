#include "net/keys.h"

#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <math.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_FILE_BYTES = 4 << 20, MAX_KEYS = 20000, NAME_MAX_CHARS = 63 };

/* level grows by rate a minute up to rate; 0 = no limit. */
typedef struct bucket {
    uint32_t rate;
    double level, at_s;
} bucket;

struct loami_key {
    loami_key *next;
    char name[NAME_MAX_CHARS + 1];
    unsigned char hash[SHA256_DIGEST_LENGTH];
    bucket requests, tokens;
    bool live, seen; /* in the file now; met while reading it */
};

struct loami_keys {
    char *path;
    loami_key *first;
};

/* ---- buckets ------------------------------------------------------------------------------------------ */

static void refill(bucket *b, double now)
{
    b->level += (now - b->at_s) * b->rate / 60;
    if (b->level > b->rate) b->level = b->rate;
    b->at_s = now;
}

static void set_rate(bucket *b, uint32_t rate, double now)
{
    if (b->rate == rate) return;
    *b = (bucket){ rate, rate, now };
}

/* Seconds until the level is at least want; 0 = it is. */
static double wait_for(bucket *b, double want, double now)
{
    if (b->rate == 0) return 0;
    refill(b, now);
    return b->level >= want ? 0 : (want - b->level) * 60 / b->rate;
}

/* ---- the file ----------------------------------------------------------------------------------------- */

static bool read_hash(unsigned char *out, const char *hex)
{
    if (strlen(hex) != 2 * SHA256_DIGEST_LENGTH) return false;
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        unsigned v;
        if (strspn(hex + 2 * i, "0123456789abcdefABCDEF") < 2 || sscanf(hex + 2 * i, "%2x", &v) != 1)
            return false;
        out[i] = (unsigned char)v;
    }
    return true;
}

static bool read_rate(uint32_t *out, const char *s)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(s, &end, 10);
    if (*s < '0' || *s > '9' || *end || errno || v > UINT32_MAX) return false;
    *out = (uint32_t)v;
    return true;
}

static bool good_name(const char *s)
{
    size_t n = strlen(s);
    return n <= NAME_MAX_CHARS &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@-") == n;
}

static loami_key *find(loami_keys *k, const char *name)
{
    for (loami_key *key = k->first; key; key = key->next)
        if (strcmp(key->name, name) == 0) return key;
    return NULL;
}

/* One key of the new set, into *list. */
static int read_line(loami_key **list, char *line, const char *path, unsigned number, loam_err *err)
{
    char *save = NULL, *word[5] = { 0 };
    uint32_t rate[2] = { 0, 0 };
    unsigned n = 0;

    line[strcspn(line, "#\r")] = 0;
    for (char *w = strtok_r(line, " \t", &save); w && n < 5; w = strtok_r(NULL, " \t", &save)) word[n++] = w;
    if (n == 0) return 0;
    loami_key *key = calloc(1, sizeof *key);
    if (!key) return loami_fail_nomem(err);
    key->next = *list;
    *list = key;
    const char *wrong = NULL;
    if (n < 2 || n > 4)
        wrong = "want NAME SHA256 [REQUESTS_A_MINUTE [TOKENS_A_MINUTE]]";
    else if (!good_name(word[0]))
        wrong = "a name is at most 63 letters, digits and . _ @ -";
    else if (!read_hash(key->hash, word[1]))
        wrong = "a hash is 64 hexadecimal digits (see loam key)";
    else if ((n > 2 && !read_rate(&rate[0], word[2])) || (n > 3 && !read_rate(&rate[1], word[3])))
        wrong = "a limit is a whole number";
    if (wrong) return loami_fail(err, LOAM_E_FORMAT, "%s: line %u: %s", path, number, wrong);
    memcpy(key->name, word[0], strlen(word[0]) + 1);
    key->requests.rate = rate[0];
    key->tokens.rate = rate[1];
    return 0;
}

static int read_file(loami_key **list, const char *path, loam_err *err)
{
    char *text;
    size_t size;
    unsigned number = 0;
    int rc = loami_file_read(&text, &size, path, MAX_FILE_BYTES, err);
    if (rc < 0) return rc;
    for (char *line = text, *end; rc == 0 && line && number < MAX_KEYS; line = end) {
        end = strchr(line, '\n');
        if (end) *end++ = 0;
        rc = read_line(list, line, path, ++number, err);
    }
    OPENSSL_cleanse(text, size);
    free(text);
    return rc;
}

static void free_list(loami_key *key)
{
    while (key) {
        loami_key *next = key->next;
        free(key);
        key = next;
    }
}

/* Old keys live on in place, so that running requests keep what they point to. */
static void merge(loami_keys *k, loami_key *fresh)
{
    double now = loami_now_s();
    for (loami_key *key = k->first; key; key = key->next) key->seen = strcmp(key->name, "env") == 0;
    while (fresh) {
        loami_key *next = fresh->next, *key = find(k, fresh->name);
        uint32_t requests = fresh->requests.rate, tokens = fresh->tokens.rate;
        if (key) {
            memcpy(key->hash, fresh->hash, sizeof key->hash);
            free(fresh);
        } else {
            key = fresh;
            key->requests = key->tokens = (bucket){ 0 };
            key->next = k->first;
            k->first = key;
        }
        set_rate(&key->requests, requests, now);
        set_rate(&key->tokens, tokens, now);
        key->seen = true;
        fresh = next;
    }
    for (loami_key *key = k->first; key; key = key->next) key->live = key->seen;
}

int loami_keys_reload(loami_keys *k, loam_err *err)
{
    loami_key *fresh = NULL;
    int rc = k->path ? read_file(&fresh, k->path, err) : 0;
    if (rc < 0)
        free_list(fresh);
    else
        merge(k, fresh);
    return rc;
}

int loami_keys_open(loami_keys **out, const char *path, const char *plain, loam_err *err)
{
    loami_keys *k = calloc(1, sizeof *k);
    int rc = 0;
    if (!k || (path && !(k->path = strdup(path)))) rc = loami_fail_nomem(err);
    if (rc == 0 && plain) {
        k->first = calloc(1, sizeof *k->first);
        if (k->first) {
            memcpy(k->first->name, "env", 4);
            SHA256((const unsigned char *)plain, strlen(plain), k->first->hash);
        } else {
            rc = loami_fail_nomem(err);
        }
    }
    if (rc == 0) rc = loami_keys_reload(k, err);
    if (rc < 0)
        loami_keys_close(k);
    else
        *out = k;
    return rc;
}

void loami_keys_close(loami_keys *k)
{
    if (!k) return;
    free_list(k->first);
    free(k->path);
    free(k);
}

/* ---- requests ----------------------------------------------------------------------------------------- */

loami_key *loami_keys_check(loami_keys *k, const char *authorization, const char *x_api_key, loami_fault *f)
{
    unsigned char hash[SHA256_DIGEST_LENGTH];
    const char *plain = x_api_key;
    loami_key *found = NULL;
    double now = loami_now_s();

    if (authorization && strncasecmp(authorization, "Bearer ", 7) == 0) {
        plain = authorization + 7;
        plain += strspn(plain, " ");
    }
    if (!plain || !plain[0]) {
        loami_fault_set(f, 401, "invalid_api_key", "",
                        "This server wants an API key: send it as \"Authorization: Bearer KEY\".");
        return NULL;
    }
    SHA256((const unsigned char *)plain, strlen(plain), hash);
    for (loami_key *key = k->first; key; key = key->next) /* to the end: time tells nothing */
        if (CRYPTO_memcmp(key->hash, hash, sizeof hash) == 0 && key->live) found = key;
    if (!found) {
        loami_fault_set(f, 401, "invalid_api_key", "", "This API key is not valid here.");
        return NULL;
    }
    double wait_s = fmax(wait_for(&found->requests, 1, now), wait_for(&found->tokens, 0, now));
    if (wait_s > 0) {
        loami_fault_set(f, 429, "rate_limit_exceeded", "",
                        "The limit of this API key is reached: try again in %.0f s.", ceil(wait_s));
        f->retry_s = (uint32_t)ceil(wait_s);
        return NULL;
    }
    found->requests.level -= found->requests.rate > 0;
    return found;
}

const char *loami_key_name(const loami_key *key)
{
    return key->name;
}

uint64_t loami_key_number(const loami_key *key)
{
    uint64_t n;
    memcpy(&n, key->hash, sizeof n);
    return n;
}

void loami_key_charge(loami_key *key, double tokens)
{
    if (key->tokens.rate == 0) return;
    refill(&key->tokens, loami_now_s());
    key->tokens.level -= tokens;
}

int loami_key_make(char key[LOAMI_KEY_TEXT], char hash[65], loam_err *err)
{
    static const char alphabet[] =
        "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789-_abcde"; /* 64 */
    unsigned char bytes[40], digest[SHA256_DIGEST_LENGTH];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return loami_fail(err, LOAM_E_IO, "the system has no random numbers");
    memcpy(key, "loam-", 5);
    for (size_t i = 0; i < sizeof bytes; i++) key[5 + i] = alphabet[bytes[i] & 63];
    key[5 + sizeof bytes] = 0;
    SHA256((const unsigned char *)key, strlen(key), digest);
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++) snprintf(hash + 2 * i, 3, "%02x", digest[i]);
    return 0;
}
