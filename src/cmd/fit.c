#include "cmd/cmd.h"

#include "base/bandwidth.h"
#include "base/system.h"
#include "cmd/open.h"
#include "cmd/work.h"
#include "store/known.h"
#include "store/need.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 8192, PARALLEL = 8, CONTEXT_LEAST = 1024 };

/* A prompt is arithmetic: of the peak that a GPU's maker states, good matrix kernels reach about so much. */
#define PROMPT_SHARE 0.6

/* Machines that people plan for. Memory in GiB; bandwidth in GB/s and TFLOP/s (float32) as Apple states them,
 * 0 where it does not. */
static const struct machine {
    const char *name, *label;
    double memory_gib, gb_per_s, tflops;
} machines[] = {
    { "m1-max-32", "M1 Max, 32 GB", 32, 400, 10.4 },
    { "m1-max-64", "M1 Max, 64 GB", 64, 400, 10.4 },
    { "m1-ultra-64", "M1 Ultra, 64 GB", 64, 800, 20.8 },
    { "m1-ultra-128", "M1 Ultra, 128 GB", 128, 800, 20.8 },
    { "m2-max-64", "M2 Max, 64 GB", 64, 400, 13.6 },
    { "m2-ultra-192", "M2 Ultra, 192 GB", 192, 800, 27.2 },
    { "m4-pro-48", "M4 Pro, 48 GB", 48, 273, 0 },
    { "m4-max-128", "M4 Max, 128 GB", 128, 546, 0 },
    { "m3-ultra-256", "M3 Ultra, 256 GB", 256, 819, 0 },
};
enum { N_MACHINES = sizeof machines / sizeof *machines };

typedef struct fit {
    const char *model, *machine, *memory, *kv_type;
    uint32_t context, parallel;
    float gb_per_s;
    bool json;
    char label[128];
    double memory_bytes, usable_bytes, bytes_per_s, tflops;
    bool measured; /* bytes_per_s, here and now */
} fit;

/* "64G", "512M", "64GiB", "64000000000": G is 2^30, as memory is sold. */
static int read_bytes(const char *text, double *out)
{
    static const char units[] = "kMGT";
    char *end;
    double v = strtod(text, &end);
    const char *u = *end ? strchr(units, *end == 'K'   ? 'k'
                                         : *end == 'g' ? 'G'
                                         : *end == 'm' ? 'M'
                                                       : *end)
                         : NULL;
    if (end == text || !(v > 0) || (*end && !u)) return -1;
    for (const char *k = units; u && k <= u; k++) v *= 1024;
    if (u && strcmp(end + 1, "") != 0 && strcmp(end + 1, "B") != 0 && strcmp(end + 1, "iB") != 0) return -1;
    *out = v;
    return v < 1e18 ? 0 : -1;
}

static int take_machine(fit *f)
{
    for (size_t i = 0; f->machine && i < N_MACHINES; i++) {
        if (strcmp(machines[i].name, f->machine) != 0) continue;
        snprintf(f->label, sizeof f->label, "%s, %.0f GB/s", machines[i].label, machines[i].gb_per_s);
        f->memory_bytes = machines[i].memory_gib * 1073741824.0;
        f->bytes_per_s = machines[i].gb_per_s * 1e9;
        f->tflops = machines[i].tflops;
        return 0;
    }
    if (!f->machine) return 1;
    fprintf(stderr, "loam fit: --machine %s: there are", f->machine);
    for (size_t i = 0; i < N_MACHINES; i++) fprintf(stderr, " %s", machines[i].name);
    fprintf(stderr, "; or say --memory and --bandwidth\n");
    return -1;
}

/* The machine that is asked about. 0, or an exit code. */
static int take_place(fit *f)
{
    loam_err err;
    int rc = take_machine(f);
    if (rc < 0) return LOAMI_EXIT_USAGE;
    if (f->memory && read_bytes(f->memory, &f->memory_bytes) < 0) {
        fprintf(stderr, "loam fit: --memory %s: must be a size like 64G\n", f->memory);
        return LOAMI_EXIT_USAGE;
    }
    if (f->gb_per_s > 0) f->bytes_per_s = f->gb_per_s * 1e9;
    if (f->memory_bytes <= 0) f->memory_bytes = (double)loami_memory_bytes();
    if (f->bytes_per_s <= 0 && !f->memory) {
        if (loami_read_bandwidth(&f->bytes_per_s, 0, 0.3, &err) < 0) return loami_cmd_fail("fit", &err);
        f->measured = true;
    }
    f->usable_bytes = f->memory_bytes * 0.75;
    if (!f->label[0])
        snprintf(f->label, sizeof f->label, "%s",
                 f->memory ? "a machine" : "this machine");
    return 0;
}

