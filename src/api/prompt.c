#include "api/prompt.h"

#include "api/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one message -------------------------------------------------------------------------------------- */

static int no_memory(loami_fault *f)
{
    return loami_fault_set(f, 503, "out_of_memory", "", "Out of memory.");
}

static void path_at(char *out, const char *parent, size_t i, const char *field)
{
    snprintf(out, 128, "%.80s[%zu]%s%.40s", parent, i, field[0] ? "." : "", field);
}

/* The text of one part of a content array, appended. */
static int read_part(loami_buf *text, const json_t *part, const char *where, loami_fault *f)
{
    const char *type = NULL;
    const json_t *words = NULL;
    char path[128];
    if (json_is_object(part)) {
        type = json_string_value(json_object_get(part, "type"));
        words = json_object_get(part, "text");
    }
    loami_field_path(path, where, "type");
    if (!type) return loami_field_wrong(f, path, "a string such as \"text\"");
    if (strncmp(type, "image", 5) == 0 || strcmp(type, "input_image") == 0)
        return loami_fault_set(f, 400, "unsupported_parameter", path,
                               "'%s' is \"%.40s\": this model reads text, not images.", path, type);
    if (strcmp(type, "text") != 0)
        return loami_fault_set(f, 400, "unsupported_parameter", path,
                               "'%s' is \"%.40s\": only \"text\" is supported.", path, type);
    loami_field_path(path, where, "text");
    if (!json_is_string(words)) return loami_field_wrong(f, path, "a string");
    if (text->len) loami_buf_putc(text, '\n');
    loami_buf_put(text, json_string_value(words), json_string_length(words));
    return 0;
}

/* Content as a string: itself, or the parts of an array one a line. */
static json_t *read_content(const json_t *v, const char *where, loami_fault *f)
{
    loami_buf text = { 0 };
    size_t i;
    json_t *part, *out = NULL;
    char path[128];
    if (json_is_string(v)) return json_incref((json_t *)v);
    if (!json_is_array(v)) {
        loami_field_wrong(f, where, "a string or an array of parts");
        return NULL;
    }
    json_array_foreach(v, i, part)
    {
        path_at(path, where, i, "");
        if (read_part(&text, part, path, f) < 0) goto out;
    }
    out = text.failed ? NULL : json_stringn(text.data ? text.data : "", text.len);
    if (!out) no_memory(f);
out:
    loami_buf_free(&text);
    return out;
}

typedef struct call {
    const char *id, *type, *name;
    const json_t *function, *arguments;
} call;

static int read_any(void *to, const json_t *v, const char *where, loami_fault *f)
{
    (void)where, (void)f;
    *(const json_t **)to = v;
    return 0;
}

static const loami_field call_fields[] = {
    LOAMI_FIELD(STRING, "id", call, id),
    { .name = "type", .kind = LOAMI_F_CHOICE, .at = offsetof(call, type), .words = "function" },
    { .name = "function", .kind = LOAMI_F_OBJECT, .at = offsetof(call, function), .required = true },
    { 0 },
};

static const loami_field called_fields[] = {
    { .name = "name", .kind = LOAMI_F_STRING, .at = offsetof(call, name), .required = true },
    LOAMI_READ_AT("arguments", offsetof(call, arguments), read_any),
    { 0 },
};

/* One of an assistant's calls, its arguments parsed: OpenAI sends them as a string, templates want the
 * object. */
