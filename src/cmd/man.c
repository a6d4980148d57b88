#include "base/buf.h"
#include "cmd/cmd.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Text for troff: no line may begin with a control character, and a dash is a dash. */
static void put(const char *s)
{
    for (const char *p = s; *p; p++) {
        if (*p == '\\')
            fputs("\\e", stdout);
        else if (*p == '-')
            fputs("\\-", stdout);
        else if ((*p == '.' || *p == '\'') && p == s)
            printf("\\&%c", *p);
        else if (*p == '\'')
            fputs("\\(aq", stdout);
        else if (*p == '`')
            fputs("\\(ga", stdout);
        else
            putchar(*p);
    }
}

static void put_line(const char *macro, const char *text)
{
    if (macro) printf("%s ", macro);
    put(text);
    putchar('\n');
}

static void put_head(const char *page, const char *command, const char *about)
{
    printf(".TH ");
    for (const char *p = page; *p; p++) putchar(toupper((unsigned char)*p));
    printf(" 1 \"\" \"loam %s\" \"loam\"\n.SH NAME\n", loam_version());
    put(page);
    fputs(" \\- ", stdout);
    put_line(NULL, about);
    printf(".SH SYNOPSIS\n.B ");
    put_line(NULL, command);
}

static void put_option(const loami_opt *o)
{
    printf(".TP\n");
    if (!o->name) {
        put_line(".I", o->arg);
        put_line(NULL, o->help);
        return;
    }
    if (o->letter) printf("\\fB\\-%c\\fR, ", o->letter);
    printf("\\fB");
    put(o->name);
    printf("\\fR");
    if (o->arg) printf(" \\fI"), put(o->arg), printf("\\fR");
    putchar('\n');
    put_line(NULL, o->help);
}

static void put_options(const loami_opt_view *v)
{
    printf(".RI [ options ]\n");
    for (const loami_opt *o = v->table; o->help; o++)
        if (!o->name) put_line(".I", o->arg);
    printf(".SH OPTIONS\n");
    for (const loami_opt *o = v->table; o->help; o++) put_option(o);
    printf(".TP\n\\fB\\-\\-settings\\fR \\fIFILE\\fR\nread there what no flag and no variable says\n"
           ".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nprint the options\n");
}

static void put_variables(const loami_opt_view *v)
{
    char name[80];
    bool any = false;
    for (const loami_opt *o = v->table; o->help; o++) any |= o->name != NULL;
    if (!any) return;
    printf(
        ".SH ENVIRONMENT\nA flag that is absent is read from its variable, then from the settings file.\n");
    for (const loami_opt *o = v->table; o->help; o++) {
        if (!o->name) continue;
        loami_opt_variable(name, o->name);
        printf(".TP\n.B %s\n", name);
        put(o->name);
        printf("%s\n", o->kind == LOAMI_OPT_FLAG   ? ": true or false"
                       : o->kind == LOAMI_OPT_LIST ? ": several, with commas"
                                                   : "");
    }
}

static void put_tail(const char *see)
{
    printf(".SH FILES\n.TP\n.I ~/.config/loam/loam.conf\nsettings: \"name = value\" with the names of the "
           "flags, under "
           "[command] for one alone\n.TP\n.I /etc/loam/loam.conf\nlikewise, where the user has none\n.TP\n.I "
           "~/.cache/loam\n"
           "models; LOAM_HOME says another place\n"
           ".SH EXIT STATUS\n0 done, 1 it failed, 2 the command line was wrong.\n.SH SEE ALSO\n%s\n",
           see);
}

static void page(void *arg, const loami_opt_view *v)
{
    char name[100], command[100];
    (void)arg;
    snprintf(name, sizeof name, "loam-%s", v->command);
    for (char *p = name; *p; p++)
        if (*p == ' ') *p = '-';
    snprintf(command, sizeof command, "loam %s", v->command);
    put_head(name, command, v->about);
    put_options(v);
    put_variables(v);
    put_tail(strchr(v->command, ' ') ? ".BR loam\\-gateway (1)" : ".BR loam (1)");
}

static void about_verb(void *arg, const loami_opt_view *v)
{
    (void)arg;
    printf(".TP\n.B ");
    put_line(NULL, v->command);
    put_line(NULL, v->about);
}

static void list_verbs(const loami_command *c)
{
    for (const loami_command *v = c->verbs; v && v->name; v++) {
        char *argv[] = { (char *)v->name, NULL };
        loami_command_look(v, 1, argv, false, about_verb, NULL);
    }
}

static void main_page(void)
{
    put_head("loam", "loam", "serve large language models on the machines you own");
    printf(".I COMMAND\n.RI [ options ]\n.SH COMMANDS\n");
    for (const loami_command *c = loami_commands; c->name; c++) {
        printf(".TP\n.BR loam\\-");
        put(c->name);
        printf(" (1)\n");
        put_line(NULL, c->about);
    }
    put_tail(".BR loam\\-serve (1),\n.BR loam\\-gateway (1)");
}

/* The pages' names, one a line, as `make install` wants them. */
static void list_pages(void)
{
    puts("loam");
    for (const loami_command *c = loami_commands; c->name; c++) {
        puts(c->name);
        for (const loami_command *v = c->verbs; v && v->name; v++) puts(v->name);
    }
}

int loami_cmd_man(int argc, char **argv)
{
    const char *name = NULL, *verb = NULL;
    bool list = false;
    const loami_opt table[] = {
        { NULL, 0, "COMMAND", "whose page; loam = the one about all", LOAMI_OPT_STRING, &name, NULL, 0, 0 },
        { NULL, 0, "VERB", "of that command", LOAMI_OPT_STRING, &verb, NULL, 0, 0 },
        { "--list", 0, NULL, "the names of all pages", LOAMI_OPT_FLAG, &list, NULL, 0, 0 },
        { NULL, 0, NULL, NULL, LOAMI_OPT_FLAG, NULL, NULL, 0, 0 },
    };
    int rc = loami_opt_parse(argc, argv, table,
                             "the manual page of a command, as troff: loam man serve | man -l -");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (list) {
        list_pages();
        return LOAMI_EXIT_OK;
    }
    if (!name || strcmp(name, "loam") == 0) {
        main_page();
        return LOAMI_EXIT_OK;
    }
    const loami_command *c = loami_command_find(name, verb);
    if (!c) {
        fprintf(stderr, "loam man: there is no page about %s%s%s (see loam man --list)\n", name,
                verb ? " " : "", verb ? verb : "");
        return LOAMI_EXIT_FAIL;
    }
    char *about[] = { (char *)c->name, NULL };
    loami_command_look(c, 1, about, false, page, NULL);
    if (c->verbs) printf(".SH COMMANDS\nEach has a page of its own.\n");
    list_verbs(c);
    return LOAMI_EXIT_OK;
}
