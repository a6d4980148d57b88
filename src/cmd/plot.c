#include "cmd/plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 640, HEIGHT = 260, LEFT = 64, RIGHT = 16, TOP = 34, BOTTOM = 40, BAR = 26 };

static const char style[] =
    ":root{color-scheme:light dark;--ground:#faf8f5;--paper:#fff;--ink:#241c15;--faint:#77695c;--line:#e4dcd2;--good:#3f7d20;"
    "--bad:#a8331f;--c0:#3b6fb6;--c1:#d1741f;--c2:#3f8f6b;--c3:#a5489b;--c4:#8a7a1e;--c5:#c23b56;--c6:#4aa3b5;--c7:#6d5bb5}"
    "@media(prefers-color-scheme:dark){:root{--ground:#17130f;--paper:#1f1a15;--ink:#ece5dc;--faint:#a09284;--line:#372e26;"
    "--good:#8fbf5a;--bad:#ff8a70;--c0:#7fa8e0;--c1:#eb9d58;--c2:#74c2a0;--c3:#d28aca;--c4:#c9b95a;--c5:#ee7f95;--c6:#86cedb;"
    "--c7:#a99ae0}}";
static const char page_style[] =
    "*{box-sizing:border-box}body{margin:0 auto;max-width:80rem;padding:1.5rem;background:var(--ground);color:var(--ink);"
    "font:15px/1.5 system-ui,sans-serif}h1{font-size:1.4rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;background:var(--paper);font-variant-numeric:tabular-nums}"
    "th,td{padding:.4rem .6rem;text-align:left;border:1px solid var(--line);vertical-align:top}th{color:var(--faint);"
    "font-weight:500;font-size:.85rem}td.n{text-align:right;white-space:nowrap}.good{color:var(--good)}.bad{color:var(--bad);"
    "font-weight:600}.text{white-space:pre-wrap;overflow-wrap:anywhere}.plots{display:grid;gap:1rem;"
    "grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr))}small{color:var(--faint)}";
static const char svg_style[] =
    "svg.plot{display:block;width:100%;height:auto;background:var(--paper)}svg.plot text{fill:var(--ink);font:12px system-ui,"
    "sans-serif}svg.plot .faint{fill:var(--faint)}svg.plot .grid{stroke:var(--line)}svg.plot polyline{fill:none;stroke-width:2;"
    "stroke:var(--k)}svg.plot rect.k,svg.plot circle{fill:var(--k)}svg.plot .level{stroke:var(--bad);stroke-dasharray:5 4}"
    ".k0{--k:var(--c0)}.k1{--k:var(--c1)}.k2{--k:var(--c2)}.k3{--k:var(--c3)}.k4{--k:var(--c4)}.k5{--k:var(--c5)}"
    ".k6{--k:var(--c6)}.k7{--k:var(--c7)}";

void loami_html_text(loami_buf *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) switch (s[i]) {
        case '&': loami_buf_puts(out, "&amp;"); break;
        case '<': loami_buf_puts(out, "&lt;"); break;
        case '>': loami_buf_puts(out, "&gt;"); break;
        case '"': loami_buf_puts(out, "&quot;"); break;
        default:
            if ((unsigned char)s[i] >= ' ' || s[i] == '\n' || s[i] == '\t') loami_buf_putc(out, s[i]);
        }
}

static void put(loami_buf *out, const char *s)
{
    loami_html_text(out, s, strlen(s));
}

void loami_page_begin(loami_buf *out, const char *title)
{
    loami_buf_puts(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
                        "content=\"width=device-width,initial-scale=1\"><title>");
    put(out, title);
    loami_buf_printf(out, "</title><style>%s%s%s</style></head>\n<body><h1>", style, page_style, svg_style);
    put(out, title);
    loami_buf_puts(out, "</h1>\n");
}

void loami_page_end(loami_buf *out)
{
    loami_buf_puts(out, "</body></html>\n");
}

