#include "substrate/mlx/shim.h"

#include <cstring>

extern "C" {
#include "base/err.h"
}

/* ---- memory --------------------------------------------------------------------------------------------- */

static uint64_t token_bytes(const loam_sub *s) /* of one layer */
{
    return 2ull * s->kv.n_kv * s->kv.head_dim * mx::size_of(s->type.value_or(mx::bfloat16));
}

int loami_mlx_kv_open(loam_sub *s, const loam_kv_config *config, uint64_t *bytes, loam_err *err)
{
    if (config->type != LOAM_KV_FULL)
        return loami_fail(err, LOAM_E_UNSUPPORTED, "mlx: an 8-bit KV cache is not offered here: leave --kv-type out");
    if (!loami_kv_grouped(config)) return loami_fail(err, LOAM_E_UNSUPPORTED, "mlx: a KV cache of %u groups", config->n_groups);
    s->kv = *config;
    for (uint32_t g = 0; g < config->n_groups; g++) {
        uint64_t tokens = (uint64_t)config->group[g].n_pages * (uint64_t)s->page_tokens;
        if (tokens > INT32_MAX) return loami_fail(err, LOAM_E_UNSUPPORTED, "mlx: a cache of %llu tokens", (unsigned long long)tokens);
        s->group[g].cache_tokens = 0;
    }
    uint64_t most = loami_kv_pages(config) * (uint64_t)s->page_tokens * token_bytes(s), used = mx::get_active_memory(), limit = mx::get_memory_limit();
    if (s->gpu && used + most > limit)
        return loami_fail(err, LOAM_E_NOMEM,
                          "the cache may grow to %.1f GB beside %.1f GB of weights, the GPU has %.1f GB: ask for a smaller context or fewer "
                          "requests at once", (double)most / 1e9, (double)used / 1e9, (double)limit / 1e9);
    s->cache.assign(config->n_layers, {});
    *bytes = most;
    return 0;
}

/* The caches of a group's layers. */
static std::vector<loami_mlx_cache *> caches_of(loam_sub *s, uint32_t group)
{
    std::vector<loami_mlx_cache *> all;
    for (uint32_t i = 0; i < s->kv.n_layers; i++)
        if (loami_kv_group_of(&s->kv, i) == group) all.push_back(&s->cache[i]);
    return all;
}

/* Room for the first n tokens, in all layers of the group: half as much again as there was, so that growing is rare. */
static void grow(loam_sub *s, uint32_t group, int n)
{
    int page = s->page_tokens, all = (int)s->kv.group[group].n_pages * page, had = s->group[group].cache_tokens;
    if (n <= had) return;
    n = std::min(all, (std::max(n, had + had / 2) + page - 1) / page * page);
    mx::Shape more = { n - had, (int)s->kv.n_kv, (int)s->kv.head_dim };
    for (loami_mlx_cache *c : caches_of(s, group)) {
        mx::array zeros = mx::zeros(more, *s->type);
        c->k = c->k ? mx::concatenate({ *c->k, zeros }, 0) : mx::zeros(more, *s->type);
        c->v = c->v ? mx::concatenate({ *c->v, zeros }, 0) : mx::zeros(more, *s->type);
        mx::eval(*c->k, *c->v);  /* layer by layer: no second cache beside the first */
    }
    s->group[group].cache_tokens = n;
}

/* An array not yet evaluated stands for a write that failed or never ran; its first input is what it was before. */
static void undo(std::optional<mx::array> &a)
{
    while (a && a->status() == mx::array::unscheduled && !a->inputs().empty()) {
        mx::array before = a->inputs()[0];
        a = before;
    }
}

void loami_mlx_cache_rollback(loam_sub *s)
{
    for (loami_mlx_cache &c : s->cache) {
        undo(c.k);
        undo(c.v);
    }
}

/* ---- where rows go -------------------------------------------------------------------------------------- */

/* Whether the first n numbers follow each other. */
static bool consecutive(const uint32_t *page, int n)
{
    for (int i = 1; i < n; i++)
        if (page[i] != page[0] + (uint32_t)i) return false;
    return true;
}

/* What of a step has to be on the device goes there as one array; a name for each range of it. */
struct shipment {
    std::vector<int> all;

    mx::Shape put(const std::vector<int> &v)
    {
        all.insert(all.end(), v.begin(), v.end());
        return { (int)(all.size() - v.size()), (int)all.size() };
    }
};

static mx::array unpack(const mx::array &all, const mx::Shape &range)
{
    return mx::slice(all, { range[0] }, { range[1] });
}

/* The first sequences that have few rows: of each row how many keys it sees. Few: for so many our kernel, which
 * reads the keys again for every row, takes less than cuDNN needs to prepare for numbers of rows and keys that it has not
 * met (85 ms a step on an H100). */
