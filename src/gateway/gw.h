/* gateway/gw.h: the gateway from the inside: backends, pools, exchanges, and which file does what with them.
 *
 * Everything here runs on the loop's thread. */
#ifndef LOAMI_GW_H
#define LOAMI_GW_H

#include "gateway/gateway.h"
#include "gateway/ledger.h"
#include "gateway/peek.h"
#include "gateway/policy.h"
#include "gateway/sse.h"
#include "net/client.h"
#include "net/prom.h"
#include "rollout/judge.h"
#include "rollout/split.h"

#include <sys/queue.h>

typedef struct loami_backend loami_backend;
typedef struct loami_pool loami_pool;
typedef struct loami_routes loami_routes;
typedef struct loami_exchange loami_exchange;
typedef struct loami_attempt loami_attempt;
typedef struct loami_gw_key loami_gw_key;
typedef struct loami_shift loami_shift; /* shift.h: a rollout at work */

/* ---- counting: count.c --------------------------------------------------------------------------- */

extern const double loami_hist_ttft[], loami_hist_itl[], loami_hist_e2e[]; /* upper bounds, 0 at the end */

/* Why a try at a backend failed. */
typedef enum loami_failure {
    LOAMI_FAIL_UNREACHED,
    LOAMI_FAIL_LOST, /* before the answer's end */
    LOAMI_FAIL_LATE,
    LOAMI_FAIL_STATUS,  /* 5xx */
    LOAMI_FAIL_BUSY,    /* 429, or 503 with Retry-After */
    LOAMI_FAIL_GARBLED, /* not what it says it is */
    LOAMI_FAILURES,
} loami_failure;
extern const char *const loami_failure_names[];

typedef struct loami_backend_numbers {
    uint64_t tries, answers[6]; /* by status / 100 */
    uint64_t failures[LOAMI_FAILURES];
    uint64_t resumed_from, resumed_to, hedges, cancelled;
    uint64_t prompt_tokens, answer_tokens;
    uint64_t probes, probes_failed;
    loami_hist ttft, itl, e2e;
} loami_backend_numbers;

/* ---- backends: backend.c, health.c, discover.c --------------------------------------------------- */

typedef enum loami_health { LOAMI_HEALTH_UNKNOWN, LOAMI_HEALTH_UP, LOAMI_HEALTH_DOWN } loami_health;
typedef enum loami_breaker { LOAMI_BREAKER_CLOSED, LOAMI_BREAKER_OPEN, LOAMI_BREAKER_HALF } loami_breaker;

struct loami_backend {
    loami_gateway *gw;
    loami_gw_config *config; /* conf's owner */
    const loami_backend_conf *conf;
    const char *name;       /* interned */
    const loami_kind *kind; /* NULL until it is found out */
    uint64_t name_hash;
    uint32_t refs;
    bool removed, draining;

    uint32_t inflight;
    double owed; /* tokens */

    loami_health health;
    loami_breaker breaker;
    char why[160];      /* it is not up */
    double changed_s;   /* when health changed */
    double ramp_from_s; /* 0 = warm */
    double alive_s;     /* its last byte to us */
    uint32_t good, bad; /* probes in a row */
    uint32_t failures;  /* tries in a row */
    double open_until_s, open_for_s;
    bool unreached; /* the breaker opened because nobody was there: a probe may find somebody */
    bool trial;     /* a request is finding out */
    double busy_until_s;
    double fails, fails_s; /* recent failures, fading; when that was computed */

    loami_timer probe_timer;
    loami_call *probe;
    loami_buf probe_body;
    double probe_s;
    bool probe_by_models; /* this probe asks for the list of models */

    char **models; /* [n_models] as listed, malloc'd */
    uint32_t n_models;
    double models_s; /* when they were listed; 0 = never */

    loami_backend_numbers numbers;
    TAILQ_ENTRY(loami_backend) next;
};

loami_backend *loami_backend_new(loami_gateway *gw, loami_gw_config *config, const loami_backend_conf *conf);
void loami_backend_set_conf(loami_backend *b, loami_gw_config *config, const loami_backend_conf *conf);
loami_backend *loami_backend_find(loami_gateway *gw, const char *name);
void loami_backend_remove(loami_backend *b); /* gone from the configuration: freed when nobody uses it */
void loami_backend_ref(loami_backend *b);
void loami_backend_unref(loami_backend *b);

/* Does it have the model (NULL = any)? *told: what it calls it; NULL = leave the request's word. */
bool loami_backend_has(const loami_backend *b, const char *model, const char **told);
double loami_backend_ramp(const loami_backend *b, double now);
const char *loami_backend_state(const loami_backend *b); /* one word: "up", "down", "draining", ... */

