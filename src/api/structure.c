#include "api/structure.h"

#include <stdlib.h>
#include <string.h>

static int put(loami_structure *s, loam_grammar_kind kind, const json_t *source, const char *field,
               loami_fault *f)
{
    if (s->kind)
        return loami_fault_set(f, 400, "invalid_value", field,
                               "'%s' and '%s' contradict each other: an answer has one form.", s->field,
                               field);
    *s = (loami_structure){ kind, source, field };
    return 0;
}

/* A schema may come as a string that holds one: put then keeps the string. */
static int put_schema(loami_structure *s, const json_t *v, const char *where, const char *field,
                      loami_fault *f)
{
    if (!json_is_object(v) && !json_is_boolean(v) && !json_is_string(v))
        return loami_field_wrong(f, where, "a JSON Schema");
    return put(s, LOAM_GRAMMAR_JSON_SCHEMA, v, field, f);
}

static int put_text(loami_structure *s, loam_grammar_kind kind, const json_t *v, const char *where,
                    const char *field, loami_fault *f)
{
    if (!json_is_string(v) || json_string_length(v) == 0)
        return loami_field_wrong(f, where, "a string that is not empty");
    return put(s, kind, v, field, f);
}

static int put_choice(loami_structure *s, const json_t *v, const char *where, const char *field,
                      loami_fault *f)
{
    size_t i;
    json_t *one;
    bool ok = json_is_array(v) && json_array_size(v) > 0;
    json_array_foreach(v, i, one) ok &= json_is_string(one) && json_string_length(one) > 0;
    if (!ok) return loami_field_wrong(f, where, "an array of strings that are not empty");
    return put(s, LOAM_GRAMMAR_CHOICE, v, field, f);
}

/* ---- OpenAI's ---- */

typedef struct json_schema {
    const char *name, *description;
    const json_t *schema;
    bool strict;
} json_schema;

static int read_any(void *to, const json_t *v, const char *where, loami_fault *f)
{
    (void)where, (void)f;
    *(const json_t **)to = v;
    return 0;
}

static const loami_field schema_fields[] = {
    { .name = "name", .kind = LOAMI_F_STRING, .at = offsetof(json_schema, name), .required = true },
    LOAMI_FIELD(STRING, "description", json_schema, description),
    { .name = "schema",
      .kind = LOAMI_F_CUSTOM,
      .at = offsetof(json_schema, schema),
      .read = read_any,
      .required = true },
    LOAMI_FIELD(BOOL, "strict", json_schema, strict), /* it is, either way */
    { 0 },
};

typedef struct format {
    const char *type;
    const json_t *json_schema;
} format;

static const loami_field format_fields[] = {
    { .name = "type",
      .kind = LOAMI_F_CHOICE,
      .at = offsetof(format, type),
      .words = "text|json_object|json_schema",
      .required = true },
    LOAMI_FIELD(OBJECT, "json_schema", format, json_schema),
    { 0 },
};

int loami_read_response_format(void *structure, const json_t *v, const char *where, loami_fault *f)
{
    format q = { 0 };
    json_schema s = { 0 };
    char path[128];
    if (!json_is_object(v)) return loami_field_wrong(f, where, "an object");
    if (loami_fields_read(format_fields, v, where, false, &q, f) < 0) return -1;
    if (strcmp(q.type, "text") == 0) return 0;
    if (strcmp(q.type, "json_object") == 0)
        return put(structure, LOAM_GRAMMAR_JSON_OBJECT, NULL, "response_format", f);
    loami_field_path(path, where, "json_schema");
    if (!q.json_schema)
        return loami_fault_set(f, 400, "missing_required_parameter", path,
                               "Missing required parameter: '%s'.", path);
    if (loami_fields_read(schema_fields, q.json_schema, path, false, &s, f) < 0) return -1;
    return put_schema(structure, s.schema, "response_format.json_schema.schema", "response_format", f);
}

/* ---- vLLM's ---- */

int loami_read_guided_json(void *structure, const json_t *v, const char *where, loami_fault *f)
{
    return put_schema(structure, v, where, "guided_json", f);
}

int loami_read_guided_regex(void *structure, const json_t *v, const char *where, loami_fault *f)
{
    return put_text(structure, LOAM_GRAMMAR_REGEX, v, where, "guided_regex", f);
}

int loami_read_guided_choice(void *structure, const json_t *v, const char *where, loami_fault *f)
{
    return put_choice(structure, v, where, "guided_choice", f);
}

int loami_read_guided_grammar(void *structure, const json_t *v, const char *where, loami_fault *f)
{
    return put_text(structure, LOAM_GRAMMAR_EBNF, v, where, "guided_grammar", f);
}

