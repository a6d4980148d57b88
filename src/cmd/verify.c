#include "cmd/cmd.h"

#include "base/half.h"
#include "cmd/open.h"
#include "cmd/work.h"
#include "store/hash.h"
#include "store/info.h"
#include "store/store.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* goldens.json in a model folder, logits after some tokens as another program (or --record) computed them:
 *   {"version": 1, "source": "transformers 5.23.0, float32", "tolerance": 0.01,
 *    "cases": [{"tokens": [1, 2, 3], "logits": [[id, value], ...]}]}
 * The tolerance is in standard deviations of our logits; each case may have its own. */
static const char goldens_name[] = "goldens.json";

enum { GOLDENS_BYTES_MAX = 64 << 20, RECORDED = 20, MESSAGE_BYTES = 600 };

typedef struct job {
    const char *name;
    char path[LOAMI_PATH_MAX];
    const char *substrate;
    uint32_t threads;
    bool record;
    loam_engine *engine;
    char note[MESSAGE_BYTES]; /* what a check that passed wants to say */
} job;

/* ---- hashes and tensors -------------------------------------------------------------------------------- */

static int check_hashes(job *j, loam_err *err)
{
    unsigned n;
    int rc = loami_hash_check(j->path, &n, err);
    if (n)
        snprintf(j->note, sizeof j->note, "%u file%s as recorded", n, n == 1 ? "" : "s");
    else
        snprintf(j->note, sizeof j->note, "none recorded");
    return rc;
}

static bool finite_bits(loam_dtype type, const unsigned char *p)
{
    uint32_t u;
    if (type == LOAM_F32) return memcpy(&u, p, 4), (u & 0x7f800000) != 0x7f800000;
    uint32_t h = p[0] | (uint32_t)p[1] << 8, mask = type == LOAM_F16 ? 0x7c00 : 0x7f80;
    return (h & mask) != mask;
}

static int check_finite(const loami_tensor_view *t, loam_err *err)
{
    uint32_t size = loami_dtype_bytes(t->type);
    if (t->type != LOAM_F32 && t->type != LOAM_F16 && t->type != LOAM_BF16) return 0;
    for (uint64_t at = 0; at < t->bytes; at += size)
        if (!finite_bits(t->type, (const unsigned char *)t->data + at))
            return loami_fail(err, LOAM_E_FORMAT, "%s: %s: number %llu is not finite", t->file, t->name,
                              (unsigned long long)(at / size));
    return 0;
}

/* Binding checks every tensor that the family needs against config.json. */
static int check_tensors(job *j, loam_err *err)
{
    loam_options o = {
        .model = j->path, .name = j->name, .substrate = j->substrate, .threads = j->threads, .exact = true
    };
    loami_info i;
    int rc = loami_info_open(&i, j->path, err);
    if (rc < 0) return rc;
    for (uint32_t k = 0; rc == 0 && k < i.tensors; k++)
        rc = check_finite(loami_weights_at(i.weights, k), err);
    snprintf(j->note, sizeof j->note, "%u, of the shapes that %s needs", i.tensors, i.config.family);
    loami_info_close(&i);
    return rc < 0 ? rc : loam_engine_open(&j->engine, &o, err);
}

/* ---- text ---------------------------------------------------------------------------------------------- */

static int check_round_trip(const loam_text *t, const char *text, uint32_t vocab, loam_err *err)
{
    int32_t *ids = NULL;
    char *back = NULL;
    size_t n_back = 0, n = strlen(text), same = 0;
    int n_ids = loam_encode(t, text, n, LOAM_NO_SPECIAL, &ids, err), rc = n_ids < 0 ? n_ids : 0;
    for (int i = 0; rc == 0 && i < n_ids; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= vocab)
            rc = loami_fail(err, LOAM_E_FORMAT, "\"%s\" has token %d, beyond the model's vocabulary of %u",
                            text, ids[i], vocab);
    if (rc == 0) rc = loam_decode(t, ids, (size_t)n_ids, 0, &back, &n_back, err);
    while (rc == 0 && same < n && same < n_back && text[same] == back[same]) same++;
    if (rc == 0 && (n != n_back || same < n))
        rc = loami_fail(err, LOAM_E_FORMAT, "\"%s\" comes back as \"%s\": differs from byte %zu on", text,
                        back, same);
    free(back);
    free(ids);
    return rc;
}

