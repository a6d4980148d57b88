/* cmd/plot.h: pages with plots that need nothing but themselves: HTML with inline SVG, light and dark. */
#ifndef LOAMI_PLOT_H
#define LOAMI_PLOT_H

#include "base/buf.h"

enum { LOAMI_PLOT_SERIES = 8 };

/* Text for HTML and SVG. */
void loami_html_text(loami_buf *out, const char *s, size_t n);

void loami_page_begin(loami_buf *out, const char *title);
void loami_page_end(loami_buf *out);

/* How values are distributed: for each series the share of values up to x. The x axis is logarithmic when all
 * values are positive and log_x is set. */
typedef struct loami_series {
    const char *name;
    double *values; /* [n] sorted by the call */
    uint32_t n;
} loami_series;
void loami_plot_shares(loami_buf *out, const char *title, const char *unit, loami_series *series, uint32_t n_series,
                       bool log_x);

/* One bar for each value, in order. line: a level drawn across, NAN = none. */
typedef struct loami_bar {
    const char *name;
    double value;
} loami_bar;
void loami_plot_bars(loami_buf *out, const char *title, const char *unit, const loami_bar *bars, uint32_t n, double line,
                     const char *line_name);

/* A file of its own instead of a part of a page: begin writes the head with the colours. */
void loami_svg_alone(loami_buf *out, const loami_buf *svg);

/* The q-quantile of n sorted values, between neighbours in proportion; 0 for none. */
double loami_quantile(const double *sorted, uint32_t n, double q);
void loami_sort(double *values, uint32_t n);

#endif
