#include "text/tokenizer.h"
#include "base/file.h"
#include "base/utf8.h"
#include "text/tok/tok.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    FILE_BYTES = 256 << 20, /* the largest tokenizer.json known is 35 MB */
    TEXT_BYTES = 1 << 30,   /* of one call: spans have 32 bits, and rewriting may double a text */
    SPARE = 16,             /* scratches kept between calls: more threads at once allocate anew */
};

struct loami_tokenizer {
    loami_vocab vocab;
    loami_model *model;
    loami_normalizers normalizers;
    loami_pretokenizers pretokenizers;
    loami_added *added;
    loami_template template;
    loami_decoders decoders;

    pthread_mutex_t lock;   /* of spare and n_spare */
    loami_scratch *spare;   /* not in use; they carry caches from call to call */
    unsigned n_spare;
};

/* ---- scratches ---- */

static void scratch_free(loami_scratch *s, const loami_model *m)
{
    if (!s) return;
    if (s->model && m->type->scratch_free) m->type->scratch_free(s->model);
    free(s->cut.spans.data);
    free(s->cut.next.data);
    free(s->cut.found.data);
    free(s->cut.is_match);
    loami_matches_state_free(s->cut.matches);
    loami_buf *bufs[] = { &s->cut.bufs[0], &s->cut.bufs[1], &s->clean, &s->norm[0], &s->norm[1] };
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) loami_buf_free(bufs[i]);
    free(s);
}

static loami_scratch *scratch_take(loami_tokenizer *t)
{
    pthread_mutex_lock(&t->lock);
    loami_scratch *s = t->spare;
    if (s) {
        t->spare = s->next;
        t->n_spare--;
    }
    pthread_mutex_unlock(&t->lock);
    if (s) return s;
    s = calloc(1, sizeof *s);
    if (s && !(s->cut.matches = loami_matches_state())) {
        free(s);
        return NULL;
    }
    return s;
}

static void scratch_give(loami_tokenizer *t, loami_scratch *s)
{
    pthread_mutex_lock(&t->lock);
    bool keep = t->n_spare < SPARE;
    if (keep) {
        s->next = t->spare;
        t->spare = s;
        t->n_spare++;
    }
    pthread_mutex_unlock(&t->lock);
    if (!keep) scratch_free(s, t->model);
}

/* ---- open ---- */

/* The model's type, which files of the first years leave out. */
static const char *model_type(const json_t *model, const loami_tok_source *src)
{
    const json_t *type = json_object_get(model, "type");
    if (json_is_string(type)) return json_string_value(type);
    if (src->has_merges) return "BPE";
    if (src->scored) return "Unigram";
    return json_object_get(model, "max_input_chars_per_word") ? "WordPiece" : "WordLevel";
}

static int open_model(loami_tokenizer *t, const loami_tok_source *src, const char *what, loam_err *err)
{
    static const loami_model_type *const types[] = { &loami_bpe, &loami_unigram, &loami_wordpiece,
                                                     &loami_wordlevel };
    const json_t *model = json_object_get(src->root, "model");
    if (!json_is_object(model)) return loami_fail(err, LOAM_E_FORMAT, "%s: \"model\" is missing", what);
    const char *name = model_type(model, src);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(name, types[i]->name) == 0)
            return types[i]->open(&t->model, model, src, &t->vocab, what, err);
    return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: model \"%.60s\" is not supported", what, name);
}

static int open_parts(loami_tokenizer *t, const loami_tok_source *src, const char *what, loam_err *err)
{
    const json_t *root = src->root;
    int rc = loami_vocab_build(&t->vocab, src, what, err);
    if (rc == 0) rc = open_model(t, src, what, err);
    if (rc == 0)
        rc = loami_normalizers_parse(&t->normalizers, json_object_get(root, "normalizer"), what, err);
    if (rc == 0)
        rc = loami_pretokenizers_parse(&t->pretokenizers, json_object_get(root, "pre_tokenizer"), what, err);
    if (rc == 0) rc = loami_template_parse(&t->template, json_object_get(root, "post_processor"), what, err);
    if (rc == 0) rc = loami_decoders_parse(&t->decoders, json_object_get(root, "decoder"), what, err);
    if (rc == 0)
        rc = loami_added_parse(&t->added, json_object_get(root, "added_tokens"), &t->vocab, &t->normalizers,
                               what, err);
    if (rc < 0) return rc;
    t->model->raw = t->pretokenizers.raw = t->model->byte_level &&
                                           loami_pretokenizers_end_in_bytes(&t->pretokenizers);
    return 0;
}

