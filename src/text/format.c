#include "text/format.h"

#include "text/format/parser.h"

#include <string.h>

/* ---- how each family marks its calls ------------------------------------------------------------------- */

static const loami_json_calls hermes = { .close = "</tool_call>" }, cohere = { .close = "<|END_ACTION|>" },
    nemotron = { .close = "</TOOLCALL>" }, apertus = { .close = "<|tools_suffix|>", .by_name = true },
    gigachat = { .close = "<|message_sep|>" };

static const loami_named_calls
    mistral = { .name_end = "[ARGS]", .id_mark = "[CALL_ID]", .id_last = true, .may_be_json = true },
    functionary = { .name_end = ">", .each_close = "</function>" },
    kimi = { .each = "<|tool_call_begin|>", .name_end = "<|tool_call_argument_begin|>",
             .each_close = "<|tool_call_end|>",
             .close = "<|tool_calls_section_end|>", .strip = "functions.", .numbered = true },
    deepseek = { .each = "<｜tool▁call▁begin｜>", .name_end = "<｜tool▁sep｜>", .each_close = "<｜tool▁call▁end｜>",
                 .close = "<｜tool▁calls▁end｜>" },
    solar = { .name_end = "<|tool_call:args|>", .each_close = "<|tool_call:end|>",
              .id_mark = "<|tool_call:name|>" };

static const loami_params_calls
    qwen = { .call = "<function=", .name_end = ">", .param = "<parameter=", .key_end = ">",
             .value_end = "</parameter>",
             .call_end = "</function>", .close = "</tool_call>", .lines = true },
    qwen_alone = { .name_end = ">", .param = "<parameter=", .key_end = ">", .value_end = "</parameter>",
                   .call_end = "</function>",
                   .lines = true },
    seed = { .call = "<function=", .name_end = ">", .param = "<parameter=", .key_end = ">",
             .value_end = "</parameter>",
             .call_end = "</function>", .close = "</seed:tool_call>" },
    glm = { .param = "<arg_key>", .key_end = "</arg_key>", .value = "<arg_value>",
            .value_end = "</arg_value>",
            .call_end = "</tool_call>" },
    hunyuan = { .call = "<tool_call:opensource>", .name_end = "<tool_sep:opensource>",
                .param = "<arg_key:opensource>",
                .key_end = "</arg_key:opensource>", .value = "<arg_value:opensource>", .value_end = "</arg_value:opensource>",
                .call_end = "</tool_call:opensource>", .close = "</tool_calls:opensource>" },
    dsml = { .call = "<｜DSML｜invoke name=\"", .name_end = "\">", .param = "<｜DSML｜parameter name=\"",
             .key_end = ">",
             .value_end = "</｜DSML｜parameter>", .call_end = "</｜DSML｜invoke>", .close = "</｜DSML｜tool_calls>" },
    minimax_m2 = { .call = "<invoke name=\"", .name_end = "\">", .param = "<parameter name=\"",
                   .key_end = "\">",
                   .value_end = "</parameter>", .call_end = "</invoke>", .close = "</minimax:tool_call>" },
    atem = { .first = "<atem:function_calls>", .call = "<atem:invoke name=\"", .name_end = "\">",
             .param = "<atem:parameter name=\"", .key_end = "\">", .value_end = "</atem:parameter>", .call_end = "</atem:invoke>",
             .close = "</atem:function_calls>" };

static const loami_python_calls
    lfm2 = { .close = "<|tool_call_end|>" },
    python_tag = { .close = "<|eom_id|>", .code = true };

static const loami_nested_calls minimax = { .prefix = "]<]minimax[>[", .close = "]<]minimax[>[</tool_call>" };

static const loami_channels
    harmony = { .start = "<|start|>", .message = "<|message|>",
                .ends = { "<|end|>", "<|call|>", "<|return|>" },
                .reasoning = "analysis", .strip = "functions." },
    muse = { .start = "<|start|>", .message = "<|message|>", .ends = { "<|eom|>", "<|eot|>" },
             .reasoning = "self", .user = "user",
             .style = &loami_style_params, .config = &atem };

