#include "base/machine.h"

#ifdef __linux__

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* The first line of a file without its end; false when there is none. */
static bool read_line(const char *path, char *out, size_t n)
{
    FILE *f = fopen(path, "r");
    bool ok = f && fgets(out, (int)n, f);
    if (f) fclose(f);
    if (!ok) out[0] = 0;
    out[strcspn(out, "\r\n")] = 0;
    return ok;
}

/* The value of the first line that begins with key: "MemAvailable:   123 kB", "PRETTY_NAME="x"". */
static bool read_value(const char *path, const char *key, const char *marks, char *out, size_t n)
{
    char line[4096];
    FILE *f = fopen(path, "r");
    bool found = false;
    out[0] = 0;
    while (f && !found && fgets(line, sizeof line, f)) {
        size_t k = strlen(key);
        if (strncmp(line, key, k) != 0) continue;
        const char *v = line + k + strspn(line + k, marks);
        snprintf(out, n, "%s", v);
        out[strcspn(out, "\r\n\"")] = 0;
        found = true;
    }
    if (f) fclose(f);
    return found;
}

static void look_at_system(loami_machine_facts *m)
{
    struct utsname u;
    char name[64];
    bool known = read_value("/etc/os-release", "PRETTY_NAME=", "\"", name, sizeof name);
    if (uname(&u) == 0) snprintf(m->os, sizeof m->os, "%s%sLinux %.40s", name, known ? ", " : "", u.release);
}

static void look_at_processor(loami_machine_facts *m)
{
    static const char *const wanted[] = { "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8",
                                          "asimd", "asimddp", "i8mm", "bf16", "sve" };
    char all[4096];
    cpu_set_t allowed;
    if (!read_value("/proc/cpuinfo", "model name", "\t :", m->cpu, sizeof m->cpu))
        read_value("/proc/cpuinfo", "Model", "\t :", m->cpu, sizeof m->cpu);
    if (!read_value("/proc/cpuinfo", "flags", "\t :", all, sizeof all)) read_value("/proc/cpuinfo", "Features", "\t :", all, sizeof all);
    for (char *save, *word = strtok_r(all, " ", &save); word; word = strtok_r(NULL, " ", &save))
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (strcmp(word, wanted[i]) == 0 && strlen(m->flags) + strlen(word) + 2 < sizeof m->flags) {
                if (m->flags[0]) strcat(m->flags, " ");
                strcat(m->flags, word);
            }
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) m->cores = (uint32_t)CPU_COUNT(&allowed);
}

static void look_at_memory(loami_machine_facts *m)
{
    static const char *const limits[] = { "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes" };
    char text[64];
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    if (read_value("/proc/meminfo", "MemAvailable:", " \t", text, sizeof text)) m->available_bytes = strtoull(text, NULL, 10) * 1024;
    for (int i = 0; i < 2 && !m->limit_bytes; i++)
        if (read_line(limits[i], text, sizeof text)) m->limit_bytes = strtoull(text, NULL, 10); /* "max" is 0 */
    if (pages > 0 && size > 0 && m->limit_bytes >= (uint64_t)pages * (uint64_t)size) m->limit_bytes = 0;
}

static void look_at_gpu(loami_machine_facts *m)
{
    static const char root[] = "/proc/driver/nvidia/gpus";
    char path[512], name[128];
    uint32_t n = 0;
    DIR *d = opendir(root);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%.200s/information", root, e->d_name);
        if (!read_value(path, "Model:", " \t", name, sizeof name)) continue;
        if (n++ == 0) snprintf(m->gpu, sizeof m->gpu, "%s", name);
    }
    if (d) closedir(d);
    if (n > 1) snprintf(m->gpu + strlen(m->gpu), sizeof m->gpu - strlen(m->gpu), " x %u", n);
}

static bool on_battery(void)
{
    char path[512], text[32];
    bool battery = false, mains = false;
    DIR *d = opendir("/sys/class/power_supply");
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/sys/class/power_supply/%.200s/status", e->d_name);
        if (read_line(path, text, sizeof text)) battery |= strcmp(text, "Discharging") == 0;
        snprintf(path, sizeof path, "/sys/class/power_supply/%.200s/online", e->d_name);
        if (read_line(path, text, sizeof text)) mains |= strcmp(text, "1") == 0;
    }
    if (d) closedir(d);
    return battery && !mains;
}

static void look_at_power(loami_machine_facts *m)
{
    char governor[64];
    bool known = read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", governor, sizeof governor);
    if (on_battery()) {
        m->power_slow = true;
        snprintf(m->power, sizeof m->power, "on battery");
        snprintf(m->power_do, sizeof m->power_do, "plug it in");
    } else if (known) {
        m->power_slow = strcmp(governor, "powersave") == 0;
        snprintf(m->power, sizeof m->power, "governor %.60s", governor);
        if (m->power_slow) snprintf(m->power_do, sizeof m->power_do, "sudo cpupower frequency-set -g performance");
    }
}

void loami_machine_get(loami_machine_facts *out)
{
    memset(out, 0, sizeof *out);
    look_at_system(out);
    look_at_processor(out);
    look_at_memory(out);
    look_at_gpu(out);
    look_at_power(out);
}

#endif
