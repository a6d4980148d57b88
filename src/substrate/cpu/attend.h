/* substrate/cpu/attend.h: what kv.c (keys and values into the cache) has for attend.c. */
#ifndef LOAMI_CPU_ATTEND_H
#define LOAMI_CPU_ATTEND_H

#include "substrate/cpu/cpu.h"
#include "substrate/groups.h"

/* One page of one head: K codes, V codes, K scales, V scales. */
char *loami_kv_head(const loam_sub *s, uint32_t layer, uint32_t page, uint32_t head);

/* A sequence's pages of a layer. */
static inline const uint32_t *loami_kv_pages_for(const loam_sub *s, const loam_seq_rows *seq, uint32_t layer)
{
    return seq->pages[loami_kv_group_of(&s->kv, layer)];
}

/* Puts one token's key and value, as they are, into its page. spare: [head_dim] codes. */
void loami_kv_put(const loam_sub *s, uint32_t layer, const loam_seq_rows *seq, uint32_t pos, uint32_t head, const float *k, const float *v,
                  int16_t *spare);

/* A head as the kernels take it. wide: [2 * LOAMI_PAGE * head_pad], used where the cache has 8-bit codes. */
typedef struct loami_kv_view {
    const int16_t *k, *v;
    const float *k_scale, *v_scale;
} loami_kv_view;
loami_kv_view loami_kv_open_head(const loam_sub *s, const char *head, int16_t *wide);

/* Norms and rotates n heads that lie side by side; cos_sin is the row's, NULL = no rope. */
void loami_head_prepare(const loam_sub *s, const loam_heads *h, const loam_norm *norm, const float *cos_sin, float *x, uint32_t n);

/* What queries at pos are multiplied by after rope. */
float loami_q_growth(const loam_heads *h, uint32_t pos);

/* [rows][dims / 2][2] cosines and sines of this step's positions; made once a step. NULL when memory ran out. */
const float *loami_angles_of(loam_sub *s, const loam_rope *rope);

/* attend.c. Whether the attend can do the store's work in its own jobs. */
bool loami_attend_stores(const loam_sub *s, const loami_node *store, const loami_node *attend);

#endif
