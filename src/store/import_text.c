/* The tokenizer of a GGUF file as tokenizer.json. What GGUF names ("llama-bpe") is here what the model's own
 * tokenizer.json has; sources: those files, and llama.cpp's src/llama-vocab.cpp for which is which. */
#include "store/import.h"

#include "base/arena.h"
#include "base/map.h"
#include "base/utf8.h"
#include "store/merges.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TYPE_NORMAL = 1,
    TYPE_UNKNOWN = 2,
    TYPE_CONTROL = 3,
    TYPE_USER = 4,
    TYPE_UNUSED = 5,
    TYPE_BYTE = 6,
    VOCAB_MAX = 1 << 24,
};

/* ---- pre-tokenizers ------------------------------------------------------------------------------------ */

/* clang-format off */
#define SHORT_WORDS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define PUNCTUATION "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define LLAMA3 SHORT_WORDS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" PUNCTUATION SPACES
#define QWEN2 SHORT_WORDS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" PUNCTUATION SPACES
#define QWEN35 SHORT_WORDS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" SPACES
#define SEED SHORT_WORDS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+" SPACES
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(end) "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" end "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" end
#define PATHS "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*"
#define TEKKEN CASED("") "|\\p{N}" PATHS SPACES
#define GPT4O CASED(SHORT_WORDS "?") "|\\p{N}{1,3}" PATHS SPACES
#define CJK "[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+"
#define CJK_CODER "[\xe4\xb8\x80-\xe9\xbe\xa5\xe0\xa0\x80-\xe4\xb8\x80\xea\xb0\x80-\xed\x9f\xbf]+"
#define DEEPSEEK3 "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+" \
    "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" SPACES

/* How text is cut before byte-level BPE. */
typedef struct pre {
    const char *names;        /* tokenizer.ggml.pre, one or several between spaces */
    const char *split[4];     /* regular expressions, one after the other, then ByteLevel without its own */
    bool digits;              /* each digit alone, then ByteLevel (with GPT-2's expression if there is no split) */
    bool nfc;
    bool ignore_merges;       /* a word that is in the vocabulary is one token */
    bool bos;                 /* added unless the file says otherwise */
} pre;

