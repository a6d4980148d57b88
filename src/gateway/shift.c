#include "gateway/shift.h"

#include "base/clock.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static const double TICK_S = 0.5, CHECKPOINT_S = 2, KEEP_WARM_S = 60;
enum { COUNTS_BYTES_MAX = 8 << 20 };

/* ---- files --------------------------------------------------------------------------------------- */

static void put_folder(const loami_gateway *gw, const loami_gw_config *c, loami_buf *b)
{
    if (c->rollout_dir)
        loami_buf_puts(b, c->rollout_dir);
    else
        loami_buf_printf(b, "%s.rollout", gw->path);
}

/* In rollout_dir, or PATH.rollout beside the configuration. A pool's name may be anything; a file's may not. */
static char *path_of(const loami_gateway *gw, const loami_gw_config *c, const char *pool)
{
    loami_buf b = { 0 };
    put_folder(gw, c, &b);
    loami_buf_putc(&b, '/');
    for (const unsigned char *p = (const unsigned char *)pool; *p; p++)
        if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '-')
            loami_buf_putc(&b, (char)*p);
        else
            loami_buf_printf(&b, "_%02x", *p);
    return loami_buf_take(&b, NULL);
}

static char *with_end(const char *path, const char *end)
{
    loami_buf b = { 0 };
    if (!path) return NULL;
    loami_buf_printf(&b, "%s%s", path, end);
    return loami_buf_take(&b, NULL);
}

static void write_counts(loami_shift *s)
{
    loami_buf b = { 0 };
    char *path = with_end(s->path, ".counts");
    s->dirty = false;
    s->written_s = loami_now_s();
    if (!path || s->retired) {
        free(path);
        return;
    }
    loami_buf_printf(&b,
                     "{\"id\":\"%016llx\",\"step\":%u,\"split\":[%llu,%llu],\"draws\":%llu,\"missing\":%.9g,\"served\":[%llu,%llu],\"failures\":[%"
                     "llu,%llu],\"open_s\":%.3f,\"shadows\":",
                     (unsigned long long)s->r.id, s->r.step, (unsigned long long)s->split.n[0],
                     (unsigned long long)s->split.n[1], (unsigned long long)s->split.draws, s->split.missing, (unsigned long long)s->served[0],
                     (unsigned long long)s->served[1], (unsigned long long)s->failures[0],
                     (unsigned long long)s->failures[1], s->open_s);
    loami_shadows_write(&s->shadows, &b);
    loami_buf_puts(&b, ",\"judge\":");
    loami_judge_write(&s->judge, &b);
    loami_buf_puts(&b, "}\n");
    if (!b.failed) loami_rollout_checkpoint(path, b.data, b.len);
    loami_buf_free(&b);
    free(path);
}

static bool read_pair(const json_t *o, const char *key, uint64_t out[2])
{
    const json_t *v = json_object_get(o, key);
    for (int i = 0; i < 2; i++) {
        json_int_t n = json_integer_value(json_array_get(v, (size_t)i));
        if (n < 0) return false;
        out[i] = (uint64_t)n;
    }
    return true;
}

/* Counts of another step, or damaged ones, are none: the step is judged from its beginning. */
static void read_counts(loami_shift *s)
{
    char *path = with_end(s->path, ".counts");
    char id[20];
    json_t *v = NULL;
    snprintf(id, sizeof id, "%016llx", (unsigned long long)s->r.id);
    if (path && loami_file_exists(path) && loami_json_load(&v, path, COUNTS_BYTES_MAX, NULL) == 0) {
        const char *of = json_string_value(json_object_get(v, "id"));
        bool same = of && strcmp(of, id) == 0;
        if (same && loami_judge_read(&s->judge, json_object_get(v, "judge"), path, NULL) < 0) same = false;
        if (same) loami_shadows_read(&s->shadows, json_object_get(v, "shadows"));
        if (same && json_integer_value(json_object_get(v, "step")) == (json_int_t)s->r.step &&
            read_pair(v, "split", s->split.n) && read_pair(v, "served", s->served) &&
            read_pair(v, "failures", s->failures))
{
            s->open_s = json_number_value(json_object_get(v, "open_s"));
            s->split.draws = (uint64_t)json_integer_value(json_object_get(v, "draws"));
            s->split.missing = json_number_value(json_object_get(v, "missing"));
        }
    }
    json_decref(v);
    free(path);
}

