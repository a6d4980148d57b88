/* Ollama's store: manifests/HOST/NAMESPACE/NAME/TAG names layers, blobs/sha256-HEX hold them. */
#include "store/import.h"

#include "store/hash.h"
#include "store/store.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PART_MAX = 128, MANIFEST_BYTES_MAX = 1 << 20, TEXT_BYTES_MAX = 4 << 20 };

static const char default_host[] = "registry.ollama.ai", default_space[] = "library",
                  default_tag[] = "latest";

/* A name taken apart; what it leaves out has Ollama's default. */
typedef struct ollama_name {
    char host[PART_MAX], space[PART_MAX], name[PART_MAX], tag[PART_MAX];
} ollama_name;

static int store_dir(char *path, loam_err *err)
{
    const char *own = getenv("OLLAMA_MODELS"), *home = getenv("HOME");
    static const char service[] = "/usr/share/ollama/.ollama/models";
    if (own && *own) return loami_path_join(path, "", own, err);
    int rc = home && *home ? loami_path_join(path, home, ".ollama/models", err)
                           : loami_path_join(path, "", service, err);
    if (rc == 0 && !loami_dir_exists(path) && loami_dir_exists(service))
        rc = loami_path_join(path, "", service, err);
    return rc;
}

/* Letters, digits, . _ - (and, in a host, a port), not beginning with a dot: nothing that could leave the
 * store. */
static bool part_ok(const char *s)
{
    if (!*s || *s == '.') return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("._-:", *s)) return false;
    return true;
}

static bool put_part(char out[PART_MAX], const char *part)
{
    size_t n = strlen(part);
    if (n >= PART_MAX || !part_ok(part)) return false;
    memcpy(out, part, n + 1);
    return true;
}

static int parse_name(ollama_name *out, const char *text, loam_err *err)
{
    char copy[4 * PART_MAX], *part[3], *slash = copy;
    int n = 0;
    snprintf(copy, sizeof copy, "%s", text);
    if (strlen(text) >= sizeof copy) goto bad;
    for (char *at = copy; slash; at = slash + 1) {
        if (n == 3) goto bad;
        part[n++] = at;
        slash = strchr(at, '/');
        if (slash) *slash = 0;
    }
    char *tag = strchr(part[n - 1], ':');
    if (tag) *tag++ = 0;
    if (tag && strchr(tag, ':')) goto bad;
    if (put_part(out->name, part[n - 1]) && put_part(out->tag, tag ? tag : default_tag) &&
        put_part(out->space, n > 1 ? part[n - 2] : default_space) &&
        put_part(out->host, n > 2 ? part[0] : default_host))
        return 0;
bad:
    return loami_fail(err, LOAM_E_ARG, "\"%.100s\" is no Ollama name: [HOST/][NAMESPACE/]NAME[:TAG]", text);
}

/* A model that is being imported. */
typedef struct ollama_model {
    char dir[LOAMI_PATH_MAX];  /* the store */
    char blob[LOAMI_PATH_MAX]; /* the weights */
    char *template_text, *params, *system;
    json_t *generation;
    bool projector;
} ollama_model;

static int blob_path(const ollama_model *m, const json_t *layer, const char *what, char *path, loam_err *err)
{
    const char *digest = json_string_value(json_object_get(layer, "digest"));
    char name[96];
    struct stat st;
    if (!digest || strlen(digest) != 71 || strncmp(digest, "sha256:", 7) != 0 ||
        strspn(digest + 7, "0123456789abcdef") != 64)
        return loami_fail(err, LOAM_E_FORMAT, "%s: a layer's digest is not sha256:...", what);
    snprintf(name, sizeof name, "blobs/sha256-%s", digest + 7);
    int rc = loami_path_join(path, m->dir, name, err);
    if (rc < 0) return rc;
    if (!loami_file_exists(path))
        return loami_fail(err, LOAM_E_NOT_FOUND, "%s: blob %s is not there; pull the model again with Ollama",
                          what, name);
    json_int_t size = json_integer_value(json_object_get(layer, "size"));
    if (stat(path, &st) < 0 || (json_int_t)st.st_size != size)
        return loami_fail(err, LOAM_E_FORMAT, "%s: %s has %lld bytes, should have %lld", what, path,
                          (long long)st.st_size, (long long)size);
    char hex[LOAMI_HASH_HEX];
    if ((rc = loami_hash_file(hex, path, err)) < 0) return rc;
    return strcmp(hex, digest + 7) == 0
               ? 0
               : loami_fail(err, LOAM_E_FORMAT, "%s: is damaged: its SHA-256 is %s", path, hex);
}

