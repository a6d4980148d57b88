/* gateway/config.h: what gateway.json says, checked. docs/gateway.md describes every field.
 *
 * Unknown fields are refused by name and place. There are no comments in it: it is JSON. */
#ifndef LOAMI_GW_CONFIG_H
#define LOAMI_GW_CONFIG_H

#include "base/arena.h"
#include "base/err.h"

enum {
    LOAMI_GW_BACKENDS = 64, /* one bit each in a set */
    LOAMI_GW_POOLS = 64,
    LOAMI_GW_KEYS = 4096,
    LOAMI_GW_MODELS = 1024, /* of one backend */
};

/* A kind of backend: what is known about its API besides OpenAI's. */
typedef struct loami_kind {
    const char *name;
    const char *health; /* path that a probe asks for */
    const char *owner;  /* "owned_by" of its models in /v1/models: how "auto" knows it */
    bool exact;         /* token ids travel: an answer is continued exactly */
    bool continues;     /* takes continue_final_message */
    bool prefills;      /* goes on where a last message of the assistant stops, unasked */
} loami_kind;

const loami_kind *loami_kind_find(const char *name);      /* NULL = unknown */
const loami_kind *loami_kind_of_owner(const char *owner); /* "openai" if no other */

typedef struct loami_pair {
    const char *key, *value;
} loami_pair;

typedef struct loami_backend_conf {
    const char *name;
    const char *url;        /* without a slash at the end */
    const loami_kind *kind; /* NULL = found out */
    const loami_pair
        *models; /* [n_models] what clients say -> what it is told; none = whatever it lists in /v1/models */
    uint32_t n_models;
    uint32_t weight;       /* 1 to 1000 */
    uint32_t max_inflight; /* 0 = no limit */
    const char *api_key;   /* or NULL */
    const char *ca_file;   /* or NULL */
    bool insecure;
    bool standby; /* gets no requests until a rollout gives it some */
    const loami_pair *labels; /* [n_labels] */
    uint32_t n_labels;
} loami_backend_conf;

typedef struct loami_pool_conf {
    const char *name;
    const uint32_t *backends; /* [n_backends] indices */
    uint32_t n_backends;
    const char *const *models; /* [n_models] none = any */
    uint32_t n_models;
    const struct loami_policy *policy;
    const uint32_t *fallback; /* [n_fallback] pools to try when this one has nobody */
    uint32_t n_fallback;
    uint32_t queue_limit; /* requests that wait for a place */
    double queue_wait_s;
} loami_pool_conf;

typedef struct loami_key_conf {
    const char *name, *key;
    uint32_t requests_a_minute, tokens_a_minute; /* 0 = no limit */
    const char *const *models;                   /* [n_models] none = any */
    uint32_t n_models;
} loami_key_conf;

typedef struct loami_gw_config {
    uint32_t refs;
    loami_arena arena; /* everything below */
    char host[256];
    uint16_t port;
    const struct loami_policy *policy;
    loami_backend_conf *backends;
    uint32_t n_backends;
    loami_pool_conf *pools; /* at least one */
    uint32_t n_pools;
    const loami_pair *aliases; /* [n_aliases] what a client says -> the model */
    uint32_t n_aliases;
    const loami_key_conf *keys;
    uint32_t n_keys;
    const char *admin_key;  /* or NULL: this machine alone */
    const char *usage_file; /* or NULL */
    const char *rollout_dir; /* or NULL: beside the configuration */
    struct {
        double interval_s, timeout_s, jitter, busy_s, slow_start_s;
        uint32_t rise, fall;
    } health;
    struct {
        uint32_t failures;
        double open_s, open_max_s;
    } breaker;
    struct {
        double connect_s, first_byte_s, idle_s, request_s, drain_s;
    } timeouts;
    struct {
        uint32_t limit;
        double wait_s;
    } queue;
    struct {
        double after_s; /* 0 = off */
        uint32_t max_tokens;
    } hedge;
    struct {
        const char *header;
        uint32_t prefix_bytes;
        double load; /* a backend takes at most this times the average */
    } affinity;
    bool resume; /* answers go on elsewhere when their backend dies */
    uint32_t max_body_bytes, max_connections;
    double max_bodies_bytes;
    const char *const *hosts;
    uint32_t n_hosts;
    const char *const *origins;
    uint32_t n_origins;
    enum { LOAMI_GW_LOG_JSON, LOAMI_GW_LOG_TEXT, LOAMI_GW_LOG_OFF } log;
} loami_gw_config;

/* Parses n bytes; what: their name for messages. The result has one reference. */
int loami_gw_config_parse(loami_gw_config **out, const char *text, size_t n, const char *what, loam_err *err);
int loami_gw_config_load(loami_gw_config **out, const char *path, loam_err *err);
loami_gw_config *loami_gw_config_ref(loami_gw_config *c);
void loami_gw_config_unref(loami_gw_config *c);

#endif
