#include "cmd/cmd.h"

#include "base/clock.h"
#include "cmd/open.h"
#include "cmd/work.h"
#include "store/pull.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_EVERY_S = 10, RATE_OVER_S = 8 };

/* What is shown while it runs: one line that is written over on a terminal, a line now and then elsewhere. */
typedef struct show {
    bool terminal, quiet, any;
    double start_s, shown_s, rate_s; /* rate_s: when rate was last brought up to date */
    uint64_t rate_bytes;             /* received by then */
    double rate;                     /* bytes a second, mostly of the last RATE_OVER_S */
    const char *waiting;             /* told already */
} show;

static void duration(char out[32], double s)
{
    if (s < 90)
        snprintf(out, 32, "%.0f s", s);
    else if (s < 5400)
        snprintf(out, 32, "%.0f min", s / 60);
    else
        snprintf(out, 32, "%.1f h", s / 3600);
}

static void update_rate(show *w, const loami_download_state *s, double now)
{
    double passed = now - w->rate_s;
    if (passed < 0.5) return;
    double rate = (double)(s->received - w->rate_bytes) / passed, all = now - w->start_s;
    w->rate += (rate - w->rate) * passed / (all < RATE_OVER_S ? all : RATE_OVER_S); /* at first the average since the start */
    w->rate_s = now;
    w->rate_bytes = s->received;
}

static void progress(void *arg, const loami_download_state *s)
{
    show *w = arg;
    double now = loami_now_s(), every = w->terminal ? 0.2 : LINE_EVERY_S;
    char done[32], total[32], rate[32], left[32] = "";
    update_rate(w, s, now);
    if (w->quiet) return;
    if (s->waiting && s->waiting != w->waiting) {
        fprintf(stderr, "%s%s is being downloaded by another program; waiting for it\n", w->terminal ? "\r\033[K" : "", s->waiting);
        w->waiting = s->waiting;
    }
    if (now - w->shown_s < every || !s->total || s->done == s->total || w->rate <= 0) return;
    w->shown_s = now;
    w->any = true;
    loami_bytes_text(done, s->done);
    loami_bytes_text(total, s->total);
    loami_bytes_text(rate, (uint64_t)w->rate);
    if (w->rate >= 1) duration(left, (double)(s->total - s->done) / w->rate);
    fprintf(stderr, "%s%3d %%  %s of %s  %s/s  %s left  (%u of %u files)%s", w->terminal ? "\r" : "",
            (int)(100 * (double)s->done / (double)s->total), done, total, rate, left[0] ? left : "?", s->files_done, s->files,
            w->terminal ? "\033[K" : "\n");
    fflush(stderr);
}

static void clear(show *w)
{
    if (w->terminal && w->any) fprintf(stderr, "\r\033[K");
    w->any = false;
}

static void say(void *arg, const char *line)
{
    show *w = arg;
    clear(w);
    if (!w->quiet) fprintf(stderr, "%s\n", line);
}

static bool stopped(void *arg)
{
    (void)arg;
    return loami_work_stopped();
}

static int list_one(void *arg, const char *name, uint64_t bytes)
{
    char size[32];
    (void)arg;
    loami_bytes_text(size, bytes);
    printf("%-56s %10s\n", name, size);
    return 0;
}

static int print(const loami_pull_result *r, const show *w, bool json)
{
    double s = loami_now_s() - w->start_s;
    char bytes[32], rate[32];
    if (json)
        return loami_cmd_print_json(json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:f}", "id", r->id, "revision", r->revision, "commit",
                                              r->commit, "path", r->path, "files", (json_int_t)r->files, "bytes",
                                              (json_int_t)r->bytes, "fetched_bytes", (json_int_t)r->fetched, "seconds", s));
    loami_bytes_text(bytes, r->fetched);
    loami_bytes_text(rate, s > 0 ? (uint64_t)((double)r->fetched / s) : 0);
    if (r->fetched && !w->quiet) fprintf(stderr, "%s in %.1f s, %s/s\n", bytes, s, rate);
    puts(r->path);
    return LOAMI_EXIT_OK;
}

int loami_cmd_pull(int argc, char **argv)
{
    const char *name = NULL, *from = NULL;
    loami_opt_list include = { .n = 0 }, exclude = { .n = 0 };
    uint32_t connections = 0, retries = LOAMI_RETRIES;
    uint64_t part_bytes = 0;
    bool force = false, json = false, quiet = false;
    const loami_opt table[] = {
        { NULL, 0, "MODEL", "ORG/NAME, ORG/NAME@REVISION, or a short name (loam fit lists them)", LOAMI_OPT_STRING, &name, NULL, 0, 0 },
        { "--from", 0, "URL", "another loam that runs with --share-models; without MODEL: what it has [key: LOAM_API_KEY]",
          LOAMI_OPT_STRING, &from, NULL, 0, 0 },
        { "--include", 0, "PATTERN", "get files like '*.gguf' instead of those that a model needs; may be repeated", LOAMI_OPT_LIST,
          &include, NULL, 0, 0 },
        { "--exclude", 0, "PATTERN", "leave such files out; may be repeated", LOAMI_OPT_LIST, &exclude, NULL, 0, 0 },
        { "--connections", 0, "N", "at the same time [8]", LOAMI_OPT_U32, &connections, NULL, 1, 64 },
        { "--part-bytes", 0, "N", "larger files come in parts of so many, over several connections [67108864]", LOAMI_OPT_U64,
          &part_bytes, NULL, 65536, 1099511627776.0 },
        { "--retries", 0, "N", "after a failure, with growing pauses [9: about a minute]", LOAMI_OPT_U32, &retries, NULL, 0, 1000 },
        { "--force", 'f', NULL, "with --from: replace a model of that name in the store", LOAMI_OPT_FLAG, &force, NULL, 0, 0 },
        { "--json", 0, NULL, "print what came as a JSON object", LOAMI_OPT_FLAG, &json, NULL, 0, 0 },
        { "--quiet", 'q', NULL, "no progress", LOAMI_OPT_FLAG, &quiet, NULL, 0, 0 },
        { 0 },
    };
    loam_err err;
    loami_pull_result r;
    int rc = loami_opt_parse(argc, argv, table, "get a model from Hugging Face or from another loam");
    if (rc) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (!name && !from) {
        fprintf(stderr, "loam pull: which MODEL? For example mlx-community/Qwen2.5-14B-Instruct-4bit (see loam pull --help)\n");
        return LOAMI_EXIT_USAGE;
    }
    show w = { .terminal = isatty(STDERR_FILENO), .quiet = quiet || json, .start_s = loami_now_s() };
    w.shown_s = w.rate_s = w.start_s;
    loami_fetch_options fetch = { .retries = retries, .no_retries = retries == 0, .stopped = stopped };
    const char *key = getenv("LOAM_API_KEY");
    if (key && !*key) key = NULL;
    loami_work_begin("");
    if (!name) return loami_pull_list(from, key, list_one, NULL, &fetch, &err) < 0 ? loami_cmd_fail("pull", &err) : LOAMI_EXIT_OK;
    loami_pull_options o = {
        .from = from, .key = key, .force = force, .include = include.item, .n_include = include.n, .exclude = exclude.item,
        .n_exclude = exclude.n, .say = say, .arg = &w,
        .download = { .fetch = fetch, .connections = connections, .part_bytes = part_bytes, .progress = progress, .arg = &w },
    };
    rc = loami_pull(&r, name, &o, &err);
    clear(&w);
    return rc < 0 ? loami_cmd_fail("pull", &err) : print(&r, &w, json);
}
