/* How many cores there are: the one file of the CPU substrate that asks the operating system. */
#include "substrate/cpu/pool.h"

#include <stdio.h>
#include <unistd.h>

#if defined(__APPLE__)
#include <sys/sysctl.h>

uint32_t loami_physical_cores(void)
{
    /* Performance cores alone: an efficiency core would hold up every phase. */
    static const char *const names[] = { "hw.perflevel0.physicalcpu", "hw.physicalcpu", NULL };
    for (int i = 0; names[i]; i++) {
        int n = 0;
        size_t size = sizeof n;
        if (sysctlbyname(names[i], &n, &size, NULL, 0) == 0 && n > 0) return (uint32_t)n;
    }
    return 1;
}

#elif defined(__linux__)
#include <sched.h>

/* The lowest-numbered hardware thread of cpu's core, or cpu itself when the system does not say. */
static int first_sibling(int cpu)
{
    char path[96];
    int first = cpu;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *f = fopen(path, "r");
    if (!f) return cpu;
    if (fscanf(f, "%d", &first) != 1) first = cpu;
    fclose(f);
    return first;
}

/* Cores of which at least one hardware thread is ours: each is counted at its first one allowed. */
uint32_t loami_physical_cores(void)
{
    cpu_set_t allowed, seen;
    uint32_t n = 0;
    CPU_ZERO(&seen);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        return online > 0 ? (uint32_t)online : 1;
    }
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        int core = first_sibling(cpu);
        if (core < 0 || core >= CPU_SETSIZE || CPU_ISSET(core, &seen)) continue;
        CPU_SET(core, &seen);
        n++;
    }
    return n ? n : 1;
}

#else

uint32_t loami_physical_cores(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint32_t)online : 1;
}
#endif