static int read_text(const ollama_model *m, const json_t *layer, const char *what, char **text, loam_err *err)
{
    char path[LOAMI_PATH_MAX];
    size_t n;
    int rc = blob_path(m, layer, what, path, err);
    free(*text);
    *text = NULL;
    return rc < 0 ? rc : loami_file_read(text, &n, path, TEXT_BYTES_MAX, err);
}

static int read_layer(ollama_model *m, const json_t *layer, const char *what, loam_err *err)
{
    static const char prefix[] = "application/vnd.ollama.image.";
    const char *type = json_string_value(json_object_get(layer, "mediaType"));
    if (!type || strncmp(type, prefix, strlen(prefix)) != 0) return 0;
    type += strlen(prefix);
    if (strcmp(type, "model") == 0) {
        if (m->blob[0])
            return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: weights in several files are not supported",
                              what);
        return blob_path(m, layer, what, m->blob, err);
    }
    if (strcmp(type, "template") == 0) return read_text(m, layer, what, &m->template_text, err);
    if (strcmp(type, "params") == 0) return read_text(m, layer, what, &m->params, err);
    if (strcmp(type, "system") == 0) return read_text(m, layer, what, &m->system, err);
    if (strcmp(type, "adapter") == 0)
        return loami_fail(err, LOAM_E_UNSUPPORTED, "%s: has an adapter (LoRA), which is not supported", what);
    if (strcmp(type, "projector") == 0) m->projector = true;
    return 0;
}

static int read_manifest(ollama_model *m, const ollama_name *n, loam_err *err)
{
    char file[4 * PART_MAX + 16], path[LOAMI_PATH_MAX];
    json_t *o = NULL, *layer;
    size_t i;
    snprintf(file, sizeof file, "manifests/%s/%s/%s/%s", n->host, n->space, n->name, n->tag);
    int rc = loami_path_join(path, m->dir, file, err);
    if (rc < 0) return rc;
    if (!loami_file_exists(path))
        return loami_fail(err, LOAM_E_NOT_FOUND, "Ollama's store has no %s:%s (no file %s)", n->name, n->tag,
                          path);
    if ((rc = loami_json_load(&o, path, MANIFEST_BYTES_MAX, err)) < 0) return rc;
    json_array_foreach(json_object_get(o, "layers"), i, layer)
        if (rc == 0) rc = read_layer(m, layer, path, err);
    json_decref(o);
    if (rc == 0 && !m->blob[0]) rc = loami_fail(err, LOAM_E_FORMAT, "%s: names no weights", path);
    return rc;
}

/* Ollama's parameters under the names that generation_config.json has for them. */
static int read_params(ollama_model *m, loam_err *err)
{
    static const char *const names[][2] = {
        { "temperature", "temperature" },
        { "top_p", "top_p" },
        { "top_k", "top_k" },
        { "min_p", "min_p" },
        { "repeat_penalty", "repetition_penalty" },
        { "stop", "stop_strings" },
    };
    json_t *o = NULL;
    m->generation = json_object();
    if (!m->params) return 0;
    int rc = loami_json_parse(&o, m->params, strlen(m->params), "Ollama's parameters", err);
    if (rc < 0) return rc;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *v = json_object_get(o, names[i][0]);
        if (v) json_object_set(m->generation, names[i][1], v);
    }
    const json_t *t = json_object_get(o, "temperature");
    if (t) json_object_set_new(m->generation, "do_sample", json_boolean(json_number_value(t) > 0));
    json_decref(o);
    return 0;
}

