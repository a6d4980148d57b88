/* loam_substrate.h: what a machine must offer to run loam's models.
 *
 * A substrate is a struct of functions over opaque tensors. Everything above it (models, scheduling, sampling,
 * APIs) is the same for all; a new chip is one more of these structs and nothing else. Two live in this
 * program: `reference`, slow and obviously right, and `cpu`. Others are shared objects that export
 * loam_substrate_entry.
 *
 * Rules
 *  - All calls come from one thread, `open` included. A substrate may have threads of its own below.
 *  - A tensor handle lives from the operation that returns it until the next `begin`. Operations may only be
 *    recorded; it is `end` that makes contents real, and only then may `read` be called. So a substrate is free
 *    to compute at once, to enqueue, or to grow a graph and fuse it.
 *  - Values between operations are float32 or better in `reference`; other substrates may carry less and say how
 *    close they are in the conformance run.
 *  - Only results that no other operation took can be read after `end`: a substrate may reuse the memory of others.
 *  - Steps whose tokens are chosen on the device (pick, launch, collect) may overlap; see launch. All else happens between
 *    steps.
 *  - A failed operation returns LOAM_NO_TENSOR, operations on it do nothing, and `end` reports it. What can be
 *    refused (a type, a shape, a mode) is refused by `weight` or `kv_open`, at load, never in mid-run.
 *  - The engine decides which page belongs to which sequence; the substrate owns the bytes and says how many
 *    tokens a page holds.
 *
 * Shapes are written [rows][columns], row-major, columns contiguous. */
#ifndef LOAM_SUBSTRATE_H
#define LOAM_SUBSTRATE_H

#include "loam.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LOAM_SUBSTRATE_ABI = 4,
    LOAM_KV_GROUPS = 2,         /* of layers, at most: see loam_kv_config */
};

/* ---- weights ------------------------------------------------------------------------------------------- */

typedef enum loam_dtype {
    LOAM_F32 = 0, LOAM_F16, LOAM_BF16,
    LOAM_I8, LOAM_U8, LOAM_I16, LOAM_U16, LOAM_I32, LOAM_U32, LOAM_I64, LOAM_U64, LOAM_F64, LOAM_BOOL,
} loam_dtype;

typedef enum loam_quant {
    LOAM_Q_NONE = 0,  /* plain numbers of `type` */
    LOAM_Q_AFFINE,    /* w = scale * q + bias, one scale and bias a group (MLX "affine") */
    LOAM_Q_MXFP4,     /* OCP MX: fp4 e2m1, group 32, one e8m0 scale byte */
    LOAM_Q_MXFP8,     /* OCP MX: fp8 e4m3, group 32, one e8m0 scale byte */
    LOAM_Q_NVFP4,     /* fp4 e2m1, group 16, one fp8 e4m3 scale byte */
} loam_quant;

/* A borrowed view of one matrix as it lies in the mapped file, in MLX's layout (mlx.core.quantize): codes are
 * packed along the input, little end first, into 32-bit words: [rows][cols * bits / 32]; scales and biases are
 * [rows][cols / group]. A vector is a matrix of one row. Bytes stay mapped for the life of the substrate.
 * `data`, `scales` and `biases` need not be aligned beyond their element size. */
typedef struct loam_matrix {
    const char *name;         /* for messages: the tensor's name in the file */
    uint32_t n_experts;       /* stacked matrices [n_experts][rows][cols]; 1 for an ordinary one */
    uint32_t rows, cols;      /* outputs, inputs; logical, before packing */
    loam_quant quant;
    uint32_t bits, group;     /* of the codes; 0 when not quantised */
    loam_dtype type;          /* of data when not quantised, else of scales and biases (U8 for the fp modes) */
    const void *data;
    const void *scales, *biases;
    const void *bias;         /* [n_experts][rows] added to the output, or NULL */
    loam_dtype bias_type;
} loam_matrix;

typedef struct loam_weight loam_weight; /* the substrate's own form of one or several matrices */
typedef struct loam_sub loam_sub;       /* one open substrate */

typedef uint32_t loam_tensor;           /* a float matrix of this step, [rows][columns] */
#define LOAM_NO_TENSOR UINT32_MAX

