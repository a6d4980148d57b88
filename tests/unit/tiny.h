/* tests/unit/tiny.h: a model folder small enough to make for every test: Llama's shape, random float weights, and a
 * byte-level tokenizer of 256 bytes and an end of text, so that id b is byte b and every text has its ids. */
#ifndef TESTS_TINY_H
#define TESTS_TINY_H

#include "base/buf.h"
#include "file/safetensors.h"
#include "temp.h"

#include <stdlib.h>

enum { TINY_VOCAB = 257, TINY_DIM = 16, TINY_EOS = 256, TINY_CONTEXT = 512 };

static inline void tiny_config(const char *dir)
{
    char path[4096], text[1024];
    snprintf(path, sizeof path, "%s/config.json", dir);
    int n = snprintf(text, sizeof text,
                     "{\"model_type\":\"llama\",\"hidden_size\":%d,\"num_hidden_layers\":2,\"intermediate_size\":32,"
                     "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"rms_norm_eps\":1e-5,\"vocab_size\":%d,"
                     "\"max_position_embeddings\":%d,\"rope_theta\":10000.0,\"tie_word_embeddings\":true,\"eos_token_id\":%d}",
                     TINY_DIM, TINY_VOCAB, TINY_CONTEXT, TINY_EOS);
    assert_int_equal(loami_file_write(path, text, (size_t)n, NULL), 0);
}

/* GPT-2's alphabet: printable Latin-1 stands for itself, the rest for U+0100 onwards. */
static inline void tiny_tokenizer(const char *dir)
{
    char path[4096];
    loami_buf b = { 0 };
    uint32_t next = 256;
    loami_buf_puts(&b, "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":256,\"content\":\"<end>\",\"single_word\":false,\"lstrip\":false,"
                       "\"rstrip\":false,\"normalized\":false,\"special\":true}],\"normalizer\":null,\"pre_tokenizer\":{\"type\":"
                       "\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,"
                       "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                       "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,"
                       "\"vocab\":{");
    for (uint32_t i = 0; i < 256; i++) {
        bool plain = (i > 32 && i < 127) || (i > 160 && i != 173);
        loami_buf_printf(&b, "%s\"\\u%04x\":%u", i ? "," : "", plain ? i : next++, i);
    }
    loami_buf_puts(&b, "},\"merges\":[]}}");
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    assert_int_equal(loami_file_write(path, b.data, b.len, NULL), 0);
    loami_buf_free(&b);
}

static inline void tiny_weights(const char *dir)
{
    static const struct {
        const char *name;
        uint32_t rows, cols; /* rows 0: a vector */
        bool layered;
    } tensors[] = {
        { "model.embed_tokens.weight", TINY_VOCAB, TINY_DIM, false },
        { "model.norm.weight", 0, TINY_DIM, false },
        { "input_layernorm.weight", 0, TINY_DIM, true },
        { "post_attention_layernorm.weight", 0, TINY_DIM, true },
        { "self_attn.q_proj.weight", 16, TINY_DIM, true },
        { "self_attn.k_proj.weight", 8, TINY_DIM, true },
        { "self_attn.v_proj.weight", 8, TINY_DIM, true },
        { "self_attn.o_proj.weight", TINY_DIM, 16, true },
        { "mlp.gate_proj.weight", 32, TINY_DIM, true },
        { "mlp.up_proj.weight", 32, TINY_DIM, true },
        { "mlp.down_proj.weight", TINY_DIM, 32, true },
    };
    enum { N = sizeof tensors / sizeof tensors[0] };
    loami_writer *w;
    uint32_t seed = 7;
    assert_int_equal(loami_writer_open(&w, dir, 1 << 30, NULL), 0);
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) assert_int_equal(loami_writer_begin(w, NULL), 0);
        for (uint32_t i = 0; i < N; i++) {
            for (uint32_t layer = 0; layer < (tensors[i].layered ? 2 : 1); layer++) {
                uint64_t n = (uint64_t)(tensors[i].rows ? tensors[i].rows : 1) * tensors[i].cols;
                uint64_t shape[2] = { tensors[i].rows, tensors[i].cols };
                char name[128];
                snprintf(name, sizeof name, tensors[i].layered ? "model.layers.%u.%s" : "%.0u%s", layer, tensors[i].name);
                if (pass == 0) {
                    uint32_t dims = tensors[i].rows ? 2 : 1;
                    assert_int_equal(loami_writer_add(w, name, LOAM_F32, dims, shape + 2 - dims, NULL), 0);
                    continue;
                }
                float *x = malloc(n * sizeof *x);
                for (uint64_t k = 0; k < n; k++) {
                    seed = seed * 1664525 + 1013904223;
                    x[k] = tensors[i].rows ? ((float)(seed >> 8) / 8388608.0f - 1) * 0.8f : 1;
                }
                assert_int_equal(loami_writer_data(w, x, n * sizeof *x, NULL), 0);
                free(x);
            }
        }
    }
    assert_int_equal(loami_writer_close(w, NULL), 0);
}

/* Fills an existing, empty folder. */
static inline void tiny_make(const char *dir)
{
    tiny_config(dir);
    tiny_weights(dir);
    tiny_tokenizer(dir);
}

#endif