static const pre pres[] = {
    { " gpt-2 default olmo phi-2 jais mellum exaone4 trillion granite-docling ", { NULL }, false, false, false, false },
    { " smollm starcoder refact codeshell exaone minerva-7b mellum2 ", { NULL }, true, false, false, false },
    { " command-r ", { NULL }, true, true, false, false },
    { " llama-bpe llama3 llama-v3 falcon3 pixtral lfm2 ", { LLAMA3 }, false, false, true, true },
    { " dbrx smaug-bpe ", { LLAMA3 }, false, false, false, false },
    { " glm4 chatglm-bpe ", { LLAMA3 }, false, false, false, false },
    { " qwen2 deepseek-r1-qwen megrez stablelm2 hunyuan grok-2 ", { QWEN2 }, false, true, false, false },
    { " qwen35 ", { QWEN35 }, false, true, false, false },
    { " seed-coder ", { SEED }, false, false, false, false },
    { " tekken ", { TEKKEN }, false, false, true, true },
    { " gpt-4o llama4 kanana2 ", { GPT4O }, false, false, true, false },
    { " deepseek-v3 hunyuan-dense ", { "\\p{N}{1,3}", CJK, DEEPSEEK3 }, false, false, false, false },
    { " deepseek-coder ", { "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK_CODER }, true, false, false, false },
};
/* clang-format on */

static const pre *pre_of(const char *name)
{
    char word[80];
    snprintf(word, sizeof word, " %.70s ", name);
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++)
        if (strstr(pres[i].names, word)) return &pres[i];
    return NULL;
}

/* ---- the vocabulary ------------------------------------------------------------------------------------ */

typedef struct vocab {
    loami_gguf *g;
    const char *what;
    loami_arena text;
    const char **token; /* [n] NUL-terminated */
    uint8_t *type;      /* [n] */
    const loami_gguf_value *scores;
    uint32_t n;
    loami_map ids;
    bool spm; /* SentencePiece's BPE; otherwise byte-level */
    bool space_prefix;
    const pre *pre;
    uint32_t bos, eos, unk, pad; /* ids; LOAMI_MAP_NONE = none */
    bool add_bos, add_eos;
} vocab;

static int bad(const vocab *v, const char *why, loam_err *err)
{
    return loami_fail(err, LOAM_E_FORMAT, "%s: tokenizer: %s", v->what, why);
}

static int read_tokens(vocab *v, const loami_gguf_value *list, const loami_gguf_value *types, loam_err *err)
{
    const unsigned char *at = list->data;
    for (uint32_t i = 0; i < v->n; i++) {
        uint64_t n;
        char name[32];
        const char *s = loami_gguf_next(&at, &n);
        double t = types ? loami_gguf_number(types, i) : TYPE_NORMAL;
        if (n > UINT32_MAX || memchr(s, 0, (size_t)n) || !loami_utf8_valid(s, (size_t)n)) {
            snprintf(name, sizeof name, "token %u is not text", i);
            return bad(v, name, err);
        }
        v->type[i] = t >= 1 && t <= 6 ? (uint8_t)t : TYPE_NORMAL;
        v->token[i] = loami_arena_strndup(&v->text, s, (size_t)n);
        if (!v->token[i]) return loami_fail_nomem(err);
        if (n == 0) v->type[i] = TYPE_UNUSED;
        if (v->type[i] == TYPE_UNUSED && (n == 0 || strncmp(v->token[i], "[PAD", 4) == 0))
            continue; /* fills up the matrix */
        if (loami_map_get(&v->ids, v->token[i], (size_t)n) != LOAMI_MAP_NONE)
            return loami_fail(err, LOAM_E_FORMAT, "%s: tokenizer: two tokens are \"%.64s\"", v->what,
                              v->token[i]);
        if (!loami_map_put(&v->ids, v->token[i], (size_t)n, i)) return loami_fail_nomem(err);
    }
    return 0;
}

static int read_id(const vocab *v, const char *key, uint32_t *id, loam_err *err)
{
    uint32_t u;
    *id = LOAMI_MAP_NONE;
    int rc = loami_gguf_u32(v->g, key, 0, UINT32_MAX, &u, err);
    if (rc > 0 && u < v->n) *id = u; /* some files say -1 or a number beyond the vocabulary for "none" */
    return rc < 0 ? rc : 0;
}

static int read_settings(vocab *v, loam_err *err)
{
    const char *model = NULL, *name = NULL;
    int rc = loami_gguf_string(v->g, "tokenizer.ggml.model", &model, err);
    if (rc >= 0) rc = loami_gguf_string(v->g, "tokenizer.ggml.pre", &name, err);
    if (rc < 0) return rc;
    if (!model || (strcmp(model, "gpt2") != 0 && strcmp(model, "llama") != 0))
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: tokenizers of kind \"%.32s\" are not supported",
                          v->what, model ? model : "");
    v->spm = strcmp(model, "llama") == 0;
    if (!name) name = "default";
    v->pre = v->spm ? NULL : pre_of(name);
    if (!v->spm && !v->pre)
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: pre-tokenizer \"%.32s\" is not known", v->what, name);
    v->space_prefix = v->spm;
    v->add_bos = v->spm || v->pre->bos;
    if ((rc = loami_gguf_bool(v->g, "tokenizer.ggml.add_space_prefix", &v->space_prefix, err)) < 0) return rc;
    if ((rc = loami_gguf_bool(v->g, "tokenizer.ggml.add_bos_token", &v->add_bos, err)) < 0) return rc;
    if ((rc = loami_gguf_bool(v->g, "tokenizer.ggml.add_eos_token", &v->add_eos, err)) < 0) return rc;
    if ((rc = read_id(v, "tokenizer.ggml.bos_token_id", &v->bos, err)) < 0) return rc;
    if ((rc = read_id(v, "tokenizer.ggml.eos_token_id", &v->eos, err)) < 0) return rc;
    if ((rc = read_id(v, "tokenizer.ggml.unknown_token_id", &v->unk, err)) < 0) return rc;
    if ((rc = read_id(v, "tokenizer.ggml.padding_token_id", &v->pad, err)) < 0) return rc;
    if (v->bos == LOAMI_MAP_NONE) v->add_bos = false;
    if (v->eos == LOAMI_MAP_NONE) v->add_eos = false;
    return 0;
}

