#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "file/config.h"

#include <string.h>

#define BASE                                                                                                 \
    "\"model_type\":\"llama\",\"hidden_size\":64,\"num_hidden_layers\":2,\"num_attention_heads\":4,\"vocab_" \
    "size\":100"

static int parse(loami_config *c, const char *text, loam_err *err)
{
    return loami_config_parse(c, text, strlen(text), "config.json", err);
}

static void reads_fields_and_defaults(void **state)
{
    loami_config c;
    loam_err err;
    (void)state;
    assert_int_equal(parse(&c, "{" BASE "}", &err), 0);
    assert_string_equal(c.family, "llama");
    assert_int_equal(c.n_kv_heads, 4);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.context, 0);
    assert_true(c.tied);
    assert_float_equal(c.rope_theta, 10000, 0);
    assert_int_equal(c.quant.mode, LOAM_Q_NONE);
    loami_config_close(&c);

    assert_int_equal(
        parse(&c,
              "{" BASE ",\"head_dim\":32,\"num_key_value_heads\":2,\"tie_word_embeddings\":false,"
              "\"rope_parameters\":{\"rope_theta\":5e5},\"rms_norm_eps\":1e-6,\"attention_bias\":true,"
              "\"intermediate_size\":128,\"max_position_embeddings\":null}",
              &err),
        0);
    assert_int_equal(c.head_dim, 32);
    assert_int_equal(c.ffn_dim, 128);
    assert_false(c.tied);
    assert_true(c.attn_bias);
    assert_float_equal(c.rope_theta, 5e5, 0);
    assert_float_equal(c.norm_eps, 1e-6f, 0);
    loami_config_close(&c);
}

static void reads_nested_language_model(void **state)
{
    loami_config c;
    loam_err err;
    (void)state;
    assert_int_equal(parse(&c,
                           "{\"model_type\":\"gemma3\",\"quantization\":{\"bits\":8},\"text_config\":{"
                           "\"model_type\":\"gemma3_text\","
                           "\"hidden_size\":2560,\"num_hidden_layers\":34,\"intermediate_size\":10240}}",
                           &err),
                     0);
    assert_string_equal(c.family, "gemma3_text");
    assert_int_equal(c.n_heads, 8);
    assert_int_equal(c.n_kv_heads, 4);
    assert_int_equal(c.head_dim, 256);
    assert_int_equal(c.quant.bits, 8);
    assert_int_equal(c.quant.group, 64);
    assert_ptr_not_equal(c.root, c.json);
    loami_config_close(&c);
}

static void reads_quantization_and_overrides(void **state)
{
    static const char text[] =
        "{" BASE ",\"%s\":{\"group_size\":32,\"bits\":4,\"mode\":\"affine\",\"model.embed_tokens\":"
        "{\"group_size\":64,\"bits\":8},\"lm_head\":false,\"a\":true,\"b\":{\"mode\":\"mxfp4\"},\"c\":{"
        "\"bits\":7}}}";
    static const char *const keys[] = { "quantization", "quantization_config" };
    (void)state;
    for (int i = 0; i < 2; i++) {
        char json[1024];
        loami_config c;
        loami_quant_config q;
        loam_err err;
        snprintf(json, sizeof json, text, keys[i]);
        assert_int_equal(parse(&c, json, &err), 0);
        assert_int_equal(loami_config_quant(&c, "model.layers.0.mlp.up_proj", &q, &err), 0);
        assert_int_equal(q.mode, LOAM_Q_AFFINE);
        assert_int_equal(q.bits, 4);
        assert_int_equal(q.group, 32);
        assert_int_equal(loami_config_quant(&c, "model.embed_tokens", &q, &err), 0);
        assert_int_equal(q.bits, 8);
        assert_int_equal(q.group, 64);
        assert_int_equal(loami_config_quant(&c, "lm_head", &q, &err), 0);
        assert_int_equal(q.mode, LOAM_Q_NONE);
        assert_int_equal(loami_config_quant(&c, "a", &q, &err), 0);
        assert_int_equal(q.bits, 4);
        assert_int_equal(loami_config_quant(&c, "b", &q, &err), 0);
        assert_int_equal(q.mode, LOAM_Q_MXFP4);
        assert_int_equal(q.group, 32);
        assert_int_equal(loami_config_quant(&c, "c", &q, &err), LOAM_E_UNSUPPORTED);
        assert_non_null(strstr(err.msg, "7 bits"));
        loami_config_close(&c);
    }
}

static void refuses_the_impossible(void **state)
{
    static const struct {
        const char *text, *word;
    } bad[] = {
        { "", "config.json" },
        { "[1]", "object" },
        { "{}", "model_type" },
        { "{\"model_type\":3}", "model_type" },
        { "{\"model_type\":\"llama\"}", "hidden_size" },
        { "{" BASE ",\"hidden_size\":64}", "duplicate" },
        { "{" BASE ",\"head_dim\":0}", "head_dim" },
        { "{" BASE ",\"head_dim\":-1}", "head_dim" },
        { "{" BASE ",\"num_key_value_heads\":3}", "share" },
        { "{" BASE ",\"intermediate_size\":99999999999}", "intermediate_size" },
        { "{" BASE ",\"rms_norm_eps\":\"x\"}", "rms_norm_eps" },
        { "{" BASE ",\"tie_word_embeddings\":1}", "tie_word_embeddings" },
        { "{" BASE ",\"quantization\":[]}", "quantization" },
        { "{" BASE ",\"quantization\":{\"bits\":7}}", "7 bits" },
        { "{" BASE ",\"quantization\":{\"bits\":4,\"group_size\":48}}", "48" },
        { "{" BASE ",\"quantization\":{\"mode\":\"fp3\"}}", "fp3" },
        { "{" BASE ",\"quantization\":{\"mode\":\"mxfp4\",\"bits\":8}}", "mxfp4" },
        { "{" BASE ",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":128}}",
          "gptq" },
        { "{\"model_type\":\"llama\",\"hidden_size\":65,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
          "\"vocab_size\":9}",
          "head_dim" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        loami_config c;
        loam_err err = { 0 };
        if (parse(&c, bad[i].text, &err) >= 0 || !strstr(err.msg, bad[i].word))
            fail_msg("%s: got %s", bad[i].text, err.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_fields_and_defaults),
        cmocka_unit_test(reads_nested_language_model),
        cmocka_unit_test(reads_quantization_and_overrides),
        cmocka_unit_test(refuses_the_impossible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
