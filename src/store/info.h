/* store/info.h: what can be told of a model folder without running it. */
#ifndef LOAMI_INFO_H
#define LOAMI_INFO_H

#include "file/config.h"
#include "file/safetensors.h"

typedef struct loami_info {
    loami_config config;
    loami_weights *weights;
    uint64_t
        parameters; /* weights as numbers, packed ones counted out; scales and biases of groups are none */
    uint64_t tensor_bytes;
    uint32_t tensors;
} loami_info;

/* Reads config.json and the tensors' headers of dir. Free with loami_info_close. */
int loami_info_open(loami_info *out, const char *dir, loam_err *err);
void loami_info_close(loami_info *i);

/* "4-bit affine, group 32" of config's default, or "none" with the type of the most weights: "none
 * (BF16)". */
void loami_info_quant(const loami_info *i, char out[64]);

#endif
