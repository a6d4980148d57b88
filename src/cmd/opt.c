#include "cmd/cmd.h"
#include "cmd/settings.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { COLUMN = 30, OPTIONS = 128 };

const loami_command *loami_commands;

/* Who wants to see a table instead of having its command run. */
static struct {
    loami_opt_look *look;
    void *arg;
    bool resolve;
} viewer;

/* What options were given points into these until the program ends. */
typedef struct kept {
    struct kept *next;
    loami_settings settings;
    char *text;
} kept;
static kept *all_kept;

static kept *keep(void)
{
    kept *k = calloc(1, sizeof *k);
    if (!k) return NULL;
    k->next = all_kept;
    all_kept = k;
    return all_kept;
}

/* Names that other programs' users have in their environment already; loam's own come first. */
static const struct {
    const char *command, *option, *variable;
} aliases[] = {
    { "serve", "--model", "MLX_MODEL" },
    { "serve", "--host", "MLX_HOST" },
    { "serve", "--port", "MLX_PORT" },
    { "serve", "--max-tokens", "MLX_MAX_TOKENS" },
};

static void print_usage(const char *command, const loami_opt *table, const char *about)
{
    printf("loam %s: %s\n\nUsage: loam %s [options]", command, about, command);
    for (const loami_opt *o = table; o->help; o++)
        if (!o->name) printf(" %s", o->arg);
    printf("\n\n");
    for (const loami_opt *o = table; o->help; o++) {
        char left[128];
        if (!o->name)
            snprintf(left, sizeof left, "%s", o->arg);
        else if (o->letter)
            snprintf(left, sizeof left, "-%c, %s %s", o->letter, o->name, o->arg ? o->arg : "");
        else
            snprintf(left, sizeof left, "    %s %s", o->name, o->arg ? o->arg : "");
        printf("  %-*s %s\n", COLUMN, left, o->help);
    }
    printf("  %-*s %s\n", COLUMN, "    --settings FILE",
           "what no flag and no variable says is read there (see loam config)");
    printf("  %-*s %s\n", COLUMN, "-h, --help", "print this");
}

static int usage_error(const char *command, const char *what, const char *name)
{
    fprintf(stderr, "loam %s: %s %s (see loam %s --help)\n", command, what, name, command);
    return -1;
}

/* Finds the option that argv's word names; *value is what follows '=' or NULL. */
static const loami_opt *find(const loami_opt *table, const char *word, const char **value)
{
    *value = NULL;
    for (const loami_opt *o = table; o->help; o++) {
        if (!o->name) continue;
        size_t n = strlen(o->name);
        if (strncmp(word, o->name, n) == 0 && (word[n] == 0 || word[n] == '=')) {
            if (word[n] == '=') *value = word + n + 1;
            return o;
        }
        if (o->letter && word[0] == '-' && word[1] == o->letter && word[2] == 0) return o;
    }
    return NULL;
}

/* 1 when s is not a unit of memory. */
static double unit(const char *s)
{
    static const char letters[] = "KMGT";
    double by = 1;
    const char *at = *s ? strchr(letters, *s & ~0x20) : NULL;
    for (const char *l = letters; at && l <= at; l++) by *= 1024;
    if (!at) return 1;
    s++;
    return !*s || strcasecmp(s, "b") == 0 || strcasecmp(s, "ib") == 0 ? by : 1;
}

/* from: what to call the value in messages; NULL = as on the command line. */
static int number(const char *command, const loami_opt *o, const char *text, const char *from, double *out)
{
    char *end, label[600];
    errno = 0;
    double v = strtod(text, &end);
    if (from)
        snprintf(label, sizeof label, "%s", from);
    else
        snprintf(label, sizeof label, "%s %.400s:", o->name ? o->name : o->arg, text);
    bool whole = o->kind != LOAMI_OPT_FLOAT;
    if (o->arg && strcmp(o->arg, "BYTES") == 0 && end != text && unit(end) > 1) {
        v = floor(v * unit(end));
        end += strlen(end);
    }
    if (!*text || *end || errno || !isfinite(v) || (whole && v != floor(v)))
        return usage_error(command, label, whole ? "must be a whole number" : "must be a number");
    double lo = o->lo, hi = o->hi;
    if (!(lo < hi)) {
        lo = whole ? 0 : -1e30;
        hi = o->kind == LOAMI_OPT_U32 ? 4294967295.0 : o->kind == LOAMI_OPT_U64 ? 9007199254740992.0 : 1e30;
    }
    if (v < lo || v > hi) {
        char range[96];
        snprintf(range, sizeof range, "must be from %.10g to %.10g", lo, hi);
        return usage_error(command, label, range);
    }
    *out = v;
    return 0;
}