/* ---- numbers ------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

void loami_sort(double *values, uint32_t n)
{
    if (n) qsort(values, n, sizeof *values, by_value);
}

double loami_quantile(const double *sorted, uint32_t n, double q)
{
    if (!n) return 0;
    double at = q * (n - 1);
    uint32_t i = (uint32_t)at;
    return i + 1 < n ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

/* The least of 1, 2, 5 times a power of ten that is at least v. */
static double nice(double v)
{
    double p = pow(10, floor(log10(v)));
    for (int i = 0; i < 3; i++)
        if ((i == 0 ? 1 : i == 1 ? 2 : 5) * p >= v * (1 - 1e-9)) return (i == 0 ? 1 : i == 1 ? 2 : 5) * p;
    return 10 * p;
}

/* ---- plots --------------------------------------------------------------------------------------- */

static void begin(loami_buf *out, const char *title, int height)
{
    loami_buf_printf(out, "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\"><title>", WIDTH,
                     height);
    put(out, title);
    loami_buf_printf(out, "</title><text x=\"%d\" y=\"18\" font-weight=\"600\">", LEFT);
    put(out, title);
    loami_buf_puts(out, "</text>");
}

typedef struct axis {
    double lo, hi;
    bool log;
} axis;

static double along(const axis *a, double v)
{
    double part = a->log ? (log(v) - log(a->lo)) / (log(a->hi) - log(a->lo)) : (v - a->lo) / (a->hi - a->lo);
    return LEFT + (WIDTH - LEFT - RIGHT) * (part < 0 ? 0 : part > 1 ? 1 : part);
}

static axis axis_of(const loami_series *s, uint32_t n, bool log_x)
{
    axis a = { .lo = HUGE_VAL, .hi = -HUGE_VAL, .log = log_x };
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < s[i].n; k++) {
            if (s[i].values[k] < a.lo) a.lo = s[i].values[k];
            if (s[i].values[k] > a.hi) a.hi = s[i].values[k];
        }
    if (!(a.lo <= a.hi)) a = (axis){ 0, 1, false };
    if (a.lo <= 0) a.log = false;
    if (a.log) {
        a.lo = pow(10, floor(log10(a.lo) * 3 + 1e-9) / 3);
        a.hi = pow(10, ceil(log10(a.hi) * 3 - 1e-9) / 3);
        if (a.hi <= a.lo * 1.01) a.hi = a.lo * 2.2;
        return a;
    }
    double step = nice((a.hi - a.lo > 0 ? a.hi - a.lo : 1) / 5);
    a.lo = floor(a.lo / step) * step;
    a.hi = ceil(a.hi / step) * step;
    if (a.hi <= a.lo) a.hi = a.lo + step;
    return a;
}

static void put_axis(loami_buf *out, const axis *a, const char *unit)
{
    for (int i = 0; i <= 5; i++) {
        double v = a->log ? a->lo * pow(a->hi / a->lo, i / 5.0) : a->lo + (a->hi - a->lo) * i / 5.0, x = along(a, v);
        loami_buf_printf(out,
                         "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/><text class=\"faint\" x=\"%.1f\" "
                         "y=\"%d\" text-anchor=\"middle\">%.3g</text>",
                         x, x, TOP, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 16, v);
    }
    loami_buf_printf(out, "<text class=\"faint\" x=\"%d\" y=\"%d\" text-anchor=\"end\">", WIDTH - RIGHT, HEIGHT - 6);
    put(out, unit);
    loami_buf_puts(out, "</text>");
    for (int i = 0; i <= 4; i++) {
        double y = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * i / 4.0;
        loami_buf_printf(out,
                         "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"faint\" x=\"%d\" "
                         "y=\"%.1f\" text-anchor=\"end\">%d %%</text>",
                         LEFT, WIDTH - RIGHT, y, y, LEFT - 6, y + 4, 25 * i);
    }
}

