/* What the substrates can do on this machine, without a model. */
#include "base/clock.h"
#include "base/err.h"
#include "base/half.h"
#include "substrate/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void look(loam_device *d, const char *chosen)
{
    const loam_substrate *f;
    loam_sub *s = NULL;
    loam_sub_info info;
    loam_err err = { 0 };
    loam_sub_options o = { .threads = 0 };
    d->chosen = chosen && strcmp(chosen, d->name) == 0;
    if (loami_substrate_find(&f, d->name, &err) < 0 || f->open(&s, &o, &err) < 0) {
        snprintf(d->why, sizeof d->why, "%.399s", err.msg);
        return;
    }
    memset(&info, 0, sizeof info);
    f->info(s, &info);
    snprintf(d->device, sizeof d->device, "%s", info.device);
    d->threads = info.threads;
    d->here = true;
    f->close(s);
}

uint32_t loam_devices(loam_device *out, uint32_t max)
{
    const loam_substrate *chosen = NULL;
    uint32_t n = 0;
    bool any = loami_substrate_find(&chosen, NULL, NULL) == 0;
    for (const char *name; (name = loami_substrate_name(n)); n++) {
        if (n >= max) continue;
        out[n] = (loam_device){ .name = name };
        look(&out[n], any ? chosen->name : NULL);
    }
    return n;
}

typedef struct product {
    const loam_substrate *f;
    loam_sub *s;
    loam_weight *x, *w;
    uint16_t *numbers; /* [n][n] bfloat16, both matrices */
    int32_t *tokens;   /* [n] 0, 1, 2, ...: the rows of x */
    uint32_t *pages;
    uint32_t n;
} product;

static int multiply(product *p, double *seconds, loam_err *err)
{
    uint32_t last = p->n - 1;
    loam_seq_rows rows = { .n_rows = p->n, .pages = { p->pages } };
    loam_batch b = {
        .n_rows = p->n, .tokens = p->tokens, .n_seqs = 1, .seqs = &rows, .n_wanted = 1, .wanted = &last
    };
    double start = loami_now_s();
    p->f->begin(p->s, &b);
    loam_tensor y = p->f->linear(p->s, p->f->embed(p->s, p->x, 1), p->w);
    int rc = p->f->end(p->s, err);
    if (rc == 0 && !p->f->read(p->s, y, NULL, NULL))
        rc = loami_fail(err, LOAM_E_MACHINE, "the product cannot be read");
    *seconds = loami_now_s() - start;
    return rc;
}

static int open_product(product *p, const char *substrate, uint32_t n, loam_err *err)
{
    loam_sub_options o = { .threads = 0 };
    *p = (product){ .n = n };
    int rc = loami_substrate_find(&p->f, substrate, err);
    if (rc == 0) rc = p->f->open(&p->s, &o, err);
    if (rc < 0) return rc;
    p->numbers = malloc((size_t)n * n * sizeof *p->numbers);
    p->tokens = malloc(n * sizeof *p->tokens);
    p->pages = calloc(n, sizeof *p->pages);
    if (!p->numbers || !p->tokens || !p->pages) return loami_fail_nomem(err);
    uint32_t state = 1;
    for (size_t i = 0; i < (size_t)n * n; i++) {
        state = state * 1664525 + 1013904223;
        p->numbers[i] = loami_to_bf16((float)(int32_t)state / 2147483648.0f);
    }
    for (uint32_t i = 0; i < n; i++) p->tokens[i] = (int32_t)i;
    loam_matrix m = {
        .name = "matrix", .n_experts = 1, .rows = n, .cols = n, .type = LOAM_BF16, .data = p->numbers
    };
    rc = p->f->weight(p->s, &p->x, &m, 1, err);
    return rc < 0 ? rc : p->f->weight(p->s, &p->w, &m, 1, err);
}

int loam_matmul_s(double *seconds, uint32_t *done, const char *substrate, uint32_t n, uint32_t runs,
                  double limit_s, loam_err *err)
{
    product p = { .n = 0 };
    double one, sum = 0;
    uint32_t k = 0;
    if (n < 64 || n > 8192 || n % 64 || !runs)
        return loami_fail(err, LOAM_E_ARG, "no product of %u x %u matrices", n, n);
    int rc = open_product(&p, substrate, n, err);
    if (rc == 0) rc = multiply(&p, &one, err);
    for (; rc == 0 && k < runs && (k == 0 || sum < limit_s); k++) {
        rc = multiply(&p, &one, err);
        sum += one;
    }
    if (rc == 0) *seconds = sum / k;
    if (rc == 0) *done = k;
    if (p.s) p.f->close(p.s);
    free(p.numbers);
    free(p.tokens);
    free(p.pages);
    return rc;
}