/* ---- life ---------------------------------------------------------------------------------------- */

static void on_tick(void *arg);

static void begin_step(loami_shift *s)
{
    s->split = (loami_split){ { 0, 0 }, 0, 0 };
    s->served[0] = s->served[1] = s->failures[0] = s->failures[1] = 0;
    s->open_s = 0;
    s->looked_s = loami_now_s();
    write_counts(s);
}

/* The folder is made when there is something to put there. */
static int open_files(loami_shift *s, loam_err *err)
{
    if (s->path) {
        char *file = with_end(s->path, ".json");
        int rc = file ? loami_rollout_load(&s->r, file, err) : loami_fail_nomem(err);
        if (rc < 0 && file) loami_fail_in(err, "%s (remove it to forget this pool's rollout)", file);
        free(file);
        if (rc < 0) return rc;
    }
    if (s->r.state == LOAMI_R_NONE) return loami_sides_open(&s->sides, NULL, err);
    char *sides = with_end(s->path, ".sides");
    int rc = loami_sides_open(&s->sides, sides, err);
    free(sides);
    return rc;
}

static int make_folder(const loami_shift *s, loam_err *err)
{
    loami_buf b = { 0 };
    put_folder(s->gw, s->gw->routes->config, &b);
    int rc = b.failed ? loami_fail_nomem(err) : loami_dir_make(b.data, err);
    loami_buf_free(&b);
    return rc;
}

/* An empty memory of sides, with its file. */
static void forget_sides(loami_shift *s)
{
    char *path = with_end(s->path, ".sides");
    loami_sides *now = NULL;
    if (loami_sides_open(&now, path, NULL) == 0) {
        loami_sides_close(s->sides);
        s->sides = now;
    }
    loami_sides_clear(s->sides, NULL);
    free(path);
}

loami_shift *loami_shift_of(loami_gateway *gw, const loami_gw_config *c, const char *pool, loam_err *err)
{
    loami_shift *s;
    LIST_FOREACH(s, &gw->shifts, next)
    if (strcmp(s->pool, pool) == 0) return s;
    s = calloc(1, sizeof *s);
    if (!s) {
        loami_fail_nomem(err);
        return NULL;
    }
    s->gw = gw;
    s->pool = loami_gw_intern(gw, pool);
    s->looked_s = s->shadow_s = loami_now_s();
    LIST_INSERT_HEAD(&gw->shifts, s, next);
    if (gw->path) s->path = path_of(gw, c, pool);
    if (open_files(s, err) < 0) {
        loami_shift_free(s);
        return NULL;
    }
    loami_judge_init(&s->judge, &s->r.plan.gate);
    if (s->r.state != LOAMI_R_NONE) read_counts(s);
    if (loami_rollout_open(&s->r) || s->r.state == LOAMI_R_DONE)
        loami_timer_set(gw->loop, &s->timer, 0, on_tick, s);
    return s;
}

void loami_shift_free(loami_shift *s)
{
    loami_shift_warm_stop(s);
    loami_shift_mirror_stop(s);
    loami_timer_clear(&s->timer);
    if (s->dirty && s->sides) write_counts(s);
    loami_shift_recent_free(s);
    loami_sides_close(s->sides);
    loami_rollout_free(&s->r);
    LIST_REMOVE(s, next);
    free(s->path);
    free(s);
}

void loami_shift_retire(loami_gateway *gw)
{
    loami_shift *s;
    LIST_FOREACH(s, &gw->shifts, next)
    {
        s->retired = true;
        s->dirty = false;
        loami_shift_warm_stop(s);
        loami_shift_mirror_stop(s);
    }
}