static void plan_single(loam_sub *s, std::vector<int> &lengths)
{
    enum { FEW = 64 };
    const loam_batch *b = s->batch;
    s->n_single = s->n_single_rows = s->longest = 0;
    for (uint32_t i = 0; i < b->n_seqs && b->seqs[i].n_rows <= FEW; i++) {
        const loam_seq_rows *q = &b->seqs[i];
        s->n_single++;
        s->n_single_rows += (int)q->n_rows;
        s->longest = std::max(s->longest, (int)(q->n_past + q->n_rows));
        for (uint32_t r = 0; r < q->n_rows; r++) lengths.push_back((int)(q->n_past + r + 1));
    }
}

/* The pages of those rows, for a group's layers. */
static void plan_pages(const loam_sub *s, uint32_t group, const std::vector<int> &lengths, std::vector<int> &pages)
{
    size_t most = std::max<size_t>(1, (size_t)((s->longest + s->page_tokens - 1) / s->page_tokens)), row = 0;
    for (int i = 0; i < s->n_single; i++) {
        const loam_seq_rows *q = &s->batch->seqs[i];
        for (uint32_t r = 0; r < q->n_rows; r++, row++)
            for (size_t p = 0; p < most; p++) pages.push_back((int)p * s->page_tokens < lengths[row] ? (int)q->pages[group][p] : 0);
    }
}

/* Where one sequence's rows of a group go and come from. Returns how many tokens the cache must have room for. */
static int plan_place(const loam_sub *s, uint32_t group, const loam_seq_rows *q, loami_mlx_place &at, std::vector<int> &slots)
{
    const uint32_t *page = q->pages[group];
    int size = s->page_tokens, past = (int)q->n_past, n = past + (int)q->n_rows, pages = (n + size - 1) / size, most = 0;
    int first = (int)loami_window_from(s->kv.group[group].window, q->n_past) / size;
    if (consecutive(page + first, pages - first)) {
        at.run = ((int)page[first] - first) * size;
    } else {
        std::vector<int> index((size_t)n);
        for (int t = first * size; t < n; t++) index[(size_t)t] = (int)page[t / size] * size + t % size;
        at.index = mx::array(index.begin(), { n }, mx::int32);
    }
    for (int t = past; t < n; t++) slots[q->first_row + (uint32_t)(t - past)] = (int)page[t / size] * size + t % size;
    for (int p = first; p < pages; p++) most = std::max(most, ((int)page[p] + 1) * size);
    return most;
}

/* Those of all sequences. */
static int plan_group(loam_sub *s, uint32_t group, std::vector<int> &slots)
{
    loami_mlx_group &g = s->group[group];
    int most = 0;
    for (size_t i = 0; i < s->seqs.size(); i++) most = std::max(most, plan_place(s, group, &s->batch->seqs[i], s->seqs[i].at[group], slots));
    g.slot_run = slots.empty() ? -1 : slots[0];
    for (size_t i = 1; i < slots.size(); i++)
        if (slots[i] != slots[0] + (int)i) g.slot_run = -1;
    return most;
}

static std::vector<int> plan_seqs(loam_sub *s)
{
    const loam_batch *b = s->batch;
    std::vector<int> positions(b->n_rows);
    for (uint32_t i = 0; i < b->n_seqs; i++) {
        const loam_seq_rows *q = &b->seqs[i];
        for (uint32_t r = 0; r < q->n_rows; r++) positions[q->first_row + r] = (int)(q->n_past + r);
        if (q->pages[0] && !s->cache.empty()) s->seqs.push_back({ (int)q->first_row, (int)q->n_rows, (int)q->n_past, {} });
    }
    return positions;
}

void loami_mlx_cache_begin(loam_sub *s)
{
    const loam_batch *b = s->batch;
    std::vector<int> lengths, tokens, wanted(b->wanted, b->wanted + b->n_wanted), positions = plan_seqs(s);
    uint32_t n_groups = s->seqs.empty() ? 0 : s->kv.n_groups;
    int most[LOAM_KV_GROUPS];
    mx::Shape slots_at[LOAM_KV_GROUPS], pages_at[LOAM_KV_GROUPS];
    shipment cargo;

    if (b->tokens) tokens.assign(b->tokens, b->tokens + b->n_rows);
    if (n_groups && s->kernels) plan_single(s, lengths);
    mx::Shape r[] = { cargo.put(tokens), cargo.put(positions), cargo.put(wanted), cargo.put(lengths) };
    for (uint32_t g = 0; g < n_groups; g++) {
        std::vector<int> slots(b->n_rows), pages;
        most[g] = plan_group(s, g, slots);
        if (s->kernels) plan_pages(s, g, lengths, pages);
        slots_at[g] = cargo.put(slots);
        pages_at[g] = cargo.put(pages);
    }
    mx::array all(cargo.all.begin(), { (int)cargo.all.size() }, mx::int32);
    if (s->kernels) all = mx::copy(all);
    s->tokens = b->tokens ? unpack(all, r[0]) : s->under_way.back();
    s->positions = unpack(all, r[1]);
    s->wanted = unpack(all, r[2]);
    s->lengths = unpack(all, r[3]);
    for (uint32_t g = 0; g < n_groups; g++) {
        s->group[g].slots = unpack(all, slots_at[g]);
        s->group[g].pages = unpack(all, pages_at[g]);
        grow(s, g, most[g]);
    }
}