static json_t *read_call(const json_t *v, const char *where, loami_fault *f)
{
    call c = { 0 };
    char path[128];
    if (!json_is_object(v)) {
        loami_field_wrong(f, where, "an object");
        return NULL;
    }
    loami_field_path(path, where, "function");
    if (loami_fields_read(call_fields, v, where, true, &c, f) < 0 ||
        loami_fields_read(called_fields, c.function, path, true, &c, f) < 0)
        return NULL;
    const json_t *arguments = c.arguments, *function = c.function;
    json_t *parsed = NULL, *copy = NULL, *inner = NULL;
    if (json_is_string(arguments)) {
        const char *text = json_string_value(arguments);
        parsed = text[0] ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : json_object();
    } else if (!arguments || json_is_object(arguments)) {
        parsed = arguments ? json_incref((json_t *)arguments) : json_object();
    }
    if (!json_is_object(parsed)) {
        loami_field_path(path, where, "function.arguments");
        loami_field_wrong(f, path, "the text of a JSON object");
        json_decref(parsed);
        return NULL;
    }
    copy = json_copy((json_t *)v);
    inner = json_copy((json_t *)function);
    if (!copy || !inner || json_object_set(inner, "arguments", parsed) < 0 ||
        json_object_set(copy, "function", inner) < 0) {
        json_decref(copy);
        copy = NULL;
        no_memory(f);
    }
    json_decref(inner);
    json_decref(parsed);
    return copy;
}

