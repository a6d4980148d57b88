/* base/system.h: what the operating system knows about this process and machine. */
#ifndef LOAMI_SYSTEM_H
#define LOAMI_SYSTEM_H

#include <stdint.h>

uint64_t loami_peak_memory_bytes(void);   /* largest resident size of this process so far */
uint64_t loami_resident_memory_bytes(void); /* now; 0 when the system does not say */
uint64_t loami_memory_bytes(void);        /* the machine's */

#endif