static void put_legend(loami_buf *out, uint32_t i, const char *name)
{
    loami_buf_printf(out, "<g class=\"k%u\"><circle cx=\"%u\" cy=\"%d\" r=\"4\"/><text x=\"%u\" y=\"%d\">", i % 8, LEFT + 6 + i * 180,
                     HEIGHT - 10, LEFT + 14 + i * 180, HEIGHT - 6);
    put(out, name);
    loami_buf_puts(out, "</text></g>");
}

void loami_plot_shares(loami_buf *out, const char *title, const char *unit, loami_series *series, uint32_t n_series,
                       bool log_x)
{
    axis a = axis_of(series, n_series, log_x);
    begin(out, title, HEIGHT);
    put_axis(out, &a, unit);
    for (uint32_t i = 0; i < n_series; i++) {
        loami_series *s = &series[i];
        double y = HEIGHT - BOTTOM, high = HEIGHT - BOTTOM - TOP;
        loami_sort(s->values, s->n);
        put_legend(out, i, s->name);
        if (!s->n) continue;
        loami_buf_printf(out, "<polyline class=\"k%u\" points=\"%.1f,%.1f", i % 8, along(&a, s->values[0]), y);
        for (uint32_t k = 0; k < s->n; k++) {
            double x = along(&a, s->values[k]);
            loami_buf_printf(out, " %.1f,%.1f %.1f,%.1f", x, y - high * k / s->n, x, y - high * (k + 1) / s->n);
        }
        loami_buf_printf(out, " %d,%.1f\"/>", WIDTH - RIGHT, y - high);
    }
    loami_buf_puts(out, "</svg>\n");
}

void loami_plot_bars(loami_buf *out, const char *title, const char *unit, const loami_bar *bars, uint32_t n, double line,
                     const char *line_name)
{
    double top = isnan(line) ? 0 : line;
    int height = TOP + (int)n * BAR + 34;
    for (uint32_t i = 0; i < n; i++)
        if (bars[i].value > top) top = bars[i].value;
    top = top > 0 ? top * 1.12 : 1;
    begin(out, title, height);
    double left = 250, wide = WIDTH - 250 - RIGHT;
    for (uint32_t i = 0; i < n; i++) {
        double y = TOP + i * BAR, w = wide * (bars[i].value > 0 ? bars[i].value : 0) / top;
        loami_buf_printf(out, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"end\">", left - 8, y + 17);
        size_t len = strlen(bars[i].name);
        loami_html_text(out, bars[i].name, len < 38 ? len : 38);
        loami_buf_printf(out,
                         "</text><rect class=\"k k%u\" x=\"%.0f\" y=\"%.0f\" width=\"%.1f\" height=\"18\" rx=\"2\"/><text x=\"%.1f\" "
                         "y=\"%.0f\" class=\"faint\">%.4g</text>",
                         i % 8, left, y + 4, w, left + w + 6, y + 17, bars[i].value);
    }
    if (!isnan(line)) {
        double x = left + wide * line / top;
        loami_buf_printf(out, "<line class=\"level\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/><text x=\"%.1f\" y=\"%d\">", x, x,
                         TOP - 4, height - 30, x + 4, height - 20);
        put(out, line_name);
        loami_buf_puts(out, "</text>");
    }
    loami_buf_printf(out, "<text class=\"faint\" x=\"%d\" y=\"%d\" text-anchor=\"end\">", WIDTH - RIGHT, height - 6);
    put(out, unit);
    loami_buf_puts(out, "</text></svg>\n");
}

void loami_svg_alone(loami_buf *out, const loami_buf *svg)
{
    const char *end = svg->data ? strchr(svg->data, '>') : NULL;
    if (!end) return;
    loami_buf_put(out, svg->data, (size_t)(end + 1 - svg->data));
    loami_buf_printf(out, "<style>%s%s</style>", style, svg_style);
    loami_buf_puts(out, end + 1);
}
