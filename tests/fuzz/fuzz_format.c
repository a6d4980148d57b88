/* A byte that picks the family, one of switches, one of piece sizes, then an answer. However it is cut, the same comes
 * out, in good order; and what is no tool's call when there are no tools is not lost. */
#include "text/format.h"

#include <stdlib.h>
#include <string.h>

/* Words that the families are known by. */
static const char *const templates[] = {
    "<tool_call> </think>", "<tool_call><function=<parameter=</think>", "<|start_header_id|>ipython", "<tool_call><arg_key></think>",
    "<|channel|><|message|>", "[TOOL_CALLS][/THINK]", "<|tool_calls_section_begin|>", "<｜tool▁calls▁begin｜></think>", "｜DSML｜</think>",
    "<|START_ACTION|><|END_THINKING|>", "<|tool_call:begin|><|tool_call:args|><|think|>", "<|tool_list_start|>", "]<]minimax[>[</mm:think>",
    "<function=<|python_tag|>", "<atem:function_calls><|message|>", "<|tools_prefix|><|inner_suffix|>", "function call<|role_sep|>", "<TOOLCALL></think>",
    "<|tool_call|></think>", "<tool_call{}></think{}>:opensource", "<seed:tool_call></seed:think>", "<minimax:tool_call></think>", "plain",
};

typedef struct got {
    loami_buf text, shown;
    int last;
    uint32_t calls;
    bool open;
} got;

static void note(void *arg, const loami_event *e)
{
    got *g = arg;
    bool in_call = e->kind == LOAMI_ARGUMENTS || e->kind == LOAMI_CALL_END;
    if (in_call != g->open || e->call != g->calls) abort();
    if (e->kind == LOAMI_CALL) g->open = true;
    if (e->kind == LOAMI_CALL_END) {
        g->open = false;
        g->calls++;
    }
    if (g->last != (int)e->kind || e->kind == LOAMI_CALL) loami_buf_putc(&g->text, (char)('0' + e->kind));
    loami_buf_put(&g->text, e->text, e->n);
    if (e->id) loami_buf_puts(&g->text, e->id);
    if (!in_call) loami_buf_put(&g->shown, e->text, e->n);
    g->last = (int)e->kind;
}

static void run(got *g, const loami_format *f, const char *prompt, const json_t *tools, const char *text,
                size_t n, size_t piece)
{
    loami_format_parser *p;
    loam_err err;
    *g = (got){ .last = -1 };
    if (loami_format_open(&p, f, prompt, tools, note, g, &err) < 0) abort();
    for (size_t i = 0; i < n; i += piece) loami_format_put(p, text + i, n - i < piece ? n - i : piece, &err);
    loami_format_end(p, &err);
    if (g->open) abort();
    loami_format_close(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static json_t *tools;
    if (!tools)
        tools = json_pack("[{s:{s:s, s:{s:{s:{s:s}, s:{s:s}}}}}]", "function", "name", "f", "parameters",
                          "properties", "a", "type", "string", "b", "type", "integer");
    if (size < 3) return 0;
    const char *template = templates[data[0] % (sizeof templates / sizeof *templates)];
    const char *prompt = data[1] & 1 ? "user\n<think>\n" : "<|start|>assistant";
    loami_format f = loami_format_detect(template, strlen(template));
    const char *text = (const char *)data + 3;
    size_t n = size - 3, piece = 1 + data[2] % 17;
    got whole, pieces;

    run(&whole, &f, prompt, data[1] & 2 ? NULL : tools, text, n, n + 1);
    run(&pieces, &f, prompt, data[1] & 2 ? NULL : tools, text, n, piece);
    if (whole.text.len != pieces.text.len || (whole.text.len && memcmp(whole.text.data, pieces.text.data,
                                                                       whole.text.len) != 0))
        abort();
    if (strcmp(f.name,
               "none") == 0 && (whole.shown.len != n || (n && memcmp(whole.shown.data, text, n) != 0)))
        abort();
    loami_buf_free(&whole.text);
    loami_buf_free(&whole.shown);
    loami_buf_free(&pieces.text);
    loami_buf_free(&pieces.shown);
    return 0;
}
