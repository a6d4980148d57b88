#include "substrate/load.h"
#include "base/err.h"
#include "base/file.h"

#include <ctype.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __APPLE__
#include <mach-o/dyld.h>
#define SUFFIX "dylib"
#else
#define SUFFIX "so"
#endif

enum { NAME_MAX_BYTES = 32, MAX_LOADED = 8, PATH_BYTES = LOAMI_PATH_MAX };

typedef struct loaded {
    char name[NAME_MAX_BYTES];
    const loam_substrate *api;
    bool (*suits)(void);
} loaded;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static loaded all[MAX_LOADED];
static uint32_t n_all;

/* The folder of the running program; false where the system won't say. */
static bool program_folder(char *out, size_t size)
{
#ifdef __APPLE__
    uint32_t n = (uint32_t)size;
    if (_NSGetExecutablePath(out, &n) != 0) return false;
#else
    ssize_t n = readlink("/proc/self/exe", out, size - 1);
    if (n < 0) return false;
    out[n] = '\0';
#endif
    char *slash = strrchr(out, '/');
    if (!slash) return false;
    *slash = '\0';
    return true;
}

static bool is_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    return n > 0 && n < NAME_MAX_BYTES && name[n] == '\0';
}

/* Where the object is: LOAM_NAME's word for it, or the first of the two places that has it. */
static int find_file(char *path, const char *name, loam_err *err)
{
    char variable[NAME_MAX_BYTES + 8] = "LOAM_", folder[PATH_BYTES];
    for (size_t i = 0; name[i]; i++) variable[5 + i] = (char)(name[i] == '-' ? '_' : toupper((unsigned char)name[i]));
    const char *said = getenv(variable);
    if (said && *said) {
        if (snprintf(path, PATH_BYTES, "%s", said) < PATH_BYTES && loami_file_exists(path)) return 0;
        return loami_fail(err, LOAM_E_NOT_FOUND, "%s=%s: no such file", variable, said);
    }
    if (!program_folder(folder, sizeof folder)) return loami_fail(err, LOAM_E_NOT_FOUND, "set %s to the path of %s." SUFFIX, variable, name);
    static const char *const places[] = { "", "/../lib/loam" };
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        int n = snprintf(path, PATH_BYTES, "%s%s/%s." SUFFIX, folder, places[i], name);
        if (n < PATH_BYTES && loami_file_exists(path)) return 0;
    }
    return loami_fail(err, LOAM_E_NOT_FOUND, "no %s." SUFFIX " in %s or ../lib/loam of it: `make %s` builds it, %s may say where it is", name, folder,
                      name, variable);
}

static int load(loaded *out, const char *name, loam_err *err)
{
    char path[PATH_BYTES];
    int rc = find_file(path, name, err);
    if (rc < 0) return rc;
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!object) return loami_fail(err, LOAM_E_UNSUPPORTED, "%s", dlerror());
    const loam_substrate *(*entry)(void);
    *(void **)&entry = dlsym(object, "loam_substrate_entry");
    *(void **)&out->suits = dlsym(object, "loam_substrate_suits");
    out->api = entry ? entry() : NULL;
    if (out->api && out->api->abi == LOAM_SUBSTRATE_ABI) {
        snprintf(out->name, sizeof out->name, "%s", name);
        return 0;
    }
    rc = out->api ? loami_fail(err, LOAM_E_UNSUPPORTED, "%s: made for version %u of loam_substrate.h, this program has %d", path, out->api->abi,
                               LOAM_SUBSTRATE_ABI)
                  : loami_fail(err, LOAM_E_UNSUPPORTED, "%s: not a substrate: it has no loam_substrate_entry", path);
    dlclose(object);
    return rc;
}

/* The entry of `name`, loaded now if it wasn't. */
static int get(const loaded **out, const char *name, loam_err *err)
{
    int rc = 0;
    if (!is_name(name)) return loami_fail(err, LOAM_E_NOT_FOUND, "no substrate can be called \"%s\"", name);
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < n_all; i++) {
        if (strcmp(all[i].name, name) != 0) continue;
        *out = &all[i];
        goto out;
    }
    rc = n_all < MAX_LOADED ? load(&all[n_all], name, err) : loami_fail(err, LOAM_E_UNSUPPORTED, "more than %d substrates", MAX_LOADED);
    if (rc == 0) *out = &all[n_all++];
out:
    pthread_mutex_unlock(&lock);
    return rc;
}

int loami_substrate_load(const loam_substrate **out, const char *name, loam_err *err)
{
    const loaded *l = NULL;
    int rc = get(&l, name, err);
    if (rc == 0) *out = l->api;
    return rc;
}

bool loami_substrate_suits(const char *name)
{
    const loaded *l = NULL;
    return get(&l, name, NULL) == 0 && l->suits && l->suits();
}