/* ---- the table of models ------------------------------------------------------------------------------- */

static int need_of_known(const loami_known *k, loami_config *c, loami_need *n, loam_err *err)
{
    int rc = loami_config_parse(c, k->config, strlen(k->config), k->id, err);
    return rc < 0 ? rc : loami_need_of(n, c, NULL, err);
}

static bool is_int8(const fit *f)
{
    return f->kv_type && strcmp(f->kv_type, "int8") == 0;
}

static double prompt_speed(const fit *f, const loami_need *n)
{
    return n->active_parameters ? PROMPT_SHARE * f->tflops * 1e12 / (2 * (double)n->active_parameters) : 0;
}

static double all_bytes(const fit *f, const loami_need *n, const loami_config *c)
{
    return (double)n->weight_bytes + (double)loami_need_kv(n, f->context, f->parallel) +
           (double)loami_need_scratch(n, c);
}

static int table_json(const fit *f)
{
    json_t *list = json_array();
    for (const loami_known *k = loami_known_models; k->name; k++) {
        loami_config c = { 0 };
        loami_need n;
        if (k->alias || need_of_known(k, &c, &n, NULL) < 0) continue;
        json_array_append_new(list, json_pack("{s:s,s:s,s:I,s:I,s:I,s:f,s:f,s:b,s:s?}", "name", k->name, "id",
                                              k->id, "weight_bytes", (json_int_t)n.weight_bytes,
                                              "active_bytes", (json_int_t)n.active_bytes, "kv_token_bytes",
                                              (json_int_t)n.kv_token_bytes, "prompt_tps", prompt_speed(f, &n),
                                              "generation_tps_max", loami_need_decode(&n, f->bytes_per_s, 0),
                                              "fits", all_bytes(f, &n, &c) <= f->usable_bytes, "expected",
                                              k->expected));
        loami_config_close(&c);
    }
    return loami_cmd_print_json(json_pack("{s:s,s:f,s:f,s:f,s:b,s:s,s:o}", "machine", f->label,
                                          "memory_bytes", f->memory_bytes, "usable_bytes", f->usable_bytes,
                                          "bandwidth_bytes_per_s", f->bytes_per_s, "bandwidth_measured",
                                          f->measured, "figures", "computed, not measured", "models", list));
}

static int table(const fit *f)
{
    if (f->json) return table_json(f);
    bool seed = f->machine && strcmp(f->machine, "m1-max-64") == 0;
    printf("%s: computed, not measured; KV cache of %u x %u tokens\n\n%-24s %9s %11s %13s %13s%s\n", f->label,
           f->parallel, f->context, "model", "weights", "KV a 1000", "prompt tok/s", "generation",
           seed ? "   was expected" : "");
    printf("%-24s %9s %11s %13s %13s%s\n", "", "", "tokens", "about", "at most",
           seed ? "   prompt, generation" : "");
    for (const loami_known *k = loami_known_models; k->name; k++) {
        loami_config c = { 0 };
        loami_need n;
        char prompt[32] = "-", decode[32] = "-", bytes[32], kv[32];
        if (k->alias || need_of_known(k, &c, &n, NULL) < 0) continue;
        if (f->tflops > 0) snprintf(prompt, sizeof prompt, "%.0f", prompt_speed(f, &n));
        if (f->bytes_per_s > 0)
            snprintf(decode, sizeof decode, "%.1f", loami_need_decode(&n, f->bytes_per_s, 0));
        loami_bytes_text(bytes, n.weight_bytes);
        loami_bytes_text(kv, loami_need_kv(&n, 1000, 1));
        bool fits = all_bytes(f, &n, &c) <= f->usable_bytes;
        printf("%-24s %9s %11s %13s %13s   %s%s\n", k->label, bytes, kv, prompt, decode,
               seed && k->expected ? k->expected : "", fits ? "" : "  (does not fit)");
        loami_config_close(&c);
    }
    printf("\nGeneration: bandwidth / bytes of the weights that a token reads, with an empty cache; a real "
           "one stays below.\n");
    if (f->tflops > 0)
        printf("Prompt: %.0f %% of the GPU's stated %.1f TFLOP/s. loam bench measures both.\n",
               PROMPT_SHARE * 100, f->tflops);
    printf("Names for loam pull:");
    for (const loami_known *k = loami_known_models; k->name; k++)
        if (!k->alias) printf(" %s", k->name);
    printf("\n");
    return LOAMI_EXIT_OK;
}

