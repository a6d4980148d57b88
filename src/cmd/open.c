#include "cmd/open.h"
#include "base/err.h"
#include "base/file.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int loami_cmd_find(char *path, const char *command, const char *model)
{
    loam_err err;
    if (!model) {
        fprintf(stderr, "loam %s: --model is missing (see loam ls for those you have)\n", command);
        return LOAMI_EXIT_USAGE;
    }
    return loami_store_find(path, model, &err) < 0 ? loami_cmd_fail(command, &err) : 0;
}

int loami_cmd_open(loam_engine **out, const char *command, const loami_model_opts *o)
{
    char path[LOAMI_PATH_MAX];
    loam_err err;
    loam_options options = o->engine;
    int rc = loami_cmd_find(path, command, o->model);
    if (rc != 0) return rc;
    if (!options.substrate) options.substrate = getenv("LOAM_SUBSTRATE");
    options.model = path;
    options.name = o->model;
    return loam_engine_open(out, &options, &err) < 0 ? loami_cmd_fail(command, &err) : 0;
}

int loami_cmd_chat_prompt(const loam_engine *e, const json_t *messages, int32_t **ids, loam_err *err)
{
    const loam_text *text = loam_engine_text(e);
    if (!text) return loami_fail(err, LOAM_E_NOT_FOUND, "%s has no tokenizer.json", loam_engine_info(e)->path);
    json_t *vars = json_pack("{sO sb}", "messages", messages, "add_generation_prompt", 1);
    char *json = vars ? json_dumps(vars, JSON_COMPACT) : NULL, *prompt = NULL;
    int rc = json ? loam_chat_render(text, json, &prompt, err) : loami_fail_nomem(err);
    if (rc >= 0) rc = loam_encode(text, prompt, strlen(prompt), LOAM_NO_SPECIAL, ids, err);
    free(prompt);
    free(json);
    json_decref(vars);
    return rc;
}

int loami_cmd_print_json(json_t *o)
{
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (!text) {
        fprintf(stderr, "loam: out of memory\n");
        return LOAMI_EXIT_FAIL;
    }
    puts(text);
    free(text);
    return LOAMI_EXIT_OK;
}

const char *loami_cmd_finish_name(loam_finish f)
{
    static const char *const names[] = { "none", "stop", "length", "cancelled", "error" };
    return names[f];
}