static int check_tokenizer(job *j, loam_err *err)
{
    static const char *const texts[] = {
        "Hello, world!",
        "The quick brown fox jumps over the lazy dog, 1234567890 times.",
        "for (int i = 0; i < n; i++) sum += a[i];",
        "Gr\xc3\xbc\xc3\x9f zum Tag aus K\xc3\xb6ln, na\xc3\xafve caf\xc3\xa9",
        ("\xe6\x9d\xb1\xe4\xba\xac \xd0\x9c\xd0\xbe\xd1\x81\xd0\xba\xd0\xb2\xd0\xb0 "
         "\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d"),
        "\xf0\x9f\x8e\x89\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb",
        "two  spaces\tand\n\nlines",
        "it's, we'll, don't",
    };
    const loam_text *t = loam_engine_text(j->engine);
    uint32_t vocab = loam_engine_info(j->engine)->vocab_tokens;
    size_t n = sizeof texts / sizeof *texts;
    int rc = t ? 0 : loami_fail(err, LOAM_E_NOT_FOUND, "%s has no tokenizer.json", j->path);
    for (size_t i = 0; rc == 0 && i < n; i++) rc = check_round_trip(t, texts[i], vocab, err);
    snprintf(j->note, sizeof j->note, "%zu texts come back as they were", n);
    return rc;
}

static int check_template(job *j, loam_err *err)
{
    static const char *const chats[] = {
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}],\"add_generation_prompt\":true}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"},{\"role\":\"assistant\",\"content\":\"Hi\"}"
        ",{\"role\":\"user\",\"content\":\"Bye\"}],"
        "\"add_generation_prompt\":true}",
    };
    const loam_text *t = loam_engine_text(j->engine);
    for (size_t i = 0; i < sizeof chats / sizeof *chats; i++) {
        char *prompt = NULL;
        loam_err e;
        int rc = loam_chat_render(t, chats[i], &prompt, &e);
        bool has_text = rc == 0 && strstr(prompt, "Hello");
        free(prompt);
        if (rc == LOAM_E_NOT_FOUND || rc == LOAM_E_UNSUPPORTED) {
            snprintf(j->note, sizeof j->note, "none: %s", e.msg);
            return 0;
        }
        if (rc < 0) return loami_fail(err, rc, "%s", e.msg);
        if (!has_text) return loami_fail(err, LOAM_E_FORMAT, "the user's message is not in the prompt");
    }
    snprintf(j->note, sizeof j->note, "renders");
    return 0;
}

/* ---- logits -------------------------------------------------------------------------------------------- */

/* The tokens of a case; *n of them, malloc'd. */
static int read_tokens(const json_t *list, uint32_t vocab, int32_t **out, uint32_t *n, loam_err *err)
{
    *n = (uint32_t)json_array_size(list);
    *out = *n && *n < 1u << 20 ? malloc(*n * sizeof **out) : NULL;
    if (!*out) return loami_fail(err, LOAM_E_FORMAT, "%s: \"tokens\" must be a list of ids", goldens_name);
    for (uint32_t i = 0; i < *n; i++) {
        const json_t *v = json_array_get(list, i);
        json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id >= (json_int_t)vocab)
            return loami_fail(err, LOAM_E_FORMAT, "%s: token %u is no id of this model", goldens_name, i);
        (*out)[i] = (int32_t)id;
    }
    return 0;
}

static double deviation(const float *x, uint32_t n)
{
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < n; i++) sum += x[i], squares += (double)x[i] * x[i];
    double mean = sum / n, variance = squares / n - mean * mean;
    return variance > 0 ? sqrt(variance) : 1;
}

