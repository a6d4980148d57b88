#include "substrate/registry.h"
#include "base/err.h"
#include "substrate/load.h"

#include <stdlib.h>
#include <string.h>

/* In order of preference for "auto": first those loaded, if they say that they suit this machine (it has a GPU that
 * they can use), then those built in. */
static const char *const loadable[] = { "mlx", NULL };
static const loam_substrate *const built_in[] = { &loami_cpu, &loami_reference, NULL };

static bool is_auto(const char *name)
{
    return !name || !*name || strcmp(name, "auto") == 0;
}

static int find_fastest(const loam_substrate **out, loam_err *err)
{
    for (int i = 0; loadable[i]; i++)
        if (loami_substrate_suits(loadable[i])) return loami_substrate_load(out, loadable[i], err);
    *out = built_in[0];
    return 0;
}

int loami_substrate_find(const loam_substrate **out, const char *name, loam_err *err)
{
    loam_err why = { 0 };
    if (is_auto(name)) name = getenv("LOAM_SUBSTRATE");
    if (is_auto(name)) return find_fastest(out, err);
    for (int i = 0; built_in[i]; i++) {
        if (strcmp(built_in[i]->name, name) != 0) continue;
        *out = built_in[i];
        return 0;
    }
    int rc = loami_substrate_load(out, name, &why);
    if (rc == 0) return 0;
    for (int i = 0; loadable[i]; i++)
        if (strcmp(loadable[i], name) == 0) return loami_fail(err, rc, "substrate %s: %s", name, why.msg);
    return loami_fail(err, rc, "no substrate \"%s\" here; there are cpu, reference and mlx (%s)", name, why.msg);
}

const char *loami_substrate_name(uint32_t i)
{
    uint32_t n = 0;
    for (uint32_t k = 0; loadable[k]; k++)
        if (n++ == i) return loadable[k];
    for (uint32_t k = 0; built_in[k]; k++)
        if (n++ == i) return built_in[k]->name;
    return NULL;
}