/* ---- a step -------------------------------------------------------------------------------------------- */

/* Consecutive rows of one sequence. */
typedef struct loam_seq_rows {
    uint32_t first_row, n_rows;  /* in the batch */
    uint32_t n_past;             /* tokens of this sequence already in the cache: row r is position n_past + r */
    const uint32_t *pages[LOAM_KV_GROUPS]; /* of each group of layers: [ceil((n_past + n_rows) / page_tokens)] page numbers, in order; those
                                    that lie behind the group's window for all rows are any of its pages */
} loam_seq_rows;

/* The rows of one step. Decoding sequences have one row, those in prefill many. */
typedef struct loam_batch {
    uint32_t n_rows;
    const int32_t *tokens;       /* [n_rows]; NULL: row i's is what the step before picked for its result i; see launch */
    uint32_t n_seqs;
    const loam_seq_rows *seqs;   /* [n_seqs], in order of first_row, covering all rows */
    uint32_t n_wanted;
    const uint32_t *wanted;      /* [n_wanted] ascending rows whose results are read back; see gather */
    bool steady;                 /* each row's results must be, to the last bit, what they would be in any other steady batch,
                                    whatever else is in it and however the row's sequence is cut into steps */
} loam_batch;

/* How a token is chosen from a row of logits x. temperature 0: the largest, of equal ones the first. Otherwise of the weights
 * e^((x - max x) / temperature) those below min_p are left out, then all but the top_k largest, then all but the fewest largest
 * that reach top_p of the sum so far; of the rest, in order of id, the first at which the running sum passes draw times their
 * sum. Equal weights at a limit may all stay. */
typedef struct loam_pick {
    float temperature;
    float min_p, top_p;          /* 0: no limit */
    uint32_t top_k;              /* 0: no limit */
    float draw;                  /* in [0, 1) */
} loam_pick;

/* ---- parameters of operations; they belong to the caller and stay valid until end ---------------------- */

typedef enum loam_act { LOAM_ACT_SILU, LOAM_ACT_GELU_TANH, LOAM_ACT_GELU, LOAM_ACT_SWIGLU_OAI } loam_act;

typedef enum loam_norm_kind { LOAM_NORM_RMS, LOAM_NORM_LAYER } loam_norm_kind;

typedef struct loam_norm {
    const loam_weight *weight;   /* one row; NULL = all ones */
    loam_norm_kind kind;
    float eps;
    float offset;                /* added to the weight: 1 for Gemma's (1 + w), otherwise 0 */
} loam_norm;

/* Rotary embedding (Su et al. 2021) of the first `dims` of each head. */
typedef struct loam_rope {
    uint32_t dims;               /* 0 = none */
    bool interleaved;            /* pairs (0,1),(2,3).. ("traditional"); otherwise (i, i + dims/2) */
    const float *inv_freq;       /* [dims / 2] angle per position; scaling (llama3, yarn, linear) is in here */
    float scale;                 /* multiplies the rotated values (yarn's, longrope's mscale); 1 = none */
} loam_rope;

/* How one layer's queries, keys and values lie in the output of its joined projection, and what happens to them
 * before they are stored. */
typedef struct loam_heads {
    uint32_t n_q, n_kv;          /* heads; n_q is a multiple of n_kv */
    uint32_t head_dim;
    const loam_norm *q_norm, *k_norm; /* before rope, or NULL; their weight's columns tell over what: head_dim = each
                                    head alone (Qwen3), n_q (n_kv) * head_dim = all heads at once (OLMo 2) */
    const loam_rope *rope;       /* NULL = none */
    float q_growth;              /* after rope q is multiplied by 1 + q_growth * ln(1 + floor(position / q_growth_tokens)) */
    uint32_t q_growth_tokens;    /* (Ministral 3, after Llama 4); 0 = never */
} loam_heads;

typedef struct loam_attn {
    float scale;                 /* of q·k */
    float softcap;               /* cap * tanh(x / cap) on scores; 0 = none */
    uint32_t window;             /* a position sees itself and the window-1 before it; 0 = all */
    const loam_weight *sinks;    /* [n_q] one more logit a head that takes probability and no value, or NULL */
} loam_attn;

