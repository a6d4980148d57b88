#include "cmd/cmd.h"

#include "cmd/work.h"
#include "store/known.h"
#include "store/store.h"
#include "store/usage.h"

#include <stdio.h>

/* A short name is another name of a hub model's, unless something here is called so. */
static int remove_one(const char *name, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    const loami_known *k = loami_known_find(name);
    bool here = k && loami_store_path(path, name, NULL) == 0 && loami_dir_exists(path);
    return loami_store_remove(k && !here ? k->id : name, err);
}

static int clean(loam_err *err)
{
    char size[32];
    uint64_t bytes;
    int rc = loami_usage_clean(&bytes, err);
    loami_bytes_text(size, bytes);
    if (rc == 0) printf("%s of unfinished downloads removed\n", size);
    return rc;
}

int loami_cmd_rm(int argc, char **argv)
{
    loami_opt_list names = { .n = 0 };
    bool unfinished = false;
    const loami_opt table[] = {
        { NULL, 0, "MODEL...", "names in the store, or Hugging Face ids in the cache", LOAMI_OPT_LIST, &names,
          NULL, 0, 0 },
        { "--unfinished", 0, NULL, "remove what downloads left that did not end", LOAMI_OPT_FLAG, &unfinished, NULL, 0, 0 },
        { 0 },
    };
    loam_err err;
    int rc = loami_opt_parse(argc, argv, table, "remove models from the store or the Hugging Face cache"),
        code = LOAMI_EXIT_OK;
    if (rc) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (names.n == 0 && !unfinished) {
        fprintf(stderr, "loam rm: which MODEL? (see loam rm --help)\n");
        return LOAMI_EXIT_USAGE;
    }
    for (uint32_t i = 0; i < names.n; i++)
        if (remove_one(names.item[i], &err) < 0) code = loami_cmd_fail("rm", &err);
    if (unfinished && clean(&err) < 0) code = loami_cmd_fail("rm", &err);
    return code;
}
