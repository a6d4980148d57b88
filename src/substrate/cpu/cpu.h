/* substrate/cpu/cpu.h: the CPU substrate's inside.
 *
 * A step is recorded as nodes (cpu.c), turned into phases (plan.c), and run by all threads at once (phase.c). A
 * phase is a number of chunks that threads take until none is left; it starts when the phase before has no chunk
 * left undone, and that is the only waiting there is. Small work that several chunks need (a norm, quantising the
 * activations of a few rows) is done again by each thread rather than waited for. */
#ifndef LOAMI_CPU_H
#define LOAMI_CPU_H

#include "base/arena.h"
#include "substrate/cpu/kern.h"
#include "substrate/cpu/pool.h"

#include <stdatomic.h>

/* ---- weights ------------------------------------------------------------------------------------------------- */

typedef struct loami_part {
    loam_matrix matrix;         /* as given; its name is not kept */
    loami_mat mat;              /* of expert 0 */
    float *bias;                /* [n_experts][rows] or NULL */
} loami_part;

struct loam_weight {
    loam_weight *next;
    uint32_t n_parts, n_experts, cols, rows; /* rows: of all parts */
    float *vector, *vector_bias; /* [cols] of a one-row plain matrix: a norm's weight and bias */
    loami_part part[];          /* [n_parts] */
};

/* The matrix of one expert. */
loami_mat loami_part_mat(const loami_part *p, uint32_t expert);

/* Makes vector and vector_bias at first use; false when memory ran out or w is no vector. NULL is fine. */
bool loami_weight_vector(const loam_weight *w);

/* ---- activations, ready for the matrix kernels ---------------------------------------------------------------- */

enum { LOAMI_FORMATS = 4 };     /* kinds of quantised activations that one tensor may be wanted in */

typedef struct loami_format {
    loami_order order;
    uint32_t group;
    loami_acts acts;            /* [rows] */
} loami_format;

typedef struct loami_ready {
    bool want_x;
    float *x;                   /* [rows][cols] after the norm, if wanted */
    uint32_t n_formats;
    loami_format format[LOAMI_FORMATS];
} loami_ready;

/* ---- nodes: what was recorded --------------------------------------------------------------------------------- */

typedef enum loami_op {
    LOAMI_EMBED, LOAMI_NORM, LOAMI_LINEAR, LOAMI_GLU, LOAMI_ADD, LOAMI_CAP, LOAMI_STORE, LOAMI_ATTEND, LOAMI_MOE, LOAMI_GATHER,
} loami_op;

typedef struct loami_node {
    loami_op op;
    uint32_t rows, cols;
    loam_tensor x, y;           /* inputs; LOAM_NO_TENSOR = none */
    const loam_weight *w;
    const loam_norm *norm;
    const loam_heads *heads;
    const loam_attn *attn;
    const loam_moe *moe;
    float scale, cap;
    uint32_t layer;
    loam_act act;
    /* plan.c */
    uint32_t taken, left;       /* times it is an input; of those, not yet planned */
    uint32_t takers;            /* bits 1 << loami_op */
    bool gone;                  /* its memory went to later tensors: it cannot be read after end */
    bool inlined;               /* never made: a norm done by its takers, a linear done by the add that takes it,
                                   a gather of all rows, a store done by the attend after it */
    float *data;                /* [rows][cols] */
    loami_ready *ready[LOAMI_FORMATS]; /* [n_ready] shared by its takers */
    void *ready_raw[LOAMI_FORMATS];
    uint32_t n_ready;
} loami_node;

/* ---- phases: what is run ---------------------------------------------------------------------------------------- */

enum { LOAMI_FEW = 4 };         /* up to so many rows each thread makes its own activations ready */

typedef struct loami_scratch loami_scratch;
typedef struct loami_phase loami_phase;
typedef void loami_run_fn(loam_sub *s, const loami_phase *p, uint32_t chunk, loami_scratch *t);

enum { LOAMI_RANGES = 16 };     /* at most, of a phase */

/* Neighbouring chunks, which are mostly one thread's: it walks through memory in one direction. Whoever has finished
 * its own takes from others'. */
typedef struct loami_range {
    _Alignas(64) atomic_uint next; /* first chunk that nobody has taken */
    uint32_t end;
} loami_range;

struct loami_phase {
    _Alignas(64) atomic_uint done; /* chunks */
    _Alignas(64) uint32_t n;
    loami_range *range;         /* [n_ranges] */
    uint32_t n_ranges;
    loami_run_fn *run;
    const loami_node *node;     /* what is computed */
    const loami_node *from;     /* its input, before any inlined norm: data is [rows][cols] */
    const loam_norm *norm;      /* of the input, or NULL */
    const loami_ready *ready;   /* the input made ready; NULL: each thread does it */
    const loam_weight *w;
    uint32_t expert;
    float *y;                   /* [rows][node->cols] the result */
    const float *other;         /* the other operand of an add, or NULL */
    bool other_first;           /* other + scale * result; else result + scale * other */
    float scale;
    uint32_t rows;              /* of the input */
    uint32_t chunk_rows;        /* rows of weights, or of the input, in a chunk */
    bool streams;               /* w is read as it lies, and memory can be asked for its beginning */
    void *more;                 /* the run function's own, in step memory */
};

/* One thread's own memory, for one chunk or, `ready`, one phase. */
struct loami_scratch {
    loami_panel panel;
    float *floats;              /* s->need_floats */
    loami_ready ready;          /* in ready_raw, of the tensor and norm named here */
    char *ready_raw;
    const loami_node *ready_from;
    const loam_norm *ready_norm;
    uint64_t ready_step;
    void *raw;
    size_t raw_size;
};

