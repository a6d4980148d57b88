/* The first byte tells which file the rest is: model.safetensors, or the index beside one good shard. */
#include "file/safetensors.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char dir[] = "/tmp/loam-fuzz-XXXXXX";

static void remove_dir(void)
{
    loami_dir_remove(dir, NULL);
}

static void put(const char *name, const void *data, size_t n)
{
    char path[LOAMI_PATH_MAX];
    if (loami_path_join(path, dir, name, NULL) < 0) abort();
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f) != 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char good[] =
        "\x37\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}  ab";
    static bool ready;
    loami_weights *w;
    loam_err err;
    if (!ready) {
        if (!mkdtemp(dir)) abort();
        atexit(remove_dir);
        ready = true;
    }
    if (size == 0) return 0;
    bool index = data[0] & 1;
    char path[LOAMI_PATH_MAX];
    if (loami_path_join(path, dir, "model.safetensors.index.json", NULL) < 0) abort();
    remove(path);
    if (index) put("model.safetensors.index.json", data + 1, size - 1);
    if (index)
        put("model.safetensors", good, sizeof good - 1);
    else
        put("model.safetensors", data + 1, size - 1);

    if (loami_weights_open(&w, dir, &err) < 0) return 0;
    volatile unsigned sum = 0;
    for (uint32_t i = 0; i < loami_weights_count(w); i++) {
        const loami_tensor_view *t = loami_weights_at(w, i);
        const unsigned char *p = t->data;
        for (uint64_t k = 0; k < t->bytes; k++) sum += p[k];
        if (loami_weights_find(w, t->name) != t) abort();
    }
    loami_weights_close(w);
    return 0;
}