bool loami_backend_usable(loami_backend *b);
double loami_backend_fails(loami_backend *b); /* about how many of late */

void loami_health_start(loami_backend *b);
void loami_health_stop(loami_backend *b);
void loami_health_probe_soon(loami_backend *b);
void loami_health_good(loami_backend *b, bool trial); /* a try was answered */
void loami_health_failed(loami_backend *b, loami_failure why, bool trial, const char *words);
void loami_health_busy(loami_backend *b, double seconds);
void loami_discover(loami_backend *b, const char *json, size_t n);

/* ---- routes: pool.c ------------------------------------------------------------------------------ */

typedef struct loami_member {
    loami_backend *backend;
    double current;
    uint64_t last_turn;
    uint64_t requests; /* it was given */
    loami_side side;   /* in its pool's rollout; none: it stands by */
} loami_member;

TAILQ_HEAD(loami_exchanges, loami_exchange);

struct loami_pool {
    loami_routes *routes;
    const loami_pool_conf *conf;
    const char *name;      /* interned */
    loami_member *members; /* [n_members] */
    uint32_t n_members;
    uint64_t turns;
    struct loami_exchanges queue;
    uint32_t n_queued;
    uint64_t queued, refused, nobody; /* since this configuration was loaded */
    loami_shift *shift;               /* the gateway's */
    bool sided;                       /* not every member may have every request */
    uint32_t shift_version;           /* that the members' sides are of */
};

/* One configuration at work; requests keep the one they came in under. */
struct loami_routes {
    loami_gateway *gw;
    loami_gw_config *config;
    uint32_t refs;
    uint32_t n_pools;
    loami_pool pools[];
};

loami_routes *loami_routes_new(loami_gateway *gw, loami_gw_config *config, loam_err *err);
void loami_routes_unref(loami_routes *r);

/* The pool for a model; NULL = the model is unknown everywhere. */
loami_pool *loami_routes_pool(loami_routes *r, const char *model);

/* Finds a backend for an exchange that has none and starts a try, queues it, or fails it. */
void loami_pool_dispatch(loami_exchange *x);
void loami_pool_leave(loami_exchange *x); /* out of the queue */
void loami_pool_moved(loami_gateway *gw); /* a place became free somewhere */

/* A backend that can still take x (its tries excluded) and passes the filter. NULL when there is none; *full:
 * some could, but have no place. full NULL: places do not matter. */
loami_member *loami_pool_choose(loami_pool *p, loami_exchange *x,
                                bool (*fits)(const loami_exchange *x, const loami_backend *b), bool *full);

/* ---- requests: endpoint.c, facts.c --------------------------------------------------------------- */

typedef enum loami_shape_name {
    LOAMI_SHAPE_CHAT,
    LOAMI_SHAPE_TEXT,
    LOAMI_SHAPE_MESSAGES,
    LOAMI_SHAPE_RESPONSES,
    LOAMI_SHAPE_OLLAMA,
    LOAMI_SHAPE_OTHER,
} loami_shape_name;

typedef struct loami_gw_endpoint {
    const char *path;
    loami_shape_name shape;
    bool repeatable; /* sending it twice does no harm */
} loami_gw_endpoint;

const loami_gw_endpoint *loami_gw_endpoint_find(const char *path); /* never NULL */

/* What is read of a request. Spans are in its body. */
typedef struct loami_facts {
    loami_span body; /* the object */
    loami_span model, messages, prompt, seed, stream_options, return_ids, max_tokens, max_completion;
    char *asked;      /* the model, as asked for; malloc'd; NULL = not said */
    const char *name; /* after aliases; config's or asked */
    bool stream, wants_usage, wants_ids, continues_last, samples, has_seed;
    bool one_answer; /* n is 1 */
    bool plain;      /* no tools, no format: any server can go on with it */
    bool wants_json; /* response_format says so */
    uint64_t n_max;  /* most tokens of the answer; 0 = not said */
    loami_wish wish;
    double prompt_cost, answer_cost; /* tokens, guessed */
} loami_facts;

int loami_facts_read(loami_facts *f, loami_exchange *x, loami_fault *fault);
void loami_facts_free(loami_facts *f);

/* ---- exchanges: exchange.c, attempt.c, relay.c, resume.c ----------------------------------------- */

enum {
    LOAMI_GW_TRIES = 16,
    LOAMI_GW_WHOLE = 16 << 20, /* an answer is kept whole up to here, and passed on as it comes beyond */
    LOAMI_GW_KEPT = 4 << 20,   /* of a stream, to continue it elsewhere */
};