void loami_shift_follow(loami_shift *s)
{
    struct stat st;
    loami_rollout now;
    char *file = with_end(s->path, ".json");
    if (file && stat(file, &st) == 0) {
        int64_t ns = (int64_t)st.st_mtime ^ (int64_t)st.st_ino << 32; /* each state is a new file */
        if (ns != s->file_ns && loami_rollout_load(&now, file, NULL) == 0) {
            loami_rollout_free(&s->r);
            s->r = now;
            s->file_ns = ns;
            s->version++;
        }
    }
    free(file);
}

/* ---- members ------------------------------------------------------------------------------------- */

static bool labelled(const loami_backend_conf *c, const char *word)
{
    for (uint32_t i = 0; i < c->n_labels; i++) {
        size_t n = strlen(c->labels[i].key);
        if (strcmp(c->labels[i].value, word) == 0) return true;
        if (strncmp(word, c->labels[i].key, n) == 0 && word[n] == '=' && strcmp(word + n + 1, c->labels[i].value) == 0)
            return true;
    }
    return false;
}

static bool named(const loami_backend *b, const loami_words *words)
{
    for (uint32_t i = 0; i < words->n; i++)
        if (strcmp(words->word[i], b->name) == 0) return true;
    return false;
}

/* A backend is meant by its name, its kind, a label's value, or LABEL=VALUE. */
static bool meant(const loami_backend *b, const loami_words *words)
{
    for (uint32_t i = 0; i < words->n; i++)
        if (strcmp(words->word[i], b->name) == 0 || labelled(b->conf, words->word[i]) ||
            (b->kind && strcmp(words->word[i], b->kind->name) == 0))
            return true;
    return false;
}

/* Where all of them stand by, there is nobody to stand by for. */
static bool stands_by(const loami_pool *p, const loami_backend *b)
{
    if (!b->conf->standby) return false;
    for (uint32_t i = 0; i < p->n_members; i++)
        if (!p->members[i].backend->conf->standby) return true;
    return false;
}

/* Of a backend that the plan does not name: it came later. */
static loami_side side_of_others(const loami_pool *p, const loami_backend *b)
{
    const loami_shift *s = p->shift;
    if (stands_by(p, b) || loami_rollout_open(&s->r)) return LOAMI_SIDE_NONE;
    return s->r.state == LOAMI_R_DONE ? LOAMI_SIDE_NEW : LOAMI_SIDE_OLD;
}

void loami_shift_members(loami_pool *p)
{
    const loami_shift *s = p->shift;
    bool planned = s->r.state != LOAMI_R_NONE;
    p->sided = planned;
    p->shift_version = s->version;
    for (uint32_t i = 0; i < p->n_members; i++) {
        loami_member *m = &p->members[i];
        if (planned && named(m->backend, &s->r.plan.to))
            m->side = LOAMI_SIDE_NEW;
        else if (planned && named(m->backend, &s->r.plan.from))
            m->side = LOAMI_SIDE_OLD;
        else
            m->side = side_of_others(p, m->backend);
        p->sided |= m->side != LOAMI_SIDE_OLD;
    }
}

loami_pool *loami_shift_pool(const loami_shift *s)
{
    loami_routes *r = s->gw->routes;
    for (uint32_t i = 0; r && i < r->n_pools; i++) {
        if (r->pools[i].shift != s) continue;
        if (r->pools[i].shift_version != s->version) loami_shift_members(&r->pools[i]);
        return &r->pools[i];
    }
    return NULL;
}

static void add_name(loami_words *w, const char *name)
{
    if (w->n < LOAMI_WORDS_MAX) snprintf(w->word[w->n++], LOAMI_NAME_BYTES, "%s", name);
}