/* The cache with rows[n][n_kv][head_dim] in their places. MLX writes into the old array's memory if nobody else holds
 * it: the caller gives its own up by taking the result for it. */
static mx::array written(const loami_mlx_group &g, const mx::array &cache, const mx::array &rows)
{
    int n = rows.shape(0), n_kv = rows.shape(1), dim = rows.shape(2);
    if (g.slot_run >= 0) return mx::slice_update(cache, rows, mx::Shape{ g.slot_run, 0, 0 }, mx::Shape{ g.slot_run + n, n_kv, dim });
    return mx::scatter(cache, *g.slots, mx::expand_dims(rows, 1), 0);
}

void loami_mlx_cache_write(loam_sub *s, uint32_t layer, const mx::array &k, const mx::array &v)
{
    loami_mlx_cache &c = s->cache.at(layer);
    const loami_mlx_group &g = s->group[loami_kv_group_of(&s->kv, layer)];
    c.k = written(g, *c.k, k);
    c.v = written(g, *c.v, v);
}

mx::array loami_mlx_cache_view(const mx::array &cache, const loami_mlx_place &at, int from, int to)
{
    int n_kv = cache.shape(1), dim = cache.shape(2);
    mx::array rows = at.index ? mx::take(cache, mx::slice(*at.index, { from }, { to }), 0)
                              : mx::slice(cache, { at.run + from, 0, 0 }, { at.run + to, n_kv, dim });
    return mx::expand_dims(mx::transpose(rows, { 1, 0, 2 }), 0);
}

void loami_mlx_kv_copy(loam_sub *s, uint32_t group, uint32_t dst, uint32_t src, uint32_t n_tokens)
{
    int page = s->page_tokens, n_kv = (int)s->kv.n_kv, dim = (int)s->kv.head_dim, n = (int)n_tokens;
    int to = (int)dst * page, from = (int)src * page;
    if (n == 0) return;
    grow(s, group, std::max(to, from) + page);
    for (loami_mlx_cache *c : caches_of(s, group)) {
        for (std::optional<mx::array> *a : { &c->k, &c->v }) {
            mx::array rows = mx::copy(mx::slice(**a, { from, 0, 0 }, { from + n, n_kv, dim }));
            mx::eval(rows);      /* or the slice would keep the cache from being written in place */
            *a = mx::slice_update(**a, rows, mx::Shape{ to, 0, 0 }, mx::Shape{ to + n, n_kv, dim });
            mx::eval(**a);
        }
    }
}

/* ---- pages elsewhere ------------------------------------------------------------------------------------ */

void loami_mlx_kv_read(loam_sub *s, uint32_t group, uint32_t page, void *bytes)
{
    int tokens = s->page_tokens, n_kv = (int)s->kv.n_kv, dim = (int)s->kv.head_dim, from = (int)page * tokens;
    char *out = (char *)bytes;
    grow(s, group, from + tokens);
    for (loami_mlx_cache *c : caches_of(s, group)) {
        for (const std::optional<mx::array> *a : { &c->k, &c->v }) {
            mx::array rows = mx::contiguous(mx::slice(**a, { from, 0, 0 }, { from + tokens, n_kv, dim }));
            mx::eval(rows);
            memcpy(out, rows.data<char>(), rows.nbytes());
            out += rows.nbytes();
        }
    }
}

void loami_mlx_kv_write(loam_sub *s, uint32_t group, uint32_t page, const void *bytes)
{
    int tokens = s->page_tokens, n_kv = (int)s->kv.n_kv, dim = (int)s->kv.head_dim, to = (int)page * tokens;
    size_t n = (size_t)tokens * n_kv * dim * mx::size_of(*s->type);
    const char *in = (const char *)bytes;
    mx::Shape raw = { tokens, n_kv, dim * (int)mx::size_of(*s->type) };
    grow(s, group, to + tokens);
    for (loami_mlx_cache *c : caches_of(s, group)) {
        for (std::optional<mx::array> *a : { &c->k, &c->v }) {
            mx::array rows = mx::view(mx::array((const uint8_t *)in, raw, mx::uint8), *s->type);
            *a = mx::slice_update(**a, rows, mx::Shape{ to, 0, 0 }, mx::Shape{ to + tokens, n_kv, dim });
            mx::eval(**a);
            in += n;
        }
    }
}