/* One request of a client, with all that is tried for it. */
struct loami_exchange {
    loami_gateway *gw;
    loami_routes *routes;
    loami_reply *reply;
    const loami_gw_endpoint *endpoint;
    const char *method;
    char *target;   /* path and query */
    char trace[56]; /* traceparent's value for the backend */
    const char *body;
    size_t n_body;
    loami_facts facts;
    loami_gw_key *key;  /* or NULL */
    loami_pool *pool;   /* where it is looked for now */
    uint32_t fallbacks; /* of the first pool, tried so far */
    loami_pool *first_pool;

    loami_attempt *attempt[2]; /* the second one is a hedge */
    loami_backend *tried[LOAMI_GW_TRIES];
    bool suspect[LOAMI_GW_TRIES]; /* answered 5xx: its fault if another backend can do it */
    uint32_t n_tried;
    bool queued, over;
    bool hedged;
    loami_timer timer; /* of the queue, then of the hedge */
    double start_s;

    /* the last failure, to be told if there is nobody left */
    int failed_status;
    loami_buf failed_body;
    char failed_words[200];
    double failed_retry_s;

    /* the answer so far */
    loami_attempt *speaker;                /* whose answer this is, once it has begun */
    const char *backend;                   /* its name, interned */
    bool started;                          /* the client got a head */
    bool streaming;                        /* as events */
    bool full;                             /* the client does not read */
    double first_s, last_s;                /* the first and last token */
    uint64_t n_tokens;                     /* sent, as far as can be told */
    uint64_t prompt_tokens, answer_tokens; /* from usage; 0 = not told */
    uint32_t resumes;
    bool finished;              /* a finish_reason went out */
    bool done;                  /* [DONE] too */
    char *id, *created, *model; /* raw values of the first event: later ones get the same */
    bool usage_told;            /* the client got its usage */
    bool line_open;             /* what went out does not end with a line's end */
    bool broken;                /* it ended with an error event */
    bool said;                  /* something of the answer went out */
    bool odd;                   /* and it was more than text */
    bool ids_broken;            /* some of it had no token ids */
    loami_buf text;             /* what went out, still escaped as in JSON */
    loami_buf ids;              /* its token ids, with commas */
    uint64_t n_ids, seed;

    /* for the pool's rollout: shift_side.c, shift_outcome.c */
    loami_side side;     /* where it belongs; none: there was no rollout */
    double share;        /* the probability that its conversation had of the new side; 0: nothing was drawn */
    uint8_t judged;      /* 1: its side was drawn for it, 2: it is its conversation's second request; 0: no */
    bool opens;          /* a conversation */
    bool by_session;     /* its side is its session's */
    bool side_failed;    /* its side could not do it, whoever did then */
    uint64_t talk;       /* how the conversation opens; 0 = it is none */
    uint64_t talk_on;    /* and what its first answer was, when it goes on; 0 = not known */
    uint64_t shift_id;   /* the rollout under which it came */
    uint32_t shift_step;
    loami_finish finish;
    loami_buf calls;     /* arguments of tool calls as in JSON, each after a line's end */
    uint64_t n_calls;

    TAILQ_ENTRY(loami_exchange) next; /* of all */
    TAILQ_ENTRY(loami_exchange) next_queued;
};

typedef enum loami_mode {
    LOAMI_MODE_HEAD,
    LOAMI_MODE_WHOLE,
    LOAMI_MODE_EVENTS,
    LOAMI_MODE_RAW,
    LOAMI_MODE_REFUSED
} loami_mode;

/* One try at one backend. */
struct loami_attempt {
    loami_exchange *x;
    loami_backend *backend;
    loami_call *call;
    loami_buf body; /* what is sent, when it isn't the client's own */
    double start_s;
    double prompt_owed, answer_owed;
    bool trial, hedge, resumes;
    loami_mode mode;
    int status;
    loami_buf got; /* a whole answer, or a refusal's words */
    loami_sse sse;
    uint64_t base; /* tokens of the answer that it takes for its prompt's */
    bool spoke;    /* a token of it went out */
    bool failed;   /* an error event came */
    char words[200];
};

void loami_exchange_open(loami_reply *r, loami_gateway *gw);
void loami_exchange_fail(loami_exchange *x, const loami_fault *f);
void loami_exchange_end(loami_exchange *x); /* the answer is complete, or the client gone: counts, frees */
void loami_exchange_answer(loami_exchange *x, int status, const char *type, const loami_buf *body);
void loami_exchange_abort(loami_exchange *x, const char *why); /* from outside: ends with an error */
void loami_exchange_cut(
    loami_exchange *x); /* the answer cannot be completed, and its form has no words for it */
