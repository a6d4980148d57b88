/* cmd/cmd.h: the program `loam`: one file a subcommand, one table, and what subcommands share. */
#ifndef LOAMI_CMD_H
#define LOAMI_CMD_H

#include "loam.h"

/* Exit codes: 0 done, 1 it failed, 2 the command line was wrong. */
enum { LOAMI_EXIT_OK = 0, LOAMI_EXIT_FAIL = 1, LOAMI_EXIT_USAGE = 2 };

/* One option of a subcommand. A table of these ends with { 0 } and makes both the parser and --help. */
typedef struct loami_opt {
    const char *name;         /* "--model"; NULL with arg = a positional argument */
    char letter;              /* 'm' for -m, or 0 */
    const char *arg;          /* "M" in help; NULL = a flag without value; "BYTES" = a number that may end in K, M, G, T
                                 (1024 and its powers; KiB, KB, ... mean the same) */
    const char *help;
    enum { LOAMI_OPT_FLAG, LOAMI_OPT_STRING, LOAMI_OPT_U32, LOAMI_OPT_U64, LOAMI_OPT_FLOAT, LOAMI_OPT_LIST } kind;
    void *value;              /* bool*, const char**, uint32_t*, uint64_t*, float*, loami_opt_list* */
    bool *seen;               /* set when given; may be NULL */
    double lo, hi;            /* bounds of numbers, when lo < hi */
} loami_opt;

enum { LOAMI_OPT_LIST_MAX = 64 };
typedef struct loami_opt_list {
    const char *item[LOAMI_OPT_LIST_MAX];
    uint32_t n;
} loami_opt_list;

/* Parses argv[1..argc) into the table's values: "--x=v", "-x v" and "--x v"; positional arguments fill the nameless options
 * in order. What no flag says comes from the environment (LOAM_X for --x, a list with commas), then from the settings file
 * (settings.h; --settings FILE), and else keeps the value it had. A flag without value is true or false there.
 * On --help prints the usage and returns 1 (exit 0); on a mistake prints one line naming it and returns -1 (exit 2); 0 = go on.
 * about: one line of what the command does. */
int loami_opt_parse(int argc, char **argv, const loami_opt *table, const char *about);

/* Where an option's value came from. */
typedef struct loami_opt_origin {
    enum { LOAMI_FROM_DEFAULT, LOAMI_FROM_FLAG, LOAMI_FROM_ENV, LOAMI_FROM_FILE } from;
    const char *name; /* the flag, the variable, or the file */
    uint32_t line;    /* of the file */
} loami_opt_origin;

/* Subcommands; argv[0] is the subcommand's name. Each returns an exit code, and calls loami_opt_parse before all else. The
 * table of all, which ends with { 0 }, is in main.c. */
typedef int loami_cmd(int argc, char **argv);
typedef struct loami_command {
    const char *name; /* "serve"; of a verb "gateway status" */
    loami_cmd *run;
    const char *about;                  /* NULL: what its own table says */
    const struct loami_command *verbs;  /* or NULL */
} loami_command;
extern const loami_command *loami_commands; /* main sets it; NULL in programs that are not loam */

/* Man pages, completion and `loam config` read the tables that the commands parse with: loami_command_look runs the command with
 * argv, and loami_opt_parse calls look instead of returning 0. origins is NULL unless resolve: then argv, environment
 * and file were read first (and -1 is returned when they are wrong). */
typedef struct loami_opt_view {
    const char *command, *about;
    const loami_opt *table;
    const loami_opt_origin *origins; /* one an option */
    const char *settings;            /* the file that was read, or NULL */
} loami_opt_view;
typedef void loami_opt_look(void *arg, const loami_opt_view *v);
int loami_command_look(const loami_command *c, int argc, char **argv, bool resolve, loami_opt_look *look, void *arg);

/* The command, or the verb if two words name one; NULL if there is none. */
const loami_command *loami_command_find(const char *name, const char *verb);

/* Runs the verb that argv[1] names; exit code 2 when there is none. */
int loami_cmd_verb(const char *command, const loami_command *verbs, int argc, char **argv);

/* "LOAM_MAX_TOKENS" of "--max-tokens". */
void loami_opt_variable(char out[80], const char *option);

/* The common tail of a subcommand: one line on stderr, exit code 1. */
int loami_cmd_fail(const char *command, const loam_err *err);

loami_cmd loami_cmd_generate, loami_cmd_chat, loami_cmd_serve, loami_cmd_key, loami_cmd_tokenize, loami_cmd_template, loami_cmd_logits,
    loami_cmd_perplexity, loami_cmd_bench, loami_cmd_import, loami_cmd_quantize, loami_cmd_ls, loami_cmd_show, loami_cmd_rm,
    loami_cmd_verify, loami_cmd_gateway, loami_cmd_ps, loami_cmd_pull, loami_cmd_du, loami_cmd_fit, loami_cmd_doctor,
    loami_cmd_rollout, loami_cmd_compare, loami_cmd_validate,
    loami_cmd_config, loami_cmd_completion, loami_cmd_man, loami_cmd_service, loami_cmd_audit;

extern const loami_command loami_gateway_verbs[], loami_service_verbs[], loami_rollout_verbs[];

#endif
