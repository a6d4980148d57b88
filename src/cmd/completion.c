#include "cmd/cmd.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* What may stand for an option's value. */
typedef enum value_kind {
    VALUE_NONE,
    VALUE_ANY,
    VALUE_MODEL,
    VALUE_FILE,
    VALUE_FOLDER,
    VALUE_WORDS
} value_kind;

/* The words of a help that begins "a, b or c". Empty when it does not. */
static void choices(char out[200], const char *help)
{
    size_t n = strcspn(help, "([;:"), at = 0;
    bool or_seen = false;
    const char *p = help, *end = help + n;
    while (p < end) {
        const char *word = p;
        while (p < end && (isalnum((unsigned char)*p) || *p == '-' || *p == '_')) p++;
        size_t len = (size_t)(p - word);
        if (!len || at + len + 2 > 200) break;
        if (len == 2 && memcmp(word, "or", 2) == 0) {
            or_seen = true;
        } else {
            if (at) out[at++] = ' ';
            memcpy(out + at, word, len);
            at += len;
            if (or_seen || (p < end && *p != ',' && strncmp(p, " or ", 4) != 0)) break;
        }
        while (p < end && (*p == ',' || *p == ' ')) p++;
    }
    while (p < end && *p == ' ') p++;
    out[or_seen && p == end ? at : 0] = 0;
}

static value_kind kind_of(const loami_opt *o, char words[200])
{
    static const struct {
        const char *arg;
        value_kind kind;
    } table[] = {
        { "M", VALUE_MODEL },   { "MODEL", VALUE_MODEL }, { "FILE", VALUE_FILE },
        { "PATH", VALUE_FILE }, { "DIR", VALUE_FOLDER },  { "FOLDER", VALUE_FOLDER },
    };
    words[0] = 0;
    if (!o->arg) return VALUE_NONE;
    choices(words, o->help);
    if (words[0]) return VALUE_WORDS;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(o->arg, table[i].arg) == 0) return table[i].kind;
    return VALUE_ANY;
}

static const loami_opt *first_positional(const loami_opt *table)
{
    for (const loami_opt *o = table; o->help; o++)
        if (!o->name) return o;
    return NULL;
}

static void each_command(loami_opt_look *look)
{
    for (const loami_command *c = loami_commands; c->name; c++) {
        char *argv[] = { (char *)c->name, NULL };
        loami_command_look(c, 1, argv, false, look, (void *)c);
        for (const loami_command *v = c->verbs; v && v->name; v++) {
            argv[0] = (char *)v->name;
            loami_command_look(v, 1, argv, false, look, (void *)v);
        }
    }
}

static void put_verbs(const loami_command *c, const char *between)
{
    for (const loami_command *v = c->verbs; v && v->name; v++)
        printf("%s%s", v == c->verbs ? "" : between, strchr(v->name, ' ') + 1);
}

static void put_commands(void)
{
    for (const loami_command *c = loami_commands; c->name; c++)
        printf("%s%s", c == loami_commands ? "" : " ", c->name);
}

/* ---- bash ---------------------------------------------------------------------------------------- */

static const char *bash_kind(value_kind kind, const char *words)
{
    static const char *const how[] = { "none", "any", "model", "file", "folder", "" };
    return kind == VALUE_WORDS ? words : how[kind];
}

static void bash_command(void *arg, const loami_opt_view *v)
{
    const loami_command *c = arg;
    const loami_opt *p = first_positional(v->table);
    char words[200];
    printf("    '%s')\n        flags='", v->command);
    for (const loami_opt *o = v->table; o->help; o++)
        if (o->name) printf("%s ", o->name);
    printf("--settings --help'\n");
    if (c->verbs) printf("        words='"), put_verbs(c, " "), printf("'\n");
    if (strcmp(v->command, "config") == 0 || strcmp(v->command, "man") == 0)
        printf("        words=$commands\n");
    else if (p)
        printf("        want='%s'\n", bash_kind(kind_of(p, words), words));
    printf("        case $prev in\n");
    for (const loami_opt *o = v->table; o->help; o++) {
        value_kind kind = kind_of(o, words);
        if (!o->name || kind == VALUE_NONE) continue;
        if (o->letter)
            printf("        -%c | ", o->letter);
        else
            printf("        ");
        printf("%s) words='' want='%s' ;;\n", o->name, bash_kind(kind, words));
    }
    printf("        --settings) words='' want='file' ;;\n        esac ;;\n");
}