static int read_vocab(vocab *v, loam_err *err)
{
    const loami_gguf_value *list = loami_gguf_get(v->g, "tokenizer.ggml.tokens"),
                           *types = loami_gguf_get(v->g, "tokenizer.ggml.token_type");
    v->scores = loami_gguf_get(v->g, "tokenizer.ggml.scores");
    if (!list || !list->is_array || list->kind != LOAMI_GGUF_STRING)
        return bad(v, "tokenizer.ggml.tokens must be a list of texts", err);
    if (list->n == 0 || list->n > VOCAB_MAX) return bad(v, "the number of tokens is not possible", err);
    if (types && (!types->is_array || types->kind == LOAMI_GGUF_STRING || types->kind == LOAMI_GGUF_ARRAY ||
                  types->n != list->n))
        return bad(v, "tokenizer.ggml.token_type does not fit the tokens", err);
    v->n = (uint32_t)list->n;
    v->token = loami_arena_array(&v->text, v->n, sizeof *v->token);
    v->type = loami_arena_alloc(&v->text, v->n);
    if (!v->token || !v->type || !loami_map_reserve(&v->ids, v->n)) return loami_fail_nomem(err);
    int rc = read_tokens(v, list, types, err);
    if (rc == 0) rc = read_settings(v, err);
    if (rc == 0 && v->spm &&
        (!v->scores || !v->scores->is_array || v->scores->kind != LOAMI_GGUF_F32 || v->scores->n != v->n))
        rc = bad(v, "tokenizer.ggml.scores does not fit the tokens", err);
    return rc;
}

/* ---- tokenizer.json ------------------------------------------------------------------------------------ */

static json_t *byte_level(bool own_expression)
{
    return json_pack("{s:s,s:b,s:b,s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                     "use_regex", own_expression);
}

static json_t *split(const char *expression)
{
    return json_pack("{s:s,s:{s:s},s:s,s:b}", "type", "Split", "pattern", "Regex", expression, "behavior",
                     "Isolated", "invert", 0);
}

static json_t *replace(const char *from, const char *to)
{
    return json_pack("{s:s,s:{s:s},s:s}", "type", "Replace", "pattern", "String", from, "content", to);
}

static json_t *pre_tokenizer(const vocab *v)
{
    if (v->spm) return json_null();
    const pre *p = v->pre;
    if (!p->digits && !p->split[0]) return byte_level(true);
    json_t *steps = json_array();
    for (int i = 0; i < 4 && p->split[i]; i++) json_array_append_new(steps, split(p->split[i]));
    if (p->digits)
        json_array_append_new(steps, json_pack("{s:s,s:b}", "type", "Digits", "individual_digits", 1));
    json_array_append_new(steps, byte_level(p->digits && !p->split[0]));
    return json_pack("{s:s,s:o}", "type", "Sequence", "pretokenizers", steps);
}

static json_t *normalizer(const vocab *v)
{
    static const char space[] = "\xe2\x96\x81";
    if (!v->spm) return v->pre->nfc ? json_pack("{s:s}", "type", "NFC") : json_null();
    if (!v->space_prefix) return replace(" ", space);
    return json_pack("{s:s,s:[{s:s,s:s},o]}", "type", "Sequence", "normalizers", "type", "Prepend", "prepend",
                     space, replace(" ", space));
}

static json_t *decoder(const vocab *v)
{
    if (!v->spm) return byte_level(true);
    json_t *steps = json_pack("[o,{s:s},{s:s}]", replace("\xe2\x96\x81", " "), "type", "ByteFallback", "type",
                              "Fuse");
    if (v->space_prefix)
        json_array_append_new(
            steps, json_pack("{s:s,s:s,s:i,s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
    return json_pack("{s:s,s:o}", "type", "Sequence", "decoders", steps);
}

static json_t *special_step(const char *token)
{
    return json_pack("{s:{s:s,s:i}}", "SpecialToken", "id", token, "type_id", 0);
}

/* BOS and EOS around one text, or a pair of texts. */
static json_t *post_processor(const vocab *v)
{
    if (!v->add_bos && !v->add_eos) return v->spm ? json_null() : byte_level(true);
    const uint32_t ids[2] = { v->add_bos ? v->bos : LOAMI_MAP_NONE, v->add_eos ? v->eos : LOAMI_MAP_NONE };
    json_t *single = json_array(), *pair = json_array(), *specials = json_object();
    for (int text = 0; text < 2; text++) {
        json_t *a = json_pack("{s:{s:s,s:i}}", "Sequence", "id", text ? "B" : "A", "type_id", text);
        if (ids[0] != LOAMI_MAP_NONE) json_array_append_new(pair, special_step(v->token[ids[0]]));
        json_array_append(pair, a);
        if (ids[1] != LOAMI_MAP_NONE) json_array_append_new(pair, special_step(v->token[ids[1]]));
        if (text == 0) json_array_extend(single, pair);
        json_decref(a);
    }
    for (int i = 0; i < 2; i++) {
        if (ids[i] == LOAMI_MAP_NONE) continue;
        const char *token = v->token[ids[i]];
        json_object_set_new(specials, token,
                            json_pack("{s:s,s:[i],s:[s]}", "id", token, "ids", (int)ids[i], "tokens", token));
    }
    return json_pack("{s:s,s:o,s:o,s:o}", "type", "TemplateProcessing", "single", single, "pair", pair,
                     "special_tokens", specials);
}

/* Phi-3's own tokenizer.json takes the white space behind most of its special tokens away; GGUF does not say
 * so. */
static bool strips_right(const vocab *v, bool phi3, uint32_t i)
{
    static const char *const others[] = { "<unk>", "<s>", "<|endoftext|>" };
    if (!phi3 || !v->spm) return false;
    for (int k = 0; k < 3; k++)
        if (strcmp(v->token[i], others[k]) == 0) return false;
    return true;
}

static json_t *added_tokens(const vocab *v)
{
    const char *arch = "";
    json_t *list = json_array();
    loami_gguf_string(v->g, "general.architecture", &arch, NULL);
    bool phi3 = strcmp(arch, "phi3") == 0;
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->type[i] != TYPE_UNKNOWN && v->type[i] != TYPE_CONTROL && v->type[i] != TYPE_USER) continue;
        json_array_append_new(list,
                              json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", (int)i, "content", v->token[i],
                                        "single_word", 0, "lstrip", 0, "rstrip", strips_right(v, phi3, i),
                                        "normalized", 0, "special", v->type[i] != TYPE_USER));
    }
    return list;
}