/* ---- the substrate ------------------------------------------------------------------------------------------------ */

typedef struct loami_angles {   /* of one rope in this step */
    const loam_rope *rope;
    float *cos_sin;             /* [rows][dims / 2][2], times rope->scale */
} loami_angles;

enum { LOAMI_ROPES = 16, LOAMI_NODES_MAX = 1 << 20 };

struct loam_sub {
    const loami_kern *k;
    loami_pool *pool;
    uint32_t threads;
    bool exact;
    loam_weight *weights;

    loam_kv_config kv;
    char *cache;                /* see attend.c */
    char **layer;               /* [kv.n_layers] where in it each begins */
    size_t head_bytes;          /* of one page and kv head */
    uint32_t k_top;             /* largest code of keys and queries */
    uint32_t head_pad;          /* head_dim up to a multiple of 16 */

    const loam_batch *batch;
    uint64_t step;
    const char *failed;         /* why this step is lost, or NULL */
    loami_node *node;
    uint32_t n_nodes, cap_nodes;
    loami_phase *phase;
    uint32_t n_phases, cap_phases;
    uint32_t *position;         /* [rows] of this step */
    loami_angles angles[LOAMI_ROPES];
    uint32_t n_angles;
    size_t need_floats, need_ready; /* of each thread's scratch: floats, bytes */
    struct loami_store *store;  /* memory that phases write */
    loami_arena notes;          /* what the plan writes and phases read; whole until the next begin */
    size_t notes_bytes, notes_now; /* of it: the most that a step took, and this one */
    loami_scratch *scratch;     /* [threads] */
};

/* store.c: memory that phases write. n bytes aligned to 64, contents anything, until given back or reset; NULL (and
 * s->failed) when memory ran out. What is given back is kept and used again. */
void *loami_store_take(loam_sub *s, size_t n);
void loami_store_give(loam_sub *s, const void *p); /* NULL is fine */
void loami_store_reset(loam_sub *s);
void loami_store_free(loam_sub *s);
size_t loami_store_bytes(const loam_sub *s);

/* n bytes of s->notes, zeroed; NULL (and s->failed) when memory ran out. */
void *loami_note(loam_sub *s, size_t n);

/* plan.c. Turns nodes into phases and gives tensors their memory. */
void loami_plan(loam_sub *s);

/* The tensor that t is made of: past inlined gathers and stores, and past an inlined norm, which goes to *norm. */
loami_node *loami_source(loam_sub *s, loam_tensor t, const loam_norm **norm);

/* phase.c. A new phase with n chunks for node; NULL (and s->failed) when memory ran out. Valid until the next. */
loami_phase *loami_phase_add(loam_sub *s, loami_run_fn *run, uint32_t n, const loami_node *node);
void loami_phases_run(loam_sub *s);
bool loami_scratch_fit(loam_sub *s); /* makes room for s->need_*; false when memory ran out */

/* ready.c. Formats that the parts of w want are added to r. */
void loami_ready_want(const loam_sub *s, loami_ready *r, const loam_weight *w);
bool loami_ready_covers(const loami_ready *r, const loami_ready *wanted);
size_t loami_ready_bytes(const loami_ready *r, uint32_t rows, uint32_t cols);
void loami_ready_place(loami_ready *r, uint32_t rows, uint32_t cols, char *memory);
/* spare: [cols] floats for a normed row. */
void loami_ready_row(const loam_sub *s, const loami_ready *r, uint32_t row, const float *x, uint32_t cols, const loam_norm *norm,
                     float *spare);

/* matmul.c. y[m][n] = base + rows [row, row + n) of all parts of an expert times rows [first, first + m) of in, plus
 * bias. base is NULL for 0, or laid out as y. */
void loami_matmul(const loam_sub *s, loami_scratch *t, const loam_weight *w, uint32_t expert, uint32_t row, uint32_t n, const loami_ready *in,
                  uint32_t first, uint32_t m, float *y, const float *base, size_t stride);

/* y[m][n] = act of rows [row, row + n) of w's first half times those of its second. Uses t->floats [m][n]. */
void loami_glu_rows(const loam_sub *s, loami_scratch *t, const loam_weight *w, uint32_t expert, loam_act act, uint32_t row, uint32_t n,
                    const loami_ready *in, uint32_t first, uint32_t m, float *y, size_t y_stride);

bool loami_matrix_ints(const loam_sub *s, const loami_mat *mat); /* whether it takes the integer path */

/* Asks memory for the beginning of a chunk of a phase that streams. */
void loami_chunk_ahead(const loam_sub *s, const loami_phase *p, uint32_t chunk);

/* Rows of weights, of `rows`, that a chunk gets when there are m rows of activations. */
uint32_t loami_chunk_rows(const loam_sub *s, const loam_weight *w, uint32_t rows, uint32_t m);

/* Makes `from`, normed if norm, ready for w: adds a phase, unless `as` remembers one. NULL: each thread will do it,
 * because there are few rows (not if always). */
const loami_ready *loami_plan_ready(loam_sub *s, loami_node *as, const loami_node *from, const loam_norm *norm, const loam_weight *w,
                                    bool always);

loami_phase *loami_plan_linear(loam_sub *s, const loami_node *node, loam_tensor x, const loam_weight *w); /* NULL: failed */
void loami_plan_glu(loam_sub *s, loami_node *node);

/* attend.c, moe.c, rows.c */
void loami_plan_store(loam_sub *s, loami_node *node);
void loami_plan_attend(loam_sub *s, loami_node *node);
void loami_plan_moe(loam_sub *s, loami_node *node);
void loami_plan_rows(loam_sub *s, loami_node *node); /* embed, norm, add, cap, gather */

#endif
