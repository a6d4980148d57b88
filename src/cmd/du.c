#include "cmd/cmd.h"

#include "cmd/open.h"
#include "cmd/work.h"
#include "store/store.h"
#include "store/usage.h"

#include <stdio.h>
#include <sys/statvfs.h>

typedef struct sums {
    json_t *json; /* NULL: print a table */
    uint64_t bytes, unfinished;
    unsigned n;
} sums;

static int show_entry(void *arg, const loami_usage *u)
{
    sums *s = arg;
    char size[32], unfinished[32] = "";
    s->bytes += u->bytes;
    s->unfinished += u->unfinished_bytes;
    if (s->json) {
        json_array_append_new(s->json, json_pack("{s:s,s:s,s:s,s:I,s:I}", "name", u->name, "path", u->path, "from", u->from, "bytes",
                                                 (json_int_t)u->bytes, "unfinished_bytes", (json_int_t)u->unfinished_bytes));
        return 0;
    }
    if (s->n++ == 0) printf("%-44s %10s %12s  %s\n", "NAME", "ON DISK", "UNFINISHED", "FROM");
    loami_bytes_text(size, u->bytes);
    if (u->unfinished_bytes) loami_bytes_text(unfinished, u->unfinished_bytes);
    printf("%-44s %10s %12s  %s\n", u->name, size, unfinished, u->from);
    return 0;
}

static uint64_t free_at(const char *path)
{
    struct statvfs fs;
    return statvfs(path, &fs) == 0 ? (uint64_t)fs.f_bavail * fs.f_frsize : 0;
}

int loami_cmd_du(int argc, char **argv)
{
    bool json = false;
    char home[LOAMI_PATH_MAX], size[32], room[32];
    const loami_opt table[] = {
        { "--json", 0, NULL, "as a JSON object", LOAMI_OPT_FLAG, &json, NULL, 0, 0 },
        { 0 },
    };
    loam_err err;
    sums s = { .n = 0 };
    int rc = loami_opt_parse(argc, argv, table, "tell what models take on the disk");
    if (rc) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (json) s.json = json_array();
    rc = loami_store_home(home, &err);
    if (rc == 0) rc = loami_usage_each(show_entry, &s, &err);
    if (rc < 0) {
        json_decref(s.json);
        return loami_cmd_fail("du", &err);
    }
    if (json)
        return loami_cmd_print_json(json_pack("{s:o,s:I,s:I,s:I}", "models", s.json, "bytes", (json_int_t)s.bytes, "unfinished_bytes",
                                              (json_int_t)s.unfinished, "free_bytes", (json_int_t)free_at(home)));
    loami_bytes_text(size, s.bytes);
    loami_bytes_text(room, free_at(home));
    printf("%-44s %10s   %s free\n", "together", size, room);
    if (s.unfinished) printf("Unfinished downloads go on with loam pull, or go with loam rm --unfinished.\n");
    return LOAMI_EXIT_OK;
}