static void bash(void)
{
    printf("# Completion of loam in bash, as `loam completion bash` writes it.\n"
           "_loam() {\n"
           "    local cur=$2 prev=$3 command=${COMP_WORDS[1]} flags='' words='' want='' commands='");
    put_commands();
    printf("'\n"
           "    COMPREPLY=()\n"
           "    if ((COMP_CWORD == 1)); then\n"
           "        mapfile -t COMPREPLY < <(compgen -W \"$commands --help --version\" -- \"$cur\")\n"
           "        return\n"
           "    fi\n"
           "    case \"$command ${COMP_WORDS[2]}\" in\n");
    for (const loami_command *c = loami_commands; c->name; c++)
        for (const loami_command *v = c->verbs; v && v->name; v++)
            printf("    '%s')%s\n", v->name,
                   " ((COMP_CWORD > 2)) && command=\"$command ${COMP_WORDS[2]}\" ;;");
    printf("    esac\n    case $command in\n");
    each_command(bash_command);
    printf("    esac\n"
           "    if [[ $cur == -* ]]; then\n"
           "        mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$cur\")\n"
           "        return\n"
           "    fi\n"
           "    case $want in\n"
           "    '' | any) ;;\n"
           "    file) mapfile -t COMPREPLY < <(compgen -f -- \"$cur\") ;;\n"
           "    folder) mapfile -t COMPREPLY < <(compgen -d -- \"$cur\") ;;\n"
           "    model) mapfile -t COMPREPLY < <(compgen -W \"$(loam ls 2>/dev/null | awk 'NR > 1 { print $1 "
           "}')\" -- \"$cur\"; compgen -d -- \"$cur\") ;;\n"
           "    *) words+=\" $want\" ;;\n"
           "    esac\n"
           "    [[ -n $words ]] && mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
           "}\n"
           "complete -o filenames -F _loam loam\n");
}

/* ---- zsh ----------------------------------------------------------------------------------------- */

/* Inside '...[help]': quotes, brackets and colons mean something there. */
static void zsh_text(const char *s)
{
    for (; *s; s++) {
        if (*s == '\'')
            fputs("'\\''", stdout);
        else if (strchr("[]:\\", *s))
            printf("\\%c", *s);
        else
            putchar(*s);
    }
}

static void zsh_value(const char *arg, value_kind kind, const char *words)
{
    static const char *const how[] = { "", " ", "_loam_models", "_files", "_files -/", "" };
    if (kind == VALUE_NONE) return;
    putchar(':');
    zsh_text(arg);
    if (kind == VALUE_WORDS)
        printf(":(%s)", words);
    else
        printf(":%s", how[kind]);
}

static void zsh_command(void *arg, const loami_opt_view *v)
{
    const loami_command *c = arg;
    char words[200];
    printf("    ('%s')\n        _arguments -S", v->command);
    for (const loami_opt *o = v->table; o->help; o++) {
        value_kind kind = kind_of(o, words);
        const char *many = o->kind == LOAMI_OPT_LIST ? "*" : "";
        printf(" \\\n            ");
        if (!o->name) {
            printf("'%s", many), zsh_value(o->arg, kind, words), printf("'");
            continue;
        }
        if (o->letter)
            printf("%s{-%c,%s}'[", *many ? "'*'" : "", o->letter, o->name);
        else
            printf("'%s%s[", many, o->name);
        zsh_text(o->help);
        putchar(']');
        zsh_value(o->arg, kind, words);
        putchar('\'');
    }
    if (c->verbs) printf(" \\\n            '1:command:("), put_verbs(c, " "), printf(")'");
    printf(" \\\n            '--settings[read settings there]:FILE:_files' {-h,--help}'[print the options]' "
           ";;\n");
}

static void zsh_about(void *arg, const loami_opt_view *v)
{
    (void)arg;
    if (strchr(v->command, ' ')) return;
    printf("            '%s:", v->command);
    zsh_text(v->about);
    printf("'\n");
}

