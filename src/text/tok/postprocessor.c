#include "text/tok/tok.h"

#include <stdlib.h>
#include <string.h>

/* Only what they do to the ids of one text is of interest here: offsets and pairs of texts are not. */

enum { MAX_ITEMS = 4096 };  /* of a template: it is applied to every prompt */

typedef struct builder {
    loami_template *t;
    bool adds;              /* a component with special tokens has been seen */
} builder;

typedef struct type {
    const char *name;
    int (*parse)(builder *b, const json_t *json, loam_err *err);
} type;

static int put(loami_template *t, int32_t id, loam_err *err)
{
    if (t->items.len == MAX_ITEMS)
        return loami_fail(err, LOAM_E_FORMAT, "a template of more than %d items", MAX_ITEMS);
    if (id == LOAMI_NO_ID && t->plain.len)
        return loami_fail(err, LOAM_E_UNSUPPORTED, "a template that has the text twice is not supported");
    if (!loami_ids_put(&t->items, id)) return loami_fail_nomem(err);
    return id != LOAMI_NO_ID || loami_ids_put(&t->plain, id) ? 0 : loami_fail_nomem(err);
}

static int id_of(const json_t *v, const char *what, int32_t *id, loam_err *err)
{
    json_int_t i = json_is_integer(v) ? json_integer_value(v) : -1;
    if (i < 0 || i > INT32_MAX)
        return loami_fail(err, LOAM_E_FORMAT, "%s: a token's id must be from 0 to 2147483647", what);
    *id = (int32_t)i;
    return 0;
}

static int parse_nothing(builder *b, const json_t *json, loam_err *err)
{
    (void)b, (void)json, (void)err;
    return 0;
}

/* BertProcessing and RobertaProcessing: "cls" and "sep" are [token, id]. */
static int parse_cls_sep(builder *b, const json_t *json, loam_err *err)
{
    int32_t cls = 0, sep = 0;
    b->t->items.len = b->t->plain.len = 0;
    int rc = id_of(json_array_get(json_object_get(json, "cls"), 1), "post_processor: \"cls\"", &cls, err);
    if (rc == 0)
        rc = id_of(json_array_get(json_object_get(json, "sep"), 1), "post_processor: \"sep\"", &sep, err);
    if (rc == 0) rc = put(b->t, cls, err);
    if (rc == 0) rc = put(b->t, LOAMI_NO_ID, err);
    return rc < 0 ? rc : put(b->t, sep, err);
}

static int put_special(builder *b, const json_t *json, const json_t *piece, loam_err *err)
{
    loami_str name;
    int rc = loami_string_field(piece, "TemplateProcessing", "id", &name, err);
    if (rc < 0) return rc;
    const json_t *token = json_object_get(json_object_get(json, "special_tokens"), name.s),
                 *ids = json_object_get(token, "ids");
    if (!json_is_array(ids))
        return loami_fail(err, LOAM_E_FORMAT, "TemplateProcessing: special token \"%.60s\" has no ids",
                          name.s);
    for (size_t i = 0; rc == 0 && i < json_array_size(ids); i++) {
        int32_t id = 0;
        rc = id_of(json_array_get(ids, i), "TemplateProcessing", &id, err);
        if (rc == 0) rc = put(b->t, id, err);
    }
    return rc;
}

static int parse_template(builder *b, const json_t *json, loam_err *err)
{
    const json_t *single = json_object_get(json, "single");
    int rc = 0;
    b->t->items.len = b->t->plain.len = 0;
    if (!json_is_array(single))
        return loami_fail(err, LOAM_E_FORMAT, "TemplateProcessing: \"single\" must be an array");
    for (size_t i = 0; rc == 0 && i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i), *special = json_object_get(piece, "SpecialToken");
        const json_t *text = json_object_get(piece, "Sequence"), *which = json_object_get(text, "id");
        if (special) rc = put_special(b, json, special, err);
        else if (json_is_string(which) && strcmp(json_string_value(which), "A") == 0)
            rc = put(b->t, LOAMI_NO_ID, err);
        else
            rc = loami_fail(err, LOAM_E_FORMAT,
                            "TemplateProcessing: \"single\" may have SpecialToken and Sequence A only");
    }
    return rc;
}

static const type types[] = {
    { "ByteLevel", parse_nothing },
    { "TemplateProcessing", parse_template },
    { "BertProcessing", parse_cls_sep },
    { "RobertaProcessing", parse_cls_sep },
};

static int add(void *arg, const json_t *json, const char *name, loam_err *err)
{
    builder *b = arg;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(name, types[i].name) != 0) continue;
        bool adds = types[i].parse != parse_nothing;
        if (adds && b->adds)
            return loami_fail(err, LOAM_E_UNSUPPORTED,
                              "post_processor: a Sequence where both of two add tokens is not supported");
        b->adds |= adds;
        return types[i].parse(b, json, err);
    }
    return loami_fail(err, LOAM_E_UNSUPPORTED, "post_processor \"%.60s\" is not supported", name);
}

int loami_template_parse(loami_template *out, const json_t *json, const char *what, loam_err *err)
{
    builder b = { out, false };
    int rc = put(out, LOAMI_NO_ID, err);
    if (rc == 0) rc = loami_components(json, "processors", "post_processor", add, &b, err);
    return rc < 0 ? loami_fail_in(err, "%s", what) : 0;
}

void loami_template_free(loami_template *t)
{
    free(t->items.data);
    free(t->plain.data);
    *t = (loami_template){ 0 };
}
