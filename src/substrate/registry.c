#include "substrate/registry.h"
#include "base/err.h"

#include <string.h>

/* In order of preference for "auto". */
static const loam_substrate *const kinds[] = { &loami_cpu, &loami_reference, NULL };

int loami_substrate_find(const loam_substrate **out, const char *name, loam_err *err)
{
    bool any = !name || !*name || strcmp(name, "auto") == 0;
    for (int i = 0; kinds[i]; i++) {
        if (!any && strcmp(kinds[i]->name, name) != 0) continue;
        *out = kinds[i];
        return 0;
    }
    return loami_fail(err, LOAM_E_NOT_FOUND, "no substrate \"%s\" here; there are: cpu, reference", name);
}
