/* Grammars for an engine's vocabulary. */
#include "engine/engine.h"
#include "grammar/grammar.h"

#include <stdlib.h>

struct loami_compiler {
    pthread_mutex_t lock;            /* of vocab being made */
    const struct loam_text *text;
    uint32_t n_tokens;
    loami_vocab *vocab;              /* made when the first grammar wants it: a quarter of a second for 150000 tokens */
    loami_grammar_cache *cache;
};

int loami_compiler_open(loami_compiler **out, const struct loam_text *text, uint32_t n_tokens, loam_err *err)
{
    loami_compiler *c = calloc(1, sizeof *c);
    if (!c) return loami_fail_nomem(err);
    int rc = loami_grammar_cache_open(&c->cache, err);
    if (rc < 0) {
        free(c);
        return rc;
    }
    pthread_mutex_init(&c->lock, NULL);
    c->text = text;
    c->n_tokens = n_tokens;
    *out = c;
    return 0;
}

void loami_compiler_close(loami_compiler *c)
{
    if (!c) return;
    loami_grammar_cache_close(c->cache);
    loami_vocab_close(c->vocab);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static int token(const void *arg, int32_t id, char **bytes, size_t *n, bool *special)
{
    const struct loam_text *text = arg;
    loam_err err;
    *special = loami_tokenizer_is_special(text->tokenizer, id) || loami_text_is_eos(text, id);
    if (loami_tokenizer_token(text->tokenizer, id, n) == NULL) {
        *n = 0;
        return 0;
    }
    return loam_token_bytes(text, id, bytes, n, &err) < 0 && err.code == LOAM_E_NOMEM ? -1 : 0;
}

static int make_vocab(loami_compiler *c, loam_err *err)
{
    loami_vocab_source source = { .n_tokens = c->n_tokens, .token = token, .arg = c->text, .ends = c->text->eos, .n_ends = c->text->n_eos };
    pthread_mutex_lock(&c->lock);
    int rc = c->vocab ? 0 : loami_vocab_open(&c->vocab, &source, err);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

int loam_grammar_open(loam_grammar **out, loam_engine *e, loam_grammar_kind kind, const char *source, size_t n, loam_err *err)
{
    if (!e->compiler) return loami_fail(err, LOAM_E_UNSUPPORTED, "the model has no tokenizer, so its answers can't follow a grammar");
    int rc = make_vocab(e->compiler, err);
    if (rc < 0) return rc;
    return loami_grammar_cache_get(e->compiler->cache, out, e->compiler->vocab, kind, source ? source : "", source ? n : 0, err);
}

void loam_grammar_close(loam_grammar *g)
{
    loami_grammar_unref(g);
}
