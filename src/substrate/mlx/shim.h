/* substrate/mlx/shim.h: the seam over MLX's C++ API.
 *
 * Operations only grow MLX's graph; `end` evaluates it once. What MLX throws stops at the seam's entries (see guarded)
 * and becomes a loam_err. Values between operations have one type for the whole model: that of its scales (bfloat16
 * or float16), float32 where `exact` asks for it.
 *
 * Built into an object of its own, mlx.so, that is loaded when it is asked for: C++ and MLX stay out of the program. */
#ifndef LOAMI_MLX_SHIM_H
#define LOAMI_MLX_SHIM_H

#include "substrate/groups.h"

#include <deque>
#include <map>
#include <memory>
#include <mlx/mlx.h>
#include <optional>
#include <string>
#include <vector>

namespace mx = mlx::core;

/* Matrices that MLX multiplies by in one call. */
struct loami_mlx_part {
    mx::array data;              /* [rows][words] or, plain, [rows][cols]; experts: one more dimension in front */
    std::optional<mx::array> scales, biases; /* [rows][cols / group] */
    std::optional<mx::array> bias; /* [rows]; experts: [n_experts][rows] */
    int rows;
    loam_quant quant;
    int bits, group;
};

struct loam_weight {
    std::vector<loami_mlx_part> parts; /* their outputs lie side by side */
    uint32_t n_experts, rows, cols;
    loam_matrix first;                 /* the first matrix as it came in */
    std::optional<mx::array> vector, vector_bias; /* of a norm: offset + weight, and its bias [cols] */
    float vector_offset;
};

/* A tensor of the step: columns of one or several arrays side by side, so that q, k, v or gate, up need not be joined to
 * be taken apart again. An array is [rows][its columns], or [rows][heads][head_dim]. A norm or a product may be left
 * pending (parts empty) for the operation after it to do on its way; see loami_mlx_whole. */
struct loami_mlx_value {
    std::vector<mx::array> parts;
    int rows, cols;
    bool taken;                  /* by another operation: not kept for read */
    std::optional<mx::array> x;  /* of what is pending: its input, */
    const loam_norm *norm;       /* normed first, or NULL, */
    const loam_weight *linear;   /* and then multiplied; NULL: only normed */
};

/* Keys and values of one layer: [tokens][n_kv][head_dim], page p at token p * page_tokens. Grows. */
struct loami_mlx_cache {
    std::optional<mx::array> k, v;
};

/* Where a sequence's tokens are in the cache of a group's layers, from the first that a layer looks back at. */
struct loami_mlx_place {
    int run;                     /* the token at position p is number run + p, if its pages follow each other; */
    std::optional<mx::array> index; /* otherwise this says the number of each position's */
};

struct loami_mlx_seq {           /* a sequence of the step */
    int first, n_rows, n_past;
    loami_mlx_place at[LOAM_KV_GROUPS];
};

struct loami_mlx_group {
    int cache_tokens;            /* all its layers have room for so many */
    /* this step: */
    std::optional<mx::array> slots; /* [n_rows] int32: the cache's token that a row becomes */
    int slot_run;                /* the rows' tokens follow each other from this one; -1: they don't */
    std::optional<mx::array> pages; /* [n_single_rows][..]: where the keys of each are */
};

struct loam_sub {
    loam_sub_options options;
    bool gpu, metal;
    bool kernels;                /* cuda.cpp's own are used */
    std::optional<mx::Dtype> wish; /* what LOAM_MLX_TYPE says that the type of values shall be */
    std::optional<mx::Dtype> type; /* of values; known from the first weight */
    std::vector<std::unique_ptr<loam_weight>> weights;

    loam_kv_config kv;
    int page_tokens;
    std::vector<loami_mlx_cache> cache; /* [n_layers] */
    loami_mlx_group group[LOAM_KV_GROUPS];

    /* this step */
    const loam_batch *batch;
    std::vector<loami_mlx_value> values;
    std::vector<loami_mlx_seq> seqs;
    std::optional<mx::array> tokens, positions; /* [n_rows] int32 */
    std::optional<mx::array> wanted; /* [n_wanted] */
    int n_single;                /* so many sequences, the first ones, have few rows: attention takes rows one by one, */
    int n_single_rows;           /* these rows, with */
    std::optional<mx::array> lengths; /* [n_single_rows]: keys of each */
    int longest;                 /* of lengths */
    std::map<std::vector<int>, mx::array> masks;
    std::string failed;          /* why the step is lost; empty: it isn't */
    bool nomem;
    std::vector<mx::array> read; /* by tensor: float32, row-major */
    std::optional<mx::array> pick; /* [rows] int32 */
    std::deque<mx::array> under_way; /* picks of steps launched and not collected */

    /* across steps */
    struct rope_table {
        std::vector<float> inv_freq;
        mx::array inverse, freqs; /* the same on the device; their reciprocals, which MLX asks for */
    };
    std::vector<rope_table> ropes;
    std::map<std::vector<float>, mx::array> numbers; /* constants on the device */
    std::optional<mx::array> nothing; /* [1] */
    std::optional<mx::array> done; /* see cuda.cpp */
    std::map<std::pair<const char *, std::vector<int>>, std::shared_ptr<mx::Primitive>> made; /* see cuda.cpp */
};

