#include "substrate/cpu/cpu.h"

#include <string.h>

static uint32_t round_up(uint32_t n, uint32_t to)
{
    return (n + to - 1) / to * to;
}

void loami_ready_want(const loam_sub *s, loami_ready *r, const loam_weight *w)
{
    for (uint32_t i = 0; i < w->n_parts; i++) {
        const loami_mat *m = &w->part[i].mat;
        uint32_t j = 0;
        if (!loami_matrix_ints(s, m)) {
            r->want_x = true;
            continue;
        }
        while (j < r->n_formats && (r->format[j].order != loami_mat_order(m) || r->format[j].group != m->group)) j++;
        if (j == r->n_formats) r->format[r->n_formats++] = (loami_format){ .order = loami_mat_order(m), .group = m->group };
    }
}

bool loami_ready_covers(const loami_ready *r, const loami_ready *wanted)
{
    if (wanted->want_x && !r->want_x) return false;
    for (uint32_t i = 0; i < wanted->n_formats; i++) {
        uint32_t j = 0;
        while (j < r->n_formats && (r->format[j].order != wanted->format[i].order || r->format[j].group != wanted->format[i].group)) j++;
        if (j == r->n_formats) return false;
    }
    return true;
}

/* Lays r out from base on and returns its size; base NULL only measures. */
static size_t place(loami_ready *r, uint32_t rows, uint32_t cols, char *base)
{
    size_t at = 0;
    if (r->want_x) {
        r->x = base ? (float *)base : NULL;
        at += ((size_t)rows * cols * sizeof(float) + 63) & ~(size_t)63;
    }
    for (uint32_t i = 0; i < r->n_formats; i++) {
        loami_acts *a = &r->format[i].acts;
        a->code_stride = round_up(cols, LOAMI_BLOCK);
        a->group_stride = round_up(cols / r->format[i].group, 16);
        size_t codes = (size_t)rows * a->code_stride, groups = (size_t)rows * a->group_stride * sizeof(float);
        if (base) {
            a->codes = (int8_t *)(base + at);
            a->scale = (float *)(base + at + codes);
            a->sum = (float *)(base + at + codes + groups);
        }
        at += codes + 2 * groups;
    }
    return at;
}

size_t loami_ready_bytes(const loami_ready *r, uint32_t rows, uint32_t cols)
{
    loami_ready copy = *r;
    return place(&copy, rows, cols, NULL);
}

void loami_ready_place(loami_ready *r, uint32_t rows, uint32_t cols, char *memory)
{
    place(r, rows, cols, memory);
}

void loami_ready_row(const loam_sub *s, const loami_ready *r, uint32_t row, const float *x, uint32_t cols, const loam_norm *norm,
                     float *spare)
{
    float *to = r->want_x ? r->x + (size_t)row * cols : spare;
    if (norm) {
        const loam_weight *w = norm->weight;
        s->k->norm(to, x, w ? w->vector : NULL, w ? w->vector_bias : NULL, cols, norm);
        x = to;
    } else if (r->want_x) {
        memcpy(to, x, cols * sizeof *to);
    }
    for (uint32_t i = 0; i < r->n_formats; i++) {
        const loami_format *f = &r->format[i];
        size_t g = (size_t)row * f->acts.group_stride;
        s->k->quantise(f->acts.codes + (size_t)row * f->acts.code_stride, f->acts.scale + g, f->acts.sum + g, x, cols, f->group, f->order);
    }
}