static json_t *vocab_json(const vocab *v)
{
    json_t *o = json_object();
    for (uint32_t i = 0; i < v->n; i++)
        if (loami_map_get(&v->ids, v->token[i], strlen(v->token[i])) == i)
            json_object_set_new_nocheck(o, v->token[i], json_integer(i));
    return o;
}

static bool is_merge(const vocab *v, const char *left, size_t n_left, const char *right, size_t n_right)
{
    char both[512];
    if (n_left + n_right > sizeof both || loami_map_get(&v->ids, left, n_left) == LOAMI_MAP_NONE)
        return false;
    memcpy(both, left, n_left);
    memcpy(both + n_left, right, n_right);
    return loami_map_get(&v->ids, right, n_right) != LOAMI_MAP_NONE &&
           loami_map_get(&v->ids, both, n_left + n_right) != LOAMI_MAP_NONE;
}

/* "a b" as GGUF and older tokenizer.json files have it. */
static int merges_of_file(const vocab *v, json_t *out, loam_err *err)
{
    const loami_gguf_value *list = loami_gguf_get(v->g, "tokenizer.ggml.merges");
    if (!list || !list->is_array || list->kind != LOAMI_GGUF_STRING)
        return bad(v, "tokenizer.ggml.merges must be a list of texts", err);
    const unsigned char *at = list->data;
    for (uint64_t i = 0; i < list->n; i++) {
        uint64_t n;
        const char *s = loami_gguf_next(&at, &n);
        const char *space = n > 2 ? memchr(s + 1, ' ', (size_t)n - 2) : NULL;
        if (!space || !is_merge(v, s, (size_t)(space - s), space + 1, (size_t)(s + n - space - 1))) {
            char why[64];
            snprintf(why, sizeof why, "merge %llu does not join two tokens to a third",
                     (unsigned long long)i);
            return bad(v, why, err);
        }
        json_array_append_new(out, json_stringn_nocheck(s, (size_t)n));
    }
    return 0;
}

static bool has_bytes(const vocab *v)
{
    for (int i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", i);
        if (loami_map_get(&v->ids, name, 6) == LOAMI_MAP_NONE) return false;
    }
    return true;
}

static int model_json(const vocab *v, json_t **out, loam_err *err)
{
    json_t *merges = json_array();
    int rc = v->spm ? loami_merges_from_scores(merges, v->token, v->type, v->scores, v->n, TYPE_NORMAL,
                                               &v->ids, err)
                    : merges_of_file(v, merges, err);
    if (rc < 0) {
        json_decref(merges);
        return rc;
    }
    *out = json_pack("{s:s,s:n,s:s?,s:n,s:n,s:b,s:b,s:b,s:o,s:o}", "type", "BPE", "dropout", "unk_token",
                     v->spm && v->unk != LOAMI_MAP_NONE ? v->token[v->unk] : NULL,
                     "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", v->spm, "byte_fallback",
                     v->spm && has_bytes(v), "ignore_merges", !v->spm && v->pre->ignore_merges, "vocab",
                     vocab_json(v), "merges", merges);
    return *out ? 0 : loami_fail_nomem(err);
}