static int assign(const char *command, const loami_opt *o, const char *text, const char *from)
{
    double v = 0;
    if (o->kind == LOAMI_OPT_U32 || o->kind == LOAMI_OPT_U64 || o->kind == LOAMI_OPT_FLOAT) {
        if (number(command, o, text, from, &v) < 0) return -1;
    }
    switch (o->kind) {
    case LOAMI_OPT_FLAG: *(bool *)o->value = true; break;
    case LOAMI_OPT_STRING: *(const char **)o->value = text; break;
    case LOAMI_OPT_U32: *(uint32_t *)o->value = (uint32_t)v; break;
    case LOAMI_OPT_U64: *(uint64_t *)o->value = (uint64_t)v; break;
    case LOAMI_OPT_FLOAT: *(float *)o->value = (float)v; break;
    case LOAMI_OPT_LIST: {
        loami_opt_list *l = o->value;
        if (l->n == LOAMI_OPT_LIST_MAX)
            return usage_error(command, "too many times", o->name ? o->name : o->arg);
        l->item[l->n++] = text;
        break;
    }
    }
    if (o->seen) *o->seen = true;
    return 0;
}

/* The nameless option that takes the k-th positional word; a LIST takes all that are left. */
static const loami_opt *positional(const loami_opt *table, uint32_t k)
{
    for (const loami_opt *o = table; o->help; o++) {
        if (o->name) continue;
        if (k == 0 || o->kind == LOAMI_OPT_LIST) return o;
        k--;
    }
    return NULL;
}

/* ---- what the environment and the settings file say ---------------------------------------------- */

void loami_opt_variable(char out[80], const char *option)
{
    char *to = out + sprintf(out, "LOAM_");
    for (const char *p = option + 2; *p && to < out + 79; p++)
        *to++ = (char)(*p == '-' ? '_' : *p & ~(*p >= 'a' ? 32 : 0));
    *to = 0;
}

/* The variable that speaks for an option, with its value; NULL when none does. */
static const char *variable_of(const char *command, const loami_opt *o, const char **value)
{
    static char names[OPTIONS][80]; /* of this process's one command: origins point here */
    static uint32_t n;
    char *name = names[n];
    loami_opt_variable(name, o->name);
    *value = getenv(name);
    if (*value && **value) {
        n = (n + 1) % OPTIONS;
        return name;
    }
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
        if (strcmp(aliases[i].command, command) != 0 || strcmp(aliases[i].option, o->name) != 0) continue;
        *value = getenv(aliases[i].variable);
        if (*value && **value) return aliases[i].variable;
    }
    return NULL;
}

/* Gives an option the value that a variable or a line of the file has. where: its name, for messages. */
static int assign_text(const char *command, const loami_opt *o, const char *text, const char *where)
{
    static const char *const yes[] = { "true", "yes", "on", "1", NULL }, *const no[] = { "false", "no", "off",
                                                                                         "0", NULL };
    char label[600];
    snprintf(label, sizeof label, "%s%s%.400s:", where, where[strlen(where) - 1] == ' ' ? "" : "=", text);
    if (o->kind != LOAMI_OPT_FLAG) return assign(command, o, text, label);
    for (int i = 0; yes[i]; i++) {
        if (strcmp(text, yes[i]) == 0) return assign(command, o, text, label);
        if (strcmp(text, no[i]) == 0) return 0;
    }
    return usage_error(command, label, "must be true or false");
}

static int assign_list(const char *command, const loami_opt *o, const char *text, const char *where)
{
    kept *k = keep();
    if (!k || !(k->text = strdup(text))) return usage_error(command, where, "out of memory");
    for (char *word = strtok(k->text, ","); word; word = strtok(NULL, ","))
        if (assign(command, o, word, where) < 0) return -1;
    return 0;
}

static int from_environment(const char *command, const loami_opt *table, loami_opt_origin *origins)
{
    for (uint32_t i = 0; table[i].help; i++) {
        const loami_opt *o = &table[i];
        const char *value, *name;
        if (!o->name || origins[i].from || !(name = variable_of(command, o, &value))) continue;
        origins[i] = (loami_opt_origin){ LOAMI_FROM_ENV, name, 0 };
        int rc = o->kind == LOAMI_OPT_LIST ? assign_list(command, o, value, name)
                                           : assign_text(command, o, value, name);
        if (rc < 0) return -1;
    }
    return 0;
}