static json_t *read_calls(const json_t *calls, const char *where, loami_fault *f)
{
    size_t i;
    json_t *call, *out = json_array();
    char path[128];
    json_array_foreach(calls, i, call)
    {
        path_at(path, where, i, "");
        json_t *one = read_call(call, path, f);
        if (!one || json_array_append_new(out, one) < 0) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}

typedef struct message {
    const char *role;
    const json_t *content, *tool_calls;
    const char *name, *tool_call_id, *reasoning_content, *reasoning;
} message;

#define ROLES "system|developer|user|assistant|tool"

/* Clients send back what they got, so the fields of an answer's message are taken here too. */
static const loami_field message_fields[] = {
    { .name = "role",
      .kind = LOAMI_F_CHOICE,
      .at = offsetof(message, role),
      .words = ROLES,
      .required = true },
    LOAMI_READ_AT("content", offsetof(message, content), read_any),
    LOAMI_FIELD(STRING, "name", message, name),
    LOAMI_FIELD(STRING, "tool_call_id", message, tool_call_id),
    LOAMI_FIELD(ARRAY, "tool_calls", message, tool_calls),
    LOAMI_FIELD(STRING, "reasoning_content", message, reasoning_content),
    LOAMI_FIELD(STRING, "reasoning", message, reasoning),
    LOAMI_HINT("refusal", STRING),
    LOAMI_HINT("annotations", ARRAY),
    LOAMI_REFUSE("audio", "this model reads text"),
    LOAMI_REFUSE("function_call", "use tool_calls"),
    { 0 },
};

static json_t *read_message(const json_t *v, const char *where, loami_fault *f)
{
    message m = { 0 };
    char path[128];
    json_t *out = NULL, *content = NULL, *calls = NULL;

    if (!json_is_object(v)) {
        loami_field_wrong(f, where, "an object");
        return NULL;
    }
    if (loami_fields_read(message_fields, v, where, false, &m, f) < 0) return NULL;
    bool may_be_empty = strcmp(m.role, "assistant") == 0;
    loami_field_path(path, where, "content");
    if (!m.content && !may_be_empty) {
        loami_fault_set(f, 400, "missing_required_parameter", path, "Missing required parameter: '%s'.",
                        path);
        return NULL;
    }
    content = m.content ? read_content(m.content, path, f) : json_string("");
    if (!content) return NULL;
    if (m.tool_calls && json_array_size(m.tool_calls)) {
        loami_field_path(path, where, "tool_calls");
        calls = read_calls(m.tool_calls, path, f);
        if (!calls) goto out;
    }
    out = json_object();
    const char *role = strcmp(m.role, "developer") == 0 ? "system" : m.role;
    const char *reasoning = m.reasoning_content ? m.reasoning_content : m.reasoning;
    bool ok = out && json_object_set_new(out, "role", json_string(role)) == 0 &&
              json_object_set(out, "content", content) == 0;
    if (ok && m.name) ok = json_object_set_new(out, "name", json_string(m.name)) == 0;
    if (ok && m.tool_call_id) ok = json_object_set_new(out, "tool_call_id", json_string(m.tool_call_id)) == 0;
    if (ok && reasoning) ok = json_object_set_new(out, "reasoning_content", json_string(reasoning)) == 0;
    if (ok && calls) ok = json_object_set(out, "tool_calls", calls) == 0;
    if (!ok) {
        json_decref(out);
        out = NULL;
        no_memory(f);
    }
out:
    json_decref(content);
    json_decref(calls);
    return out;
}

json_t *loami_prompt_messages(const json_t *messages, loami_fault *f)
{
    size_t i;
    json_t *one, *out = json_array();
    char path[128];
    if (!messages) {
        loami_fault_set(f, 400, "missing_required_parameter", "messages",
                        "Missing required parameter: 'messages'.");
        goto fail;
    }
    if (json_array_size(messages) == 0 || json_array_size(messages) > LOAMI_MAX_MESSAGES) {
        loami_field_wrong(f, "messages", "an array of 1 to 4096 messages");
        goto fail;
    }
    json_array_foreach(messages, i, one)
    {
        path_at(path, "messages", i, "");
        json_t *m = read_message(one, path, f);
        if (!m || json_array_append_new(out, m) < 0) goto fail;
    }
    return out;
fail:
    json_decref(out);
    return NULL;
}

/* ---- tools -------------------------------------------------------------------------------------------- */

typedef struct tool {
    const char *type, *name;
    const json_t *function, *parameters;
} tool;

static const loami_field tool_fields[] = {
    { .name = "type",
      .kind = LOAMI_F_CHOICE,
      .at = offsetof(tool, type),
      .words = "function",
      .required = true },
    { .name = "function", .kind = LOAMI_F_OBJECT, .at = offsetof(tool, function), .required = true },
    { 0 },
};

static const loami_field function_fields[] = {
    { .name = "name", .kind = LOAMI_F_STRING, .at = offsetof(tool, name), .required = true },
    LOAMI_FIELD(OBJECT, "parameters", tool, parameters),
    LOAMI_HINT("description", STRING),
    LOAMI_HINT("strict", TRUE),
    { 0 },
};

/* The template gets them as they are: fields that nobody knows may be meant for it. */
static int check_tools(const json_t *tools, loami_fault *f)
{
    size_t i;
    json_t *one;
    char path[128];
    if (json_array_size(tools) > LOAMI_MAX_TOOLS)
        return loami_field_wrong(f, "tools", "an array of at most 256 tools");
    json_array_foreach(tools, i, one)
    {
        tool t = { 0 };
        path_at(path, "tools", i, "");
        if (!json_is_object(one)) return loami_field_wrong(f, path, "an object");
        if (loami_fields_read(tool_fields, one, path, true, &t, f) < 0) return -1;
        path_at(path, "tools", i, "function");
        if (loami_fields_read(function_fields, t.function, path, true, &t, f) < 0) return -1;
    }
    return 0;
}

typedef struct choice {
    const char *type, *name;
    const json_t *function;
} choice;

static const loami_field choice_fields[] = {
    { .name = "type", .kind = LOAMI_F_CHOICE, .at = offsetof(choice, type), .words = "function", .required = true },
    { .name = "function", .kind = LOAMI_F_OBJECT, .at = offsetof(choice, function), .required = true },
    { 0 },
};

static const loami_field chosen_fields[] = {
    { .name = "name", .kind = LOAMI_F_STRING, .at = offsetof(choice, name), .required = true },
    { 0 },
};

int loami_read_tool_choice(void *dialogue, const json_t *v, const char *where, loami_fault *f)
{
    static const char *const words[] = { "none", "auto", "required" };
    loami_dialogue *d = dialogue;
    const char *s = json_string_value(v);
    choice c = { 0 };
    char path[128];
    for (size_t i = 0; s && i < 3; i++)
        if (strcmp(s, words[i]) == 0) {
            d->tool_choice = words[i];
            return 0;
        }
    if (!json_is_object(v)) return loami_field_wrong(f, where, "\"none\", \"auto\", \"required\" or a tool: {\"type\": \"function\", \"function\": {\"name\": ...}}");
    if (loami_fields_read(choice_fields, v, where, false, &c, f) < 0) return -1;
    loami_field_path(path, where, "function");
    if (loami_fields_read(chosen_fields, c.function, path, false, &c, f) < 0) return -1;
    d->tool_choice = "named";
    d->tool = c.name;
    return 0;
}

int loami_read_not(void *to, const json_t *v, const char *where, loami_fault *f)
{
    if (!json_is_boolean(v)) return loami_field_wrong(f, where, "true or false");
    *(bool *)to = json_is_false(v);
    return 0;
}

/* ---- the prompt --------------------------------------------------------------------------------------- */

/* Templates close the last message like any other; to continue it, the prompt is cut after its text. */
static int cut_after_last(char *prompt, const json_t *messages, loami_fault *f)
{
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const char *content = json_string_value(json_object_get(last, "content"));
    size_t n = strlen(content);
    char *at = NULL;
    while (n && strchr(" \t\r\n", content[n - 1])) n--; /* many templates trim it */
    char *key = strndup(content, n);
    if (!key) return no_memory(f);
    for (char *p = n ? strstr(prompt, key) : NULL; p; p = strstr(p + 1, key)) at = p;
    free(key);
    if (!at)
        return loami_fault_set(f, 400, "invalid_value", "continue_final_message",
                               "The last message has no text that could be continued.");
    if (strncmp(at, content, strlen(content)) == 0) n = strlen(content);
    at[n] = 0;
    return 0;
}

int loami_prompt_echo(char **echo, const loami_dialogue *d, loami_fault *f)
{
    const json_t *last = json_array_get(d->messages, json_array_size(d->messages) - 1);
    const char *role = json_string_value(json_object_get(last, "role"));
    const json_t *content = json_object_get(last, "content");
    if (!role || strcmp(role, "assistant") != 0 || !content || json_is_null(content)) return 0;
    json_t *text = read_content(content, "messages", f);
    if (!text) return -1;
    *echo = strdup(json_string_value(text));
    json_decref(text);
    return *echo ? 0 : no_memory(f);
}

bool loami_dialogue_has_tools(const loami_dialogue *d)
{
    return d->tools && json_array_size(d->tools) && !(d->tool_choice && strcmp(d->tool_choice, "none") == 0);
}

static json_t *variables(const loami_dialogue *d, json_t *messages)
{
    bool generate = !d->no_generation_prompt && !d->continue_final;
    json_t *vars = d->kwargs ? json_copy((json_t *)d->kwargs) : json_object();
    bool ok = vars && json_object_set(vars, "messages", messages) == 0 &&
              json_object_set_new(vars, "add_generation_prompt", json_boolean(generate)) == 0;
    if (ok && loami_dialogue_has_tools(d)) ok = json_object_set(vars, "tools", (json_t *)d->tools) == 0;
    if (ok && d->reasoning_effort)
        ok = json_object_set_new(vars, "reasoning_effort", json_string(d->reasoning_effort)) == 0;
    if (ok) return vars;
    json_decref(vars);
    return NULL;
}

int loami_prompt_render(char **prompt, const loam_text *text, const loami_dialogue *d, loami_fault *f)
{
    loam_err err;
    char *vars_text = NULL, *out = NULL;
    int rc = -1;
    json_t *vars = NULL, *messages = loami_prompt_messages(d->messages, f);

    if (!messages) return -1;
    if (d->tools && check_tools(d->tools, f) < 0) goto out;
    vars = variables(d, messages);
    vars_text = vars ? loami_json_text(vars) : NULL;
    if (!vars_text) {
        no_memory(f);
        goto out;
    }
    if (loam_chat_render(text, vars_text, &out, &err) < 0) {
        loami_fault_from(f, &err, "messages");
        goto out;
    }
    if (d->continue_final && cut_after_last(out, messages, f) < 0) goto out;
    *prompt = out;
    out = NULL;
    rc = 0;
out:
    free(out);
    free(vars_text);
    json_decref(vars);
    json_decref(messages);
    return rc;
}