int loami_tokenizer_parse(loami_tokenizer **out, const char *text, size_t n, const char *what, loam_err *err)
{
    loami_tok_source src = { 0 };
    loami_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return loami_fail_nomem(err);
    pthread_mutex_init(&t->lock, NULL);
    int rc = n > FILE_BYTES ? loami_fail(err, LOAM_E_FORMAT, "%s: larger than %d bytes", what, FILE_BYTES)
                            : 0;
    if (rc == 0) rc = loami_tok_read(&src, text, n, what, err);
    if (rc == 0) rc = open_parts(t, &src, what, err);
    loami_tok_source_free(&src);
    if (rc < 0) loami_tokenizer_close(t);
    else *out = t;
    return rc;
}

int loami_tokenizer_open(loami_tokenizer **out, const char *path, loam_err *err)
{
    loami_mapping m;
    int rc = loami_file_map(&m, path, err);
    if (rc < 0) return rc;
    rc = loami_tokenizer_parse(out, (const char *)m.data, m.size, path, err);
    loami_file_unmap(&m);
    return rc;
}

void loami_tokenizer_close(loami_tokenizer *t)
{
    if (!t) return;
    for (loami_scratch *s = t->spare, *next; s; s = next) {
        next = s->next;
        scratch_free(s, t->model);
    }
    if (t->model) t->model->type->close(t->model);
    loami_normalizers_free(&t->normalizers);
    loami_pretokenizers_free(&t->pretokenizers);
    loami_template_free(&t->template);
    loami_decoders_free(&t->decoders);
    loami_added_free(t->added);
    loami_vocab_free(&t->vocab);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* ---- encode ---- */

typedef struct encoding {
    const loami_tokenizer *t;
    loami_scratch *s;
    loami_ids *out;
    const char *text;       /* of the stretch being split at added tokens */
    bool at_start;          /* that stretch begins where the input begins */
} encoding;

/* A stretch of normalized text without added tokens. */
static int encode_plain(const encoding *e, const char *text, size_t n, bool at_start, loam_err *err)
{
    const loami_tokenizer *t = e->t;
    loami_cut *c = &e->s->cut;
    int rc = loami_pretokenize(&t->pretokenizers, c, text, n, at_start, err);
    for (size_t i = 0; rc == 0 && i < c->spans.len; i++) {
        loami_span w = c->spans.data[i];
        rc = t->model->type->encode(t->model, e->s, c->text + w.start, w.end - w.start, e->out, err);
    }
    return rc;
}

static int on_normalized(void *arg, int32_t id, size_t start, size_t end, loam_err *err)
{
    const encoding *e = arg;
    if (id == LOAMI_NO_ID)
        return encode_plain(e, e->text + start, end - start, e->at_start && start == 0, err);
    return loami_ids_put(e->out, id) ? 0 : loami_fail_nomem(err);
}

static int on_original(void *arg, int32_t id, size_t start, size_t end, loam_err *err)
{
    const encoding *e = arg;
    const loami_tokenizer *t = e->t;
    if (id != LOAMI_NO_ID) return loami_ids_put(e->out, id) ? 0 : loami_fail_nomem(err);
    encoding inner = *e;
    size_t n = end - start;
    inner.text = e->text + start;
    inner.at_start = start == 0;
    int rc = loami_normalize(&t->normalizers, e->s->norm, e->s->cut.matches, &inner.text, &n, &inner.at_start,
                             err);
    if (rc < 0 || n == 0) return rc;
    if (n > TEXT_BYTES) return loami_fail(err, LOAM_E_ARG, "a text of %zu bytes is too long to tokenize", n);
    return loami_added_split(t->added, true, inner.text, n, on_normalized, &inner, err);
}

/* Puts the template's tokens around what was appended from `from` on. */
static bool apply(const loami_ids *template, loami_ids *out, size_t from)
{
    size_t before = 0, n = out->len - from;
    while (before < template->len && template->data[before] != LOAMI_NO_ID) before++;
    bool has_text = before < template->len;
    size_t after = has_text ? template->len - before - 1 : 0;
    if (!loami_ids_reserve(out, template->len + 1)) return false; /* + 1: data is there even for nothing */
    if (!has_text) n = 0;
    memmove(out->data + from + before, out->data + from, n * sizeof *out->data);
    memcpy(out->data + from, template->data, before * sizeof *out->data);
    if (after) memcpy(out->data + from + before + n, template->data + before + 1, after * sizeof *out->data);
    out->len = from + before + n + after;
    return true;
}

int loami_tokenizer_encode(const loami_tokenizer *ct, loami_ids *out, const char *text, size_t n,
                           bool special, loam_err *err)
{
    loami_tokenizer *t = (loami_tokenizer *)ct; /* only the list of spare scratches changes, under its lock */
    size_t from = out->len;
    if (n > TEXT_BYTES) return loami_fail(err, LOAM_E_ARG, "a text of %zu bytes is too long to tokenize", n);
    loami_scratch *s = scratch_take(t);
    if (!s) return loami_fail_nomem(err);
    int rc = 0;
    if (!loami_utf8_valid(text, n)) {
        loami_buf_clear(&s->clean);
        loami_uni_lossy(&s->clean, text, n);
        if (s->clean.failed) rc = loami_fail_nomem(err);
        text = s->clean.data;
        n = s->clean.len;
    }
    encoding e = { t, s, out, text, true };
    if (rc == 0) rc = loami_added_split(t->added, false, text, n, on_original, &e, err);
    if (rc == 0 && !apply(special ? &t->template.items : &t->template.plain, out, from))
        rc = loami_fail_nomem(err);
    if (rc < 0) out->len = from;
    scratch_give(t, s);
    return rc;
}

/* ---- tokens ---- */

uint32_t loami_tokenizer_size(const loami_tokenizer *t)
{
    return t->vocab.size;
}

const char *loami_tokenizer_token(const loami_tokenizer *t, int32_t id, size_t *len)
{
    if (id < 0 || (uint32_t)id >= t->vocab.size) return NULL;
    const loami_token_name *name = &t->vocab.names[id];
    if (name->s && len) *len = name->n;
    return name->s;
}

int32_t loami_tokenizer_id(const loami_tokenizer *t, const char *token, size_t len)
{
    int32_t id = loami_added_id(t->added, token, len);
    return id == LOAMI_NO_ID ? loami_vocab_id(&t->vocab, token, len) : id;
}

bool loami_tokenizer_is_special(const loami_tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->vocab.size && t->vocab.names[id].special;
}

/* What the decoder is given for id, or NULL. */
static const char *spelling(const loami_tokenizer *t, int32_t id, size_t *n)
{
    if (id < 0 || (uint32_t)id >= t->vocab.size) return NULL;
    const char *s = loami_added_spelling(t->added, (uint32_t)id, n);
    return s ? s : loami_tokenizer_token(t, id, n);
}

int loami_tokenizer_bytes(const loami_tokenizer *t, loami_buf *out, int32_t id, loam_err *err)
{
    size_t n;
    const char *s = spelling(t, id, &n);
    if (!s) return loami_fail(err, LOAM_E_ARG, "no token has the id %d", id);
    return loami_decode_middle(&t->decoders, out, s, n, err);
}

/* ---- decode ---- */

struct loami_detok {
    const loami_tokenizer *t;
    loami_flow *flow;
    bool skip_special;
};

static int detok_open(loami_detok **out, const loami_tokenizer *t, bool skip_special, bool eager,
                      loam_err *err)
{
    loami_detok *d = calloc(1, sizeof *d);
    if (!d) return loami_fail_nomem(err);
    *d = (loami_detok){ .t = t, .skip_special = skip_special };
    int rc = loami_flow_open(&d->flow, &t->decoders, eager, err);
    if (rc < 0) free(d);
    else *out = d;
    return rc;
}

int loami_detok_open(loami_detok **out, const loami_tokenizer *t, bool skip_special, loam_err *err)
{
    return detok_open(out, t, skip_special, true, err);
}

int loami_detok_put(loami_detok *d, loami_buf *out, int32_t id, loam_err *err)
{
    size_t n;
    const char *s = spelling(d->t, id, &n);
    if (!s || (d->skip_special && loami_tokenizer_is_special(d->t, id))) return 0;
    return loami_flow_put(d->flow, out, s, n, err);
}

int loami_detok_flush(loami_detok *d, loami_buf *out, loam_err *err)
{
    return loami_flow_end(d->flow, out, err);
}

void loami_detok_close(loami_detok *d)
{
    if (!d) return;
    loami_flow_close(d->flow);
    free(d);
}

int loami_tokenizer_decode(const loami_tokenizer *t, loami_buf *out, const int32_t *ids, size_t n,
                           bool skip_special, loam_err *err)
{
    loami_detok *d = NULL;
    int rc = detok_open(&d, t, skip_special, false, err);
    if (rc < 0) return rc;
    for (size_t i = 0; rc == 0 && i < n; i++) rc = loami_detok_put(d, out, ids[i], err);
    if (rc == 0) rc = loami_detok_flush(d, out, err);
    loami_detok_close(d);
    return rc;
}
