#include "cmd/cmd.h"

#include "base/system.h"
#include "cmd/open.h"
#include "cmd/work.h"
#include "store/info.h"
#include "store/need.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>

enum { CONTEXT = 8192 };

static double bits_per_weight(const loami_info *i)
{
    return i->parameters ? (double)i->tensor_bytes * 8 / (double)i->parameters : 0;
}

static json_t *json_of(const char *name, const char *path, const loami_info *i, const loami_need *n)
{
    const loami_config *c = &i->config;
    char full[LOAMI_PATH_MAX];
    json_t *quant = json_null();
    if (c->quant.mode != LOAM_Q_NONE)
        quant = json_pack("{s:s,s:I,s:I}", "mode", loami_quant_name(c->quant.mode), "bits",
                          (json_int_t)c->quant.bits, "group_size", (json_int_t)c->quant.group);
    return json_pack("{s:s,s:s,s:s,s:I,s:o,s:f,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "name", name, "path",
                     realpath(path, full) ? full : path, "family", c->family, "parameters",
                     (json_int_t)i->parameters, "quantisation", quant, "bits_per_weight", bits_per_weight(i),
                     "context_length", (json_int_t)c->context, "bytes", (json_int_t)i->tensor_bytes,
                     "tensors", (json_int_t)i->tensors, "layers", (json_int_t)c->n_layers, "hidden_size",
                     (json_int_t)c->dim, "vocab_size", (json_int_t)c->vocab, "active_bytes",
                     (json_int_t)n->active_bytes, "kv_token_bytes", (json_int_t)n->kv_token_bytes, "scratch_bytes",
                     (json_int_t)loami_need_scratch(n, c), "memory_bytes", (json_int_t)loami_memory_bytes());
}

/* For one request with a context as long as the engine's default; loam fit tells of others. */
static void print_memory(const loami_need *n, const loami_config *c)
{
    uint32_t tokens = c->context && c->context < CONTEXT ? c->context : CONTEXT;
    uint64_t kv = loami_need_kv(n, tokens, 1), scratch = loami_need_scratch(n, c), all = n->weight_bytes + kv + scratch;
    char weights[32], cache[32], rest[32], sum[32], machine[32];
    loami_bytes_text(weights, n->weight_bytes);
    loami_bytes_text(cache, kv);
    loami_bytes_text(rest, scratch);
    loami_bytes_text(sum, all);
    loami_bytes_text(machine, loami_memory_bytes());
    printf("memory          %s: weights %s, KV cache %s for %u tokens, scratch about %s\n", sum, weights, cache, tokens, rest);
    printf("this machine    %s: %s (loam fit tells more)\n", machine,
           all <= loami_memory_share_bytes() ? "it fits" : "it does not fit");
}

static void print(const char *name, const char *path, const loami_info *i, const loami_need *n)
{
    const loami_config *c = &i->config;
    char bytes[32], quant[64];
    loami_bytes_text(bytes, i->tensor_bytes);
    loami_info_quant(i, quant);
    printf("name            %s\npath            %s\nfamily          %s\n", name, path, c->family);
    printf("parameters      %.1f million\n", (double)i->parameters / 1e6);
    printf("quantisation    %s; %.2f bits a weight\n", quant, bits_per_weight(i));
    if (c->context) printf("context length  %u tokens\n", c->context);
    printf("size            %s in %u tensors\n", bytes, i->tensors);
    printf("shape           %u layers of %u, %u heads (%u for keys and values) of %u, vocabulary %u\n",
           c->n_layers, c->dim, c->n_heads, c->n_kv_heads, c->head_dim, c->vocab);
    print_memory(n, c);
}

int loami_cmd_show(int argc, char **argv)
{
    const char *name = NULL;
    bool json = false;
    char path[LOAMI_PATH_MAX];
    const loami_opt table[] = {
        { NULL, 0, "MODEL", "a folder, a name in the store, or a Hugging Face id in the cache",
          LOAMI_OPT_STRING, &name, NULL, 0, 0 },
        { "--json", 0, NULL, "as a JSON object", LOAMI_OPT_FLAG, &json, NULL, 0, 0 },
        { 0 },
    };
    loam_err err;
    loami_info i;
    loami_need n;
    int rc = loami_opt_parse(argc, argv, table, "tell what a model is");
    if (rc) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (!name) {
        fprintf(stderr, "loam show: which MODEL? (see loam show --help)\n");
        return LOAMI_EXIT_USAGE;
    }
    if (loami_store_find(path, name, &err) < 0 || loami_info_open(&i, path, &err) < 0)
        return loami_cmd_fail("show", &err);
    if (loami_need_of(&n, &i.config, &i, &err) < 0)
        rc = loami_cmd_fail("show", &err);
    else if (json)
        rc = loami_cmd_print_json(json_of(name, path, &i, &n));
    else
        print(name, path, &i, &n);
    loami_info_close(&i);
    return rc;
}
