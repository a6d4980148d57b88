/* net/prom.h: histograms, and Prometheus' text form 0.0.4 of what is counted. */
#ifndef LOAMI_PROM_H
#define LOAMI_PROM_H

#include "base/buf.h"

enum { LOAMI_HIST_MAX = 24 };

/* How often a value fell into each range. Zero-initialised is empty. */
typedef struct loami_hist {
    uint64_t n[LOAMI_HIST_MAX]; /* by bounds, each not counting those before; what is above all is in count
                                   alone */
    uint64_t count;
    double sum;
} loami_hist;

/* bounds: ascending, ended by 0. */
void loami_hist_add(loami_hist *h, const double *bounds, double value);

#define LOAMI_PROM_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* What a series is, once before its samples. type: "gauge", "counter" or "histogram". */
void loami_prom_head(loami_buf *o, const char *name, const char *type, const char *help);

/* Appends key="value" to a sample's labels, escaped as the format wants it, behind a comma if it isn't the first. */
void loami_prom_label(loami_buf *labels, const char *key, const char *value);

/* One sample. labels: from loami_prom_label; NULL or empty = none. */
void loami_prom_put(loami_buf *o, const char *name, const loami_buf *labels, double value);

/* A sample with one label more than these. */
void loami_prom_put_by(loami_buf *o, const char *name, const loami_buf *labels, const char *key, const char *word,
                       double value);

/* A series that has one sample and no labels, with its head. */
void loami_prom_one(loami_buf *o, const char *name, const char *type, const char *help, double value);

/* What a histogram counts, and where it stands in the struct of what is counted. */
typedef struct loami_prom_hist {
    const char *name, *help;
    size_t at;
    const double *bounds;
} loami_prom_hist;

/* The samples of one: buckets, sum and count. */
void loami_prom_put_hist(loami_buf *o, const loami_prom_hist *series, const loami_buf *labels, const void *counted);

#endif
