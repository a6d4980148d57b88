/* The grammars of loam.h. */
#include "base/err.h"
#include "engine/engine.h"

static int no_tokenizer(loam_err *err)
{
    return loami_fail(err, LOAM_E_UNSUPPORTED, "the model has no tokenizer, so its answers can't follow a grammar");
}

int loam_grammar_open(loam_grammar **out, loam_engine *e, loam_grammar_kind kind, const char *source, size_t n, loam_err *err)
{
    return e && e->compiler ? loami_compiler_grammar(e->compiler, out, kind, source, n, err) : no_tokenizer(err);
}

int loam_answer_grammar(loam_grammar **out, loam_engine *e, const loam_answer_form *form, loam_err *err)
{
    return e && e->compiler ? loami_compiler_answer(e->compiler, out, form, err) : no_tokenizer(err);
}

void loam_grammar_close(loam_grammar *g)
{
    loami_grammar_unref(g);
}
