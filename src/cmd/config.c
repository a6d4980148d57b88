#include "base/buf.h"
#include "base/json.h"
#include "cmd/open.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct showing {
    json_t *json; /* NULL: text */
} showing;

/* The option's value as the settings file would say it; false when it has none but the command's own default.
 */
static bool value_text(loami_buf *out, const loami_opt *o, uint32_t item)
{
    switch (o->kind) {
    case LOAMI_OPT_FLAG: loami_buf_puts(out, *(bool *)o->value ? "true" : "false"); return *(bool *)o->value;
    case LOAMI_OPT_STRING:
        loami_buf_puts(out, *(const char **)o->value ? *(const char **)o->value : "");
        return *(const char **)o->value;
    case LOAMI_OPT_U32: loami_buf_printf(out, "%u", *(uint32_t *)o->value); return *(uint32_t *)o->value;
    case LOAMI_OPT_U64:
        loami_buf_printf(out, "%llu", (unsigned long long)*(uint64_t *)o->value);
        return *(uint64_t *)o->value;
    case LOAMI_OPT_FLOAT:
        loami_buf_printf(out, "%g", (double)*(float *)o->value);
        return *(float *)o->value != 0;
    case LOAMI_OPT_LIST: {
        const loami_opt_list *l = o->value;
        loami_buf_puts(out, item < l->n ? l->item[item] : "");
        return item < l->n;
    }
    }
    return false;
}

/* Quotes what the settings file would read otherwise. */
static void quote(loami_buf *out, const char *s)
{
    size_t n = strlen(s);
    if (n && !strpbrk(s, "#\"\\") && s[0] != ' ' && s[n - 1] != ' ') {
        loami_buf_puts(out, s);
        return;
    }
    loami_buf_putc(out, '"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') loami_buf_putc(out, '\\');
        loami_buf_putc(out, *s);
    }
    loami_buf_putc(out, '"');
}

static void origin_text(char out[300], const loami_opt_origin *from)
{
    if (from->from == LOAMI_FROM_DEFAULT)
        snprintf(out, 300, "default");
    else if (from->from == LOAMI_FROM_FILE)
        snprintf(out, 300, "%.280s:%u", from->name, from->line);
    else
        snprintf(out, 300, "%.290s", from->name);
}

static void show_one(const showing *s, const loami_opt *o, const loami_opt_origin *from, uint32_t item)
{
    loami_buf value = { 0 }, line = { 0 };
    char where[300];
    bool said = value_text(&value, o, item);
    origin_text(where, from);
    if (s->json) {
        json_t *v = said || from->from ? json_string(value.data) : json_null();
        json_array_append_new(s->json,
                              json_pack("{s:s,s:o,s:s}", "name", o->name + 2, "value", v, "from", where));
    } else {
        if (!said && !from->from) loami_buf_puts(&line, "# ");
        loami_buf_printf(&line, "%s = ", o->name + 2);
        if (said || from->from) quote(&line, value.data);
        printf("%-44s # %s\n", line.data, where);
    }
    loami_buf_free(&value);
    loami_buf_free(&line);
}

static void show(void *arg, const loami_opt_view *v)
{
    showing *s = arg;
    if (!s->json) {
        printf("# flags come before the environment, the environment before the settings file\n");
        printf(v->settings ? "# settings file: %s\n" : "# settings file: none\n", v->settings);
        printf("[%s]\n", v->command);
    }
    for (uint32_t i = 0; v->table[i].help; i++) {
        const loami_opt *o = &v->table[i];
        if (!o->name) continue;
        uint32_t n = o->kind == LOAMI_OPT_LIST ? ((const loami_opt_list *)o->value)->n : 1;
        for (uint32_t k = 0; k < (n ? n : 1); k++) show_one(s, o, &v->origins[i], k);
    }
}

int loami_cmd_config(int argc, char **argv)
{
    bool json = false;
    const char *name = NULL;
    loami_opt_list unused = { .n = 0 };
    const loami_opt table[] = {
        { "--json", 0, NULL, "a JSON list of {name, value, from}", LOAMI_OPT_FLAG, &json, NULL, 0, 0 },
        { NULL, 0, "COMMAND", "whose settings; its own flags may follow [serve]", LOAMI_OPT_STRING, &name,
          NULL, 0, 0 },
        { NULL, 0, "FLAGS", "as the command would be given them", LOAMI_OPT_LIST, &unused, NULL, 0, 0 },
        { NULL, 0, NULL, NULL, LOAMI_OPT_FLAG, NULL, NULL, 0, 0 },
    };
    int own = 1; /* words up to the command's name are ours, what follows is the command's */
    while (own < argc && argv[own][0] == '-') own++;
    int rc = loami_opt_parse(own < argc ? own + 1 : own, argv, table,
                             "what a command's settings are, and where each comes from");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;

    if (!name) name = "serve";
    const loami_command *verb = own + 1 < argc ? loami_command_find(name, argv[own + 1]) : NULL;
    const loami_command *c = verb ? verb : loami_command_find(name, NULL);
    if (!c) {
        fprintf(stderr, "loam config: unknown command %s (see loam --help)\n", name);
        return LOAMI_EXIT_USAGE;
    }
    if (verb) own++;
    char *alone[] = { (char *)c->name, NULL };
    if (own < argc) argv[own] = (char *)c->name;
    showing s = { json ? json_array() : NULL };
    rc = own < argc ? loami_command_look(c, argc - own, argv + own, true, show, &s)
                    : loami_command_look(c, 1, alone, true, show, &s);
    if (rc == LOAMI_EXIT_OK && json) return loami_cmd_print_json(s.json);
    json_decref(s.json);
    return rc;
}
