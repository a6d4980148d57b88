/* file/gguf.h: reading a GGUF file, mapped.
 *
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little end first.
 * Every count, length, offset and shape is checked against the file before anything is handed out, and memory
 * is taken only in proportion to what the file holds; duplicate names and overlapping tensors are refused. */
#ifndef LOAMI_GGUF_H
#define LOAMI_GGUF_H

#include "base/err.h"

enum { LOAMI_GGUF_DIMS = 4 };

/* Types of metadata values, numbered as in the file. */
typedef enum loami_gguf_kind {
    LOAMI_GGUF_U8 = 0,
    LOAMI_GGUF_I8,
    LOAMI_GGUF_U16,
    LOAMI_GGUF_I16,
    LOAMI_GGUF_U32,
    LOAMI_GGUF_I32,
    LOAMI_GGUF_F32,
    LOAMI_GGUF_BOOL,
    LOAMI_GGUF_STRING,
    LOAMI_GGUF_ARRAY,
    LOAMI_GGUF_U64,
    LOAMI_GGUF_I64,
    LOAMI_GGUF_F64,
} loami_gguf_kind;

/* Types of tensors, numbered as in the file; the others that exist are known by name and size only. */
typedef enum loami_gguf_type {
    LOAMI_GGUF_T_F32 = 0,
    LOAMI_GGUF_T_F16 = 1,
    LOAMI_GGUF_T_Q4_0 = 2,
    LOAMI_GGUF_T_Q4_1 = 3,
    LOAMI_GGUF_T_Q5_0 = 6,
    LOAMI_GGUF_T_Q5_1 = 7,
    LOAMI_GGUF_T_Q8_0 = 8,
    LOAMI_GGUF_T_Q2_K = 10,
    LOAMI_GGUF_T_Q3_K = 11,
    LOAMI_GGUF_T_Q4_K = 12,
    LOAMI_GGUF_T_Q5_K = 13,
    LOAMI_GGUF_T_Q6_K = 14,
    LOAMI_GGUF_T_IQ4_NL = 20,
    LOAMI_GGUF_T_IQ4_XS = 23,
    LOAMI_GGUF_T_BF16 = 30,
    LOAMI_GGUF_T_MXFP4 = 39,
} loami_gguf_type;

typedef struct loami_gguf_value {
    const char *key;      /* NUL-terminated */
    loami_gguf_kind kind; /* of the value, or of an array's elements */
    bool is_array;
    uint64_t n;                /* elements of an array; bytes of a string */
    const unsigned char *data; /* the value, the string's bytes or the first element, mapped and unaligned */
    uint64_t bytes;            /* from data to the end of the value */
} loami_gguf_value;

typedef struct loami_gguf_tensor {
    const char *name; /* NUL-terminated */
    uint32_t type;    /* a loami_gguf_type, or another that loami_gguf_type_name knows */
    uint32_t n_dims;
    uint64_t shape[LOAMI_GGUF_DIMS]; /* as in the file: the contiguous dimension (a matrix's inputs) first; 1
                                        beyond n_dims */
    const unsigned char *data;       /* mapped */
    uint64_t bytes;
} loami_gguf_tensor;

typedef struct loami_gguf loami_gguf;

/* A model that was split over several files is opened by the first, "NAME-00001-of-00003.gguf", and read as
 * one. */
int loami_gguf_open(loami_gguf **out, const char *path, loam_err *err);

/* The same from memory, which is borrowed; what names it in messages. */
int loami_gguf_parse(loami_gguf **out, const void *bytes, size_t n, const char *what, loam_err *err);
void loami_gguf_close(loami_gguf *g);

/* The file's name, for messages. */
const char *loami_gguf_what(const loami_gguf *g);

uint32_t loami_gguf_count(const loami_gguf *g);
const loami_gguf_tensor *loami_gguf_at(const loami_gguf *g, uint32_t i); /* in the order of the header */
const loami_gguf_tensor *loami_gguf_find(const loami_gguf *g, const char *name); /* or NULL */

/* "Q4_K"; "?" for an unknown type. */
const char *loami_gguf_type_name(uint32_t type);
uint32_t loami_gguf_block_weights(uint32_t type); /* weights in a block; 0 for an unknown type */
uint32_t loami_gguf_block_bytes(uint32_t type);

/* The value of a key, or NULL. */
const loami_gguf_value *loami_gguf_get(const loami_gguf *g, const char *key);

/* Values by type, as loami_json_* do it: 0 = absent and *out left alone, 1 = read, negative = wrong type or
 * outside [lo, hi]. Any integer kind will do for u32, any number for double. A string may not hold a NUL and
 * is copied: NUL-terminated, the reader's. */
int loami_gguf_u32(const loami_gguf *g, const char *key, uint32_t lo, uint32_t hi, uint32_t *out,
                   loam_err *err);
int loami_gguf_double(const loami_gguf *g, const char *key, double lo, double hi, double *out, loam_err *err);
int loami_gguf_bool(const loami_gguf *g, const char *key, bool *out, loam_err *err);
int loami_gguf_string(loami_gguf *g, const char *key, const char **out, loam_err *err);

/* Element i of an array of numbers, as a double. */
double loami_gguf_number(const loami_gguf_value *array, uint64_t i);

/* Walks an array of strings: at starts as array->data; returns the next string and its length. n calls at
 * most. */
const char *loami_gguf_next(const unsigned char **at, uint64_t *len);

#endif
