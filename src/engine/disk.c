#include "engine/disk.h"
#include "base/file.h"
#include "base/mix.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    ENTRIES_MAX = 1 << 20,
    BUFFERS_MAX = 16,
    FILE_PATH_MAX = LOAMI_PATH_MAX + 64,
    BUFFERS_BYTES = 64 << 20,  /* of all together, unless two need more */
};

static const char MAGIC[8] = "loamkv1\n";
static const char ENDING[] = ".page";

/* ---- the index: which pages there are ------------------------------------------------------------------------ */

typedef struct entry {
    uint64_t hash;             /* 0 = free */
    uint64_t used;             /* order of last use */
    uint64_t bytes;
} entry;

typedef struct buffer {
    char *bytes;               /* a whole file's */
    size_t n;
    uint64_t hash;
    uint32_t depth;            /* pages before this one */
} buffer;

struct loami_disk {
    loami_disk_config c;
    char folder[LOAMI_PATH_MAX];
    pthread_mutex_t lock;      /* of the index and the queue */
    pthread_cond_t wake, room;
    pthread_t thread;
    bool started, closing, hungry;
    entry *entry;              /* [n_entries] a power of two; at most half are taken */
    uint32_t n_entries, n_taken;
    uint64_t bytes, clock;
    buffer *buffer;            /* [n_buffers] a ring */
    uint32_t n_buffers, head, tail;
    char *read;                /* a whole file's */
    size_t file_most;
};

static entry *look_up(const loami_disk *d, uint64_t hash)
{
    uint32_t at = (uint32_t)(hash >> 20) & (d->n_entries - 1);
    while (d->entry[at].hash && d->entry[at].hash != hash) at = (at + 1) & (d->n_entries - 1);
    return &d->entry[at];
}

/* Takes an entry out and moves those behind it up, so that none is cut off from its place. */
static void take_out(loami_disk *d, entry *e)
{
    uint32_t mask = d->n_entries - 1, hole = (uint32_t)(e - d->entry);
    d->bytes -= e->bytes;
    d->n_taken--;
    for (uint32_t at = (hole + 1) & mask; d->entry[at].hash; at = (at + 1) & mask) {
        uint32_t home = (uint32_t)(d->entry[at].hash >> 20) & mask;
        if (((at - home) & mask) < ((at - hole) & mask)) continue;
        d->entry[hole] = d->entry[at];
        hole = at;
    }
    d->entry[hole] = (entry){ 0 };
}

static void put_in(loami_disk *d, uint64_t hash, uint64_t bytes, uint64_t used)
{
    entry *e = look_up(d, hash);
    if (!e->hash) d->n_taken++;
    d->bytes += bytes - e->bytes;
    *e = (entry){ hash, used, bytes };
}

static void path_of(const loami_disk *d, char out[FILE_PATH_MAX], uint64_t hash, const char *ending)
{
    snprintf(out, FILE_PATH_MAX, "%s/%016llx%s", d->folder, (unsigned long long)hash, ending);
}

static void remove_file(const loami_disk *d, uint64_t hash)
{
    char path[FILE_PATH_MAX];
    path_of(d, path, hash, ENDING);
    unlink(path);
}

/* Makes room for one more of so many bytes: with the lock held. */
static void make_room(loami_disk *d, uint64_t bytes)
{
    while (d->n_taken && (d->bytes + bytes > d->c.limit_bytes || d->n_taken >= d->n_entries / 2)) {
        entry *oldest = NULL;
        for (uint32_t i = 0; i < d->n_entries; i++)
            if (d->entry[i].hash && (!oldest || d->entry[i].used < oldest->used)) oldest = &d->entry[i];
        if (!oldest) return;
        remove_file(d, oldest->hash);
        take_out(d, oldest);
    }
}

/* Later pages of a text count as used earlier: they go first. */
static uint64_t now_used(loami_disk *d, uint32_t depth)
{
    d->clock += 1u << 20;
    return d->clock - depth;
}

/* ---- one file ------------------------------------------------------------------------------------------------ */

static uint64_t checksum(const char *bytes, size_t n)
{
    size_t at = offsetof(loami_disk_head, check), after = at + sizeof(uint64_t);
    return loami_mix(loami_mix(0, bytes, at), bytes + after, n - after);
}

size_t loami_disk_check(const loami_disk_config *c, const void *bytes, size_t n, uint64_t hash, uint64_t salt, const int32_t *tokens,
                        uint32_t n_tokens)
{
    loami_disk_head head;
    size_t start = sizeof head + (size_t)n_tokens * sizeof *tokens;
    if (n < sizeof head || c->page_bytes > SIZE_MAX - start || n != start + c->page_bytes) return 0;
    memcpy(&head, bytes, sizeof head);
    if (memcmp(head.magic, MAGIC, sizeof MAGIC) != 0 || head.identity != c->identity || head.hash != hash || head.salt != salt) return 0;
    if (head.page_bytes != c->page_bytes || head.page_tokens != c->page_tokens || head.n_tokens != n_tokens) return 0;
    if (memcmp((const char *)bytes + sizeof head, tokens, (size_t)n_tokens * sizeof *tokens) != 0) return 0;
    return head.check == checksum(bytes, n) ? start : 0;
}