static int read_json(void *structure, const json_t *v, const char *where, loami_fault *f)
{
    return put_schema(structure, v, where, "structured_outputs", f);
}

static int read_regex(void *structure, const json_t *v, const char *where, loami_fault *f)
{
    return put_text(structure, LOAM_GRAMMAR_REGEX, v, where, "structured_outputs", f);
}

static int read_choice(void *structure, const json_t *v, const char *where, loami_fault *f)
{
    return put_choice(structure, v, where, "structured_outputs", f);
}

static int read_grammar(void *structure, const json_t *v, const char *where, loami_fault *f)
{
    return put_text(structure, LOAM_GRAMMAR_EBNF, v, where, "structured_outputs", f);
}

static int read_json_object(void *structure, const json_t *v, const char *where, loami_fault *f)
{
    if (!json_is_boolean(v)) return loami_field_wrong(f, where, "true or false");
    return json_is_true(v) ? put(structure, LOAM_GRAMMAR_JSON_OBJECT, NULL, "structured_outputs", f) : 0;
}

static const loami_field outputs_fields[] = {
    LOAMI_READ("json", read_json),
    LOAMI_READ("regex", read_regex),
    LOAMI_READ("choice", read_choice),
    LOAMI_READ("grammar", read_grammar),
    LOAMI_READ("json_object", read_json_object),
    LOAMI_REFUSE("whitespace_pattern", "white space is a blank, or line ends and indentation"),
    LOAMI_REFUSE("structural_tag", "use tools, or a grammar"),
    LOAMI_REFUSE_TRUE("disable_any_whitespace", "white space is a blank, or line ends and indentation"),
    LOAMI_HINT("disable_fallback", TRUE),
    LOAMI_REFUSE_TRUE("disable_additional_properties", "say additionalProperties: false"),
    { 0 },
};

int loami_read_structured_outputs(void *structure, const json_t *v, const char *where, loami_fault *f)
{
    loami_structure *s = structure;
    bool had = s->kind != 0;
    if (!json_is_object(v))
        return loami_field_wrong(f, where, "an object with one of json, regex, choice, grammar, json_object");
    if (loami_fields_read(outputs_fields, v, where, false, structure, f) < 0) return -1;
    if (!had && !s->kind)
        return loami_field_wrong(f, where, "an object with one of json, regex, choice, grammar, json_object");
    return 0;
}

/* ---- the grammar ---- */

static bool has_tool(const json_t *tools, const char *name)
{
    size_t i;
    json_t *one;
    json_array_foreach(tools, i, one) {
        const char *is = json_string_value(json_object_get(json_object_get(one, "function"), "name"));
        if (is && strcmp(is, name) == 0) return true;
    }
    return false;
}

static int check_choice(const loami_structure_calls *c, loami_fault *f)
{
    bool needs = c->choice && (strcmp(c->choice, "required") == 0 || strcmp(c->choice, "named") == 0);
    if (needs && !json_array_size(c->tools))
        return loami_fault_set(f, 400, "invalid_value", "tool_choice",
                               "'tool_choice' asks for a call, but there are no tools.");
    if (needs && c->tool && !has_tool(c->tools, c->tool))
        return loami_fault_set(f, 400, "invalid_value", "tool_choice",
                               "'tool_choice' names '%.80s', which is not among the tools.", c->tool);
    return 0;
}

int loami_structure_open(loami_run *run, const loami_structure *s, const loami_structure_calls *c,
                         loami_fault *f)
{
    loam_err err;
    loam_answer_form form = { .kind = s->kind };
    char *text = NULL;
    if (c && check_choice(c, f) < 0) return -1;
    if (c && c->choice && strcmp(c->choice, "none") != 0 && strcmp(c->choice, "auto") != 0)
        form.must_call = true;
    if (json_is_string(s->source)) {
        form.source = json_string_value(s->source);
        form.source_len = json_string_length(s->source);
    } else if (s->source) {
        if (!(text = loami_json_text(s->source)))
            return loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
        form.source = text;
        form.source_len = strlen(text);
    }
    if (c) {
        form.prompt = c->prompt;
        form.tools_json = run->tools;
        form.tool = c->tool;
        form.one_call = c->one_call || c->tool; /* who names one gets one */
    }
    int rc = 0;
    if (!c && s->kind)
        rc = loam_grammar_open(&run->grammar, run->hold.served->engine, form.kind, form.source,
                               form.source_len, &err);
    if (c && (s->kind || form.tools_json))
        rc = loam_answer_grammar(&run->grammar, run->hold.served->engine, &form, &err);
    free(text);
    if (rc < 0) return loami_fault_from(f, &err, form.must_call || !s->kind ? "tools" : s->field);
    return 0;
}