typedef enum loam_router { LOAM_ROUTE_SOFTMAX_TOPK, LOAM_ROUTE_TOPK_SOFTMAX } loam_router;

/* A mixture of experts: out = sum over the k best experts of p_e * down_e(act(gate_e x) * (up_e x)). */
typedef struct loam_moe {
    const loam_weight *router;   /* [n_experts] outputs */
    const loam_weight *gate_up;  /* two parts of n_experts matrices each */
    const loam_weight *down;     /* n_experts matrices */
    uint32_t top_k;
    loam_router how;             /* softmax over all, then choose; or choose, then softmax over the chosen */
    bool renormalise;            /* divide the chosen p by their sum */
    loam_act act;
} loam_moe;

typedef enum loam_kv_type {
    LOAM_KV_FULL = 0,            /* 16 bits a number or better, as the machine likes them */
    /* 8-bit codes, one scale a token, head, and keys or values. Keys are turned before: those of some models (Qwen2) have single
     * numbers a hundred times as large as others, which would take all codes. With queries turned too, scores stay what they were
     * (Ashkboos et al. 2024, "QuaRot"). By H / sqrt(n), H Hadamard's matrix of n rows, H[i][j] = (-1)^popcount(i & j), each n
     * numbers of a head, n the largest power of two that divides head_dim; after norm and rope. */
    LOAM_KV_INT8,
} loam_kv_type;

/* Layers whose pages come and go together. */
typedef struct loam_kv_group {
    uint32_t n_pages;            /* numbered from 0, apart from other groups' */
    uint32_t window;             /* of its layers the widest; 0 = one of them sees all */
} loam_kv_group;

typedef struct loam_kv_config {
    uint32_t n_layers, n_kv, head_dim; /* the same for all layers */
    loam_kv_type type;
    uint32_t n_groups;
    loam_kv_group group[LOAM_KV_GROUPS];
    const uint8_t *group_of;     /* [n_layers], each below n_groups; NULL = all 0. Valid as long as the substrate */
} loam_kv_config;

typedef struct loam_sub_options {
    uint32_t threads;            /* 0 = physical cores */
    bool exact;                  /* float activations, no integer shortcuts */
} loam_sub_options;

typedef struct loam_sub_info {
    char device[96];             /* for people: "cpu (avx512-vnni)" */
    uint32_t page_tokens;        /* tokens a KV page holds */
    uint32_t threads;
    uint32_t rows;               /* of a step: as many as it takes to keep the machine busy; of more it gains nothing */
    bool steady;                 /* it can do what loam_batch.steady asks for; otherwise it does not mind it */
    uint64_t scratch_bytes;      /* what steps so far have taken beside weights and pages; kept for those to come */
    double tolerance;            /* largest |difference| of logits from reference, relative to their spread,
                                    that conformance allows it */
} loam_sub_info;

/* ---- the operations ------------------------------------------------------------------------------------- */

