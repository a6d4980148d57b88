#include "text/jinja.h"

#include "base/utf8.h"
#include "text/jinja/run.h"

#include <stdlib.h>

struct loami_jinja {
    loami_arena arena;
    jnode *body;
    jfn *fn;
};

static void begin(jrun *r, int code, loam_err *err)
{
    *r = (jrun){ .m = { .limit = J_MAX_MEMORY, .step_limit = J_MAX_STEPS, .line = 1, .code = code, .err = err } };
}

/* What may jump out of is apart from what must be undone, so that no variable is lost in the jump. */
static int compile(jrun *r, loami_jinja *j, const char *text, size_t n)
{
    if (setjmp(r->m.exit)) return r->m.code;
    j->body = loami_j_parse(r, loami_j_lex(r, text, n));
    r->m.depth = 0;
    j->fn = loami_j_scope(r, j->body);
    return 0;
}

int loami_jinja_open(loami_jinja **out, const char *text, size_t n, loam_err *err)
{
    jrun r;
    if (n > J_MAX_SOURCE)
        return loami_fail(err, LOAM_E_FORMAT, "a chat template of more than %d MB", J_MAX_SOURCE >> 20);
    if (!loami_utf8_valid(text, n)) return loami_fail(err, LOAM_E_FORMAT, "the chat template is not UTF-8");
    loami_jinja *j = calloc(1, sizeof *j);
    if (!j) return loami_fail_nomem(err);
    begin(&r, LOAM_E_FORMAT, err);
    int rc = compile(&r, j, text, n);
    j->arena = r.m.arena;
    if (rc < 0) {
        loami_jinja_close(j);
        return rc;
    }
    *out = j;
    return 0;
}

void loami_jinja_close(loami_jinja *j)
{
    if (!j) return;
    loami_arena_free(&j->arena);
    free(j);
}

static int render(jrun *r, const loami_jinja *j, loami_buf *out, const json_t *vars)
{
    jsb text = { .r = r };
    if (setjmp(r->m.exit)) return r->m.code;
    r->vars = loami_j_from_json(r, vars).d;
    r->frame = loami_j_frame(r, j->fn, NULL);
    loami_j_enter_scope(r, j->fn->scope);
    loami_j_exec(r, j->body, &text);
    if (text.n > J_MAX_OUTPUT) loami_j_fail(r, "more than %d MB of output", J_MAX_OUTPUT >> 20);
    loami_buf_put(out, text.p, text.n);
    if (out->failed) loami_j_fail_code(r, LOAM_E_NOMEM, "out of memory", 13);
    return 0;
}

int loami_jinja_render_how(const loami_jinja *j, loami_buf *out, const json_t *vars,
                           const loami_jinja_how *how, loam_err *err)
{
    jrun r;
    if (!json_is_object(vars))
        return loami_fail(err, LOAM_E_ARG, "the variables of a chat template must be a JSON object");
    begin(&r, LOAM_E_TEMPLATE, err);
    r.now = how->now ? how->now : time(NULL);
    if (how->max_steps) r.m.step_limit = how->max_steps;
    if (how->max_bytes) r.m.limit = how->max_bytes;
    int rc = render(&r, j, out, vars);
    loami_arena_free(&r.m.arena);
    return rc;
}

int loami_jinja_render(const loami_jinja *j, loami_buf *out, const json_t *vars, loam_err *err)
{
    return loami_jinja_render_how(j, out, vars, &(loami_jinja_how){ 0 }, err);
}