static int compare(const json_t *wanted, const float *logits, uint32_t vocab, size_t number, double tolerance,
                   double *far, loam_err *err)
{
    double unit = deviation(logits, vocab);
    size_t i;
    json_t *pair;
    if (!json_array_size(wanted))
        return loami_fail(err, LOAM_E_FORMAT, "%s: case %zu has no \"logits\"", goldens_name, number);
    json_array_foreach((json_t *)wanted, i, pair) {
        const json_t *id = json_array_get(pair, 0), *value = json_array_get(pair, 1);
        if (!json_is_integer(id) || !json_is_number(value) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= (json_int_t)vocab)
            return loami_fail(err, LOAM_E_FORMAT, "%s: case %zu: entry %zu is no [id, logit]", goldens_name,
                              number, i);
        double ours = logits[json_integer_value(id)], theirs = json_number_value(value),
               d = fabs(ours - theirs) / unit;
        if (!(d <= tolerance))
            return loami_fail(
                err, LOAM_E_FORMAT,
                "case %zu: token %lld has logit %.5g, should have %.5g: %.2g deviations off, %.2g allowed",
                number, (long long)json_integer_value(id), ours, theirs, d, tolerance);
        if (d > *far) *far = d;
    }
    return 0;
}

static int check_case(job *j, const json_t *c, size_t number, float tolerance, double *far, loam_err *err)
{
    uint32_t vocab = loam_engine_info(j->engine)->vocab_tokens, n = 0;
    int32_t *tokens = NULL;
    float *logits = malloc(vocab * sizeof *logits);
    int rc = logits ? read_tokens(json_object_get(c, "tokens"), vocab, &tokens, &n, err)
                    : loami_fail_nomem(err);
    if (rc == 0) rc = loami_json_float(c, goldens_name, "tolerance", 0, 1e3, &tolerance, err);
    if (rc >= 0) rc = loam_logits(j->engine, tokens, n, logits, err);
    if (rc == 0) rc = compare(json_object_get(c, "logits"), logits, vocab, number, tolerance, far, err);
    free(logits);
    free(tokens);
    return rc;
}

static int check_goldens(job *j, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    json_t *o = NULL, *c;
    float tolerance = 0.01f;
    double far = 0;
    size_t i, n;
    int rc = loami_path_join(path, j->path, goldens_name, err);
    snprintf(j->note, sizeof j->note, "no %s", goldens_name);
    if (rc < 0 || !loami_file_exists(path)) return rc;
    if ((rc = loami_json_load(&o, path, GOLDENS_BYTES_MAX, err)) < 0) return rc;
    n = json_array_size(json_object_get(o, "cases"));
    rc = n ? loami_json_float(o, goldens_name, "tolerance", 0, 1e3, &tolerance, err)
           : loami_fail(err, LOAM_E_FORMAT, "%s: has no \"cases\"", path);
    json_array_foreach(json_object_get(o, "cases"), i, c)
        if (rc >= 0) rc = check_case(j, c, i, tolerance, &far, err);
    snprintf(j->note, sizeof j->note, "%zu cases, at most %.2g deviations off", n, far);
    json_decref(o);
    return rc < 0 ? rc : 0;
}

static json_t *record_case(job *j, const char *text, loam_err *err)
{
    uint32_t vocab = loam_engine_info(j->engine)->vocab_tokens;
    int32_t *ids = NULL;
    json_t *tokens = json_array(), *top = json_array();
    float *logits = malloc(vocab * sizeof *logits);
    int n = logits ? loam_encode(loam_engine_text(j->engine), text, strlen(text), 0, &ids, err)
                   : loami_fail_nomem(err);
    int rc = n < 0 ? n : loam_logits(j->engine, ids, (uint32_t)n, logits, err);
    for (int i = 0; i < n; i++) json_array_append_new(tokens, json_integer(ids[i]));
    for (int k = 0; rc == 0 && k < RECORDED && (uint32_t)k < vocab; k++) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < vocab; i++)
            if (logits[i] > logits[best]) best = i;
        json_array_append_new(top, json_pack("[i,f]", (int)best, (double)logits[best]));
        logits[best] = -INFINITY;
    }
    free(logits);
    free(ids);
    if (rc == 0) return json_pack("{s:o,s:o}", "tokens", tokens, "logits", top);
    json_decref(tokens);
    json_decref(top);
    return NULL;
}