void loami_exchange_next(loami_exchange *x); /* a try failed: the next one, or the end */
bool loami_exchange_tried(const loami_exchange *x, const loami_backend *b);

/* Starts a try. False when memory ran out (x goes on to the next). */
bool loami_attempt_start(loami_exchange *x, loami_member *m, bool hedge);
void loami_attempt_cancel(loami_attempt *a); /* and free */
void loami_attempt_free(loami_attempt *a);
void loami_attempt_owe_less(loami_attempt *a, double tokens);

/* The answer of an attempt; see relay.c. */
void loami_relay_head(loami_attempt *a, int status);
bool loami_relay_data(loami_attempt *a, const char *bytes, size_t n);
void loami_relay_done(loami_attempt *a, loami_call_fate fate, const char *msg);

/* From outside: what this answer's backend does is done by another one, if one can go on with it. */
bool loami_relay_move(loami_exchange *x);

void loami_relay_error(loami_exchange *x,
                       const char *words); /* ends a begun answer with an error that its client understands */

/* event.c: one event, appended to gw->scratch as the client gets it. arg: the attempt. */
void loami_event(void *arg, loami_span whole, loami_span data);
void loami_usage_read(loami_attempt *a, loami_span object); /* of a whole answer */

/* What is sent: the client's body with what this backend needs changed. False when memory ran out. */
bool loami_body_for(loami_attempt *a);
const char *loami_resume_obstacle(
    const loami_exchange *x); /* why nobody can continue it; NULL = somebody may */
bool loami_resume_fits(const loami_exchange *x, const loami_backend *b);

loami_finish loami_finish_of(loami_span reason);
void loami_calls_keep(loami_exchange *x, loami_span calls); /* tool_calls of a delta or a message */

/* ---- keys: keys.c -------------------------------------------------------------------------------- */

struct loami_gw_key {
    const char *name; /* interned */
    const loami_key_conf *conf;
    double requests, tokens; /* left in the buckets */
    double filled_s;
    uint64_t n_requests, n_refused, n_tokens;
    LIST_ENTRY(loami_gw_key) next;
};

/* The key that a request carries. 0, or -1 with f filled; *out is NULL when no keys are configured. */
int loami_gw_keys_check(loami_gateway *gw, loami_reply *r, loami_gw_key **out, loami_fault *f);
int loami_gw_keys_admit(loami_gw_key *k, loami_reply *r, const loami_facts *facts, loami_fault *f);
void loami_gw_keys_charge(loami_gw_key *k, double guessed, uint64_t tokens);
void loami_gw_keys_load(loami_gateway *gw);
bool loami_admin_allowed(loami_gateway *gw, loami_reply *r, loami_fault *f);
bool loami_secret_same(const char *a, const char *b);

/* ---- the whole: gateway.c ------------------------------------------------------------------------ */

struct loami_gateway {
    loami_loop *loop;
    loami_server *server;
    loami_client *client;
    loami_routes *routes; /* the newest */
    const char *path;
    TAILQ_HEAD(, loami_backend) backends;
    struct loami_exchanges exchanges;
    uint32_t n_exchanges;
    LIST_HEAD(, loami_gw_key) keys;
    LIST_HEAD(, loami_shift) shifts;
    loami_ledger *ledger;
    uint64_t salt;
    double opened_s;
    int64_t opened_unix;
    double answer_guess; /* tokens of an answer, as they have been lately */
    uint64_t answers[6], limited, reloads, reloads_failed;
    loami_timer moved; /* queues are to be looked at */
    loami_buf scratch; /* of one read of one answer */
    char **interned;
    uint32_t n_interned;
    loami_route *all_routes;
    loami_gw_config *first_config;
    void (*on_reload)(void *arg, int rc, const loam_err *err);
    void (*on_restart)(void *arg);
    void *options_arg;
    loami_timer restart;
    loam_err reload_err;
};

/* A copy of s that lives as long as the gateway, the same one for the same text. */
const char *loami_gw_intern(loami_gateway *gw, const char *s);
uint64_t loami_gw_random(loami_gateway *gw);
double loami_gw_uniform(loami_gateway *gw); /* 0 <= u < 1 */

/* Pages: admin.c, metrics.c. */
void loami_admin_status(loami_reply *r, void *gw);
void loami_admin_drain(loami_reply *r, void *gw);
void loami_admin_undrain(loami_reply *r, void *gw);
void loami_admin_reload(loami_reply *r, void *gw);
void loami_admin_restart(loami_reply *r, void *gw);
void loami_admin_models(loami_reply *r, void *gw);
void loami_admin_health(loami_reply *r, void *gw);
void loami_admin_ready(loami_reply *r, void *gw);
void loami_metrics(loami_reply *r, void *gw);

#endif