/* The first row whose words are all in the template. Rows with rarer words come first. */
static const loami_format_calls formats[] = {
    { .name = "harmony", .needs = { "<|channel|>", "<|message|>" }, .keep_special = true,
      .channels = &harmony },
    { .name = "muse", .needs = { "<atem:function_calls>", "<|message|>" }, .keep_special = true,
      .channels = &muse },
    { .name = "kimi", .needs = { "<|tool_calls_section_begin|>" }, .keep_special = true,
      .opens = { { "<|tool_calls_section_begin|>", &loami_style_named, &kimi } } },
    { .name = "dsml", .needs = { "｜DSML｜" }, .keep_special = true,
      .opens = { { "<｜DSML｜tool_calls>", &loami_style_params, &dsml } } },
    { .name = "deepseek", .needs = { "<｜tool▁calls▁begin｜>" }, .keep_special = true,
      .opens = { { "<｜tool▁calls▁begin｜>", &loami_style_named, &deepseek } } },
    { .name = "minimax", .needs = { "]<]minimax[>[" }, .keep_special = true,
      .opens = { { "]<]minimax[>[<tool_call>", &loami_style_nested, &minimax } } },
    { .name = "minimax-m2", .needs = { "<minimax:tool_call>" }, .keep_special = true,
      .opens = { { "<minimax:tool_call>", &loami_style_params, &minimax_m2 } } },
    { .name = "seed", .needs = { "<seed:tool_call>" }, .keep_special = true,
      .opens = { { "<seed:tool_call>", &loami_style_params, &seed } } },
    { .name = "hunyuan", .needs = { "<tool_call{}>", ":opensource" }, .keep_special = true,
      .opens = { { "<tool_calls:opensource>", &loami_style_params, &hunyuan } } },
    { .name = "solar", .needs = { "<|tool_call:begin|>", "<|tool_call:args|>" }, .keep_special = true,
      .opens = { { "<|tool_call:begin|>", &loami_style_named, &solar } },
      .drops = { "<|begin|>assistant", "<|content|>", "<|tool_calls|>", "<|calls|>", "<|end|>" } },
    { .name = "cohere", .needs = { "<|START_ACTION|>" }, .keep_special = true,
      .opens = { { "<|START_ACTION|>", &loami_style_json, &cohere } },
      .drops = { "<|START_RESPONSE|>", "<|END_RESPONSE|>" } },
    { .name = "apertus", .needs = { "<|tools_prefix|>" }, .keep_special = true,
      .opens = { { "<|tools_prefix|>", &loami_style_json, &apertus } } },
    { .name = "gigachat", .needs = { "function call", "<|role_sep|>" }, .keep_special = true,
      .opens = { { "function call<|role_sep|>", &loami_style_json, &gigachat } },
      .drops = { "<|message_sep|>" } },
    { .name = "nemotron", .needs = { "<TOOLCALL>" },
      .opens = { { "<TOOLCALL>", &loami_style_json, &nemotron } } },
    { .name = "mistral", .needs = { "[TOOL_CALLS]" }, .keep_special = true,
      .opens = { { "[TOOL_CALLS]", &loami_style_named, &mistral } } },
    { .name = "granite", .needs = { "<|tool_call|>" }, .keep_special = true,
      .opens = { { "<|tool_call|>", &loami_style_json, NULL } },
      .drops = { "<|/tool_call|>", "<response>", "</response>" } },
    { .name = "glm", .needs = { "<arg_key>", "<tool_call>" }, .keep_special = true,
      .opens = { { "<tool_call>", &loami_style_params, &glm } } },
    { .name = "qwen-coder", .needs = { "<function=", "<parameter=" },
      .opens = { { "<tool_call>", &loami_style_params, &qwen },
                 { "<function=", &loami_style_params, &qwen_alone } },
      .drops = { "</tool_call>" } },
    { .name = "functionary", .needs = { "<function=", "<|python_tag|>" }, .keep_special = true,
      .opens = { { "<function=", &loami_style_named, &functionary },
                 { "<|python_tag|>", &loami_style_python, &python_tag } },
      .drops = { "<|eom_id|>" } },
    { .name = "hermes", .needs = { "<tool_call>" },
      .opens = { { "<tool_call>", &loami_style_json, &hermes } } },
    { .name = "lfm2", .needs = { "<|tool_list_start|>" }, .keep_special = true,
      .opens = { { "<|tool_call_start|>", &loami_style_python, &lfm2 } } },
    { .name = "llama", .needs = { "<|start_header_id|>", "ipython" }, .keep_special = true, .bare = true,
      .opens = { { "<|python_tag|>", &loami_style_python, &python_tag } }, .drops = { "<|eom_id|>" } },
};

static const loami_format_calls none = { .name = "none" };

/* ---- how each family marks its reasoning --------------------------------------------------------------- */

static const struct {
    const char *need, *open, *close;
    bool special;
} thinks[] = {
    { "</seed:think>", "<seed:think>", "</seed:think>", true },
    { "</mm:think>", "<mm:think>", "</mm:think>", true },
    { "</think{}>", "<think:opensource>", "</think:opensource>", true },
    { "<|END_THINKING|>", "<|START_THINKING|>", "<|END_THINKING|>", true },
    { "<|inner_suffix|>", "<|inner_prefix|>", "<|inner_suffix|>", true },
    { "[/THINK]", "[THINK]", "[/THINK]", true },
    { "<|think|>", "<|think|>", "<|end|>", true },
    { "</think>", "<think>", "</think>", false },
};

static bool has(const char *text, size_t n, const char *word)
{
    return memmem(text, n, word, strlen(word)) != NULL;
}

loami_format loami_format_detect(const char *text, size_t n)
{
    loami_format f = { .calls = &none };
    for (size_t i = 0; i < sizeof formats / sizeof *formats && f.calls == &none; i++) {
        bool all = true;
        for (int k = 0; k < 3 && formats[i].needs[k]; k++) all &= has(text, n, formats[i].needs[k]);
        if (all) f.calls = &formats[i];
    }
    f.name = f.calls->name;
    f.keep_special = f.calls->keep_special;
    for (size_t i = 0; i < sizeof thinks / sizeof *thinks && !f.think && !f.calls->channels; i++) {
        if (!has(text, n, thinks[i].need)) continue;
        f.think = thinks[i].open;
        f.end_think = thinks[i].close;
        f.keep_special |= thinks[i].special;
    }
    return f;
}