/* Writes goldens.json from this very engine: to compare another machine, or a later version, with it. */
static int record_goldens(job *j, loam_err *err)
{
    static const char *const texts[] = { "The capital of France is", "def fibonacci(n):\n",
                                         "Once upon a time, in a land far away," };
    char source[128];
    json_t *cases = json_array();
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof texts / sizeof *texts; i++) {
        json_t *c = record_case(j, texts[i], err);
        if (c)
            json_array_append_new(cases, c);
        else
            rc = err->code;
    }
    snprintf(source, sizeof source, "loam %s, %s, float activations", loam_version(),
             loam_engine_info(j->engine)->device);
    json_t *o = json_pack("{s:i,s:s,s:f,s:o}", "version", 1, "source", source, "tolerance", 0.01, "cases",
                          cases);
    if (rc == 0) rc = loami_import_json(j->path, goldens_name, o, err);
    json_decref(o);
    snprintf(j->note, sizeof j->note, "written to %s", goldens_name);
    return rc;
}

/* ---- the command --------------------------------------------------------------------------------------- */

static int check_logits(job *j, loam_err *err)
{
    return j->record ? record_goldens(j, err) : check_goldens(j, err);
}

static const struct {
    const char *name;
    int (*run)(job *j, loam_err *err);
} checks[] = { { "hashes", check_hashes },
               { "tensors", check_tensors },
               { "tokenizer", check_tokenizer },
               { "template", check_template },
               { "logits", check_logits } };

/* Runs the checks in order up to the first that fails. */
static bool run_checks(job *j, json_t *json)
{
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        loam_err err = { 0 };
        bool ok = checks[i].run(j, &err) >= 0;
        if (json)
            json_array_append_new(json, json_pack("{s:s,s:b,s:s}", "check", checks[i].name, "ok", ok,
                                                  "message", ok ? j->note : err.msg));
        else
            printf("%-10s %s: %s\n", checks[i].name, ok ? "ok" : "FAILED", ok ? j->note : err.msg);
        fflush(stdout);
        if (!ok) return false;
    }
    return true;
}

int loami_cmd_verify(int argc, char **argv)
{
    job j = { 0 };
    bool json = false;
    const loami_opt table[] = {
        { NULL, 0, "MODEL", "a folder, a name in the store, or a Hugging Face id in the cache",
          LOAMI_OPT_STRING, &j.name, NULL, 0, 0 },
        { "--record", 0, NULL, "write goldens.json: logits to compare another machine or version with",
          LOAMI_OPT_FLAG, &j.record, NULL, 0, 0 },
        { "--substrate", 0, "S", "auto (default), cpu, mlx, reference", LOAMI_OPT_STRING, &j.substrate, NULL,
          0, 0 },
        { "--threads", 't', "N", "compute threads", LOAMI_OPT_U32, &j.threads, NULL, 1, 1024 },
        { "--json", 0, NULL, "as a JSON object", LOAMI_OPT_FLAG, &json, NULL, 0, 0 },
        { 0 },
    };
    int rc = loami_opt_parse(
        argc, argv, table,
        "check a model: hashes, tensors, tokenizer, template, logits against goldens.json");
    if (rc) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    loam_err err;
    if (!j.name) {
        fprintf(stderr, "loam verify: which MODEL? (see loam verify --help)\n");
        return LOAMI_EXIT_USAGE;
    }
    if (loami_store_find(j.path, j.name, &err) < 0) return loami_cmd_fail("verify", &err);
    json_t *list = json ? json_array() : NULL;
    bool ok = run_checks(&j, list);
    if (json)
        loami_cmd_print_json(
            json_pack("{s:s,s:s,s:b,s:o}", "model", j.name, "path", j.path, "ok", ok, "checks", list));
    loam_engine_close(j.engine);
    return ok ? LOAMI_EXIT_OK : LOAMI_EXIT_FAIL;
}
