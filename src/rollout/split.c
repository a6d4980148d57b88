#include "rollout/split.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- draws --------------------------------------------------------------------------------------- */

static const double LEAN = 0.05; /* for each draw, or request, that is missing */

/* Some chance for either side, so that both can be judged. */
static double bounded(double share, double part)
{
    double least = part / 2, most = 1 - (1 - part) / 2;
    return share < least ? least : share > most ? most : share;
}

/* The part of the draws that makes up for the requests that are missing. A draw tells only after a whole conversation
 * what came of it: the longer they are, the gentler. */
static double wanted(const loami_split *s, double part)
{
    double all = (double)(s->n[0] + s->n[1]), missing = part * all - (double)s->n[1];
    double length = s->draws ? all / (double)s->draws : 1;
    if (length < 1) length = 1;
    return bounded(part + LEAN / (length * sqrt(length)) * missing, part);
}

double loami_split_share(const loami_split *s, double part)
{
    if (part <= 0 || part >= 1) return part <= 0 ? 0 : 1;
    return bounded(wanted(s, part) + LEAN * s->missing, part);
}

void loami_split_drawn(loami_split *s, double part, loami_side side)
{
    if (part <= 0 || part >= 1) return;
    s->missing += wanted(s, part) - (side == LOAMI_SIDE_NEW);
    s->draws++;
}

loami_side loami_split_draw(double share, double u)
{
    return u < share ? LOAMI_SIDE_NEW : LOAMI_SIDE_OLD;
}

void loami_split_count(loami_split *s, loami_side side)
{
    s->n[side == LOAMI_SIDE_NEW]++;
}

/* ---- memory -------------------------------------------------------------------------------------- */

enum { FIRST_SLOTS = 1024, RECORDS_MAX = 4 << 20 };

typedef struct record { /* as it is in the file, in this machine's byte order */
    uint64_t key;       /* 0 = a free slot */
    uint32_t used_s;
    float share;
    uint8_t side, requests;
    uint16_t check;
    uint32_t zero;
} record;

struct loami_sides {
    record *slots; /* [cap], a power of two; probed in turn */
    uint32_t cap, count;
    uint64_t n_written;
    char *path; /* or NULL */
    int fd;
};

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint16_t check_of(const record *r)
{
    uint32_t share;
    memcpy(&share, &r->share, sizeof share);
    return (uint16_t)mix(mix(r->key + r->used_s) + share + ((uint64_t)r->side << 40) + ((uint64_t)r->requests << 48) + 1);
}

static record *slot_of(const record *slots, uint32_t cap, uint64_t key)
{
    uint32_t i = (uint32_t)mix(key) & (cap - 1);
    while (slots[i].key && slots[i].key != key) i = (i + 1) & (cap - 1);
    return (record *)&slots[i];
}

/* Moves what was used since then into a table of cap slots. */
static bool rebuild(loami_sides *s, uint32_t cap, uint32_t since_s)
{
    record *now = calloc(cap, sizeof *now);
    if (!now) return false;
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->cap; i++) {
        if (!s->slots[i].key || s->slots[i].used_s < since_s) continue;
        *slot_of(now, cap, s->slots[i].key) = s->slots[i];
        count++;
    }
    free(s->slots);
    s->slots = now;
    s->cap = cap;
    s->count = count;
    return true;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* A time before which about half of them were used last. */
static uint32_t middle(const loami_sides *s)
{
    uint32_t sample[1024], n = 0;
    for (uint32_t i = 0; i < s->cap && n < 1024; i += s->cap / 4096 + 1)
        if (s->slots[i].key) sample[n++] = s->slots[i].used_s;
    if (!n) return 0;
    qsort(sample, n, sizeof *sample, by_number);
    return sample[n / 2] + 1;
}

static bool make_room(loami_sides *s)
{
    if ((uint64_t)s->count * 4 < (uint64_t)s->cap * 3) return true;
    if (s->count < LOAMI_SIDES_MAX) return rebuild(s, s->cap * 2, 0);
    return rebuild(s, s->cap, middle(s)) && (uint64_t)s->count * 4 < (uint64_t)s->cap * 3;
}

static void keep(loami_sides *s, const record *r)
{
    if (!make_room(s)) {
        if ((uint64_t)s->count + 1 >= s->cap) return;
    }
    record *to = slot_of(s->slots, s->cap, r->key);
    if (!to->key) s->count++;
    *to = *r;
}

