/* Answers of every family, taken apart: whole, cut at each place into two, and byte by byte between characters. */
#include "check.h"

#include "base/utf8.h"
#include "text/format.h"

#include <stdio.h>
#include <stdlib.h>

/* What came out, as text: C content, R reasoning, T a call's name, #id, its arguments, and a dot at its end. */
typedef struct got {
    loami_buf text;
    int last;
} got;

static void note(void *arg, const loami_event *e)
{
    static const char letters[] = { [LOAMI_CONTENT] = 'C', [LOAMI_REASONING] = 'R', [LOAMI_CALL] = 'T', [LOAMI_ARGUMENTS] = ' ', [LOAMI_CALL_END] = '.' };
    got *g = arg;
    bool goes_on = g->last == (int)e->kind && (e->kind == LOAMI_CONTENT || e->kind == LOAMI_REASONING || e->kind == LOAMI_ARGUMENTS);
    if (!goes_on) loami_buf_printf(&g->text, "%s%c", g->text.len && e->kind < LOAMI_ARGUMENTS ? "|" : "", letters[e->kind]);
    loami_buf_put(&g->text, e->text, e->n);
    if (e->kind == LOAMI_CALL_END && e->id) loami_buf_printf(&g->text, "#%s", e->id);
    if (e->kind == LOAMI_CALL) loami_buf_printf(&g->text, "%u", e->call);
    g->last = (int)e->kind;
}

