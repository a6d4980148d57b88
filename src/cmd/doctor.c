#include "cmd/cmd.h"

#include "base/bandwidth.h"
#include "base/buf.h"
#include "base/machine.h"
#include "base/system.h"
#include "cmd/open.h"
#include "cmd/work.h"
#include "store/download.h"
#include "store/store.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { DEVICES = 16, MATMUL_N = 4096, MATMUL_RUNS = 10, MATMUL_LIMIT_S = 5, HEALTH_BYTES_MAX = 1 << 16 };

typedef enum verdict { V_OK, V_WARN, V_FAIL } verdict;
static const char *const verdicts[] = { "ok", "warn", "fail" };

/* What is found is told at once; with --json at the end. */
typedef struct doctor {
    bool json, quick;
    json_t *checks;
    uint32_t count[3];
} doctor;

/* to_do: what helps; "" = nothing is needed. figures may be NULL, and is taken. */
static void tell(doctor *d, verdict v, const char *check, const char *message, const char *to_do, json_t *figures)
{
    d->count[v]++;
    if (d->json) {
        json_t *o = json_pack("{s:s,s:s,s:s,s:s}", "check", check, "status", verdicts[v], "message", message, "do", to_do);
        if (figures) json_object_update(o, figures);
        json_array_append_new(d->checks, o);
    } else {
        printf("%-5s %-12s %s\n", verdicts[v], check, message);
        if (to_do[0]) printf("      %-12s -> %s\n", "", to_do);
        fflush(stdout);
    }
    json_decref(figures);
}

static void tellf(doctor *d, verdict v, const char *check, const char *to_do, json_t *figures, const char *fmt, ...)
    LOAMI_PRINTF(6, 7);

static void tellf(doctor *d, verdict v, const char *check, const char *to_do, json_t *figures, const char *fmt, ...)
{
    char message[700];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    tell(d, v, check, message, to_do, figures);
}

/* ---- the machine --------------------------------------------------------------------------------------- */

static void check_system(doctor *d, const loami_machine_facts *m)
{
    uint32_t slow = m->fast_cores && m->fast_cores < m->cores ? m->cores - m->fast_cores : 0;
    char cores[64];
    tell(d, V_OK, "version", "loam " LOAM_VERSION, "", json_pack("{s:s}", "version", loam_version()));
    tell(d, V_OK, "system", m->os[0] ? m->os : "unknown", "", NULL);
    if (slow)
        snprintf(cores, sizeof cores, "%u fast and %u slow cores", m->fast_cores, slow);
    else
        snprintf(cores, sizeof cores, "%u processor%s", m->cores, m->cores == 1 ? "" : "s");
    bool bare = !strstr(m->flags, "avx2") && !strstr(m->flags, "asimd") && !strstr(m->flags, "dotprod");
    tellf(d, bare ? V_WARN : V_OK, "processor", bare ? "without AVX2 or NEON, kernels are the plain ones, and slow" : "",
          json_pack("{s:i,s:s}", "processors", (int)m->cores, "flags", m->flags), "%s, %s%s%s", m->cpu[0] ? m->cpu : "unknown", cores,
          m->flags[0] ? "; " : "", m->flags);
    tell(d, V_OK, "gpu", m->gpu[0] ? m->gpu : "none that this looks for (Apple's and NVIDIA's)", "", NULL);
}

static void check_memory(doctor *d, const loami_machine_facts *m)
{
    uint64_t all = loami_memory_bytes();
    char total[32], free_text[32], limit[32] = "", wired[32];
    verdict v = V_OK;
    const char *to_do = "";
    loami_bytes_text(total, all);
    loami_bytes_text(free_text, m->available_bytes);
    if (m->limit_bytes) loami_bytes_text(limit, m->limit_bytes);
    if (m->available_bytes && m->available_bytes < all / 8) {
        v = V_WARN;
        to_do = "end other programs: a model that does not fit beside them is swapped, and a hundred times slower";
    }
    tellf(d, v, "memory", to_do,
          json_pack("{s:I,s:I,s:I}", "bytes", (json_int_t)all, "available_bytes", (json_int_t)m->available_bytes, "limit_bytes",
                    (json_int_t)m->limit_bytes),
          "%s, %s available%s%s", total, m->available_bytes ? free_text : "unknown", limit[0] ? "; this container may use " : "", limit);
    if (!m->wired_bytes) return;
    loami_bytes_text(wired, m->wired_bytes);
    tellf(d, V_OK, "wired limit", "", json_pack("{s:I}", "bytes", (json_int_t)m->wired_bytes), "the GPU may hold %s%s", wired,
          m->wired_is_default ? ", the system's rule; for more: sudo sysctl iogpu.wired_limit_mb=N, until the next start" : ", as set");
}

static void check_power(doctor *d, const loami_machine_facts *m)
{
    tell(d, m->power_slow ? V_WARN : V_OK, "power", m->power[0] ? m->power : "unknown", m->power_slow ? m->power_do : "", NULL);
}

