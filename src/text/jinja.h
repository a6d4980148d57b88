/* text/jinja.h: the Jinja of chat templates.
 *
 * The language of Jinja2 with the settings of transformers' apply_chat_template: trim_blocks, lstrip_blocks, loop
 * controls, tojson, raise_exception, strftime_now. Data is JSON; there is no attribute access beyond it, no
 * import, no way out. Rendering is bounded in steps, depth and output, so that a template ends whatever it says.
 * A compiled template never changes: any thread may render it. */
#ifndef LOAMI_JINJA_H
#define LOAMI_JINJA_H

#include "base/buf.h"
#include "base/json.h"

#include <time.h>

typedef struct loami_jinja loami_jinja;

/* Compiles n bytes of template. LOAM_E_FORMAT with line number for a syntax error. */
int loami_jinja_open(loami_jinja **out, const char *text, size_t n, loam_err *err);
void loami_jinja_close(loami_jinja *j);

/* Appends the rendering with the variables of a JSON object. raise_exception in the template, and an operation
 * that Jinja2 would raise an error for, is LOAM_E_TEMPLATE; limits exceeded too. */
int loami_jinja_render(const loami_jinja *j, loami_buf *out, const json_t *vars, loam_err *err);

/* What a rendering may be given besides its variables; zeros are the defaults. */
typedef struct loami_jinja_how {
    time_t now;            /* what strftime_now prints, in local time; 0 = the time it is */
    uint64_t max_steps;    /* 0 = 50 million, some seconds at most */
    size_t max_bytes;      /* of memory; 0 = 256 MB */
} loami_jinja_how;

int loami_jinja_render_how(const loami_jinja *j, loami_buf *out, const json_t *vars,
                           const loami_jinja_how *how, loam_err *err);

#endif