/* ---- the file ------------------------------------------------------------------------------------ */

static bool write_all(int fd, const void *bytes, size_t n)
{
    const char *p = bytes;
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

/* The table alone, without the records that later ones replaced. */
static int compact(loami_sides *s, loam_err *err)
{
    size_t n = strlen(s->path);
    char *tmp = malloc(n + 5);
    if (!tmp) return loami_fail_nomem(err);
    memcpy(tmp, s->path, n);
    memcpy(tmp + n, ".new", 5);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600), rc = 0;
    bool ok = fd >= 0;
    for (uint32_t i = 0; ok && i < s->cap; i++)
        if (s->slots[i].key) ok = write_all(fd, &s->slots[i], sizeof s->slots[i]);
    if (!ok || rename(tmp, s->path) < 0) rc = loami_fail_errno(err, "%s: cannot write", tmp);
    free(tmp);
    if (rc < 0) {
        if (fd >= 0) close(fd);
        return rc;
    }
    if (s->fd >= 0) close(s->fd);
    s->fd = fd;
    s->n_written = s->count;
    return 0;
}

static int load(loami_sides *s, loam_err *err)
{
    record r[512];
    FILE *f;
    size_t n;
    int fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return 0;
    f = fd < 0 ? NULL : fdopen(fd, "rb");
    if (!f) {
        if (fd >= 0) close(fd);
        return loami_fail_errno(err, "%s", s->path);
    }
    while ((n = fread(r, sizeof r[0], 512, f)) > 0)
        for (size_t i = 0; i < n; i++)
            if (r[i].key && r[i].side > LOAMI_SIDE_NONE && r[i].side <= LOAMI_SIDE_BOTH &&
                r[i].check == check_of(&r[i]) && r[i].share >= 0 && r[i].share <= 1)
                keep(s, &r[i]);
    int rc = ferror(f) ? loami_fail_errno(err, "%s: cannot read", s->path) : 0;
    fclose(f);
    return rc;
}

int loami_sides_open(loami_sides **out, const char *path, loam_err *err)
{
    loami_sides *s = calloc(1, sizeof *s);
    int rc = 0;
    if (!s) return loami_fail_nomem(err);
    s->fd = -1;
    s->cap = FIRST_SLOTS;
    s->slots = calloc(s->cap, sizeof *s->slots);
    s->path = path ? strdup(path) : NULL;
    if (!s->slots || (path && !s->path)) rc = loami_fail_nomem(err);
    if (rc == 0 && path) rc = load(s, err);
    if (rc == 0 && path) rc = compact(s, err);
    if (rc < 0)
        loami_sides_close(s);
    else
        *out = s;
    return rc;
}

void loami_sides_close(loami_sides *s)
{
    if (!s) return;
    if (s->fd >= 0) close(s->fd);
    free(s->slots);
    free(s->path);
    free(s);
}

/* ---- asking -------------------------------------------------------------------------------------- */

static uint64_t sound(uint64_t key)
{
    return key ? key : 1;
}

bool loami_sides_get(const loami_sides *s, uint64_t key, loami_seat *out)
{
    const record *r = slot_of(s->slots, s->cap, sound(key));
    if (!r->key) return false;
    *out = (loami_seat){ .side = r->side, .requests = r->requests, .used_s = r->used_s, .share = r->share };
    return true;
}

void loami_sides_put(loami_sides *s, uint64_t key, const loami_seat *seat)
{
    record r = { .key = sound(key),
                 .used_s = seat->used_s,
                 .share = seat->share,
                 .side = (uint8_t)seat->side,
                 .requests = seat->requests };
    r.check = check_of(&r);
    keep(s, &r);
    if (s->fd < 0) return;
    write_all(s->fd, &r, sizeof r); /* a full disk: the table in memory still knows */
    if (++s->n_written > RECORDS_MAX && s->n_written > 4 * (uint64_t)s->count) compact(s, NULL);
}

uint32_t loami_sides_count(const loami_sides *s)
{
    return s->count;
}

uint32_t loami_sides_alive(const loami_sides *s, loami_side side, uint32_t since_s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->cap; i++)
        n += s->slots[i].key && s->slots[i].side == side && s->slots[i].used_s >= since_s;
    return n;
}

int loami_sides_clear(loami_sides *s, loam_err *err)
{
    memset(s->slots, 0, s->cap * sizeof *s->slots);
    s->count = 0;
    return s->path ? compact(s, err) : 0;
}
