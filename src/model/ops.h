/* model/ops.h: the substrate's operations as the words in which model files are written. */
#ifndef LOAMI_OPS_H
#define LOAMI_OPS_H

#include "loam_substrate.h"

/* An open substrate. */
typedef struct loami_machine {
    const loam_substrate *api;
    loam_sub *sub;
} loami_machine;

static inline loam_tensor embed(const loami_machine *s, const loam_weight *table, float scale)
{
    return s->api->embed(s->sub, table, scale);
}

static inline loam_tensor norm(const loami_machine *s, loam_tensor x, const loam_norm *n)
{
    return s->api->norm(s->sub, x, n);
}

static inline loam_tensor linear(const loami_machine *s, loam_tensor x, const loam_weight *w)
{
    return s->api->linear(s->sub, x, w);
}

static inline loam_tensor glu(const loami_machine *s, loam_tensor x, const loam_weight *gate_up, loam_act act)
{
    return s->api->glu(s->sub, x, gate_up, act);
}

static inline loam_tensor add(const loami_machine *s, loam_tensor x, loam_tensor y, float y_scale)
{
    return s->api->add(s->sub, x, y, y_scale);
}

static inline loam_tensor cap(const loami_machine *s, loam_tensor x, float scale, float limit)
{
    return s->api->cap(s->sub, x, scale, limit);
}

static inline loam_tensor store(const loami_machine *s, loam_tensor qkv, uint32_t layer, const loam_heads *heads)
{
    return s->api->store(s->sub, qkv, layer, heads);
}

static inline loam_tensor attend(const loami_machine *s, loam_tensor q, uint32_t layer, const loam_heads *heads,
                                 const loam_attn *attn)
{
    return s->api->attend(s->sub, q, layer, heads, attn);
}

static inline loam_tensor moe(const loami_machine *s, loam_tensor x, const loam_moe *experts)
{
    return s->api->moe(s->sub, x, experts);
}

static inline loam_tensor gather(const loami_machine *s, loam_tensor x)
{
    return s->api->gather(s->sub, x);
}

#endif
