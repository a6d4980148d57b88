#include "cmd/settings.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    loami_settings s;
    loam_err err;
    if (loami_settings_parse(&s, (const char *)data, size, "loam.conf", &err) < 0) return 0;
    for (uint32_t i = 0; i < s.n; i++)
        if (!s.all[i].name[0] || s.all[i].line == 0 || strlen(s.all[i].value) > size) abort();
    loami_settings_free(&s);
    return 0;
}