/* The layers as they were, beside the model: a Go template is no Jinja, but somebody may want to read it. */
static int keep_layers(void *arg, const char *dir, loam_err *err)
{
    const ollama_model *m = arg;
    const struct {
        const char *name, *text;
    } files[] = { { "ollama_template.txt", m->template_text },
                  { "ollama_params.json", m->params },
                  { "ollama_system.txt", m->system } };
    char path[LOAMI_PATH_MAX];
    int rc = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files && rc == 0; i++) {
        if (!files[i].text) continue;
        rc = loami_path_join(path, dir, files[i].name, err);
        if (rc == 0) rc = loami_file_write(path, files[i].text, strlen(files[i].text), err);
    }
    return rc;
}

void loami_ollama_store_name(const char *name, char *out, size_t size)
{
    const char *first = strchr(name, '/'), *second = first ? strchr(first + 1, '/') : NULL;
    snprintf(out, size, "%s", second ? first + 1 : name);
    size_t n = strlen(out), m = strlen(default_tag) + 1;
    if (n > m && out[n - m] == ':' && strcmp(out + n - m + 1, default_tag) == 0) out[n - m] = 0;
}

int loami_import_ollama(const char *name, const loami_import_options *o, loam_err *err)
{
    ollama_model m = { .blob = "" };
    ollama_name parts;
    char source[4 * PART_MAX + 16];
    int rc = parse_name(&parts, name, err);
    if (rc == 0) rc = store_dir(m.dir, err);
    if (rc == 0) rc = read_manifest(&m, &parts, err);
    if (rc == 0) rc = read_params(&m, err);
    if (rc == 0) {
        loami_import_options own = *o;
        snprintf(source, sizeof source, "ollama:%s", name);
        own.source = source;
        own.generation = m.generation;
        own.beside = keep_layers;
        own.beside_arg = &m;
        rc = loami_import_gguf(m.blob, &own, err);
    }
    if (rc == 0 && m.projector && o->progress.say)
        o->progress.say(o->progress.arg, "its part for images is left out");
    free(m.template_text);
    free(m.params);
    free(m.system);
    json_decref(m.generation);
    return rc;
}

/* ---- listing ------------------------------------------------------------------------------------------- */

struct each {
    int (*fn)(void *arg, const char *name);
    void *arg;
    char dir[LOAMI_PATH_MAX];
    char part[4][PART_MAX]; /* host, namespace, name, tag so far */
    int depth;
    loam_err *err;
};

static int found(const struct each *w)
{
    char name[4 * PART_MAX + 8];
    bool host = strcmp(w->part[0], default_host) != 0, space = host || strcmp(w->part[1], default_space) != 0;
    snprintf(name, sizeof name, "%s%s%s%s%s:%s", host ? w->part[0] : "", host ? "/" : "",
             space ? w->part[1] : "", space ? "/" : "", w->part[2], w->part[3]);
    return w->fn(w->arg, name);
}

static int walk(void *arg, const char *entry)
{
    const struct each *w = arg;
    struct each below = *w;
    if (!part_ok(entry) || strlen(entry) >= PART_MAX) return 0;
    snprintf(below.part[w->depth], PART_MAX, "%s", entry);
    below.depth++;
    int rc = loami_path_join(below.dir, w->dir, entry, w->err);
    if (rc < 0) return rc;
    if (below.depth == 4) return loami_file_exists(below.dir) ? found(&below) : 0;
    return loami_dir_exists(below.dir) ? loami_dir_each(below.dir, walk, &below, w->err) : 0;
}

int loami_ollama_each(int (*fn)(void *arg, const char *name), void *arg, loam_err *err)
{
    struct each w = { .fn = fn, .arg = arg, .err = err };
    char store[LOAMI_PATH_MAX];
    int rc = store_dir(store, err);
    if (rc == 0) rc = loami_path_join(w.dir, store, "manifests", err);
    if (rc < 0) return rc;
    if (!loami_dir_exists(w.dir))
        return loami_fail(err, LOAM_E_NOT_FOUND, "no Ollama store at %s (set OLLAMA_MODELS)", store);
    return loami_dir_each(w.dir, walk, &w, err);
}
