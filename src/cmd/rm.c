#include "cmd/cmd.h"

#include "store/store.h"

#include <stdio.h>

int loami_cmd_rm(int argc, char **argv)
{
    loami_opt_list names = { .n = 0 };
    const loami_opt table[] = {
        { NULL, 0, "MODEL...", "names in the store, or Hugging Face ids in the cache", LOAMI_OPT_LIST, &names,
          NULL, 0, 0 },
        { 0 },
    };
    loam_err err;
    int rc = loami_opt_parse(argc, argv, table, "remove models from the store or the Hugging Face cache"),
        code = LOAMI_EXIT_OK;
    if (rc) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (names.n == 0) {
        fprintf(stderr, "loam rm: which MODEL? (see loam rm --help)\n");
        return LOAMI_EXIT_USAGE;
    }
    for (uint32_t i = 0; i < names.n; i++)
        if (loami_store_remove(names.item[i], &err) < 0) code = loami_cmd_fail("rm", &err);
    return code;
}