typedef struct loam_substrate {
    uint32_t abi;                /* LOAM_SUBSTRATE_ABI */
    const char *name;

    int (*open)(loam_sub **out, const loam_sub_options *options, loam_err *err);
    void (*close)(loam_sub *s);  /* frees weights and pages too */
    void (*info)(const loam_sub *s, loam_sub_info *out);

    /* Takes n_parts matrices with the same cols (and n_experts) as one weight whose output is the parts' side by
     * side. The matrices' bytes are borrowed for the life of s, the structs are not. LOAM_E_UNSUPPORTED names the
     * tensor and what about it this machine can't do. */
    int (*weight)(loam_sub *s, loam_weight **out, const loam_matrix *parts, uint32_t n_parts, loam_err *err);

    /* Bytes of one page of a group: all its layers, keys and values. */
    uint64_t (*kv_page_bytes)(const loam_sub *s, const loam_kv_config *config, uint32_t group);

    /* Memory for the KV cache; contents start undefined. *bytes = what it took. A second call gives back the first's.
     * LOAM_E_UNSUPPORTED names what of config this machine can't do. */
    int (*kv_open)(loam_sub *s, const loam_kv_config *config, uint64_t *bytes, loam_err *err);

    /* Copies the first n_tokens of page src to page dst, in all layers of the group. Between end and begin. */
    void (*kv_copy)(loam_sub *s, uint32_t group, uint32_t dst, uint32_t src, uint32_t n_tokens);

    /* A page's contents as kv_page_bytes bytes that mean the same to another run with the same config on the same kind of
     * device; and back. Between end and begin. False: the machine failed, bytes (the page) are undefined. NULL: pages
     * can't be kept elsewhere. */
    bool (*kv_read)(loam_sub *s, uint32_t group, uint32_t page, void *bytes);
    bool (*kv_write)(loam_sub *s, uint32_t group, uint32_t page, const void *bytes);

    /* Starts a step. b and what it points to stay valid until end or launch. With tokens of the batch's own, steps launched and
     * not yet collected are forgotten. */
    void (*begin)(loam_sub *s, const loam_batch *b);

    loam_tensor (*embed)(loam_sub *s, const loam_weight *table, float scale);   /* [n_rows][dim] rows of the batch's tokens */
    loam_tensor (*norm)(loam_sub *s, loam_tensor x, const loam_norm *norm);      /* as x */
    loam_tensor (*linear)(loam_sub *s, loam_tensor x, const loam_weight *w);     /* [rows][sum of parts' rows], plus bias */
    loam_tensor (*glu)(loam_sub *s, loam_tensor x, const loam_weight *gate_up, loam_act act);  /* act(gate x) * (up x); two parts */
    loam_tensor (*add)(loam_sub *s, loam_tensor x, loam_tensor y, float y_scale);  /* x + y_scale * y */
    loam_tensor (*cap)(loam_sub *s, loam_tensor x, float scale, float cap);        /* x * scale; then cap * tanh(. / cap) unless cap is 0 */

    /* Splits qkv [rows][(n_q + 2 n_kv) * head_dim] (queries, keys, values), norms and rotates, writes keys and
     * values into layer's pages; returns the queries [rows][n_q * head_dim]. */
    loam_tensor (*store)(loam_sub *s, loam_tensor qkv, uint32_t layer, const loam_heads *heads);

    /* Causal attention of q over layer's pages, after store of the same layer: [rows][n_q * head_dim]. */
    loam_tensor (*attend)(loam_sub *s, loam_tensor q, uint32_t layer, const loam_heads *heads, const loam_attn *attn);

    loam_tensor (*moe)(loam_sub *s, loam_tensor x, const loam_moe *moe);           /* as x */

    loam_tensor (*gather)(loam_sub *s, loam_tensor x);                             /* only the batch's wanted rows: [n_wanted][columns] */

    /* Runs what was recorded. On failure this step's results are lost, the KV pages it wrote are undefined, and
     * the next begin starts clean. */
    int (*end)(loam_sub *s, loam_err *err);

    /* Instead of end: takes the memory that this step needs and computes nothing; no page is touched. NULL: steps take what
     * they need when they need it. */
    int (*rehearse)(loam_sub *s, loam_err *err);

    /* The three of them or, in a substrate that leaves the choice to its caller, none.
     *
     * pick: the last operation of a step; chooses a token for each row of x. how[rows of x] stays valid until launch.
     * launch instead of end: the step runs, and another may be begun before it is done, without tokens: it goes on with
     * what this one picks. At most two are under way; nothing of them can be read.
     * collect: waits for the first of them; tokens[rows of x]. A step that fails takes those after it along. */
    void (*pick)(loam_sub *s, loam_tensor x, const loam_pick *how);
    int (*launch)(loam_sub *s, loam_err *err);
    int (*collect)(loam_sub *s, int32_t *tokens, loam_err *err);

    /* After end: row-major floats of x, which no other operation took; valid until the next begin. *rows and *cols may
     * be NULL. */
    const float *(*read)(loam_sub *s, loam_tensor x, uint32_t *rows, uint32_t *cols);
} loam_substrate;

/* What a substrate in a shared object exports. */
const loam_substrate *loam_substrate_entry(void);

/* And may export: whether `auto` should choose it on this machine (a GPU that it can use is there). Not exported: never. */
bool loam_substrate_suits(void);

#ifdef __cplusplus
}
#endif
#endif
