/* substrate/groups.h: how the layers of a KV cache fall into groups, and what a window sees. */
#ifndef LOAMI_SUBSTRATE_GROUPS_H
#define LOAMI_SUBSTRATE_GROUPS_H

#include "loam_substrate.h"

/* The first position that the row at pos attends to. window 0: there is none. */
static inline uint32_t loami_window_from(uint32_t window, uint32_t pos)
{
    return window && pos >= window ? pos + 1 - window : 0;
}

static inline uint32_t loami_kv_group_of(const loam_kv_config *c, uint32_t layer)
{
    return c->group_of ? c->group_of[layer] : 0;
}

/* Pages that one layer has. */
static inline uint32_t loami_kv_pages_of(const loam_kv_config *c, uint32_t layer)
{
    return c->group[loami_kv_group_of(c, layer)].n_pages;
}

static inline uint32_t loami_kv_layers(const loam_kv_config *c, uint32_t group)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_layers; i++) n += loami_kv_group_of(c, i) == group;
    return n;
}

/* Of all layers together. */
static inline uint64_t loami_kv_pages(const loam_kv_config *c)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < c->n_layers; i++) n += loami_kv_pages_of(c, i);
    return n;
}

/* Whether every layer has a group. */
static inline bool loami_kv_grouped(const loam_kv_config *c)
{
    bool good = c->n_groups > 0 && c->n_groups <= LOAM_KV_GROUPS;
    for (uint32_t i = 0; good && i < c->n_layers; i++) good = loami_kv_group_of(c, i) < c->n_groups;
    return good;
}

#endif
