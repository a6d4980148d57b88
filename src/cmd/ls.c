#include "cmd/cmd.h"

#include "base/json.h"
#include "cmd/open.h"
#include "cmd/work.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct list {
    json_t *json; /* NULL: print a table */
    unsigned n;
};

static int show_entry(void *arg, const loami_store_entry *e)
{
    struct list *l = arg;
    char bytes[32], day[32] = "";
    time_t t = (time_t)e->changed_s;
    struct tm tm;
    if (l->json) {
        json_array_append_new(l->json, json_pack("{s:s,s:s,s:s,s:I,s:I}", "name", e->name, "path", e->path,
                                                 "from", e->from, "bytes", (json_int_t)e->bytes, "modified",
                                                 (json_int_t)e->changed_s));
        return 0;
    }
    if (l->n++ == 0) printf("%-44s %10s  %-5s %s\n", "NAME", "SIZE", "FROM", "CHANGED");
    if (localtime_r(&t, &tm)) strftime(day, sizeof day, "%Y-%m-%d %H:%M", &tm);
    loami_bytes_text(bytes, e->bytes);
    printf("%-44s %10s  %-5s %s\n", e->name, bytes, e->from, day);
    return 0;
}

int loami_cmd_ls(int argc, char **argv)
{
    bool json = false;
    const loami_opt table[] = {
        { "--json", 0, NULL, "a JSON list of {name, path, from, bytes, modified}", LOAMI_OPT_FLAG, &json,
          NULL, 0, 0 },
        { 0 },
    };
    loam_err err;
    struct list l = { 0 };
    int rc = loami_opt_parse(argc, argv, table, "list the models in the store and in the Hugging Face cache");
    if (rc) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (json) l.json = json_array();
    rc = loami_store_each(show_entry, &l, &err);
    if (rc == 0 && json) return loami_cmd_print_json(l.json);
    if (rc == 0 && !json && l.n == 0)
        fprintf(stderr, "loam ls: no models yet (loam pull gets one, loam import FILE.gguf makes one)\n");
    json_decref(l.json);
    return rc < 0 ? loami_cmd_fail("ls", &err) : LOAMI_EXIT_OK;
}
