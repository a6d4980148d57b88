#include "rollout/rollout.h"

#include "base/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 16 << 20 };

void loami_rollout_write(const loami_rollout *r, loami_buf *out)
{
    loami_buf_printf(out, "{\"version\":1,\"state\":\"%s\",\"paused_in\":\"%s\",\"step\":%u,\"id\":\"%016llx\","
                          "\"started\":%lld,\"step_started\":%lld,\"why\":",
                     loami_rollout_states[r->state], loami_rollout_states[r->paused_in], r->step,
                     (unsigned long long)r->id, (long long)r->started, (long long)r->step_started);
    loami_json_put(out, r->why, strlen(r->why));
    if (r->state != LOAMI_R_NONE) {
        loami_buf_puts(out, ",\"plan\":{");
        loami_plan_write(&r->plan, out);
        loami_buf_putc(out, '}');
    }
    char *history = r->history ? loami_json_text(r->history) : NULL;
    loami_buf_puts(out, ",\n\"history\":");
    loami_buf_puts(out, history ? history : "[]");
    free(history);
    loami_buf_puts(out, "}\n");
}

static int read_state(loami_rollout_state *out, const json_t *o, const char *key, const char *what, loam_err *err)
{
    const char *s = json_string_value(json_object_get(o, key));
    for (int i = 0; s && loami_rollout_states[i]; i++) {
        *out = i;
        if (strcmp(loami_rollout_states[i], s) == 0) return 0;
    }
    return loami_fail(err, LOAM_E_FORMAT, "%s: %s is no state of a rollout", what, key);
}

static int read_time(int64_t *out, const json_t *o, const char *key, const char *what, loam_err *err)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s must be a time", what, key);
    *out = json_integer_value(v);
    return 0;
}

static int read_history(loami_rollout *r, json_t *v, const char *what, loam_err *err)
{
    if (!json_is_array(v) || json_array_size(v) > LOAMI_HISTORY_MAX)
        return loami_fail(err, LOAM_E_FORMAT, "%s: history must be an array of at most %d events", what,
                          LOAMI_HISTORY_MAX);
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!json_is_object(json_array_get(v, i)))
            return loami_fail(err, LOAM_E_FORMAT, "%s: history[%zu] must be an object", what, i);
    r->history = json_incref(v);
    return 0;
}

static int read_all(loami_rollout *r, const json_t *o, const char *what, loam_err *err)
{
    const char *id = json_string_value(json_object_get(o, "id")),
               *why = json_string_value(json_object_get(o, "why"));
    char *end;
    int rc = 0;
    if (json_integer_value(json_object_get(o, "version")) != 1)
        return loami_fail(err, LOAM_E_FORMAT, "%s: version must be 1", what);
    if ((rc = read_state(&r->state, o, "state", what, err)) < 0 ||
        (rc = read_state(&r->paused_in, o, "paused_in", what, err)) < 0 ||
        (rc = loami_json_u32(o, what, "step", 0, LOAMI_STEPS_MAX - 1, &r->step, err)) < 0 ||
        (rc = read_time(&r->started, o, "started", what, err)) < 0 ||
        (rc = read_time(&r->step_started, o, "step_started", what, err)) < 0 ||
        (rc = read_history(r, json_object_get(o, "history"), what, err)) < 0)
        return rc;
    r->id = id ? strtoull(id, &end, 16) : 0;
    if (!id || *end) return loami_fail(err, LOAM_E_FORMAT, "%s: id must be a hexadecimal number", what);
    if (why) strncat(r->why, why, sizeof r->why - 1);
    if (r->state == LOAMI_R_NONE) return 0;
    rc = loami_plan_read(&r->plan, json_object_get(o, "plan"), what, err);
    if (rc == 0 && r->step >= r->plan.n_steps)
        rc = loami_fail(err, LOAM_E_FORMAT, "%s: step is beyond the plan's last one", what);
    if (rc == 0 && r->state == LOAMI_R_PAUSED && r->paused_in != LOAMI_R_WARMING && r->paused_in != LOAMI_R_RUNNING)
        rc = loami_fail(err, LOAM_E_FORMAT, "%s: paused_in must be warming or running", what);
    return rc;
}

int loami_rollout_parse(loami_rollout *r, const char *text, size_t n, const char *what, loam_err *err)
{
    json_t *o = NULL;
    memset(r, 0, sizeof *r);
    int rc = loami_json_parse(&o, text, n, what, err);
    if (rc == 0 && !json_is_object(o)) rc = loami_fail(err, LOAM_E_FORMAT, "%s: must be an object", what);
    if (rc == 0) rc = read_all(r, o, what, err);
    json_decref(o);
    if (rc < 0) loami_rollout_free(r);
    return rc;
}

static int sync_folder(const char *path, loam_err *err)
{
    char folder[LOAMI_PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 1;
    if (n >= sizeof folder) return loami_fail(err, LOAM_E_ARG, "path too long: %.100s...", path);
    memcpy(folder, slash ? path : ".", n);
    folder[n ? n : 1] = 0;
    if (!n) folder[0] = '/';
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return loami_fail_errno(err, "%s", folder);
    int rc = fsync(fd) < 0 ? loami_fail_errno(err, "%s: cannot sync", folder) : 0;
    close(fd);
    return rc;
}

int loami_rollout_save(const loami_rollout *r, const char *path, loam_err *err)
{
    loami_buf b = { 0 };
    loami_rollout_write(r, &b);
    int rc = b.failed ? loami_fail_nomem(err) : loami_file_write(path, b.data, b.len, err);
    if (rc == 0) rc = sync_folder(path, err);
    loami_buf_free(&b);
    return rc;
}

int loami_rollout_load(loami_rollout *r, const char *path, loam_err *err)
{
    char *text;
    size_t n;
    memset(r, 0, sizeof *r);
    if (!loami_file_exists(path)) return 0;
    int rc = loami_file_read(&text, &n, path, FILE_BYTES_MAX, err);
    if (rc < 0) return rc;
    rc = loami_rollout_parse(r, text, n, path, err);
    free(text);
    return rc;
}

void loami_rollout_checkpoint(const char *path, const void *bytes, size_t n)
{
    char tmp[LOAMI_PATH_MAX];
    int k = snprintf(tmp, sizeof tmp, "%s.new", path);
    if (k < 0 || (size_t)k >= sizeof tmp) return;
    FILE *f = fopen(tmp, "wb");
    if (!f) return;
    bool ok = fwrite(bytes, 1, n, f) == n;
    ok = fclose(f) == 0 && ok;
    if (!ok || rename(tmp, path) < 0) remove(tmp);
}
