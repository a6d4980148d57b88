/* Request bodies and the events of backends. What jansson takes, peek must take too, and find the same
 * members; an edited text must still be JSON. */
#include "base/json.h"
#include "gateway/peek.h"

#include <stdlib.h>
#include <string.h>

static void check_members(loami_span o, const json_t *want)
{
    loami_peek p = { .in = o };
    loami_span key, value;
    size_t n = 0;
    while (loami_peek_next(&p, &key, &value)) {
        json_t *v = NULL;
        if (loami_json_parse(&v, value.at, value.n, "", NULL) < 0) abort();
        json_decref(v);
        n++;
    }
    if (p.bad || n != (json_is_object(want) ? json_object_size(want) : json_array_size(want))) abort();
}

static void check_edits(const char *text, size_t n, loami_span o)
{
    loami_edits e = { .n = 0 };
    loami_buf out = { 0 };
    json_t *v = NULL;
    loami_span model = loami_peek_get(o, "model"), choices = loami_peek_get(o, "choices");
    loami_edit_member(&e, text, o, model, "\"model\":\"a\"", 3);
    if (choices.at && choices.at != model.at) loami_edit_remove(&e, text, o, choices);
    loami_edits_apply(&e, text, n, &out);
    bool whole = loami_json_parse(&v, out.data, out.len, "", NULL) == 0;
    /* Removing the first member and adding in front of it meet at one comma: only then may the text break. */
    if (!whole && !choices.at) abort();
    json_decref(v);
    loami_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    json_t *v = NULL;
    loami_span o = loami_peek_value(text, size), key, value;
    loami_peek p = { .in = o };
    while (loami_peek_next(&p, &key, &value)) free(loami_span_string(value, 100, NULL));
    if (loami_json_parse(&v, text, size, "", NULL) == 0 && (json_is_object(v) || json_is_array(v))) {
        if (!o.at) abort();
        check_members(o, v);
        if (json_is_object(v)) check_edits(text, size, o);
    }
    json_decref(v);
    return 0;
}