/* ---- one model ----------------------------------------------------------------------------------------- */

static void line(const char *name, double bytes, const char *note)
{
    char text[32];
    loami_bytes_text(text, bytes > 0 ? (uint64_t)bytes : 0);
    printf("  %-18s %10s   %s\n", name, text, note);
}

/* What would fit where this does not. */
static void advise(const fit *f, const loami_need *n, const loami_config *c)
{
    double fixed = (double)n->weight_bytes + (double)loami_need_scratch(n, c);
    double left = n->kv_token_bytes ? (f->usable_bytes - fixed) / (double)n->kv_token_bytes : 0;
    bool any = false;
    if (left >= CONTEXT_LEAST) {
        uint64_t one = (uint64_t)left / 256 * 256, each = (uint64_t)left / f->parallel / 256 * 256;
        printf("would fit: ");
        if (each >= CONTEXT_LEAST && f->parallel > 1)
            printf("--context %llu --parallel %u, or ", (unsigned long long)each, f->parallel);
        printf("--context %llu --parallel 1\n", (unsigned long long)(one > f->context ? f->context : one));
        return;
    }
    double small = (double)n->parameters * 4.5 / 8;
    if (small < 0.9 * (double)n->weight_bytes &&
        small + (double)loami_need_kv(n, CONTEXT_LEAST, 1) < f->usable_bytes) {
        char bytes[32];
        loami_bytes_text(bytes, (uint64_t)small);
        printf("would fit: its weights in 4 bits, %s: loam quantize, or a -4bit model of the hub\n", bytes);
        any = true;
    }
    for (const loami_known *k = loami_known_models; !any && k->name; k++) {
        loami_config other = { 0 };
        loami_need m;
        if (!k->alias && need_of_known(k, &other, &m, NULL) == 0 &&
            all_bytes(f, &m, &other) <= f->usable_bytes) {
            printf("would fit: %s (loam pull %s)\n", k->label, k->name);
            any = true;
        }
        loami_config_close(&other);
    }
    if (!any) printf("would fit: only a much smaller model\n");
}

static int print(const fit *f, const char *name, const loami_need *n, const loami_config *c, bool computed)
{
    double kv = (double)loami_need_kv(n, f->context, f->parallel),
           scratch = (double)loami_need_scratch(n, c);
    double all = (double)n->weight_bytes + kv + scratch, left = f->usable_bytes - all;
    char note[160], a[32], b[32];
    if (f->json)
        return loami_cmd_print_json(json_pack(
                   "{s:s,s:s,s:b,s:I,s:I,s:I,s:I,s:f,s:f,s:I,s:I,s:I,s:I,s:f,s:b,s:f}", "model", name,
                   "machine", f->label, "fits", left >= 0, "weight_bytes", (json_int_t)n->weight_bytes,
                   "kv_bytes", (json_int_t)kv, "scratch_bytes", (json_int_t)scratch, "total_bytes",
                   (json_int_t)all, "memory_bytes", f->memory_bytes, "usable_bytes", f->usable_bytes,
                   "context", (json_int_t)f->context, "parallel", (json_int_t)f->parallel, "kv_token_bytes",
                   (json_int_t)n->kv_token_bytes, "active_bytes", (json_int_t)n->active_bytes,
                   "bandwidth_bytes_per_s", f->bytes_per_s, "bandwidth_measured", f->measured,
                   "generation_tps_max", loami_need_decode(n, f->bytes_per_s, 0))) != LOAMI_EXIT_OK
                   ? LOAMI_EXIT_FAIL
               : left >= 0 ? LOAMI_EXIT_OK
                           : LOAMI_EXIT_FAIL;
    printf("%s on %s\n", name, f->label);
    line("weights", (double)n->weight_bytes, computed ? "counted from its shape: it is not here" : "");
    snprintf(note, sizeof note, "%u x %u tokens, %.1f kB each", f->parallel, f->context,
             (double)n->kv_token_bytes / 1e3);
    line("KV cache", kv, note);
    line("scratch", scratch, "about: intermediate results of a step");
    line("together", all, "");
    loami_bytes_text(a, (uint64_t)f->memory_bytes);
    snprintf(note, sizeof note, "three quarters of %s; the rest is the system's", a);
    line("there is", f->usable_bytes, note);
    if (f->bytes_per_s > 0)
        printf("  generation of one: at most %.1f tok/s, %.1f with %u tokens in the cache\n    (computed "
               "from %s %.0f GB/s, not measured)\n",
               loami_need_decode(n, f->bytes_per_s, 0), loami_need_decode(n, f->bytes_per_s, f->context),
               f->context, f->measured ? "the measured" : "the stated", f->bytes_per_s / 1e9);
    if (left >= 0) {
        loami_bytes_text(b, (uint64_t)left);
        printf("it fits, with %s to spare\n", b);
        return LOAMI_EXIT_OK;
    }
    loami_bytes_text(b, (uint64_t)-left);
    printf("it does not fit: %s too much\n", b);
    advise(f, n, c);
    return LOAMI_EXIT_FAIL;
}

