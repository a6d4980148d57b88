#include "engine/tier.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mix.h"
#include "engine/frames.h"

#include <string.h>

static const uint64_t DISK_BYTES_DEFAULT = (uint64_t)8 << 30;
static const double CLOSE_S = 5;       /* at the end, for what has not been written: then it is lost, which only costs time */

static uint64_t mix_text(uint64_t h, const char *s)
{
    return loami_mix(h, s, strlen(s));
}

/* All that must be the same for a page to be the same; FORM is raised when a substrate writes the same page otherwise. */
static uint64_t identity(const loam_engine *e, const loam_kv_config *kv)
{
    enum { FORM = 2 };
    uint64_t h = loami_mix_word(loami_model_identity(e->model), FORM);
    h = mix_text(mix_text(mix_text(h, LOAM_VERSION), e->machine.api->name), e->sub_info.device);
    h = loami_mix_word(loami_mix_word(loami_mix_word(h, kv->n_layers), kv->n_kv), kv->head_dim);
    h = loami_mix_word(loami_mix_word(h, kv->type), e->sub_info.page_tokens);
    if (kv->n_groups > 1) h = loami_mix(h, kv->group_of, kv->n_layers);
    return loami_mix_word(loami_mix_word(h, e->options.exact), e->options.batch_invariant);
}

/* A file has a page of each group. */
static uint64_t page_bytes(const loam_engine *e, const loam_kv_config *kv)
{
    uint64_t n = 0;
    for (uint32_t g = 0; g < kv->n_groups; g++) n += e->machine.api->kv_page_bytes(e->machine.sub, kv, g);
    return n;
}

static void on_room(void *arg)
{
    loami_engine_kick(arg);
}

int loami_tier_open(loam_engine *e, const loam_kv_config *kv, loam_err *err)
{
    const loam_substrate *api = e->machine.api;
    if (!e->options.kv_dir || !*e->options.kv_dir) return 0;
    if (!api->kv_read || !api->kv_write)
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: its KV pages can't be written to files: leave --kv-dir out", api->name);
    loami_disk_config c = { .dir = e->options.kv_dir, .identity = identity(e, kv), .page_bytes = page_bytes(e, kv),
                            .page_tokens = e->sub_info.page_tokens, .context_tokens = e->info.context_tokens,
                            .limit_bytes = e->options.kv_disk_bytes ? e->options.kv_disk_bytes : DISK_BYTES_DEFAULT, .on_room = on_room,
                            .arg = e };
    e->page_bytes = api->kv_page_bytes(e->machine.sub, kv, 0);
    e->spelled = loami_arena_array(&e->arena, e->info.context_tokens, sizeof *e->spelled);
    return e->spelled ? loami_disk_open(&e->disk, &c, err) : loami_fail_nomem(err);
}

static bool put_page(loam_engine *e, const loami_holding *h, const char *bytes)
{
    const loami_machine *m = &e->machine;
    uint32_t at = h->n_shared;
    return m->api->kv_write(m->sub, 0, h->pages[at], bytes) && (!e->near_window || m->api->kv_write(m->sub, 1, h->near[at], bytes + e->page_bytes));
}

static bool get_page(loam_engine *e, uint32_t page, uint32_t near, char *bytes)
{
    const loami_machine *m = &e->machine;
    return m->api->kv_read(m->sub, 0, page, bytes) && (!e->near_window || m->api->kv_read(m->sub, 1, near, bytes + e->page_bytes));
}

bool loami_tier_restore(loam_engine *e, loam_stream *s)
{
    loami_holding *h = &s->holding;
    uint32_t page = e->sub_info.page_tokens;
    uint64_t hash;
    if (!e->disk || !h->keep) return false;
    for (uint32_t end = (h->n_shared + 1) * page; end < s->n_tokens; end += page) {
        const void *bytes = NULL;
        if (!loami_disk_has(e->disk, hash = loami_pages_next(e->pages, loami_pages_last(e->pages, h), s->tokens + end - page))) return false;
        if (loami_now_s() >= e->load_until_s) return e->loading = true;
        if (!loami_pages_grow(e->pages, h, h->n_shared + 1)) return false;
        bytes = loami_disk_get(e->disk, hash, h->salt, s->tokens, end);
        if (!bytes) return false; /* the page taken for it will be filled the long way */
        if (!put_page(e, h, bytes)) return false;
        loami_pages_publish(e->pages, h, s->tokens, end);
        loami_pages_pass(e->pages, h, end);
        s->n_past = end;
        if (s->n_preempted) continue;
        s->n_cached += page;
        e->meter.prefix_hits += page;
        e->meter.disk_hits += page;
    }
    return false;
}

/* One page; false when there is none or no room. One without its near page is not written: nobody could begin behind it, and it is new
 * again when it gets one. */
static bool save_one(loam_engine *e, bool wait)
{
    uint32_t page, near;
    uint64_t hash, salt;
    do
        if (!loami_pages_fresh(e->pages, &page, &near, &hash)) return false;
    while ((e->near_window && near == LOAMI_NO_FRAME) || loami_disk_has(e->disk, hash));
    void *room = loami_disk_room(e->disk, wait);
    if (!room) {
        loami_pages_fresh_again(e->pages, page);
        return false;
    }
    uint32_t n = loami_pages_spell(e->pages, page, e->spelled, e->info.context_tokens, &salt);
    if (n == 0) return true;
    if (!get_page(e, page, near, room)) return true;
    loami_disk_put(e->disk, hash, salt, e->spelled, n);
    return true;
}

void loami_tier_save(loam_engine *e)
{
    while (e->disk && save_one(e, false)) continue;
}

void loami_tier_close(loam_engine *e)
{
    double until = loami_now_s() + CLOSE_S;
    while (e->disk && e->pages && loami_now_s() < until && save_one(e, true)) continue;
    loami_disk_close(e->disk);
    e->disk = NULL;
}
