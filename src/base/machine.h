/* base/machine.h: what the operating system tells of the machine it runs on, for people to read. machine_linux.c and
 * machine_darwin.c know how to ask; elsewhere nothing is known. */
#ifndef LOAMI_MACHINE_H
#define LOAMI_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

/* What is not known is "" or 0. */
typedef struct loami_machine_facts {
    char os[128];                  /* "macOS 15.2", "Debian GNU/Linux 12 (bookworm), Linux 6.1" */
    char cpu[128];                 /* "Apple M1 Max" */
    char flags[256];               /* those that kernels use: "avx2 avx512f avx512_vnni" */
    char gpu[256];                 /* "Apple M1 Max", "NVIDIA H100 80GB HBM3" */
    uint32_t cores, fast_cores;    /* processors that this process may use; of them performance cores, 0 = all alike */
    uint64_t available_bytes;      /* memory that could be had without swapping */
    uint64_t limit_bytes;          /* of a container, if less than the machine's memory */
    uint64_t wired_bytes;          /* memory that a GPU may hold at most */
    bool wired_is_default;         /* by the system's own rule, not by a setting */
    char power[128];               /* "on battery", "governor powersave" */
    bool power_slow;               /* that costs speed */
    char power_do[160];            /* what to do about it */
} loami_machine_facts;

void loami_machine_get(loami_machine_facts *out);

#endif
