#include "cmd/cmd.h"

#include "cmd/work.h"
#include "store/import.h"
#include "store/store.h"

#include <stdio.h>
#include <string.h>

/* "dir/Name.Q4_K_M.gguf" -> "Name.Q4_K_M" */
static void name_of_file(const char *file, char out[256])
{
    const char *base = strrchr(file, '/');
    snprintf(out, 256, "%s", base ? base + 1 : file);
    size_t n = strlen(out);
    if (n > 5 && strcmp(out + n - 5, ".gguf") == 0) out[n - 5] = 0;
}

struct all_arg {
    loami_import_options *o;
    unsigned done, failed;
};

static int import_one(void *arg, const char *name)
{
    struct all_arg *a = arg;
    char path[LOAMI_PATH_MAX], own[256];
    loam_err err;
    loami_ollama_store_name(name, own, sizeof own);
    a->o->name = own;
    if (!a->o->force && loami_store_path(path, own, NULL) == 0 && loami_dir_exists(path)) {
        printf("%s: is in the store already\n", own);
        return 0;
    }
    printf("%s\n", own);
    int rc = loami_import_ollama(name, a->o, &err);
    loami_work_end();
    if (rc == 0)
        a->done++;
    else
        a->failed++, loami_cmd_fail("import", &err);
    return rc == LOAM_E_CANCELLED ? rc : 0;
}

static int import_all(loami_import_options *o)
{
    struct all_arg a = { .o = o };
    loam_err err;
    if (loami_ollama_each(import_one, &a, &err) < 0)
        return a.failed ? LOAMI_EXIT_FAIL : loami_cmd_fail("import", &err);
    printf("%u imported, %u failed\n", a.done, a.failed);
    return a.failed ? LOAMI_EXIT_FAIL : LOAMI_EXIT_OK;
}

int loami_cmd_import(int argc, char **argv)
{
    static const char scheme[] = "ollama:";
    const char *from = NULL, *name = NULL;
    bool force = false, exact = false, all = false;
    const loami_opt table[] = {
        { NULL, 0, "FILE.gguf|ollama:NAME[:TAG]", "what to import", LOAMI_OPT_STRING, &from, NULL, 0, 0 },
        { "--name", 'n', "NAME", "what to call it (default: the file's name, Ollama's name)",
          LOAMI_OPT_STRING, &name, NULL, 0, 0 },
        { "--force", 'f', NULL, "replace a model of that name", LOAMI_OPT_FLAG, &force, NULL, 0, 0 },
        { "--exact", 0, NULL, "float32 scales for types whose scales do not fit float16: larger, no error",
          LOAMI_OPT_FLAG, &exact, NULL, 0, 0 },
        { "--all-from-ollama", 0, NULL, "all models of Ollama's store (OLLAMA_MODELS)", LOAMI_OPT_FLAG, &all,
          NULL, 0, 0 },
        { 0 },
    };
    char own[256];
    loam_err err;
    int rc = loami_opt_parse(argc, argv, table,
                             "turn a GGUF file or an Ollama model into a model folder in MLX format");
    if (rc) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (all == (from != NULL) || (all && name)) {
        fprintf(
            stderr,
            "loam import: give a FILE.gguf, an ollama:NAME, or --all-from-ollama (see loam import --help)\n");
        return LOAMI_EXIT_USAGE;
    }
    loami_import_options o = { .force = force,
                               .float_scales = exact,
                               .progress = loami_work_begin("importing") };
    if (all) return import_all(&o);

    bool ollama = strncmp(from, scheme, strlen(scheme)) == 0;
    if (ollama)
        loami_ollama_store_name(from + strlen(scheme), own, sizeof own);
    else
        name_of_file(from, own);
    o.name = name ? name : own;
    rc = ollama ? loami_import_ollama(from + strlen(scheme), &o, &err) : loami_import_gguf(from, &o, &err);
    loami_work_end();
    return rc < 0 ? loami_cmd_fail("import", &err) : LOAMI_EXIT_OK;
}