/* The file's bytes into d->read; 0 = there is none. */
static size_t read_file(loami_disk *d, uint64_t hash)
{
    char path[FILE_PATH_MAX];
    struct stat st;
    size_t n = 0;
    path_of(d, path, hash, ENDING);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); /* a pipe put there would wait for a writer */
    if (fd < 0) return 0;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return 0;
    }
    for (ssize_t got = 1; got > 0 && n < d->file_most; n += got > 0 ? (size_t)got : 0) got = read(fd, d->read + n, d->file_most - n);
    struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_NOW } };
    futimens(fd, times);       /* the next start finds it recently used */
    close(fd);
    return n;
}

const void *loami_disk_get(loami_disk *d, uint64_t hash, uint64_t salt, const int32_t *tokens, uint32_t n_tokens)
{
    if (!loami_disk_has(d, hash)) return NULL;
    size_t n = read_file(d, hash), start = loami_disk_check(&d->c, d->read, n, hash, salt, tokens, n_tokens);
    pthread_mutex_lock(&d->lock);
    entry *e = look_up(d, hash);
    if (e->hash && start) {
        e->used = now_used(d, n_tokens / d->c.page_tokens);
    } else if (e->hash) {      /* not what it should be, or gone */
        remove_file(d, hash);
        take_out(d, e);
    }
    pthread_mutex_unlock(&d->lock);
    return start ? d->read + start : NULL;
}

