#include "loam.h"

const char *loam_version(void)
{
    return LOAM_VERSION;
}
