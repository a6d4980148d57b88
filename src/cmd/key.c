#include "cmd/cmd.h"
#include "net/keys.h"

#include <stdio.h>

int loami_cmd_key(int argc, char **argv)
{
    const char *name = NULL;
    uint32_t requests = 0, tokens = 0;
    const loami_opt table[] = {
        { NULL, 0, "NAME", "whose key it is, as logs will show", LOAMI_OPT_STRING, &name, NULL, 0, 0 },
        { "--requests", 0, "N", "requests a minute [no limit]", LOAMI_OPT_U32, &requests, NULL, 0, 0 },
        { "--tokens", 0, "N", "tokens a minute, prompts and answers [no limit]", LOAMI_OPT_U32, &tokens, NULL,
          0, 0 },
        { NULL, 0, NULL, NULL, LOAMI_OPT_FLAG, NULL, NULL, 0, 0 },
    };
    char key[LOAMI_KEY_TEXT], hash[65];
    loam_err err;
    int rc = loami_opt_parse(argc, argv, table,
                             "make an API key, and the line for loam serve --api-key-file");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (!name) {
        fprintf(stderr, "loam key: whose? (see loam key --help)\n");
        return LOAMI_EXIT_USAGE;
    }
    if (loami_key_make(key, hash, &err) < 0) return loami_cmd_fail(argv[0], &err);
    fprintf(stderr, "The key, which nobody can show again:  %s\nThe line for the key file:\n", key);
    printf("%s %s", name, hash);
    if (requests || tokens) printf(" %u", requests);
    if (tokens) printf(" %u", tokens);
    printf("\n");
    return LOAMI_EXIT_OK;
}