bool loami_disk_has(const loami_disk *d, uint64_t hash)
{
    loami_disk *shared = (loami_disk *)d; /* its lock */
    pthread_mutex_lock(&shared->lock);
    bool has = hash && look_up(d, hash)->hash;
    pthread_mutex_unlock(&shared->lock);
    return has;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static bool write_file(const loami_disk *d, const buffer *b)
{
    char path[FILE_PATH_MAX], temporary[FILE_PATH_MAX], ending[32];
    snprintf(ending, sizeof ending, ".%x.new", (unsigned)getpid());
    path_of(d, path, b->hash, ENDING);
    path_of(d, temporary, b->hash, ending);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    size_t done = 0;
    for (ssize_t put = 1; put > 0 && done < b->n; done += put > 0 ? (size_t)put : 0) put = write(fd, b->bytes + done, b->n - done);
    bool ok = close(fd) == 0 && done == b->n && rename(temporary, path) == 0;
    if (!ok) unlink(temporary); /* a full disk: then this page isn't kept */
    return ok;
}

static void *writer(void *arg)
{
    loami_disk *d = arg;
    pthread_mutex_lock(&d->lock);
    while (!d->closing || d->head != d->tail) {
        if (d->head == d->tail) {
            pthread_cond_wait(&d->wake, &d->lock);
            continue;
        }
        const buffer *b = &d->buffer[d->tail % d->n_buffers];
        bool fits = b->n <= d->c.limit_bytes;
        if (fits) make_room(d, b->n);
        pthread_mutex_unlock(&d->lock);
        uint64_t check = checksum(b->bytes, b->n);
        memcpy(b->bytes + offsetof(loami_disk_head, check), &check, sizeof check);
        bool written = fits && write_file(d, b);
        pthread_mutex_lock(&d->lock);
        if (written) put_in(d, b->hash, b->n, now_used(d, b->depth));
        d->tail++;
        bool tell = d->hungry && d->c.on_room;
        d->hungry = false;
        pthread_cond_signal(&d->room);
        if (!tell) continue;
        pthread_mutex_unlock(&d->lock);
        d->c.on_room(d->c.arg);
        pthread_mutex_lock(&d->lock);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

void *loami_disk_room(loami_disk *d, bool wait)
{
    pthread_mutex_lock(&d->lock);
    while (wait && d->head - d->tail == d->n_buffers) pthread_cond_wait(&d->room, &d->lock);
    bool full = d->head - d->tail == d->n_buffers;
    d->hungry |= full;
    pthread_mutex_unlock(&d->lock);
    return full ? NULL : d->buffer[d->head % d->n_buffers].bytes + d->file_most - d->c.page_bytes;
}

void loami_disk_put(loami_disk *d, uint64_t hash, uint64_t salt, const int32_t *tokens, uint32_t n_tokens)
{
    loami_disk_head head = { .identity = d->c.identity, .hash = hash, .salt = salt, .page_bytes = d->c.page_bytes,
                             .page_tokens = d->c.page_tokens, .n_tokens = n_tokens };
    buffer *b = &d->buffer[d->head % d->n_buffers];
    size_t start = sizeof head + (size_t)n_tokens * sizeof *tokens;
    memcpy(head.magic, MAGIC, sizeof MAGIC);
    memmove(b->bytes + start, b->bytes + d->file_most - d->c.page_bytes, d->c.page_bytes);
    memcpy(b->bytes, &head, sizeof head);
    memcpy(b->bytes + sizeof head, tokens, (size_t)n_tokens * sizeof *tokens);
    b->n = start + d->c.page_bytes;
    b->hash = hash;
    b->depth = n_tokens / d->c.page_tokens;
    pthread_mutex_lock(&d->lock);
    d->head++;
    pthread_cond_signal(&d->wake);
    pthread_mutex_unlock(&d->lock);
}

/* ---- open and close ---------------------------------------------------------------------------------------------- */

/* A file that is there: into the index, by the time of its last use. Others' leftovers go after a day. */
static int found(void *arg, const char *name)
{
    loami_disk *d = arg;
    struct stat st;
    char path[LOAMI_PATH_MAX + 300], *end;
    snprintf(path, sizeof path, "%s/%s", d->folder, name);
    if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode)) return 0;
    uint64_t hash = strtoull(name, &end, 16);
    if (end != name + 16) return 0;
    if (strcmp(end, ENDING) != 0) {
        size_t n = strlen(end);
        if (n > 4 && strcmp(end + n - 4, ".new") == 0 && time(NULL) - st.st_mtime > 86400) unlink(path);
        return 0;
    }
    uint64_t used = (uint64_t)st.st_mtime << 20;
    if (used > d->clock) d->clock = used;
    if (hash && d->n_taken < d->n_entries / 2) put_in(d, hash, (uint64_t)st.st_size, used);
    else unlink(path);
    return 0;
}

static bool take_memory(loami_disk *d)
{
    uint64_t most = d->c.limit_bytes / (d->c.page_bytes + 1) + 16, buffers = BUFFERS_BYTES / d->file_most;
    for (d->n_entries = 64; d->n_entries < 2 * most && d->n_entries < ENTRIES_MAX;) d->n_entries *= 2;
    d->n_buffers = buffers < 2 ? 2 : buffers < BUFFERS_MAX ? (uint32_t)buffers : BUFFERS_MAX;
    d->entry = calloc(d->n_entries, sizeof *d->entry);
    d->buffer = calloc(d->n_buffers, sizeof *d->buffer);
    d->read = malloc(d->file_most);
    if (!d->entry || !d->buffer || !d->read) return false;
    for (uint32_t i = 0; i < d->n_buffers; i++)
        if (!(d->buffer[i].bytes = malloc(d->file_most))) return false;
    return true;
}

static int start(loami_disk *d, loam_err *err)
{
    char name[32];
    snprintf(name, sizeof name, "%016llx", (unsigned long long)d->c.identity);
    int rc = loami_path_join(d->folder, d->c.dir, name, err);
    if (rc == 0) rc = loami_dir_make(d->folder, err);
    if (rc == 0 && access(d->folder, W_OK) != 0) rc = loami_fail(err, LOAM_E_IO, "%s: %s", d->folder, strerror(errno));
    if (rc == 0 && !take_memory(d)) rc = loami_fail_nomem(err);
    if (rc == 0) rc = loami_dir_each(d->folder, found, d, err);
    if (rc < 0) return rc;
    d->clock += 1u << 20;
    make_room(d, 0);
    if (pthread_create(&d->thread, NULL, writer, d) != 0) return loami_fail(err, LOAM_E_NOMEM, "the thread that writes pages can't be started");
    d->started = true;
    return 0;
}

int loami_disk_open(loami_disk **out, const loami_disk_config *c, loam_err *err)
{
    loami_disk *d = calloc(1, sizeof *d);
    if (!d) return loami_fail_nomem(err);
    d->c = *c;
    d->file_most = sizeof(loami_disk_head) + (size_t)c->context_tokens * sizeof(int32_t) + c->page_bytes;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->wake, NULL);
    pthread_cond_init(&d->room, NULL);
    int rc = start(d, err);
    if (rc < 0) loami_disk_close(d);
    else *out = d;
    return rc;
}

void loami_disk_close(loami_disk *d)
{
    if (!d) return;
    pthread_mutex_lock(&d->lock);
    d->closing = true;
    pthread_cond_signal(&d->wake);
    pthread_mutex_unlock(&d->lock);
    if (d->started) pthread_join(d->thread, NULL);
    for (uint32_t i = 0; d->buffer && i < d->n_buffers; i++) free(d->buffer[i].bytes);
    free(d->buffer);
    free(d->entry);
    free(d->read);
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->wake);
    pthread_cond_destroy(&d->room);
    free(d);
}

uint64_t loami_disk_memory(const loami_disk *d)
{
    return (uint64_t)(d->n_buffers + 1) * d->file_most + d->n_entries * sizeof *d->entry;
}

uint64_t loami_disk_bytes(const loami_disk *d)
{
    loami_disk *shared = (loami_disk *)d; /* its lock */
    pthread_mutex_lock(&shared->lock);
    uint64_t n = d->bytes;
    pthread_mutex_unlock(&shared->lock);
    return n;
}
