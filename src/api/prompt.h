/* api/prompt.h: from OpenAI's messages and tools to the text of a prompt, through the model's template. */
#ifndef LOAMI_PROMPT_H
#define LOAMI_PROMPT_H

#include "api/fields.h"

enum { LOAMI_MAX_MESSAGES = 4096, LOAMI_MAX_TOOLS = 256 };

/* What a template is rendered from; borrowed from the request's JSON. */
typedef struct loami_dialogue {
    const json_t *messages, *tools;
    const json_t *kwargs; /* chat_template_kwargs: more variables for the template */
    const char *reasoning_effort;
    const char *tool_choice;   /* "none": the template gets no tools; "auto", "required", "named" */
    const char *tool;          /* named so */
    bool no_generation_prompt; /* add_generation_prompt: false */
    bool continue_final;       /* the answer goes on where the last message stops */
} loami_dialogue;

/* The rows of a field table, for a struct that has a loami_dialogue at the offset base. */
#define LOAMI_DIALOGUE_FIELDS(base) \
    LOAMI_READ_AT("add_generation_prompt", (base) + offsetof(loami_dialogue, no_generation_prompt), loami_read_not), \
    LOAMI_READ_AT("tool_choice", (base), loami_read_tool_choice), \
    { .name = "messages", .kind = LOAMI_F_ARRAY, .at = (base) + offsetof(loami_dialogue, messages) }, \
    { .name = "tools", .kind = LOAMI_F_ARRAY, .at = (base) + offsetof(loami_dialogue, tools) }, \
    { .name = "chat_template_kwargs", .kind = LOAMI_F_OBJECT, .at = (base) + offsetof(loami_dialogue, kwargs) }, \
    { .name = "reasoning_effort", .kind = LOAMI_F_STRING, .at = (base) + offsetof(loami_dialogue, reasoning_effort) }, \
    { .name = "continue_final_message", .kind = LOAMI_F_BOOL, .at = (base) + offsetof(loami_dialogue, continue_final) }

int loami_read_tool_choice(void *dialogue, const json_t *v, const char *where, loami_fault *f);
/* A boolean, stored as its opposite, so that an absent one is true. */
int loami_read_not(void *to, const json_t *v, const char *where, loami_fault *f);

/* Whether the template gets tools. */
bool loami_dialogue_has_tools(const loami_dialogue *d);

/* The prompt, malloc'd. Messages are checked one by one; what is wrong is named ("messages[1].content"). Any
 * thread. */
int loami_prompt_render(char **prompt, const loam_text *text, const loami_dialogue *d, loami_fault *f);

/* What the last message says, if it is the assistant's and shall be part of the answer; otherwise *echo stays. Malloc'd. */
int loami_prompt_echo(char **echo, const loami_dialogue *d, loami_fault *f);

/* The messages as templates expect them: content as one string, arguments of tool calls as objects,
 * "developer" as "system". A new array, the caller's; NULL with f filled. */
json_t *loami_prompt_messages(const json_t *messages, loami_fault *f);

#endif