static const loami_opt *named(const loami_opt *table, const char *name)
{
    for (const loami_opt *o = table; o->help; o++)
        if (o->name && strcmp(o->name + 2, name) == 0) return o;
    return NULL;
}

static void look_for(void *arg, const loami_opt_view *v)
{
    const char **name = arg;
    if (*name && named(v->table, *name)) *name = NULL;
}

/* Does any command have a flag of this name? */
static bool somewhere(const char *name)
{
    for (const loami_command *c = loami_commands; c && c->name && name; c++) {
        char *argv[] = { (char *)c->name, NULL };
        loami_command_look(c, 1, argv, false, look_for, &name);
        for (const loami_command *v = c->verbs; v && v->name && name; v++) {
            argv[0] = (char *)v->name;
            loami_command_look(v, 1, argv, false, look_for, &name);
        }
    }
    return !name;
}

/* Is the line a mistake whoever reads it? */
static int check_line(const char *command, const loami_opt *table, const loami_settings *s,
                      const loami_setting *l)
{
    char where[400];
    snprintf(where, sizeof where, "%.200s:%u: %s%s", s->path, l->line, l->command[0] ? "" : "--",
             l->command[0] ? l->command : l->name);
    if (!l->command[0])
        return !loami_commands || named(table, l->name) || somewhere(l->name)
                   ? 0
                   : usage_error(command, where, "is no flag of any command");
    char words[80], *verb;
    snprintf(words, sizeof words, "%s", l->command);
    if ((verb = strchr(words, ' '))) *verb++ = 0;
    if (loami_commands && !loami_command_find(words, verb))
        return usage_error(command, where, "is no command");
    if (strcmp(l->command, command) == 0 && !named(table, l->name)) {
        snprintf(where, sizeof where, "%.200s:%u: --%s", s->path, l->line, l->name);
        return usage_error(command, where, "is no flag of this command");
    }
    return 0;
}

/* One pass over the file: the lines of this command's own section, or the general ones. */
static int take_lines(const char *command, const char *of, const loami_opt *table, const loami_settings *s,
                      loami_opt_origin *origins)
{
    bool begun[OPTIONS] = { false };
    for (uint32_t k = 0; k < s->n; k++) {
        const loami_setting *l = &s->all[k];
        const loami_opt *o = strcmp(l->command, of) == 0 ? named(table, l->name) : NULL;
        if (!o || (origins[o - table].from && !begun[o - table])) continue;
        char where[400];
        snprintf(where, sizeof where, "%.200s:%u: %s = ", s->path, l->line, l->name);
        if (begun[o - table] && o->kind != LOAMI_OPT_LIST)
            return usage_error(command, where, "is said twice");
        begun[o - table] = true;
        origins[o - table] = (loami_opt_origin){ LOAMI_FROM_FILE, s->path, l->line };
        if (assign_text(command, o, l->value, where) < 0) return -1;
    }
    return 0;
}

static int from_file(const char *command, const loami_opt *table, const loami_settings *s,
                     loami_opt_origin *origins)
{
    for (uint32_t k = 0; k < s->n; k++)
        if (check_line(command, table, s, &s->all[k]) < 0) return -1;
    if (take_lines(command, command, table, s, origins) < 0) return -1;
    return take_lines(command, "", table, s, origins);
}

static int from_elsewhere(const char *command, const loami_opt *table, const char *file,
                          loami_settings *settings, loami_opt_origin *origins)
{
    loam_err err;
    if (from_environment(command, table, origins) < 0) return -1;
    if (loami_settings_load(settings, file, &err) < 0) {
        loami_cmd_fail(command, &err);
        return -1;
    }
    return from_file(command, table, settings, origins);
}

/* ---- the command line ---------------------------------------------------------------------------- */

/* One word that begins with a dash, and its value. *i moves on when that is a word of its own. */
static int take_flag(int argc, char **argv, int *i, const loami_opt *table, const char **file,
                     loami_opt_origin *origins)
{
    static const char *settings_file;
    static const loami_opt own[] = {
        { "--settings", 0, "FILE", "", LOAMI_OPT_STRING, &settings_file, NULL, 0, 0 },
        { NULL, 0, NULL, NULL, LOAMI_OPT_FLAG, NULL, NULL, 0, 0 },
    };
    const char *command = argv[0], *word = argv[*i], *value;
    const loami_opt *o = find(table, word, &value);
    if (!o) o = find(own, word, &value);
    if (!o) return usage_error(command, "unknown option", word);
    if (o->kind == LOAMI_OPT_FLAG && value) return usage_error(command, "takes no value:", o->name);
    if (o->kind != LOAMI_OPT_FLAG && !value) {
        if (++*i == argc) return usage_error(command, "a value is missing after", word);
        value = argv[*i];
    }
    if (o == own) {
        *file = value;
        return 0;
    }
    origins[o - table] = (loami_opt_origin){ LOAMI_FROM_FLAG, o->name, 0 };
    return assign(command, o, value, NULL);
}

