/* A GGUF file through the whole import: what is not refused must become a folder that loam reads back. */
#include "store/import.h"

#include "base/file.h"
#include "store/info.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char dir[LOAMI_PATH_MAX];

static void remove_dir(void)
{
    loami_dir_remove(dir, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    char path[LOAMI_PATH_MAX], model[LOAMI_PATH_MAX];
    loami_import_options o = { .name = "x", .force = true };
    loami_info i;
    loam_err err;
    if (!ready) {
        /* in memory where there is such a place: an import waits for the disk */
        snprintf(dir, sizeof dir, "%s/loam-fuzz-XXXXXX", loami_dir_exists("/dev/shm") ? "/dev/shm" : "/tmp");
        if (!mkdtemp(dir)) abort();
        setenv("LOAM_HOME", dir, 1);
        atexit(remove_dir);
        ready = true;
    }
    if (loami_path_join(path, dir, "input.gguf", NULL) < 0) abort();
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) abort();
    if (loami_import_gguf(path, &o, &err) < 0) return 0;
    if (loami_store_find(model, "x", &err) < 0) abort();
    if (loami_info_open(&i, model, &err) < 0) { /* only for sizes that no model has */
        if (err.code != LOAM_E_FORMAT && err.code != LOAM_E_UNSUPPORTED) abort();
        return 0;
    }
    loami_info_close(&i);
    return 0;
}