/* From words to the names of backends: what a kind or a label means may change, a running rollout's sides may not. */
static int find_sides(const loami_shift *s, loami_plan *plan, loam_err *err)
{
    loami_pool *p = loami_shift_pool(s);
    loami_words old = { .n = 0 }, new = { .n = 0 };
    if (!p) return loami_fail(err, LOAM_E_ARG, "pool \"%s\" is not in the configuration any more", s->pool);
    for (uint32_t i = 0; i < p->n_members; i++) {
        const loami_backend *b = p->members[i].backend;
        bool from = meant(b, &plan->from), to = meant(b, &plan->to);
        if (from && to)
            return loami_fail(err, LOAM_E_ARG, "backend %s would be on both sides: name the sides more narrowly",
                              b->name);
        if (!from && !to && !stands_by(p, b))
            return loami_fail(err, LOAM_E_ARG,
                              "backend %s of pool \"%s\" is on neither side: name it in \"from\" or \"to\", or have it "
                              "stand by",
                              b->name, s->pool);
        if (from) add_name(&old, b->name);
        if (to) add_name(&new, b->name);
    }
    if (!old.n || !new.n)
        return loami_fail(err, LOAM_E_ARG, "pool \"%s\" has no backend that is named, labelled or of the kind %s",
                          s->pool, old.n ? plan->to.word[0] : plan->from.word[0]);
    plan->from = old;
    plan->to = new;
    return 0;
}

/* ---- changes ------------------------------------------------------------------------------------- */

static int save(loami_shift *s, loam_err *err)
{
    char *file = with_end(s->path, ".json");
    if (!s->path || s->retired) return 0;
    int rc = file ? loami_rollout_save(&s->r, file, err) : loami_fail_nomem(err);
    free(file);
    s->unsaved = rc < 0;
    return rc;
}

/* A change that cannot be written does not happen; going back does. */
static int commit(loami_shift *s, const loami_rollout *before, int rc, bool always, loam_err *err)
{
    if (rc < 0) return rc;
    if (s->retired) return loami_fail(err, LOAM_E_ARG, "another process of this gateway has taken over");
    rc = save(s, err);
    if (rc < 0 && !always) {
        json_t *history = s->r.history;
        if (history) json_array_remove(history, json_array_size(history) - 1);
        s->r = *before;
        s->r.history = history;
        s->unsaved = false;
        return loami_fail_in(err, "nothing was changed, since it could not be written down");
    }
    s->version++;
    s->advice[0] = 0;
    loami_pool_moved(s->gw);
    return 0;
}

int loami_shift_start(loami_shift *s, const loami_plan *plan, loam_err *err)
{
    loami_rollout before = s->r;
    loami_plan named_plan = *plan;
    int rc = find_sides(s, &named_plan, err);
    if (rc == 0 && s->path) rc = make_folder(s, err);
    if (rc == 0) rc = loami_rollout_start(&s->r, &named_plan, loami_gw_random(s->gw), time(NULL), err);
    rc = commit(s, &before, rc, false, err);
    if (rc < 0) return rc;
    forget_sides(s);
    loami_judge_init(&s->judge, &s->r.plan.gate);
    memset(&s->shadows, 0, sizeof s->shadows);
    s->shadow_tokens = plan->shadow_tokens_minute;
    s->shadow_s = loami_now_s();
    begin_step(s);
    loami_shift_warm(s, LOAMI_SIDE_NEW);
    loami_timer_set(s->gw->loop, &s->timer, 0, on_tick, s);
    return 0;
}

static int go_on(loami_shift *s, const char *by, loam_err *err)
{
    loami_rollout before = s->r;
    loami_buf figures = { 0 };
    loami_shift_figures(s, &figures);
    int rc = loami_rollout_promote(&s->r, time(NULL), by, figures.failed ? NULL : figures.data, err);
    loami_buf_free(&figures);
    rc = commit(s, &before, rc, false, err);
    if (rc < 0) return rc;
    begin_step(s);
    if (s->r.state == LOAMI_R_WARMING) loami_shift_warm(s, LOAMI_SIDE_NEW);
    loami_timer_set(s->gw->loop, &s->timer, 0, on_tick, s);
    return 0;
}

int loami_shift_promote(loami_shift *s, loam_err *err)
{
    return go_on(s, "operator", err);
}

