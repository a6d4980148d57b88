/* store/blocks.h: weights as GGUF packs them, turned into the form in which MLX packs them.
 *
 * GGUF's blocks are 32 weights, or 256 in 8 or 16 parts, each part scale * code (+ offset). MLX's affine form
 * is the same with 32 weights to a part, so most types are carried over code for code:
 *
 *   Q4_0 Q4_1 Q5_0 Q5_1 Q8_0   scale d; bias m, or -8d -16d -128d: a power of two times d, exact in float16
 *   IQ4_NL                     8 bits: its sixteen levels are integers, code = level + 128
 *   MXFP4                      the same codes and scale bytes
 *   Q4_K Q5_K IQ4_XS           scale d * sc has more digits than float16: rounded to it, or exact in float32
 *   Q2_K Q3_K Q6_K             16 weights to a part, which MLX has not: two parts share a scale, with more
 * bits
 *
 * What a rounding adds is measured against what the file says. */
#ifndef LOAMI_BLOCKS_H
#define LOAMI_BLOCKS_H

#include "file/config.h"
#include "file/gguf.h"

/* How tensors of one GGUF type are kept. */
typedef struct loami_block_plan {
    uint32_t source;          /* the GGUF type */
    loami_quant_config quant; /* LOAM_Q_NONE: plain numbers */
    loam_dtype type;          /* of plain numbers, or of scales and biases (U8 for MXFP4) */
    bool exact;               /* every weight keeps its value */
} loami_block_plan;

typedef struct loami_block_error {
    double squared_error, squared; /* sums over the weights */
    double largest;                /* |difference| */
    uint64_t weights;
} loami_block_error;

/* Looks at t's scales and decides. float_scales: spend 4 bytes on scales where that makes them exact. A type
 * without an MLX form is LOAM_E_UNSUPPORTED, a scale that is not finite LOAM_E_FORMAT. */
int loami_block_decide(loami_block_plan *out, const loami_gguf_tensor *t, bool float_scales, const char *file,
                       loam_err *err);

/* Bytes of a row's codes (or plain numbers), and of its scales (and, affine, again of its biases). */
uint64_t loami_block_code_bytes(const loami_block_plan *p, uint64_t cols);
uint64_t loami_block_scale_bytes(const loami_block_plan *p, uint64_t cols);

/* One row of cols weights. codes, scales, biases: room as above. Adds to *e unless the plan is exact. */
void loami_block_row(const loami_block_plan *p, const unsigned char *row, uint64_t cols, unsigned char *codes,
                     unsigned char *scales, unsigned char *biases, loami_block_error *e);

#endif
