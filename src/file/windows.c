#include "file/windows.h"

#include <string.h>

/* The last of so many layers has none, where there are no layer_types; `key` of config.json can say another number. */
static const struct {
    const char *family;
    uint32_t of;
    const char *key;
} turns[] = { { "gemma2", 2, NULL }, { "gpt_oss", 2, NULL }, { "gemma3_text", 6, "sliding_window_pattern" } };

static bool slides(const loami_config *c, uint32_t layer)
{
    const json_t *types = json_object_get(c->json, "layer_types");
    const char *type = json_string_value(json_array_get(types, layer));
    if (types) return type && strcmp(type, "sliding_attention") == 0;
    for (size_t i = 0; i < sizeof turns / sizeof turns[0]; i++) {
        uint32_t of = turns[i].of;
        if (strcmp(c->family, turns[i].family) != 0) continue;
        if (turns[i].key) loami_json_u32(c->json, "config.json", turns[i].key, 1, 1024, &of, NULL);
        return layer % of != of - 1;
    }
    return false;
}

loami_windows loami_windows_of(const loami_config *c)
{
    loami_windows w = { 0 };
    if (loami_json_u32(c->json, "config.json", "sliding_window", 1, 1u << 30, &w.tokens, NULL) < 0 || w.tokens == 0) return w;
    for (uint32_t i = 0; i < c->n_layers; i++) w.n_layers += slides(c, i);
    return w.n_layers < c->n_layers ? w : (loami_windows){ 0 };
}

uint64_t loami_window_pages(uint32_t tokens, uint32_t page_tokens, uint64_t n_all)
{
    uint64_t n = (tokens + (uint64_t)page_tokens - 2) / page_tokens + 2; /* the window without the token itself, wherever it begins; the token's */
    return n < n_all ? n : n_all;
}

uint64_t loami_near_pages(const loami_near_room *r, uint64_t n)
{
    uint64_t share = n * r->near_each / r->each * (r->n_running + r->contexts) / r->contexts;
    if (r->near_each == 0) return 0;
    if (share > n) share = n;
    return (share > r->near_each ? share : r->near_each) + r->spare;
}
