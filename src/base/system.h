/* base/system.h: what the operating system knows about this process and machine. */
#ifndef LOAMI_SYSTEM_H
#define LOAMI_SYSTEM_H

#include <stddef.h>
#include <stdint.h>

uint64_t loami_peak_memory_bytes(void);   /* largest resident size of this process so far */
uint64_t loami_resident_memory_bytes(void); /* now; 0 when the system does not say */
uint64_t loami_memory_bytes(void);        /* the machine's */
uint64_t loami_memory_share_bytes(void);  /* of it, what models may take together when nobody says: three quarters */

/* Keeps the allocator from holding on to what was freed because such sizes were asked for before; and gives back what it
 * holds now. No-ops where it is not glibc's. Any thread. */
void loami_memory_lean(void);
void loami_memory_trim(void);

/* For send: an error, not SIGPIPE, when the other end is gone. 0 on macOS, where libcurl's sockets are set so. */
extern const int loami_send_flags;

/* The running program's own file, without links; -1 when the system will not say or it does not fit. */
int loami_program_path(char *out, size_t size);

#endif