/* ---- shim.cpp ---- */
loam_tensor loami_mlx_new(loam_sub *s, int rows, std::vector<mx::array> parts);
loam_tensor loami_mlx_new_pending(loam_sub *s, const mx::array &x, const loam_norm *norm, const loam_weight *linear);
loami_mlx_value *loami_mlx_take(loam_sub *s, loam_tensor t);               /* valid until the next new one */
mx::array loami_mlx_whole(loam_sub *s, loami_mlx_value *v);                /* as one [rows][cols]; what is pending is done */

/* ---- weight.cpp ---- */
bool loami_mlx_type_wish(std::optional<mx::Dtype> *out);                   /* of the environment; false: it is no type */
int loami_mlx_weight(loam_sub *s, loam_weight **out, const loam_matrix *parts, uint32_t n_parts, loam_err *err);
mx::array loami_mlx_vector(loam_weight *w, float offset);                  /* a matrix of one row: offset + numbers */
std::optional<mx::array> loami_mlx_vector_bias(loam_sub *s, loam_weight *w);
mx::array loami_mlx_rows(const loam_sub *s, const loami_mlx_part &p, const mx::array &which); /* of a table, as numbers */

/* ---- ops.cpp ---- */
mx::array loami_mlx_apply(const loam_sub *s, const loami_mlx_part &p, const mx::array &x);
std::vector<mx::array> loami_mlx_multiply(loam_sub *s, const mx::array &x, const loam_norm *norm, const loam_weight *w,
                                          const mx::array *old); /* old + W norm(x); norm, old may be NULL */
mx::array loami_mlx_norm(loam_sub *s, const mx::array &x, const loam_norm *norm);
mx::array loami_mlx_act(loam_act act, const mx::array &gate, const mx::array &up);
std::pair<mx::array, mx::array> loami_mlx_halves(const std::vector<mx::array> &parts);
loam_tensor loami_mlx_embed(loam_sub *s, const loam_weight *table, float scale);
loam_tensor loami_mlx_norm_op(loam_sub *s, loam_tensor x, const loam_norm *norm);
loam_tensor loami_mlx_linear(loam_sub *s, loam_tensor x, const loam_weight *w);
loam_tensor loami_mlx_glu(loam_sub *s, loam_tensor x, const loam_weight *gate_up, loam_act act);
loam_tensor loami_mlx_add(loam_sub *s, loam_tensor x, loam_tensor y, float y_scale);
loam_tensor loami_mlx_cap(loam_sub *s, loam_tensor x, float scale, float cap);
loam_tensor loami_mlx_gather(loam_sub *s, loam_tensor x);

/* ---- moe.cpp ---- */
loam_tensor loami_mlx_moe(loam_sub *s, loam_tensor x, const loam_moe *moe);

/* ---- pick.cpp ---- */
void loami_mlx_pick(loam_sub *s, loam_tensor x, const loam_pick *how);

/* ---- cache.cpp ---- */
int loami_mlx_kv_open(loam_sub *s, const loam_kv_config *config, uint64_t *bytes, loam_err *err);
void loami_mlx_kv_copy(loam_sub *s, uint32_t group, uint32_t dst, uint32_t src, uint32_t n_tokens);
void loami_mlx_kv_read(loam_sub *s, uint32_t group, uint32_t page, void *bytes); /* layer by layer: keys, values */
void loami_mlx_kv_write(loam_sub *s, uint32_t group, uint32_t page, const void *bytes);
void loami_mlx_cache_begin(loam_sub *s);                                    /* finds where this step's rows go */
void loami_mlx_cache_write(loam_sub *s, uint32_t layer, const mx::array &k, const mx::array &v); /* [rows][n_kv][head_dim] */
mx::array loami_mlx_cache_view(const mx::array &cache, const loami_mlx_place &at, int from, int to); /* [1][n_kv][to - from][head_dim] */
void loami_mlx_cache_rollback(loam_sub *s);                                 /* after a step that failed */

/* ---- cuda.cpp: kernels of our own, for NVIDIA's GPUs; MLX compiles them when they are first used ---- */
bool loami_mlx_cuda_can_multiply(const loam_sub *s, const loami_mlx_part &p, int rows);
bool loami_mlx_cuda_can_norm(const loam_sub *s, const loam_norm *norm, int rows); /* on the way into such a product */
mx::array loami_mlx_cuda_multiply(loam_sub *s, const loami_mlx_part &p, const mx::array &x, const loam_norm *norm, int act,
                                  const mx::array *old); /* act: 0, or 1 + loam_act of the gated unit */
bool loami_mlx_cuda_can_moe(const loam_sub *s, const loam_moe *moe);
mx::array loami_mlx_cuda_moe(loam_sub *s, const loam_moe *moe, const mx::array &x, const mx::array &logits);
bool loami_mlx_cuda_can_store(const loam_sub *s, const loam_heads *heads);
mx::array loami_mlx_cuda_store(loam_sub *s, const mx::array &qkv, uint32_t layer, const loam_heads *heads); /* queries */
bool loami_mlx_cuda_can_attend(const loam_sub *s, const loam_heads *heads);
mx::array loami_mlx_cuda_attend(loam_sub *s, const mx::array &q, uint32_t layer, const loam_heads *heads, const loam_attn *attn);

/* ---- attention.cpp ---- */
const mx::array &loami_mlx_freqs(loam_sub *s, const loam_rope *rope, bool inverse);
loam_tensor loami_mlx_store(loam_sub *s, loam_tensor qkv, uint32_t layer, const loam_heads *heads);
loam_tensor loami_mlx_attend(loam_sub *s, loam_tensor q, uint32_t layer, const loam_heads *heads, const loam_attn *attn);

#endif
