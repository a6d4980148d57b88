#include "cmd/compare_page.h"

#include "cmd/plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void put(loami_buf *out, const char *s)
{
    loami_html_text(out, s, strlen(s));
}

const char *loami_ratio_words(const loami_ratio *r)
{
    return r->fine ? "no worse" : r->lowest > r->limit ? "WORSE" : "undecided";
}

static void put_verdict(loami_buf *out, const char *name, const loami_ratio *r)
{
    loami_buf_puts(out, "<tr><td>");
    put(out, name);
    loami_buf_printf(out,
                     "</td><td class=\"n\">%.3f</td><td class=\"n\">%.3f</td><td class=\"n\">%.3g</td><td class=\"n\">%u</td>"
                     "<td class=\"%s\">%s</td></tr>",
                     r->mean, r->highest, r->limit, r->n, r->fine ? "good" : "bad",
                     loami_ratio_words(r));
}

static double pick(const loami_ask *a, int what)
{
    switch (what) {
    case 0: return a->ttft_s * 1e3;
    case 1: return a->itl_s * 1e3;
    default: return a->total_s > 0 ? a->tokens / a->total_s : 0;
    }
}

static void put_plot(loami_buf *out, const loami_compared *c, int what, const char *title, const char *unit)
{
    loami_series s[2] = { { .name = "A" }, { .name = "B" } };
    for (uint32_t k = 0; k < 2; k++) {
        s[k].values = calloc(c->n + 1, sizeof(double));
        for (uint32_t i = 0; s[k].values && i < c->n; i++) {
            double v = pick(&c->asks[2 * i + k], what);
            if (c->asks[2 * i + k].ok && v > 0) s[k].values[s[k].n++] = v;
        }
    }
    loami_plot_shares(out, title, unit, s, 2, true);
    free(s[0].values);
    free(s[1].values);
}

static void put_answer(loami_buf *out, const loami_ask *a)
{
    loami_buf_puts(out, "<td><div class=\"text\">");
    if (a->ok)
        loami_html_text(out, a->text ? a->text : "", a->text ? a->n_text : 0);
    else
        put(out, a->error);
    loami_buf_printf(out, "</div><small>TTFT %.1f ms · %u tokens in %.2f s · %.1f tok/s · ", a->ttft_s * 1e3, a->tokens, a->total_s,
                     pick(a, 2));
    put(out, a->ok ? a->finish : "failed");
    loami_buf_puts(out, "</small></td>");
}

void loami_compare_page(loami_buf *out, const loami_compared *c)
{
    loami_page_begin(out, "Two servers side by side");
    for (int k = 0; k < 2; k++) {
        loami_buf_printf(out, "<p>%c: ", 'A' + k);
        put(out, c->model[k]);
        loami_buf_puts(out, " on ");
        put(out, c->server[k]);
        loami_buf_puts(out, "</p>");
    }
    loami_buf_printf(out,
                     "<p class=\"%s\">%s</p><p>%u of %u pairs have the same text at temperature 0. Failed: A %u, B %u of %u.</p>"
                     "<div class=\"scroll\"><table><tr><th>B as a factor of A</th><th>Mean</th><th>Below, with 95 %% confidence</th>"
                     "<th>Allowed</th><th>Pairs</th><th>Verdict</th></tr>",
                     c->no_worse ? "good" : "bad", c->no_worse ? "B is no worse than A." : "B is not shown to be no worse than A.",
                     c->same, c->both, c->failed[0], c->failed[1], c->n);
    put_verdict(out, "Time to first token", &c->ttft);
    put_verdict(out, "Seconds a token, whole answer", &c->token);
    loami_buf_puts(out, "</table></div><h2>How times are distributed</h2><div class=\"plots\">");
    put_plot(out, c, 0, "Time to first token: answers up to", "ms");
    put_plot(out, c, 1, "Between two tokens: answers up to", "ms");
    put_plot(out, c, 2, "Speed of an answer: answers up to", "tok/s");
    loami_buf_puts(out, "</div><h2>Texts</h2><div class=\"scroll\"><table><tr><th>Prompt</th><th>A</th><th>B</th></tr>");
    for (uint32_t i = 0; i < c->n; i++) {
        loami_buf_puts(out, "<tr><td>");
        put(out, c->prompts[i % c->n_prompts].name);
        loami_buf_puts(out, "</td>");
        put_answer(out, &c->asks[2 * i]);
        put_answer(out, &c->asks[2 * i + 1]);
        loami_buf_puts(out, "</tr>");
    }
    loami_buf_puts(out, "</table></div>\n");
    loami_page_end(out);
}
