#include "store/import.h"

#include "base/buf.h"
#include "base/half.h"
#include "file/safetensors.h"
#include "store/blocks.h"
#include "store/hash.h"
#include "store/store.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 1 << 20, N_KINDS = 64 };

static const uint64_t shard_bytes = 5ull << 30; /* as mlx-lm */

/* One tensor of the file, and what becomes of it. */
typedef struct piece {
    const loami_gguf_tensor *tensor;
    loami_target target;
    loami_block_plan plan;
    uint64_t cols, rows; /* a permuted vector is rows of one number */
} piece;

/* What became of all tensors of one type with one kind of scales. */
typedef struct kind_sum {
    uint64_t n;
    loami_block_plan plan;
    loami_block_error error;
} kind_sum;

typedef struct job {
    const loami_import_options *o;
    loami_gguf *g;
    const loami_arch *arch;
    char dir[LOAMI_PATH_MAX];
    json_t *config;
    piece *pieces; /* [n] */
    uint32_t n;
    loami_writer *writer;
    kind_sum kinds[N_KINDS];
    uint32_t n_kinds;
    uint64_t done, total; /* bytes of the GGUF file's tensors */
} job;

int loami_import_json(const char *dir, const char *name, const json_t *v, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    int rc = loami_path_join(path, dir, name, err);
    if (rc < 0) return rc;
    loami_buf b = { 0 };
    char *text = json_dumps(v, JSON_INDENT(2) | JSON_REAL_PRECISION(15)); /* "1e-05" stays so */
    if (text) loami_buf_puts(&b, text);
    loami_buf_putc(&b, '\n');
    rc = text && !b.failed ? loami_file_write(path, b.data, b.len, err) : loami_fail_nomem(err);
    loami_buf_free(&b);
    free(text);
    return rc;
}

/* ---- planning ------------------------------------------------------------------------------------------ */

static int plan_piece(job *j, piece *p, const loami_gguf_tensor *t, loam_err *err)
{
    const char *what = loami_gguf_what(j->g);
    p->tensor = t;
    p->cols = t->shape[0];
    p->rows = t->shape[1] * t->shape[2] * t->shape[3];
    int rc = loami_arch_target(j->arch, j->g, t, &p->target, err);
    if (rc < 0 || p->target.skip) return rc;
    if ((rc = loami_block_decide(&p->plan, t, j->o->float_scales, what, err)) < 0) return rc;
    bool plain = p->plan.quant.mode == LOAM_Q_NONE;
    if (!plain && (t->n_dims < 2 || strcmp(p->target.suffix, ".weight") != 0))
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: %s: is quantised (%s), and no matrix", what, t->name,
                          loami_gguf_type_name(t->type));
    if (p->target.heads) {
        if (t->n_dims == 1) p->rows = p->cols, p->cols = 1;
        if (p->rows % (2 * p->target.heads))
            return loami_fail(err, LOAM_E_FORMAT, "%s: %s: %llu rows are no pairs for %u heads", what,
                              t->name, (unsigned long long)p->rows, p->target.heads);
    }
    if (p->target.subtract != 0 && p->plan.type != LOAM_F32)
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: %s: a norm that is not float32", what, t->name);
    return 0;
}

static int add_named(job *j, const piece *p, const char *suffix, loam_dtype type, uint64_t last,
                     loam_err *err)
{
    char name[160];
    uint64_t shape[LOAMI_GGUF_DIMS];
    uint32_t n = p->tensor->n_dims;
    for (uint32_t i = 0; i < n; i++) shape[i] = p->tensor->shape[n - 1 - i];
    shape[n - 1] = last;
    snprintf(name, sizeof name, "%s%s", p->target.name, suffix);
    return loami_writer_add(j->writer, name, type, n, shape, err);
}

static int add_piece(job *j, const piece *p, loam_err *err)
{
    const loami_block_plan *plan = &p->plan;
    uint64_t cols = p->tensor->shape[0];
    if (plan->quant.mode == LOAM_Q_NONE) return add_named(j, p, p->target.suffix, plan->type, cols, err);
    int rc = add_named(j, p, ".weight", LOAM_U32, loami_block_code_bytes(plan, cols) / 4, err);
    if (rc == 0) rc = add_named(j, p, ".scales", plan->type, cols / plan->quant.group, err);
    if (rc == 0 && plan->quant.mode == LOAM_Q_AFFINE)
        rc = add_named(j, p, ".biases", plan->type, cols / plan->quant.group, err);
    return rc;
}

