#include "base/machine.h"

#ifdef __APPLE__

#include <mach/mach.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysctl.h>

/* A whole number of 4 or 8 bytes; 0 when the name is not known here. */
static uint64_t number(const char *name)
{
    unsigned char raw[8] = { 0 };
    size_t size = sizeof raw;
    uint32_t small;
    uint64_t large;
    if (sysctlbyname(name, raw, &size, NULL, 0) != 0) return 0;
    memcpy(&small, raw, sizeof small);
    memcpy(&large, raw, sizeof large);
    return size == sizeof small ? small : size == sizeof large ? large : 0;
}

static void text(const char *name, char *out, size_t n)
{
    size_t size = n;
    if (sysctlbyname(name, out, &size, NULL, 0) != 0) out[0] = 0;
    out[n - 1] = 0;
}

static void look_at_processor(loami_machine_facts *m)
{
    static const char *const features[][2] = {
        { "hw.optional.arm.FEAT_DotProd", "dotprod" }, { "hw.optional.arm.FEAT_I8MM", "i8mm" },
        { "hw.optional.arm.FEAT_BF16", "bf16" },       { "hw.optional.arm.FEAT_SME", "sme" },
        { "hw.optional.avx2_0", "avx2" },              { "hw.optional.avx512f", "avx512f" },
    };
    text("machdep.cpu.brand_string", m->cpu, sizeof m->cpu);
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        if (number(features[i][0])) snprintf(m->flags + strlen(m->flags), sizeof m->flags - strlen(m->flags), "%s%s",
                                             m->flags[0] ? " " : "", features[i][1]);
    m->cores = (uint32_t)number("hw.logicalcpu");
    m->fast_cores = (uint32_t)number("hw.perflevel0.logicalcpu");
    if (m->fast_cores == m->cores) m->fast_cores = 0;
}

static void look_at_memory(loami_machine_facts *m)
{
    vm_statistics64_data_t vm;
    mach_msg_type_number_t n = HOST_VM_INFO64_COUNT;
    if (host_statistics64(mach_host_self(), HOST_VM_INFO64, (host_info64_t)&vm, &n) == KERN_SUCCESS)
        m->available_bytes = ((uint64_t)vm.free_count + vm.inactive_count + vm.purgeable_count) * number("hw.pagesize");
}

/* An Apple chip's GPU shares the memory; how much of it the GPU may hold, iogpu.wired_limit_mb says, or, when that is 0, a rule
 * of the system's: two thirds of up to 36 GB, three quarters of more. */
static void look_at_gpu(loami_machine_facts *m)
{
    uint64_t memory = number("hw.memsize"), limit_mb = number("iogpu.wired_limit_mb");
    if (strncmp(m->cpu, "Apple", 5) != 0) return;
    snprintf(m->gpu, sizeof m->gpu, "%s", m->cpu);
    m->wired_is_default = limit_mb == 0;
    m->wired_bytes = limit_mb ? limit_mb << 20 : memory <= 36ull << 30 ? memory / 3 * 2 : memory / 4 * 3;
}

/* pmset has no function to call: its words are read. "pmset -g" prints the settings in force, "lowpowermode 1" among them;
 * "pmset -g batt" begins with "Now drawing from 'Battery Power'". */
static bool says(const char *command, const char *word, const char *value)
{
    char line[512];
    bool found = false;
    FILE *f = popen(command, "r");
    while (f && fgets(line, sizeof line, f)) {
        const char *at = strstr(line, word);
        if (at && strstr(at + strlen(word), value)) found = true;
    }
    if (f) pclose(f);
    return found;
}

static void look_at_power(loami_machine_facts *m)
{
    bool low = says("/usr/bin/pmset -g 2>/dev/null", " lowpowermode", "1");
    bool battery = says("/usr/bin/pmset -g batt 2>/dev/null", "drawing from", "Battery");
    bool high = says("/usr/bin/pmset -g 2>/dev/null", " powermode", "2");
    snprintf(m->power, sizeof m->power, "%s%s", low ? "low power mode" : high ? "high power mode" : "normal power mode",
             battery ? ", on battery" : "");
    m->power_slow = low || battery;
    if (low) snprintf(m->power_do, sizeof m->power_do, "sudo pmset -a lowpowermode 0");
    else if (battery) snprintf(m->power_do, sizeof m->power_do, "plug it in");
}

void loami_machine_get(loami_machine_facts *out)
{
    char version[32];
    memset(out, 0, sizeof *out);
    text("kern.osproductversion", version, sizeof version);
    snprintf(out->os, sizeof out->os, "macOS %s", version);
    look_at_processor(out);
    look_at_memory(out);
    look_at_gpu(out);
    look_at_power(out);
}

#endif
