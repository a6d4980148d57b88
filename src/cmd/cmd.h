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

/* Parses argv[1..argc) into the table's values. "--x=v" and "--x v". Positional arguments fill the nameless options in order.
 * On --help prints the usage and returns 1 (exit 0); on a mistake prints one line naming it and returns -1 (exit 2); 0 = go on.
 * about: one line of what the command does. */
int loami_opt_parse(int argc, char **argv, const loami_opt *table, const char *about);

/* The common tail of a subcommand: one line on stderr, exit code 1. */
int loami_cmd_fail(const char *command, const loam_err *err);

/* Subcommands; argv[0] is the subcommand's name. Each returns an exit code. The table of all is in main.c. */
typedef int loami_cmd(int argc, char **argv);
loami_cmd loami_cmd_generate, loami_cmd_chat, loami_cmd_serve, loami_cmd_key, loami_cmd_tokenize, loami_cmd_template, loami_cmd_logits,
    loami_cmd_perplexity, loami_cmd_bench, loami_cmd_import, loami_cmd_quantize, loami_cmd_ls, loami_cmd_show, loami_cmd_rm,
    loami_cmd_verify, loami_cmd_gateway, loami_cmd_ps, loami_cmd_pull, loami_cmd_du, loami_cmd_fit, loami_cmd_doctor,
    loami_cmd_rollout, loami_cmd_compare, loami_cmd_validate;

#endif