int loami_shift_pause(loami_shift *s, bool on, loam_err *err)
{
    loami_rollout before = s->r;
    int rc = on ? loami_rollout_pause(&s->r, time(NULL), err) : loami_rollout_resume(&s->r, time(NULL), err);
    return commit(s, &before, rc, false, err);
}

int loami_shift_back(loami_shift *s, const char *by, const char *why, loam_err *err)
{
    loami_rollout before = s->r;
    loami_buf figures = { 0 };
    loami_shift_figures(s, &figures);
    int rc = loami_rollout_back(&s->r, time(NULL), by, why, figures.failed ? NULL : figures.data, err);
    loami_buf_free(&figures);
    rc = commit(s, &before, rc, true, err);
    if (rc < 0) return rc;
    loami_shift_warm_stop(s);
    loami_shift_mirror_stop(s);
    write_counts(s);
    loami_shift_warm(s, LOAMI_SIDE_OLD);
    loami_timer_set(s->gw->loop, &s->timer, TICK_S, on_tick, s);
    return 0;
}

int loami_shift_forget(loami_shift *s, loam_err *err)
{
    loami_rollout before = s->r;
    return commit(s, &before, loami_rollout_forget(&s->r, time(NULL), err), false, err);
}

/* Answers that are under way on the new side go on elsewhere, where somebody can continue them. */
void loami_shift_evict(loami_shift *s, uint32_t *moved, uint32_t *left)
{
    loami_exchange *x, *after;
    *moved = *left = 0;
    for (x = TAILQ_FIRST(&s->gw->exchanges); x; x = after) {
        bool on_new = false;
        after = TAILQ_NEXT(x, next);
        if (x->over || !x->pool || x->pool->shift != s) continue;
        for (int k = 0; k < 2; k++) on_new |= x->attempt[k] && named(x->attempt[k]->backend, &s->r.plan.to);
        if (!on_new) continue;
        if (loami_relay_move(x))
            (*moved)++;
        else
            (*left)++;
    }
}

/* ---- looking ------------------------------------------------------------------------------------- */

static void advance_clock(loami_shift *s)
{
    double now = loami_now_s();
    if (s->r.state == LOAMI_R_RUNNING) s->open_s += now - s->looked_s;
    s->looked_s = now;
}

void loami_shift_look(loami_shift *s)
{
    loami_metric which = 0;
    char why[400], by[64];
    loam_err err = { 0 };
    advance_clock(s);
    if (s->retired) return;
    if (s->r.state == LOAMI_R_WARMING && !s->warming.on) {
        loami_rollout before = s->r;
        commit(s, &before, loami_rollout_warmed(&s->r, time(NULL), &err), false, &err);
        s->looked_s = loami_now_s();
    }
    uint64_t n = loami_rollout_part(&s->r) > 0 ? s->served[1] : s->shadows.n_length;
    switch (loami_rollout_advise(&s->r, &s->judge, n, s->open_s, why, sizeof why)) {
    case LOAMI_GO_BACK:
        loami_judge_verdict(&s->judge, &which);
        snprintf(by, sizeof by, "gate %s", loami_gate_metrics[which].name);
        loami_shift_back(s, by, why, &err);
        break;
    case LOAMI_GO_ON: go_on(s, "gates", &err); break;
    case LOAMI_STAY: break;
    }
    snprintf(s->advice, sizeof s->advice, "%s", err.code < 0 ? err.msg : why);
}

static void on_tick(void *arg)
{
    loami_shift *s = arg;
    double now = loami_now_s();
    if (s->unsaved) save(s, NULL);
    loami_shift_look(s);
    if (s->dirty && now - s->written_s > CHECKPOINT_S) write_counts(s);
    bool lonely = s->r.state == LOAMI_R_RUNNING && loami_rollout_part(&s->r) >= 1;
    if (lonely && s->r.plan.warm && now - s->warmed_s > KEEP_WARM_S) loami_shift_warm(s, LOAMI_SIDE_OLD);
    if (loami_rollout_open(&s->r) || s->unsaved || s->warming.on)
        loami_timer_set(s->gw->loop, &s->timer, TICK_S, on_tick, s);
}