/* ---- what computes ------------------------------------------------------------------------------------- */

/* The largest product of at most MATMUL_N that a substrate does in a few seconds: the plain one would take minutes. */
static uint32_t size_for(const char *substrate, loam_err *err)
{
    uint32_t n = 256, done;
    double s;
    if (loam_matmul_s(&s, &done, substrate, n, 1, 1, err) < 0) return 0;
    for (; n < MATMUL_N && s * 8 < 1.5; n *= 2) s *= 8;
    return n;
}

static void check_matmul(doctor *d, const loam_device *dev)
{
    char check[48];
    double s = 0;
    uint32_t done = 0;
    loam_err err;
    uint32_t n = size_for(dev->name, &err);
    snprintf(check, sizeof check, "matmul");
    if (n == 0 || loam_matmul_s(&s, &done, dev->name, n, MATMUL_RUNS, n < MATMUL_N ? 2 : MATMUL_LIMIT_S, &err) < 0) {
        tellf(d, V_FAIL, check, "run loam verify with a model, and report what it says", json_pack("{s:s}", "substrate", dev->name),
              "%s: %s", dev->name, err.msg);
        return;
    }
    double tflops = 2.0 * n * n * n / s * 1e-12;
    tellf(d, V_OK, check, "",
          json_pack("{s:s,s:I,s:i,s:f,s:f}", "substrate", dev->name, "n", (json_int_t)n, "runs", (int)done, "seconds", s * done,
                    "tflops", tflops),
          "%s: %u x %u^2 in %.2f s: %.3f TFLOP/s%s", dev->name, done, n, s * done, tflops,
          n < MATMUL_N ? " (smaller: 4096^2 would take too long)" : "");
}

static void check_devices(doctor *d, const loami_machine_facts *m)
{
    static loam_device devices[DEVICES];
    uint32_t n = loam_devices(devices, DEVICES);
    const loam_device *chosen = NULL;
    for (uint32_t i = 0; i < n && i < DEVICES; i++) {
        const loam_device *v = &devices[i];
        if (v->chosen) chosen = v;
        /* a GPU without what uses it is worth a warning; without a GPU there is nothing to miss */
        bool missed = !v->here && m->gpu[0];
        if (v->here)
            tellf(d, V_OK, "substrate", "", json_pack("{s:s,s:b,s:s,s:i}", "substrate", v->name, "here", 1, "device", v->device, "threads",
                                                      (int)v->threads),
                  "%s: %s, %u thread%s", v->name, v->device, v->threads, v->threads == 1 ? "" : "s");
        else
            tellf(d, missed ? V_WARN : V_OK, "substrate", missed ? "make mlx builds it" : "",
                  json_pack("{s:s,s:b,s:s}", "substrate", v->name, "here", 0, "why", v->why), "%s: not here: %s", v->name, v->why);
    }
    if (chosen && chosen->here)
        tellf(d, V_OK, "default", "", json_pack("{s:s,s:s}", "substrate", chosen->name, "device", chosen->device),
              "%s: %s (--substrate or LOAM_SUBSTRATE choose another)", chosen->name, chosen->device);
    else
        tell(d, V_FAIL, "default", "no substrate can be used", "LOAM_SUBSTRATE=cpu works on every machine", NULL);
    for (uint32_t i = 0; !d->quick && i < n && i < DEVICES; i++)
        if (devices[i].here) check_matmul(d, &devices[i]);
}

static void check_bandwidth(doctor *d)
{
    double bytes_per_s;
    loam_err err;
    if (loami_read_bandwidth(&bytes_per_s, 0, d->quick ? 0.1 : 1, &err) < 0) {
        tell(d, V_WARN, "bandwidth", err.msg, "end other programs", NULL);
        return;
    }
    tellf(d, V_OK, "bandwidth", "", json_pack("{s:f}", "read_gb_per_s", bytes_per_s * 1e-9),
          "memory is read at %.1f GB/s by the processor; %.1f tok/s are the most for 5 GB of weights", bytes_per_s * 1e-9, bytes_per_s / 5e9);
}

/* ---- where it serves, where models lie ----------------------------------------------------------------- */

/* What answers at a port that is taken: "loam (MODEL)", or NULL. */
static bool loam_at(uint32_t port, char *out, size_t n)
{
    char url[64];
    loami_answer a;
    json_t *root = NULL;
    loami_fetch_options o = { .no_retries = true, .stall_s = 3 };
    snprintf(url, sizeof url, "http://127.0.0.1:%u/health", port);
    if (loami_fetch(&a, url, false, HEALTH_BYTES_MAX, &o, NULL) < 0) return false;
    bool ok = a.body.data && loami_json_parse(&root, a.body.data, a.body.len, url, NULL) == 0;
    const char *framework = ok ? json_string_value(json_object_get(root, "framework")) : NULL;
    const char *model = ok ? json_string_value(json_object_get(root, "model")) : NULL;
    bool is = framework && strcmp(framework, "loam") == 0;
    if (is) snprintf(out, n, "a loam serves %.100s there", model ? model : "there");
    json_decref(root);
    loami_answer_free(&a);
    return is;
}