static int write_tokenizer(const vocab *v, const char *dir, loam_err *err)
{
    json_t *model = NULL, *all;
    int rc = model_json(v, &model, err);
    if (rc < 0) return rc;
    all = json_pack("{s:s,s:n,s:n,s:o,s:o,s:o,s:o,s:o,s:o}", "version", "1.0", "truncation", "padding",
                    "added_tokens", added_tokens(v), "normalizer", normalizer(v), "pre_tokenizer",
                    pre_tokenizer(v), "post_processor", post_processor(v), "decoder", decoder(v), "model",
                    model);
    rc = all ? loami_import_json(dir, "tokenizer.json", all, err) : loami_fail_nomem(err);
    json_decref(all);
    return rc;
}

/* ---- tokenizer_config.json, generation_config.json ----------------------------------------------------- */

static int write_config(const vocab *v, const char *dir, const json_t *config, const char *template,
                        loam_err *err)
{
    const struct {
        const char *key;
        uint32_t id;
    } names[] = {
        { "bos_token", v->bos }, { "eos_token", v->eos }, { "unk_token", v->unk }, { "pad_token", v->pad }
    };
    json_t *o = json_pack("{s:s,s:b,s:b,s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                          "clean_up_tokenization_spaces", 0, "add_bos_token", v->add_bos, "add_eos_token",
                          v->add_eos);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].id != LOAMI_MAP_NONE)
            json_object_set_new(o, names[i].key, json_string(v->token[names[i].id]));
    json_object_set(o, "model_max_length", json_object_get(config, "max_position_embeddings"));
    if (template) json_object_set_new(o, "chat_template", json_string(template));
    int rc = loami_import_json(dir, "tokenizer_config.json", o, err);
    json_decref(o);
    return rc;
}

static void add_end(json_t *ends, uint32_t id)
{
    size_t i;
    json_t *v;
    if (id == LOAMI_MAP_NONE) return;
    json_array_foreach(ends, i, v)
        if (json_integer_value(v) == (json_int_t)id) return;
    json_array_append_new(ends, json_integer(id));
}

/* The tokens that end an answer: what the file names, and control tokens that are known to mean it. */
static json_t *end_ids(const vocab *v)
{
    static const char *const keys[] = { "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id" };
    static const char *const known[] = { "<|im_end|>", "<|eot_id|>", "<|eom_id|>",      "<end_of_turn>",
                                         "<|return|>", "<|call|>",   "<|end_of_text|>", "<|endoftext|>",
                                         "<|end|>",    "<EOT>" };
    json_t *ends = json_array();
    uint32_t id;
    add_end(ends, v->eos);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (read_id(v, keys[i], &id, NULL) == 0) add_end(ends, id);
    /* where there is <|return|>, <|end|> ends a message and not the answer */
    bool harmony = loami_map_get(&v->ids, "<|return|>", 10) != LOAMI_MAP_NONE;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        id = loami_map_get(&v->ids, known[i], strlen(known[i]));
        if (id != LOAMI_MAP_NONE && v->type[id] == TYPE_CONTROL &&
            !(harmony && strcmp(known[i], "<|end|>") == 0))
            add_end(ends, id);
    }
    return ends;
}

static int write_generation(const vocab *v, const char *dir, json_t *config, const json_t *more,
                            loam_err *err)
{
    json_t *o = json_object(), *ends = end_ids(v);
    if (v->bos != LOAMI_MAP_NONE) json_object_set_new(o, "bos_token_id", json_integer(v->bos));
    if (json_array_size(ends))
        json_object_set(o, "eos_token_id", json_array_size(ends) == 1 ? json_array_get(ends, 0) : ends);
    if (v->pad != LOAMI_MAP_NONE) json_object_set_new(o, "pad_token_id", json_integer(v->pad));
    json_object_update(config, o);
    if (more) json_object_update(o, (json_t *)more);
    int rc = loami_import_json(dir, "generation_config.json", o, err);
    json_decref(ends);
    json_decref(o);
    return rc;
}

int loami_import_text(loami_gguf *g, const char *dir, json_t *config, const loami_import_options *o,
                      loam_err *err)
{
    vocab v = { .g = g, .what = loami_gguf_what(g) };
    const char *template = NULL;
    int rc = read_vocab(&v, err);
    if (rc == 0) rc = loami_gguf_string(g, "tokenizer.chat_template", &template, err);
    if (rc == 0 && o->progress.say) o->progress.say(o->progress.arg, "the file has no chat template");
    if (rc >= 0) rc = write_tokenizer(&v, dir, err);
    if (rc == 0) rc = write_config(&v, dir, config, template, err);
    if (rc == 0) rc = write_generation(&v, dir, config, o->generation, err);
    loami_map_free(&v.ids);
    loami_arena_free(&v.text);
    return rc;
}
