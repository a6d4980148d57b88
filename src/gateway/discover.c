/* Which models a backend has, and from their owner's name which program it is. */
#include "gateway/gw.h"

#include "base/clock.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

static void forget(loami_backend *b)
{
    for (uint32_t i = 0; i < b->n_models; i++) free(b->models[i]);
    free(b->models);
    b->models = NULL;
    b->n_models = 0;
}

static void take(loami_backend *b, const json_t *list)
{
    size_t n = json_array_size(list);
    if (n > LOAMI_GW_MODELS) n = LOAMI_GW_MODELS;
    forget(b);
    b->models = calloc(n ? n : 1, sizeof *b->models);
    for (size_t i = 0; b->models && i < n; i++) {
        const char *id = json_string_value(json_object_get(json_array_get(list, i), "id"));
        if (id && strlen(id) < 512 && (b->models[b->n_models] = strdup(id))) b->n_models++;
    }
}

void loami_discover(loami_backend *b, const char *text, size_t n)
{
    json_t *v = NULL;
    b->models_s = loami_now_s();
    if (text && loami_json_parse(&v, text, n, "", NULL) == 0) {
        const json_t *list = json_object_get(v, "data");
        const char *owner = json_string_value(json_object_get(json_array_get(list, 0), "owned_by"));
        if (json_is_array(list)) take(b, list);
        if (!b->conf->kind) b->kind = loami_kind_of_owner(owner ? owner : "");
    } else if (!b->kind) {
        b->kind = loami_kind_find("openai");
    }
    json_decref(v);
}
