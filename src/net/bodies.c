#include "net/conn.h"

#include "base/system.h"

enum {
    SMALL_BYTES = 16 * 1024, /* a request that is no larger is never refused: health is answered whatever others hold */
    TRIM_BYTES = 8 << 20,    /* less than before: worth a walk through the allocator's pages */
};
static const double TRIM_AFTER_S = 1; /* and no more often than that */

/* n more; how many there are. A peak that two threads see at the same time may be the lesser one's: it only tells when to tidy. */
static size_t hold(struct loami_server *s, size_t n)
{
    size_t held = atomic_fetch_add(&s->held_bytes, n) + n;
    if (held > atomic_load(&s->most_bytes)) atomic_store(&s->most_bytes, held);
    return held;
}

void loami_bodies_add(loami_conn *c, size_t n)
{
    struct loami_server *s = c->server;
    c->got_bytes += n;
    c->over = hold(s, n) > s->config.max_bodies_bytes && c->got_bytes > SMALL_BYTES;
}

void loami_bodies_move(loami_reply *r, loami_conn *c)
{
    struct loami_server *s = r->server;
    size_t n = evbuffer_get_length(r->body);
    atomic_store(&r->held_bytes, n);
    atomic_fetch_add(&s->held_bytes, n);
    loami_bodies_drop(s, c->got_bytes);
    c->got_bytes = 0;
    c->over = false;
}

void loami_bodies_drop(struct loami_server *s, size_t n)
{
    atomic_fetch_sub(&s->held_bytes, n);
}

static void trim(void *arg)
{
    struct loami_server *s = arg;
    atomic_store(&s->most_bytes, atomic_load(&s->held_bytes));
    s->trimming = false;
    loami_memory_trim();
}

void loami_bodies_tidy(struct loami_server *s)
{
    if (s->trimming || atomic_load(&s->most_bytes) < atomic_load(&s->held_bytes) + TRIM_BYTES) return;
    s->trimming = loami_timer_set(s->loop, &s->trim_timer, TRIM_AFTER_S, trim, s);
}

bool loami_bodies_fit(const struct loami_server *s)
{
    return atomic_load(&s->held_bytes) <= s->config.max_bodies_bytes;
}

void loami_bodies_fault(const struct loami_server *s, loami_fault *f)
{
    loami_fault_set(f, 503, "too_many_bytes", "",
                    "The requests that are here hold the %zu bytes that all bodies together may take. Try again later.",
                    s->config.max_bodies_bytes);
}

static int charge(loami_reply *r, atomic_size_t *held, size_t n, const char *what, loami_fault *f)
{
    struct loami_server *s = r->server;
    size_t most = s->config.max_bodies_bytes;
    if (n > most)
        return loami_fault_set(f, 413, "request_too_large", "",
                               "%s takes %zu bytes of memory, and all requests together may take %zu: ask for less at once.", what, n, most);
    if (n > SMALL_BYTES && hold(s, n) > most) {
        loami_bodies_drop(s, n);
        loami_bodies_fault(s, f);
        return -1;
    }
    if (n > SMALL_BYTES) atomic_fetch_add(held, n);
    return 0;
}

int loami_reply_body_charge(loami_reply *r, size_t n, loami_fault *f)
{
    return charge(r, &r->held_bytes, n, "What the body says", f);
}

int loami_reply_answer_charge(loami_reply *r, size_t n, loami_fault *f)
{
    return charge(r, &r->answer_bytes, n, "The answer", f);
}