static int plan_all(job *j, loam_err *err)
{
    uint32_t n = loami_gguf_count(j->g);
    j->pieces = calloc(n + 1, sizeof *j->pieces);
    if (!j->pieces) return loami_fail_nomem(err);
    for (uint32_t i = 0; i < n; i++) {
        piece *p = &j->pieces[j->n];
        const loami_gguf_tensor *t = loami_gguf_at(j->g, i);
        int rc = plan_piece(j, p, t, err);
        if (rc == 0 && !p->target.skip) rc = add_piece(j, p, err);
        if (rc < 0) return rc;
        j->total += t->bytes;
        if (!p->target.skip) j->n++;
    }
    return 0;
}

/* ---- converting ---------------------------------------------------------------------------------------- */

/* Row r of the output is this row of the file: llama.cpp keeps the two halves of a head interleaved. */
static uint64_t source_row(const piece *p, uint64_t r)
{
    if (!p->target.heads) return r;
    uint64_t head_rows = p->rows / p->target.heads, half = head_rows / 2, in = r % head_rows;
    return r - in + 2 * (in % half) + in / half;
}

static void subtract(unsigned char *row, uint64_t n, float by)
{
    for (uint64_t i = 0; i < n; i++, row += 4) {
        float f;
        memcpy(&f, row, 4);
        f -= by;
        memcpy(row, &f, 4);
    }
}

static kind_sum *kind_of(job *j, const loami_block_plan *plan)
{
    for (uint32_t i = 0; i < j->n_kinds; i++)
        if (j->kinds[i].plan.source == plan->source && j->kinds[i].plan.type == plan->type)
            return &j->kinds[i];
    if (j->n_kinds < N_KINDS) j->kinds[j->n_kinds++].plan = *plan;
    return &j->kinds[j->n_kinds - 1];
}

static int write_piece(job *j, const piece *p, loam_err *err)
{
    const loami_block_plan *plan = &p->plan;
    uint64_t row_bytes = p->tensor->bytes / p->rows, code = loami_block_code_bytes(plan, p->cols),
             scale = loami_block_scale_bytes(plan, p->cols);
    uint64_t at_once = CHUNK_BYTES / code + 1;
    unsigned char *codes = malloc((size_t)(at_once * code)), *scales = malloc((size_t)(p->rows * scale) + 1),
                  *biases = malloc((size_t)(p->rows * scale) + 1);
    kind_sum *sum = kind_of(j, plan);
    int rc = codes && scales && biases ? 0 : loami_fail_nomem(err);

    for (uint64_t r = 0; rc == 0 && r < p->rows; r += at_once) {
        uint64_t n = p->rows - r < at_once ? p->rows - r : at_once;
        for (uint64_t i = 0; i < n; i++) {
            const unsigned char *row = p->tensor->data + source_row(p, r + i) * row_bytes;
            loami_block_row(plan, row, p->cols, codes + i * code, scales + (r + i) * scale,
                            biases + (r + i) * scale, &sum->error);
            if (p->target.subtract != 0) subtract(codes + i * code, p->cols, p->target.subtract);
        }
        rc = loami_writer_data(j->writer, codes, n * code, err);
        j->done += n * row_bytes;
        if (rc == 0 && j->o->progress.step && j->o->progress.step(j->o->progress.arg, j->done, j->total) < 0)
            rc = loami_fail(err, LOAM_E_CANCELLED, "import of %s was stopped", loami_gguf_what(j->g));
    }
    if (rc == 0 && scale) rc = loami_writer_data(j->writer, scales, p->rows * scale, err);
    if (rc == 0 && plan->quant.mode == LOAM_Q_AFFINE)
        rc = loami_writer_data(j->writer, biases, p->rows * scale, err);
    sum->n++;
    free(codes);
    free(scales);
    free(biases);
    return rc;
}

static int write_weights(job *j, loam_err *err)
{
    int rc = loami_writer_open(&j->writer, j->dir, shard_bytes, err);
    if (rc == 0) rc = plan_all(j, err);
    if (rc == 0) rc = loami_writer_begin(j->writer, err);
    for (uint32_t i = 0; rc == 0 && i < j->n; i++) rc = write_piece(j, &j->pieces[i], err);
    if (rc < 0) {
        loami_writer_abort(j->writer);
        return rc;
    }
    return loami_writer_close(j->writer, err);
}

/* ---- what is written beside them ----------------------------------------------------------------------- */

static bool same(const loami_quant_config *a, const loami_quant_config *b)
{
    return a->mode == b->mode && a->bits == b->bits && a->group == b->group;
}

