#include "net/conn.h"

#include "base/system.h"

enum {
    SMALL_BYTES = 16 * 1024, /* a request that is no larger is never refused: health is answered whatever others hold */
    TRIM_BYTES = 8 << 20,    /* less than before: worth a walk through the allocator's pages */
};
static const double TRIM_AFTER_S = 1; /* and no more often than that */

void loami_bodies_add(loami_conn *c, size_t n)
{
    struct loami_server *s = c->server;
    c->got_bytes += n;
    size_t held = atomic_fetch_add(&s->held_bytes, n) + n;
    if (held > s->most_bytes) s->most_bytes = held;
    c->over = held > s->config.max_bodies_bytes && c->got_bytes > SMALL_BYTES;
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
    s->most_bytes = atomic_load(&s->held_bytes);
    s->trimming = false;
    loami_memory_trim();
}

void loami_bodies_tidy(struct loami_server *s)
{
    if (s->trimming || s->most_bytes < atomic_load(&s->held_bytes) + TRIM_BYTES) return;
    s->trimming = loami_timer_set(s->loop, &s->trim_timer, TRIM_AFTER_S, trim, s);
}

void loami_bodies_fault(const struct loami_server *s, loami_fault *f)
{
    loami_fault_set(f, 503, "too_many_bytes", "",
                    "The requests that are here hold the %zu bytes that all bodies together may take. Try again later.",
                    s->config.max_bodies_bytes);
}