/* --help and --version end the command at once. */
static bool only_tells(const char *word, const char *command, const loami_opt *table, const char *about)
{
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        print_usage(command, table, about);
    else if (strcmp(word, "--version") == 0)
        printf("loam %s\n", loam_version());
    else
        return false;
    return true;
}

static int from_arguments(int argc, char **argv, const loami_opt *table, const char *about, const char **file,
                          loami_opt_origin *origins)
{
    uint32_t n_positional = 0;
    bool only_words = false;

    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!only_words && strcmp(word, "--") == 0) {
            only_words = true;
        } else if (only_words || word[0] != '-' || word[1] == 0) {
            const loami_opt *o = positional(table, n_positional++);
            if (!o) return usage_error(argv[0], "unexpected argument", word);
            origins[o - table] = (loami_opt_origin){ LOAMI_FROM_FLAG, o->arg, 0 };
            if (assign(argv[0], o, word, NULL) < 0) return -1;
        } else {
            if (only_tells(word, argv[0], table, about)) return 1;
            if (take_flag(argc, argv, &i, table, file, origins) < 0) return -1;
        }
    }
    return 0;
}

int loami_opt_parse(int argc, char **argv, const loami_opt *table, const char *about)
{
    loami_opt_origin origins[OPTIONS] = { { 0 } };
    loami_opt_view view = { argv[0], about, table, NULL, NULL };
    const char *file = NULL;
    uint32_t n = 0;
    while (table[n].help) n++;
    assert(n < OPTIONS);

    if (viewer.look && !viewer.resolve) {
        viewer.look(viewer.arg, &view);
        return 1;
    }
    kept *k = keep();
    if (!k) return usage_error(argv[0], "out of memory for", "the settings file");
    int rc = from_arguments(argc, argv, table, about, &file, origins);
    loami_opt_look *look = viewer.look; /* from_elsewhere looks into other tables */
    void *arg = viewer.arg;
    if (rc == 0) rc = from_elsewhere(argv[0], table, file, &k->settings, origins);
    if (rc != 0 || !look) return rc;
    view.origins = origins;
    view.settings = k->settings.path;
    look(arg, &view);
    return 1;
}

/* ---- commands ------------------------------------------------------------------------------------ */

int loami_command_look(const loami_command *c, int argc, char **argv, bool resolve, loami_opt_look *look,
                       void *arg)
{
    loami_opt_look *outer = viewer.look;
    void *outer_arg = viewer.arg;
    bool outer_resolve = viewer.resolve;
    viewer.look = look, viewer.arg = arg, viewer.resolve = resolve;
    int rc = c->run(argc, argv);
    viewer.look = outer, viewer.arg = outer_arg, viewer.resolve = outer_resolve;
    return rc;
}

static const loami_command *in_table(const loami_command *table, const char *command, const char *verb)
{
    char name[80];
    snprintf(name, sizeof name, verb ? "%.39s %.39s" : "%.39s", command, verb);
    for (const loami_command *c = table; c && c->name; c++)
        if (strcmp(c->name, name) == 0) return c;
    return NULL;
}

const loami_command *loami_command_find(const char *name, const char *verb)
{
    const loami_command *c = in_table(loami_commands, name, NULL);
    return c && verb ? in_table(c->verbs, name, verb) : c;
}

int loami_cmd_verb(const char *command, const loami_command *verbs, int argc, char **argv)
{
    const loami_command *v = argc > 1 ? in_table(verbs, command, argv[1]) : NULL;
    if (!v) {
        fprintf(stderr, "loam %s: unknown: %s (see loam %s --help)\n", command,
                argc > 1 ? argv[1] : "nothing", command);
        return LOAMI_EXIT_USAGE;
    }
    argv[1] = (char *)v->name;
    return v->run(argc - 1, argv + 1);
}

int loami_cmd_fail(const char *command, const loam_err *err)
{
    char line[sizeof err->msg];
    memcpy(line, err->msg, sizeof line);
    for (char *p = line; *p; p++)
        if (*p == '\n' || *p == '\r') *p = ' ';
    fprintf(stderr, "loam %s: %s\n", command, line);
    return LOAMI_EXIT_FAIL;
}