static json_t *quant_json(const loami_quant_config *q)
{
    return json_pack("{s:i,s:i,s:s}", "group_size", (int)q->group, "bits", (int)q->bits, "mode",
                     loami_quant_name(q->mode));
}

/* "quantization" as mlx-lm writes it: what most weights have, then each module that differs. */
static int set_quantization(job *j, loam_err *err)
{
    loami_quant_config most = { 0 };
    uint64_t most_weights = 0;
    for (uint32_t i = 0; i < j->n; i++) {
        const loami_quant_config *q = &j->pieces[i].plan.quant;
        uint64_t weights = 0;
        if (q->mode == LOAM_Q_NONE || same(q, &most)) continue;
        for (uint32_t k = 0; k < j->n; k++)
            if (same(q, &j->pieces[k].plan.quant)) weights += j->pieces[k].rows * j->pieces[k].cols;
        if (weights <= most_weights) continue;
        most_weights = weights;
        most = *q;
    }
    if (most.mode == LOAM_Q_NONE) return 0;
    json_t *o = quant_json(&most);
    int bad = o ? 0 : -1;
    for (uint32_t i = 0; i < j->n; i++) {
        const piece *p = &j->pieces[i];
        if (p->plan.quant.mode != LOAM_Q_NONE && !same(&p->plan.quant, &most))
            bad |= json_object_set_new(o, p->target.name, quant_json(&p->plan.quant));
    }
    bad |= json_object_set_new(j->config, "quantization", o);
    bad |= json_object_set(j->config, "quantization_config", o);
    return bad ? loami_fail_nomem(err) : 0;
}

/* Tells the user what became of each type of weights. */
static void report(const job *j)
{
    if (!j->o->progress.say) return;
    for (uint32_t i = 0; i < j->n_kinds; i++) {
        const kind_sum *k = &j->kinds[i];
        const loami_quant_config *q = &k->plan.quant;
        char form[96], line[256];
        if (q->mode == LOAM_Q_NONE)
            snprintf(form, sizeof form, "as they are");
        else if (q->mode != LOAM_Q_AFFINE)
            snprintf(form, sizeof form, "as %s", loami_quant_name(q->mode));
        else
            snprintf(form, sizeof form, "as %u-bit affine, group %u, %s scales", q->bits, q->group,
                     loami_dtype_name(k->plan.type));
        double rel = k->error.squared > 0 ? k->error.squared_error / k->error.squared : 0;
        if (k->plan.exact)
            snprintf(line, sizeof line, "%-6s %4llu x %s: exact", loami_gguf_type_name(k->plan.source),
                     (unsigned long long)k->n, form);
        else
            snprintf(line, sizeof line,
                     "%-6s %4llu x %s: added error %.2g of the weights' size, %.2g at most",
                     loami_gguf_type_name(k->plan.source), (unsigned long long)k->n, form, sqrt(rel),
                     k->error.largest);
        j->o->progress.say(j->o->progress.arg, line);
    }
}

static int import_into(job *j, loam_err *err)
{
    int rc = loami_arch_find(&j->arch, j->g, err);
    if (rc == 0) rc = loami_arch_config(j->arch, j->g, &j->config, err);
    if (rc == 0) rc = loami_import_text(j->g, j->dir, j->config, j->o, err);
    if (rc == 0) rc = write_weights(j, err);
    if (rc == 0) rc = set_quantization(j, err);
    if (rc == 0) rc = loami_import_json(j->dir, "config.json", j->config, err);
    if (rc == 0 && j->o->beside) rc = j->o->beside(j->o->beside_arg, j->dir, err);
    const char *file = strrchr(loami_gguf_what(j->g), '/');
    if (rc == 0)
        rc = loami_hash_write(j->dir,
                              j->o->source ? j->o->source
                              : file       ? file + 1
                                           : loami_gguf_what(j->g),
                              err);
    return rc;
}

int loami_import_gguf(const char *file, const loami_import_options *o, loam_err *err)
{
    job j = { .o = o };
    int rc = loami_gguf_open(&j.g, file, err);
    if (rc == 0) rc = loami_store_begin(j.dir, o->name, o->force, err);
    if (rc < 0) goto out;
    rc = import_into(&j, err);
    if (rc == 0) rc = loami_store_keep(j.dir, o->name, o->force, err);
    if (rc < 0)
        loami_store_drop(j.dir);
    else
        report(&j);
out:
    free(j.pieces);
    json_decref(j.config);
    loami_gguf_close(j.g);
    return rc;
}