static void check_port(doctor *d, uint32_t port, const char *what)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    char said[160];
    if (fd < 0) return;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    int failed = bind(fd, (struct sockaddr *)&at, sizeof at) < 0 ? errno : 0;
    close(fd);
    json_t *figures = json_pack("{s:i}", "port", (int)port);
    if (!failed)
        tellf(d, V_OK, "port", "", figures, "%u is free for %s", port, what);
    else if (failed == EADDRINUSE && loam_at(port, said, sizeof said))
        tellf(d, V_OK, "port", "", figures, "%u: %s", port, said);
    else
        tellf(d, V_WARN, "port", "end it, or choose another port with --port (the gateway: \"listen\")", figures, "%u, for %s: %s", port,
              what, failed == EADDRINUSE ? "another program listens there" : strerror(failed));
}

struct count {
    uint32_t n;
    uint64_t bytes;
};

static int count_one(void *arg, const loami_store_entry *e)
{
    struct count *c = arg;
    c->n++;
    c->bytes += e->bytes;
    return 0;
}

/* What is there of a path: of a place that does not exist yet, the folder it would be made in. */
static void nearest(char *path)
{
    struct stat st;
    while (stat(path, &st) < 0 && strrchr(path, '/') && strrchr(path, '/') != path) *strrchr(path, '/') = 0;
    errno = loami_dir_exists(path) ? 0 : ENOTDIR;
}

static void check_place(doctor *d, const char *check, const char *variable, const char *path)
{
    char there[LOAMI_PATH_MAX], room[32], to_do[96];
    struct statvfs fs;
    snprintf(there, sizeof there, "%s", path);
    snprintf(to_do, sizeof to_do, "make it yours, or set %s to another place", variable);
    nearest(there);
    if (errno || access(there, W_OK) < 0 || statvfs(there, &fs) < 0) {
        tellf(d, V_FAIL, check, to_do, json_pack("{s:s}", "path", path), "%s: %s", path, strerror(errno));
        return;
    }
    uint64_t bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    loami_bytes_text(room, bytes);
    snprintf(to_do, sizeof to_do, "loam du tells what takes it, loam rm makes room, %s moves it", variable);
    tellf(d, bytes < 20000000000u ? V_WARN : V_OK, check, bytes < 20000000000u ? to_do : "",
          json_pack("{s:s,s:I}", "path", path, "free_bytes", (json_int_t)bytes), "%s, %s free", path, room);
}

static void check_models(doctor *d)
{
    char path[LOAMI_PATH_MAX], size[32];
    struct count c = { 0 };
    loam_err err;
    int rc = loami_store_hub(path, &err);
    if (rc == 0) check_place(d, "cache", "HF_HUB_CACHE", path);
    if (rc == 0) rc = loami_store_home(path, &err);
    if (rc == 0) check_place(d, "store", "LOAM_HOME", path);
    if (rc == 0) rc = loami_store_each(count_one, &c, &err);
    if (rc < 0) {
        tell(d, V_FAIL, "models", err.msg, "set LOAM_HOME and HF_HOME to folders of your own", NULL);
        return;
    }
    loami_bytes_text(size, c.bytes);
    tellf(d, c.n ? V_OK : V_WARN, "models", c.n ? "" : "loam pull gets one; loam fit tells which fit here",
          json_pack("{s:i,s:I}", "models", (int)c.n, "bytes", (json_int_t)c.bytes), "%u here, %s", c.n, size);
}

int loami_cmd_doctor(int argc, char **argv)
{
    doctor d = { .json = false };
    const loami_opt table[] = {
        { "--quick", 0, NULL, "without the products of matrices", LOAMI_OPT_FLAG, &d.quick, NULL, 0, 0 },
        { "--json", 0, NULL, "as a JSON object", LOAMI_OPT_FLAG, &d.json, NULL, 0, 0 },
        { 0 },
    };
    static loami_machine_facts m;
    int rc = loami_opt_parse(argc, argv, table, "look at this machine, and say what to do about what is wrong");
    if (rc) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    d.checks = json_array();
    loami_machine_get(&m);
    check_system(&d, &m);
    check_memory(&d, &m);
    check_power(&d, &m);
    check_port(&d, 8000, "loam serve");
    check_port(&d, 8080, "loam gateway");
    check_models(&d);
    check_bandwidth(&d);
    check_devices(&d, &m);
    bool ok = d.count[V_FAIL] == 0;
    if (d.json)
        loami_cmd_print_json(json_pack("{s:b,s:o}", "ok", ok, "checks", d.checks));
    else
        printf("\n%u ok, %u to look at, %u wrong\n", d.count[V_OK], d.count[V_WARN], d.count[V_FAIL]);
    if (!d.json) json_decref(d.checks);
    return ok ? LOAMI_EXIT_OK : LOAMI_EXIT_FAIL;
}
