/* text/format.h: what a model's answer is made of: text, reasoning, and calls of tools.
 *
 * Each family writes them with markers of its own. Which markers those are is told by its chat template, because that
 * has to write the same when a past answer is part of a prompt. A parser takes the answer's text in pieces of any
 * size and gives events; how the text was cut makes no difference but to the sizes of the deltas.
 *
 * Markers are held back until they are complete or can't be any more. White space around them belongs to them: it
 * is left out of content and reasoning. What looks like a call and turns out to be none before its name and the
 * start of its arguments are known comes out as content, as it was written. Arguments are passed on as they come;
 * when the text breaks off within them, so do they. */
#ifndef LOAMI_FORMAT_H
#define LOAMI_FORMAT_H

#include "base/json.h"

typedef struct loami_format_calls loami_format_calls; /* format/parser.h */

/* What a template implies. Plain data that points to constants. */
typedef struct loami_format {
    const char *name;              /* of the way tools are called: "hermes", "mistral", ...; "none" */
    const loami_format_calls *calls;
    const char *think, *end_think; /* "<think>", "</think>"; NULL: the model does not reason aloud */
    bool keep_special;             /* markers are special tokens: decode with them (loam_request.keep_special) */
} loami_format;

/* From n bytes of a chat template. Never fails: what is not known is "none". */
loami_format loami_format_detect(const char *chat_template, size_t n);

typedef enum loami_event_kind {
    LOAMI_CONTENT,                 /* text for the user */
    LOAMI_REASONING,               /* text that led to it */
    LOAMI_CALL,                    /* a call begins: text is the tool's name */
    LOAMI_ARGUMENTS,               /* a part of its arguments, which are a JSON object as text */
    LOAMI_CALL_END,
} loami_event_kind;

typedef struct loami_event {
    loami_event_kind kind;
    uint32_t call;                 /* number of the call, from 0 */
    const char *text;              /* [n], not NUL-terminated, valid during the call of emit */
    size_t n;
    const char *id;                /* of LOAMI_CALL or LOAMI_CALL_END, where the family writes one: NUL-terminated, or NULL */
} loami_event;

typedef void loami_emit(void *arg, const loami_event *e);

typedef struct loami_format_parser loami_format_parser;

/* prompt: the rendered prompt, whose end may have begun the reasoning or a header; may be NULL. tools: the request's
 * tools, which tell the types of arguments; NULL: nothing is taken for a call. emit is called from put and end. */
int loami_format_open(loami_format_parser **out, const loami_format *f, const char *prompt,
                      const json_t *tools,
                      loami_emit *emit, void *arg, loam_err *err);

/* The next n bytes of the answer: UTF-8, cut anywhere between characters. Fails only for want of memory. */
int loami_format_put(loami_format_parser *p, const char *text, size_t n, loam_err *err);

/* The answer is over: what was held back comes out. */
int loami_format_end(loami_format_parser *p, loam_err *err);

void loami_format_close(loami_format_parser *p);

#endif
