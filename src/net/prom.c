#include "net/prom.h"

#include <stdio.h>

void loami_hist_add(loami_hist *h, const double *bounds, double value)
{
    uint32_t i = 0;
    while (bounds[i] > 0 && value > bounds[i]) i++;
    if (bounds[i] > 0) h->n[i]++;
    h->count++;
    h->sum += value;
}

void loami_prom_head(loami_buf *o, const char *name, const char *type, const char *help)
{
    loami_buf_printf(o, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void loami_prom_label(loami_buf *labels, const char *key, const char *value)
{
    loami_buf_printf(labels, "%s%s=\"", labels->len ? "," : "", key);
    for (const char *c = value; *c; c++) {
        if (*c == '\\' || *c == '"') loami_buf_putc(labels, '\\');
        if (*c == '\n')
            loami_buf_puts(labels, "\\n");
        else
            loami_buf_putc(labels, *c);
    }
    loami_buf_putc(labels, '"');
}

static void put(loami_buf *o, const char *name, const char *what, const loami_buf *labels, const char *le, double value)
{
    const char *given = labels && labels->len ? labels->data : "";
    loami_buf_printf(o, "%s%s", name, what);
    if (given[0] || le)
        loami_buf_printf(o, "{%s%s%s%s%s}", given, given[0] && le ? "," : "", le ? "le=\"" : "", le ? le : "",
                         le ? "\"" : "");
    loami_buf_printf(o, " %.15g\n", value);
}

void loami_prom_put(loami_buf *o, const char *name, const loami_buf *labels, double value)
{
    put(o, name, "", labels, NULL, value);
}

void loami_prom_put_by(loami_buf *o, const char *name, const loami_buf *labels, const char *key, const char *word,
                       double value)
{
    loami_buf all = { 0 };
    if (labels && labels->len) loami_buf_put(&all, labels->data, labels->len);
    loami_prom_label(&all, key, word);
    put(o, name, "", &all, NULL, value);
    loami_buf_free(&all);
}

void loami_prom_one(loami_buf *o, const char *name, const char *type, const char *help, double value)
{
    loami_prom_head(o, name, type, help);
    loami_prom_put(o, name, NULL, value);
}

void loami_prom_put_hist(loami_buf *o, const loami_prom_hist *series, const loami_buf *labels, const void *counted)
{
    const loami_hist *h = (const void *)((const char *)counted + series->at);
    const double *bounds = series->bounds;
    uint64_t sum = 0;
    char le[32];
    for (uint32_t i = 0; bounds[i] > 0; i++) {
        sum += h->n[i];
        snprintf(le, sizeof le, "%g", bounds[i]);
        put(o, series->name, "_bucket", labels, le, (double)sum);
    }
    put(o, series->name, "_bucket", labels, "+Inf", (double)h->count);
    put(o, series->name, "_sum", labels, NULL, h->sum);
    put(o, series->name, "_count", labels, NULL, (double)h->count);
}