static void zsh(void)
{
    printf("#compdef loam\n# Completion of loam in zsh, as `loam completion zsh` writes it.\n"
           "_loam_models() {\n"
           "    local -a models=(${(f)\"$(loam ls 2>/dev/null | awk 'NR > 1 { print $1 }')\"})\n"
           "    compadd -a models\n    _files -/\n}\n"
           "_loam() {\n"
           "    local -a commands\n"
           "    if ((CURRENT == 2)); then\n        commands=(\n");
    each_command(zsh_about);
    printf("        )\n        _describe command commands\n        return\n    fi\n"
           "    local command=$words[2]\n"
           "    shift words\n    ((CURRENT--))\n"
           "    case \"$command $words[2]\" in\n");
    for (const loami_command *c = loami_commands; c->name; c++)
        for (const loami_command *v = c->verbs; v && v->name; v++)
            printf(
                "    ('%s') ((CURRENT > 2)) && { command+=\" $words[2]\"; shift words; ((CURRENT--)) } ;;\n",
                v->name);
    printf("    esac\n    case $command in\n");
    each_command(zsh_command);
    printf("    esac\n}\ncompdef _loam loam 2>/dev/null || _loam \"$@\"\n");
}

/* ---- fish ---------------------------------------------------------------------------------------- */

static void fish_text(const char *s)
{
    putchar('\'');
    for (; *s; s++) {
        if (*s == '\'' || *s == '\\') putchar('\\');
        putchar(*s);
    }
    putchar('\'');
}

static void fish_value(value_kind kind, const char *words)
{
    switch (kind) {
    case VALUE_NONE: break;
    case VALUE_ANY: printf(" -x"); break;
    case VALUE_MODEL: printf(" -x -a '(__loam_models)'"); break;
    case VALUE_FILE: printf(" -r -F"); break;
    case VALUE_FOLDER: printf(" -x -a '(__fish_complete_directories)'"); break;
    case VALUE_WORDS: printf(" -x -a '%s'", words); break;
    }
}

static void fish_command(void *arg, const loami_opt_view *v)
{
    const loami_command *c = arg;
    const char *verb = strchr(v->command, ' ');
    char words[200], when[300];
    if (!verb) {
        printf("complete -c loam -f -n __fish_use_subcommand -a %s -d ", v->command);
        fish_text(v->about);
        putchar('\n');
    }
    if (verb)
        snprintf(when, sizeof when,
                 "-n '__fish_seen_subcommand_from %.*s; and __fish_seen_subcommand_from %s'",
                 (int)(verb - v->command), v->command, verb + 1);
    else
        snprintf(when, sizeof when, "-n '__fish_seen_subcommand_from %s'", v->command);
    if (c->verbs) printf("complete -c loam %s -f -a '", when), put_verbs(c, " "), printf("'\n");
    for (const loami_opt *o = v->table; o->help; o++) {
        value_kind kind = kind_of(o, words);
        printf("complete -c loam %s", when);
        if (o->letter) printf(" -s %c", o->letter);
        if (o->name) printf(" -l %s", o->name + 2);
        fish_value(kind, words);
        printf(" -d ");
        fish_text(o->help);
        putchar('\n');
    }
}

static void fish(void)
{
    printf("# Completion of loam in fish, as `loam completion fish` writes it.\n"
           "function __loam_models\n    loam ls 2>/dev/null | awk 'NR > 1 { print $1 }'\nend\n"
           "complete -c loam -l settings -r -F -d 'read settings there'\n"
           "complete -c loam -s h -l help -d 'print the options'\n");
    each_command(fish_command);
}

int loami_cmd_completion(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*write)(void);
    } shells[] = { { "bash", bash }, { "zsh", zsh }, { "fish", fish } };
    const char *name = NULL;
    const loami_opt table[] = {
        { NULL, 0, "SHELL", "bash, zsh or fish", LOAMI_OPT_STRING, &name, NULL, 0, 0 },
        { NULL, 0, NULL, NULL, LOAMI_OPT_FLAG, NULL, NULL, 0, 0 },
    };
    int rc = loami_opt_parse(argc, argv, table, "completion for a shell: source <(loam completion bash)");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++)
        if (name && strcmp(shells[i].name, name) == 0) return shells[i].write(), LOAMI_EXIT_OK;
    fprintf(stderr, "loam completion: which shell? bash, zsh or fish\n");
    return LOAMI_EXIT_USAGE;
}