static int one_model(fit *f)
{
    char path[LOAMI_PATH_MAX];
    loami_info i = { 0 };
    loami_config c = { 0 };
    loami_need n;
    loam_err err;
    const loami_known *k = loami_known_find(f->model);
    int rc = loami_store_find(path, f->model, &err);
    bool here = rc == 0;
    if (here) {
        rc = loami_info_open(&i, path, &err);
        if (rc == 0) rc = loami_need_of(&n, &i.config, &i, &err);
    } else if (k) {
        rc = need_of_known(k, &c, &n, &err);
    }
    if (rc < 0) {
        loami_info_close(&i);
        return loami_cmd_fail("fit", &err);
    }
    const loami_config *config = here ? &i.config : &c;
    if (is_int8(f)) loami_need_int8(&n, config);
    if (!f->context) f->context = config->context && config->context < CONTEXT ? config->context : CONTEXT;
    if (config->context && f->context > config->context) {
        fprintf(stderr, "loam fit: a context of %u tokens was asked for, the model has %u\n", f->context,
                config->context);
        rc = LOAMI_EXIT_USAGE;
    } else {
        rc = print(f, f->model, &n, config, !here);
    }
    loami_info_close(&i);
    loami_config_close(&c);
    return rc;
}

int loami_cmd_fit(int argc, char **argv)
{
    fit f = { .parallel = 0 };
    const loami_opt options[] = {
        { NULL, 0, "MODEL", "a model here, or a short name of loam pull's; none: a table of those",
          LOAMI_OPT_STRING, &f.model, NULL, 0, 0 },
        { "--context", 'c', "N", "tokens of prompt and answer together [the model's, at most 8192]",
          LOAMI_OPT_U32, &f.context, NULL, 2, 1 << 20 },
        { "--parallel", 0, "K", "requests that run together [8; 1 for the table]", LOAMI_OPT_U32, &f.parallel,
          NULL, 1, 256 },
        { "--kv-type", 0, "T", "of the KV cache: f16 or int8 [f16]", LOAMI_OPT_STRING, &f.kv_type, NULL, 0,
          0 },
        { "--machine", 0, "NAME", "another machine: m1-max-64, m2-ultra-192, ...", LOAMI_OPT_STRING,
          &f.machine, NULL, 0, 0 },
        { "--memory", 0, "SIZE", "another machine's memory, as 64G", LOAMI_OPT_STRING, &f.memory, NULL, 0,
          0 },
        { "--bandwidth", 0, "GB/S", "its memory bandwidth [measured, of this machine]", LOAMI_OPT_FLOAT,
          &f.gb_per_s, NULL, 0.1, 100000 },
        { "--json", 0, NULL, "as a JSON object", LOAMI_OPT_FLAG, &f.json, NULL, 0, 0 },
        { 0 },
    };
    int rc = loami_opt_parse(argc, argv, options, "tell whether a model fits into memory, and what would");
    if (rc) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (f.kv_type && strcmp(f.kv_type, "f16") != 0 && strcmp(f.kv_type, "int8") != 0) {
        fprintf(stderr, "loam fit: --kv-type %s: must be f16 or int8\n", f.kv_type);
        return LOAMI_EXIT_USAGE;
    }
    rc = take_place(&f);
    if (rc) return rc;
    if (!f.parallel) f.parallel = f.model ? PARALLEL : 1;
    if (f.model) return one_model(&f);
    if (!f.context) f.context = CONTEXT;
    return table(&f);
}