static const char tools_text[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"get_weather\", \"parameters\": {\"type\": \"object\", \"properties\": {"
    "\"city\": {\"type\": \"string\"}, \"days\": {\"type\": \"integer\"}, \"on\": {\"type\": \"boolean\"}, \"tags\": {\"type\": \"array\"},"
    "\"either\": {\"anyOf\": [{\"type\": \"string\"}, {\"type\": \"number\"}]}, \"unit\": {\"enum\": [\"1\", \"2\"]}}}}}]";

typedef struct sample {
    const char *template, *prompt;
    bool no_tools;
    const char *text, *want;
} sample;

#define QWEN "<tool_call></tool_call> </think>"
#define CODER "<tool_call><function=x><parameter=y>"
#define LLAMA "<|start_header_id|>ipython<|end_header_id|>"
#define GLM "<tool_call>x<arg_key>y</arg_key> </think>"
#define HARMONY "<|channel|>analysis<|message|>"
#define MISTRAL "[TOOL_CALLS] [/THINK]"
#define KIMI "<|tool_calls_section_begin|>"
#define DEEPSEEK "<｜tool▁calls▁begin｜> </think>"
#define DSML "｜DSML｜"
#define COHERE "<|START_ACTION|> <|END_THINKING|>"
#define SOLAR "<|tool_call:begin|><|tool_call:args|><|think|>"
#define LFM2 "<|tool_list_start|>"
#define MINIMAX "]<]minimax[>[ </mm:think>"
#define NS "]<]minimax[>["
#define FUNCTIONARY "<function=x><|python_tag|>"

static const sample samples[] = {
    /* plain text */
    { "", NULL, false, "Hello <b> [x] {y} <tool_call>", "CHello <b> [x] {y} <tool_call>" },
    { "", NULL, false, "", "" },
    { QWEN, NULL, false, "Just text.\n\nMore  \n", "CJust text.\n\nMore  \n" },
    { QWEN, NULL, false, "a < b, a <t, <tool_cal", "Ca < b, a <t, <tool_cal" },
    /* reasoning */
    { QWEN, NULL, false, "<think>\nHm.\n\nYes\n</think>\n\nFour.", "RHm.\n\nYes|CFour." },
    { QWEN, "...assistant\n<think>\n", false, "Hm.\n</think>\n\nFour.", "RHm.|CFour." },
    { QWEN, "...assistant\n<think>\n\n</think>\n\n", false, "Four.", "CFour." },
    { QWEN, "user: what is <think>? assistant\n", false, "A tag.", "CA tag." },
    { QWEN, NULL, false, "A <think> tag, </think> too.", "CA <think> tag, </think> too." },
    { QWEN, NULL, false, "<think>\n\n</think>\n\nFour.", "CFour." },
    { QWEN, NULL, false, "</think>Four.", "CFour." },
    { QWEN, NULL, false, "<think>It never ends \n", "RIt never ends \n" },
    { QWEN, NULL, false, "<think>a</thin", "Ra</thin" },
    { QWEN, NULL, false, "<think>x</think><tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>", "Rx|Tnow0 {}." },
    /* Hermes */
    { QWEN, NULL, false, "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Z\\\"}ü\", \"l\": [1, {}]}}\n</tool_call>",
      "Tget_weather0 {\"city\": \"Z\\\"}ü\", \"l\": [1, {}]}." },
    { QWEN, NULL, false, "Let me look. \n<tool_call>{\"name\":\"a\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"b\",\"arguments\":{\"x\":1}}</tool_call>\nDone.",
      "CLet me look.|Ta0 {}.|Tb1 {\"x\":1}.|CDone." },
    { QWEN, NULL, false, "<tool_call>{\"arguments\": {\"x\": [1]}, \"id\": \"c1\", \"name\": \"late\"}</tool_call>", "Tlate0 {\"x\": [1]}.#c1" },
    { QWEN, NULL, false, "<tool_call>{\"name\": \"s\", \"arguments\": \"{\\\"x\\\": 1}\"}</tool_call>", "Ts0 {\"x\": 1}." },
    { QWEN, NULL, false, "<tool_call>{\"name\": \"s\"}</tool_call>", "Ts0 {}." },
    { QWEN, NULL, false, "<tool_call>{\"name\": \"s\", \"arguments\": null}</tool_call>", "Ts0 {}." },
    { QWEN, NULL, false, "<tool_call>[{\"name\": \"a\", \"arguments\": {}}, {\"name\": \"b\", \"arguments\": {}}]</tool_call>", "Ta0 {}.|Tb1 {}." },
    { QWEN, NULL, false, "<tool_call>{\"name\": \"a\", \"arguments\": {}, \"more\": [{}]}</tool_call>", "Ta0 {}." },
    { QWEN, NULL, true, "<tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call>", "C<tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call>" },
    /* not calls after all */
    { QWEN, NULL, false, "a <tool_call>b</tool_call> c", "Ca <tool_call>b</tool_call> c" },
    { QWEN, NULL, false, "<tool_call>{\"nam\": 1}</tool_call>", "C<tool_call>{\"nam\": 1}</tool_call>" },
    { QWEN, NULL, false, "<tool_call>{\"name\": 5, \"arguments\": {}}</tool_call>", "C<tool_call>{\"name\": 5, \"arguments\": {}}</tool_call>" },
    { QWEN, NULL, false, "<tool_call>{\"name\": \"a\", \"arguments\": 7}</tool_call>", "C<tool_call>{\"name\": \"a\", \"arguments\": 7}</tool_call>" },
    { QWEN, NULL, false, "<tool_call>{\"name\": \"a\"", "C<tool_call>{\"name\": \"a\"" },
    { QWEN, NULL, false, "<tool_call>", "C<tool_call>" },
    { QWEN, NULL, false, "<tool_call>{name: x}", "C<tool_call>{name: x}" },
    { QWEN, NULL, false, "<tool_call>x <tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call>", "C<tool_call>x|Ta0 {}." },
    /* the text breaks off within a call */
    { QWEN, NULL, false, "<tool_call>{\"name\": \"a\", \"arguments\": {\"x\": \"lon", "Ta0 {\"x\": \"lon." },
    { QWEN, NULL, false, "<tool_call>{\"name\": \"a\", \"arguments\": {\"x\": 1}", "Ta0 {\"x\": 1}." },
    { QWEN, NULL, false, "<tool_call>{\"name\": \"a\", \"arguments\": {\"x\": 1]", "Ta0 {\"x\": 1.|C]" },
    /* Qwen3-Coder */
    { CODER, NULL, false, "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
      "Tget_weather0 {\"city\": \"Oslo\", \"days\": 3}." },
    { CODER, NULL, false, "I look.\n\n<function=get_weather>\n<parameter=city>\n12\n</parameter>\n<parameter=on>\nTrue\n</parameter>\n<parameter=tags>\n[\"a\", {\"b\": null}]\n</parameter>\n</function>\n</tool_call>",
      "CI look.|Tget_weather0 {\"city\": \"12\", \"on\": true, \"tags\": [\"a\", {\"b\": null}]}." },
    { CODER, NULL, false, "<tool_call>\n<function=now>\n</function>\n</tool_call>\n<tool_call>\n<function=f>\n<parameter=a>\nx\n\n</parameter>\n</function>\n</tool_call>",
      "Tnow0 {}.|Tf1 {\"a\": \"x\\n\"}." },
    { CODER, NULL, false, "<tool_call>\n<function=get_weather>\n<parameter=either>\n1.5\n</parameter>\n<parameter=unit>\n1\n</parameter>\n<parameter=days>\nmany\n</parameter>\n</function>\n</tool_call>",
      "Tget_weather0 {\"either\": 1.5, \"unit\": \"1\", \"days\": \"many\"}." },
    { CODER, NULL, false, "<tool_call>\n<function=f>\n<parameter=a>\nx", "Tf0 {." },
    { CODER, NULL, false, "<tool_call>\nno\n</tool_call>", "C<tool_call>\nno" },
    { CODER, NULL, false, "see <function=f> there", "Csee <function=f> there" },
    /* GLM and its like */
    { GLM, NULL, false, "</think>Fine.<tool_call>get_weather<arg_key>city</arg_key><arg_value>Oslo</arg_value><arg_key>days</arg_key><arg_value>2</arg_value></tool_call>",
      "CFine.|Tget_weather0 {\"city\": \"Oslo\", \"days\": 2}." },
    { GLM, NULL, false, "<tool_call>\nget_weather\n<arg_key>city</arg_key>\n<arg_value>a\nb</arg_value>\n</tool_call>\n<tool_call>now</tool_call>",
      "Tget_weather0 {\"city\": \"a\\nb\"}.|Tnow1 {}." },
    { GLM, NULL, false, "<tool_call>not a name, you see\n</tool_call>", "C<tool_call>not a name, you see\n</tool_call>" },
    /* Llama */
    { LLAMA, NULL, false, "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Oslo\"}}", "Tget_weather0 {\"city\": \"Oslo\"}." },
    { LLAMA, NULL, false, "{\"type\": \"function\", \"name\": \"a\", \"parameters\": {}}; {\"name\": \"b\", \"parameters\": {\"x\": 1}}", "Ta0 {}.|Tb1 {\"x\": 1}." },
    { LLAMA, NULL, false, "<|python_tag|>{\"name\": \"a\", \"parameters\": {\"x\": [1, 2]}}<|eom_id|>", "Ta0 {\"x\": [1, 2]}." },
    { LLAMA, NULL, false, "<|python_tag|>{\"name\": \"a\", \"parameters\": {\"x\": [1, 2]}}", "Ta0 {\"x\": [1, 2]}." },
    { LLAMA, NULL, false, "<|python_tag|>brave_search.call(query=\"a, b\", n=2, deep=True)", "Tbrave_search0 {\"query\": \"a, b\", \"n\": 2, \"deep\": true}." },
    { LLAMA, NULL, false, "<|python_tag|>print(1 +\n 2)", "Tpython0 {\"code\": \"print(1 +\\n 2)\"}." },
    { LLAMA, NULL, false, "{\"answer\": 5}", "C{\"answer\": 5}" },
    { LLAMA, NULL, false, " {\"name\": \"x\"", "C {\"name\": \"x\"" },
    { LLAMA, NULL, false, "It is {\"name\": \"a\", \"parameters\": {}}", "CIt is {\"name\": \"a\", \"parameters\": {}}" },
    { LLAMA, NULL, true, "{\"name\": \"a\", \"parameters\": {}}", "C{\"name\": \"a\", \"parameters\": {}}" },
    /* functionary */
    { FUNCTIONARY, NULL, false, "<function=get_weather>{\"city\": \"Oslo\"}</function><function=now>{}</function><|eom_id|>", "Tget_weather0 {\"city\": \"Oslo\"}.|Tnow1 {}." },
    { FUNCTIONARY, NULL, false, "a <function=b c>{}</function>", "Ca <function=b c>{}</function>" },
    /* Mistral */
    { MISTRAL, NULL, false, "[TOOL_CALLS] [{\"name\": \"a\", \"arguments\": {\"x\": 1}, \"id\": \"abcdefghi\"}, {\"name\": \"b\", \"arguments\": {}}]", "Ta0 {\"x\": 1}.#abcdefghi|Tb1 {}." },
    { MISTRAL, NULL, false, "[THINK]Hm.[/THINK]Look:[TOOL_CALLS]a[ARGS]{\"x\": {}}[TOOL_CALLS]b[CALL_ID]123456789[ARGS]{}", "RHm.|CLook:|Ta0 {\"x\": {}}.|Tb1 {}.#123456789" },
    { MISTRAL, NULL, false, "[TOOL_CALLS] nothing here", "C[TOOL_CALLS] nothing here" },
    /* gpt-oss */
    { HARMONY, "<|start|>assistant", false, "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Four.<|return|>", "RHm.|CFour." },
    { HARMONY, "<|start|>assistant", false, "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"Oslo\"}<|call|>",
      "RHm.|Tget_weather0 {\"city\": \"Oslo\"}." },
    { HARMONY, "<|start|>assistant", false, "<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant to=functions.now<|channel|>commentary json<|message|>{}<|call|>", "CI will look.|Tnow0 {}." },
    { HARMONY, "<|start|>assistant", false, "<|channel|>commentary to=functions.f<|message|>not json<|call|>", "Cnot json" },
    { HARMONY, "<|start|>assistant", false, "Plain words", "CPlain words" },
    { HARMONY, "<|start|>assistant", false, "<|channel|>final<|message|>The analysis < b <|", "CThe analysis < b <|" },
    /* Kimi */
    { KIMI, NULL, false, "Look.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{\"city\": \"Oslo\"}<|tool_call_end|><|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
      "CLook.|Tget_weather0 {\"city\": \"Oslo\"}.#functions.get_weather:0|Tnow1 {}.#functions.now:1" },
    /* DeepSeek */
    { DEEPSEEK, "<｜Assistant｜><think>\n", false, "Hm.\n</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Oslo\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
      "RHm.|Tget_weather0 {\"city\": \"Oslo\"}.|Tnow1 {}." },
    { DEEPSEEK, NULL, false, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Oslo\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>", "Tget_weather0 {\"city\": \"Oslo\"}." },
    { DSML, NULL, false, "Look.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">12</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">3</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
      "CLook.|Tget_weather0 {\"city\": \"12\", \"days\": 3}." },
    /* Cohere, Solar, LFM2, MiniMax */
    { COHERE, NULL, false, "<|START_THINKING|>Hm.<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"get_weather\", \"parameters\": {\"city\": \"Oslo\"}}\n]<|END_ACTION|>", "RHm.|Tget_weather0 {\"city\": \"Oslo\"}.#0" },
    { COHERE, NULL, false, "<|START_RESPONSE|>Four.<|END_RESPONSE|>", "CFour." },
    { SOLAR, NULL, false, "<|think|>Hm.<|end|><|begin|>assistant<|tool_calls|><|tool_call:begin|>a1<|tool_call:name|>get_weather<|tool_call:args|>{\"city\": \"Oslo\"}<|tool_call:end|><|calls|>", "RHm.|Tget_weather0 {\"city\": \"Oslo\"}.#a1" },
    { LFM2, NULL, false, "Look.<|tool_call_start|>[get_weather(city='Os\\'lo', tags=[\"a\", 1.5, None], d={'k': -2}), now()]<|tool_call_end|>Done.",
      "CLook.|Tget_weather0 {\"city\": \"Os'lo\", \"tags\": [\"a\", 1.5, null], \"d\": {\"k\": -2}}.|Tnow1 {}.|CDone." },
    { LFM2, NULL, false, "<|tool_call_start|>[f(x=)]<|tool_call_end|>", "C<|tool_call_start|>[f(x=)]<|tool_call_end|>" },
    { MINIMAX, NULL, false, "<mm:think>Hm.</mm:think>" NS "<tool_call>\n" NS "<invoke name=\"get_weather\">" NS "<city>Oslo" NS "</city>" NS "<days>3" NS "</days>" NS "<w>" NS "<a>1" NS "</a>\n" NS "</w>" NS "<tags>" NS "<item>x" NS "</item>" NS "</tags>" NS "</invoke>\n" NS "</tool_call>",
      "RHm.|Tget_weather0 {\"city\": \"Oslo\", \"days\": 3, \"w\": {\"a\": 1}, \"tags\": [\"x\"]}." },
};

/* Feeds the text cut after `cut` bytes (0: whole; SIZE_MAX: character by character). */
static char *take_apart(const sample *s, const json_t *tools, size_t cut)
{
    loami_format f = loami_format_detect(s->template, strlen(s->template));
    loami_format_parser *p;
    loam_err err;
    got g = { .last = -1 };
    size_t n = strlen(s->text);
    CHECK_OK(loami_format_open(&p, &f, s->prompt, s->no_tools ? NULL : tools, note, &g, &err), err, 0);
    if (cut == SIZE_MAX) {
        uint32_t cp;
        for (size_t i = 0; i < n;) {
            size_t k = loami_utf8_next(s->text + i, n - i, &cp);
            CHECK_OK(loami_format_put(p, s->text + i, k, &err), err, 0);
            i += k;
        }
    } else {
        CHECK_OK(loami_format_put(p, s->text, cut, &err), err, 0);
        CHECK_OK(loami_format_put(p, s->text + cut, n - cut, &err), err, 0);
    }
    CHECK_OK(loami_format_end(p, &err), err, 0);
    loami_format_close(p);
    if (!g.text.data) loami_buf_puts(&g.text, "");
    return loami_buf_take(&g.text, NULL);
}

static void test_every_cut(void **state)
{
    json_t *tools;
    loam_err err;
    (void)state;
    CHECK_OK(loami_json_parse(&tools, tools_text, sizeof tools_text - 1, "tools", &err), err, 0);
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        const sample *s = &samples[i];
        size_t n = strlen(s->text);
        for (size_t cut = 0; cut <= n + 1; cut++) {
            if (cut <= n && loami_utf8_cut(s->text, cut) != cut) continue;
            char *text = take_apart(s, tools, cut <= n ? cut : SIZE_MAX);
            if (strcmp(text, s->want) != 0)
                fail_msg("%s\n  cut at %zu of %zu\n  want %s\n  got  %s", s->text, cut, n, s->want, text);
            free(text);
        }
    }
    json_decref(tools);
}

/* Content must not wait for what can't become a marker. */
static void test_streams(void **state)
{
    loami_format f = loami_format_detect(QWEN, strlen(QWEN));
    loami_format_parser *p;
    loam_err err;
    got g = { .last = -1 };
    json_t *tools = json_array();
    (void)state;
    CHECK_OK(loami_format_open(&p, &f, NULL, tools, note, &g, &err), err, 0);
    CHECK_OK(loami_format_put(p, "Hello <b", 8, &err), err, 0);
    assert_string_equal(g.text.data, "CHello <b");
    CHECK_OK(loami_format_put(p, "> <tool", 7, &err), err, 0);
    assert_string_equal(g.text.data, "CHello <b>");
    CHECK_OK(loami_format_put(p, "_call>{\"name\": \"a\", \"arguments\": {\"x\": \"lo", 43, &err), err, 0);
    assert_string_equal(g.text.data, "CHello <b>|Ta0 {\"x\": \"lo");
    loami_format_close(p);
    loami_buf_free(&g.text);
    json_decref(tools);
}

/* Arguments of a megabyte that come byte by byte cost no more than their length. */
static void test_long_arguments(void **state)
{
    loami_format f = loami_format_detect(QWEN, strlen(QWEN));
    loami_format_parser *p;
    loam_err err;
    got g = { .last = -1 };
    json_t *tools = json_array();
    static const char start[] = "<tool_call>{\"arguments\": {\"x\": \"", end[] = "\"}, \"name\": \"a\"}</tool_call>";
    (void)state;
    CHECK_OK(loami_format_open(&p, &f, NULL, tools, note, &g, &err), err, 0);
    CHECK_OK(loami_format_put(p, start, sizeof start - 1, &err), err, 0);
    for (int i = 0; i < 1 << 20; i++) CHECK_OK(loami_format_put(p, "y", 1, &err), err, 0);
    CHECK_OK(loami_format_put(p, end, sizeof end - 1, &err), err, 0);
    CHECK_OK(loami_format_end(p, &err), err, 0);
    assert_int_equal(g.text.len, strlen("Ta0 {\"x\": \"\"}.") + (1 << 20));
    loami_format_close(p);
    loami_buf_free(&g.text);
    json_decref(tools);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut), cmocka_unit_test(test_streams), cmocka_unit_test(test_long_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
