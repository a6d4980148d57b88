/* A platform file: the one place of base that asks which system this is. */
#include "base/system.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#ifdef __APPLE__
#include <mach-o/dyld.h>
#include <mach/mach.h>
#endif

#ifdef __APPLE__
const int loami_send_flags = 0;
#else
const int loami_send_flags = MSG_NOSIGNAL;
#endif

uint64_t loami_peak_memory_bytes(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) < 0) return 0;
#ifdef __APPLE__
    return (uint64_t)u.ru_maxrss;
#else
    return (uint64_t)u.ru_maxrss * 1024;
#endif
}

uint64_t loami_memory_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

uint64_t loami_memory_share_bytes(void)
{
    return loami_memory_bytes() / 4 * 3;
}

void loami_memory_lean(void)
{
#ifdef __GLIBC__
    enum { ALONE_BYTES = 1 << 20, TOP_BYTES = 2 << 20 }; /* set, they don't grow with what is freed, to 32 and 64 MiB */
    mallopt(M_MMAP_THRESHOLD, ALONE_BYTES);
    mallopt(M_TRIM_THRESHOLD, TOP_BYTES);
#endif
}

void loami_memory_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

uint64_t loami_resident_memory_bytes(void)
{
#ifdef __APPLE__
    mach_task_basic_info_data_t info;
    mach_msg_type_number_t n = MACH_TASK_BASIC_INFO_COUNT;
    kern_return_t rc = task_info(mach_task_self(), MACH_TASK_BASIC_INFO, (task_info_t)&info, &n);
    return rc == KERN_SUCCESS ? (uint64_t)info.resident_size : 0;
#else
    static int fd = -1; /* kept: a sealed process opens no files */
    char text[200];
    unsigned long long size, resident = 0;
    long page = sysconf(_SC_PAGESIZE);
    if (fd < 0) fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);
    if (n <= 0) return 0;
    text[n] = 0;
    if (sscanf(text, "%llu %llu", &size, &resident) != 2) return 0;
    return page > 0 ? (uint64_t)resident * (uint64_t)page : 0;
#endif
}

int loami_program_path(char *out, size_t size)
{
#ifdef __APPLE__
    char name[4096];
    uint32_t n = sizeof name;
    if (_NSGetExecutablePath(name, &n) != 0) return -1;
    char *real = realpath(name, NULL);
#else
    char *real = realpath("/proc/self/exe", NULL);
#endif
    int rc = real && strlen(real) < size ? 0 : -1;
    if (rc == 0) strcpy(out, real);
    free(real);
    return rc;
}
