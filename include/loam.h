/* loam.h: serve a large language model from your own program.
 *
 *     loam_engine *e;
 *     loam_err err;
 *     if (loam_engine_open(&e, &(loam_options){ .model = "models/smollm2-135m" }, &err) < 0)
 *         fprintf(stderr, "%s\n", err.msg);
 *
 * Every function that can fail returns 0 (or a count) on success and a negative LOAM_E_* code on failure, and
 * then puts words into the caller's loam_err, which is untouched on success and may be NULL. The library never
 * prints and never exits. Options are structs whose zero is the default. Out-parameters come first.
 *
 * Threads: an engine may be used from any thread; one stream or job belongs to one reader at a time. */
#ifndef LOAM_H
#define LOAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LOAM_VERSION "0.1.0"

/* ---- errors ------------------------------------------------------------------------------------------- */

enum {
    LOAM_OK = 0,
    LOAM_E_ARG = -1,         /* the caller asked for something that makes no sense (HTTP 400) */
    LOAM_E_NOMEM = -2,       /* memory, or a stated memory limit, ran out */
    LOAM_E_IO = -3,          /* the operating system said no; the message has its words */
    LOAM_E_FORMAT = -4,      /* a file is not what it claims to be; the message says where */
    LOAM_E_UNSUPPORTED = -5, /* understood, and not offered; the message names it */
    LOAM_E_NOT_FOUND = -6,   /* no such model, file or name */
    LOAM_E_BUSY = -7,        /* the queue is full: try again later (HTTP 429) */
    LOAM_E_TIMEOUT = -8,
    LOAM_E_CANCELLED = -9,
    LOAM_E_TOO_LONG = -10,   /* prompt and answer do not fit into the context (HTTP 400) */
    LOAM_E_TEMPLATE = -11,   /* the chat template raised an error of its own; the message is the template's */
    LOAM_E_MACHINE = -12,    /* the substrate failed in mid-run */
};

typedef struct loam_err {
    int code;      /* LOAM_E_* */
    char msg[500]; /* one line of UTF-8: what is wrong, where, what to do */
} loam_err;

/* "0.1.0". Static. */
const char *loam_version(void);

/* ---- text: tokenizer and chat template of a model, usable without its weights ---------------------------- */

typedef struct loam_text loam_text;

enum {
    LOAM_NO_SPECIAL = 1, /* encode: do not add the tokens of the post-processor (BOS and the like);
                            decode: leave special tokens out of the text */
};

/* Opens tokenizer and template of a model folder, or the path of a tokenizer.json alone. Free with
 * loam_text_close. A loam_text never changes once open: any thread may use it. */
int loam_text_open(loam_text **out, const char *path, loam_err *err);
void loam_text_close(loam_text *t);

/* Token ids of n bytes of UTF-8. Special tokens written out in the text are recognised as such.
 * *ids is malloc'd, the caller's to free. Returns the number of ids. */
int loam_encode(const loam_text *t, const char *text, size_t n, unsigned flags, int32_t **ids, loam_err *err);

/* The text of n ids, NUL-terminated, malloc'd, the caller's to free; *len (may be NULL) its bytes. An id outside
 * the vocabulary is LOAM_E_ARG. Returns 0. */
int loam_decode(const loam_text *t, const int32_t *ids, size_t n, unsigned flags, char **text, size_t *len,
                loam_err *err);

/* The bytes that one token adds in the middle of a text: possibly a part of a character. *bytes is malloc'd, *len long
 * and NUL-terminated, the caller's to free. An id that no token has is LOAM_E_ARG. Returns 0. */
int loam_token_bytes(const loam_text *t, int32_t id, char **bytes, size_t *len, loam_err *err);

/* Renders the chat template. vars_json: a JSON object of the template's variables (messages, tools,
 * add_generation_prompt, ...); bos_token, eos_token and the like are added if absent. *prompt is malloc'd.
 * A message raised by the template is LOAM_E_TEMPLATE. */
int loam_chat_render(const loam_text *t, const char *vars_json, char **prompt, loam_err *err);

/* ---- engine ------------------------------------------------------------------------------------------- */

typedef struct loam_engine loam_engine;

typedef struct loam_options {
    const char *model;        /* a model folder in MLX format */
    const char *name;         /* what to call it; NULL = the folder's own name */
    const char *substrate;    /* "auto" (default), "cpu", "mlx", "reference" */
    uint32_t threads;         /* compute threads; 0 = physical cores */
    uint32_t context_tokens;  /* limit of prompt + answer; 0 = the model's own, at most 8192 */
    uint32_t max_queued;      /* requests that may wait while all places are taken; 0 = 256 */
    uint32_t max_running;     /* requests that run together; 0 = 32 */
    bool exact;               /* float activations throughout: slower, for checking */
    uint32_t step_ms;         /* what a step should take at most that somebody decodes in: prompts beside are cut into
                                 pieces that fit, by the measured cost of a token; 0 = 150 */
    uint64_t memory_bytes;    /* limit of weights + KV cache + scratch; 0 = three quarters of the machine's memory */
    uint64_t kv_bytes;        /* of the KV cache; 0 = room for loam_kv_tokens, or what the limit leaves */
    uint64_t prefix_bytes;    /* of it, kept at most for prompts that begin alike; 0 = whatever no request needs */
    const char *kv_type;      /* "f16" (default) or "int8" */
    bool overcommit;          /* start requests when their prompt fits, not their longest answer; when pages run out, the
                                 one that came last gives its own back and is run again later */
    bool batch_invariant;     /* the same request and seed give the same text, whatever else runs. Costs some speed */
    uint32_t speculate_tokens; /* guesses a step at what comes next, from what stood in the prompt or answer before, checked
                                 by the model: the same text, sooner where it repeats itself. 0 = none, at most 32 */
    const char *kv_dir;       /* a folder where pages of prompts outlive memory and restarts; NULL = none */
    uint64_t kv_disk_bytes;   /* limit of this model's pages there; 0 = 8 GiB */
} loam_options;

/* Tokens that a KV cache has room for whose size was left open: the whole context of all that may run (0 = 32) where contexts are
 * short (65,536 tokens in all), and eight whole contexts where they are long, since most requests need far less than one. */
uint64_t loam_kv_tokens(uint32_t context_tokens, uint32_t max_running);

/* Loads the shared object of the substrate that loam_options.substrate would choose, if it has one, so that loam_engine_open
 * needs to open no libraries: for programs that restrict themselves in between. */
int loam_preload(const char *substrate, loam_err *err);

/* Loads a model and starts the engine thread. Takes as long as loading takes. */
int loam_engine_open(loam_engine **out, const loam_options *options, loam_err *err);

/* Cancels what runs, joins the engine thread, frees everything. Streams and jobs must be closed before. NULL is fine. */
void loam_engine_close(loam_engine *e);

/* The engine's tokenizer and template; belongs to the engine. */
const loam_text *loam_engine_text(const loam_engine *e);

typedef struct loam_model_info {
    const char *name;         /* as the user named it */
    const char *path;         /* the folder */
    const char *family;       /* model_type */
    const char *substrate;    /* "cpu", ... */
    const char *device;       /* "cpu (avx512)", "Apple M1 Max", ... */
    uint32_t vocab_tokens;
    uint32_t context_tokens;  /* of this engine, after loam_options.context_tokens */
    uint64_t parameters;
    uint64_t weight_bytes;    /* all weights as they lie in the file */
    uint64_t active_bytes;    /* of them, read for one token of decode */
    uint64_t kv_bytes;        /* reserved for the KV cache */
    uint32_t threads;
    uint32_t embed_dims;      /* numbers of an embedding */
    const char *quant_mode;   /* of most weights: "affine", "mxfp4", ...; NULL = not quantised */
    uint32_t quant_bits, quant_group;
} loam_model_info;

/* Filled at open, constant until close; strings belong to the engine. */
const loam_model_info *loam_engine_info(const loam_engine *e);

/* ---- grammars ------------------------------------------------------------------------------------------- */

/* What an answer has to look like: a text of a grammar. While it is made, only tokens are chosen with which it can still
 * become one, and it may end only where it is one. docs/structured-output.md says what each kind understands. */
typedef struct loam_grammar loam_grammar;

typedef enum loam_grammar_kind {
    LOAM_GRAMMAR_JSON_OBJECT = 1, /* any JSON object; source is ignored */
    LOAM_GRAMMAR_JSON_SCHEMA,  /* source is a JSON Schema, as JSON */
    LOAM_GRAMMAR_REGEX,        /* the whole answer matches this regular expression */
    LOAM_GRAMMAR_CHOICE,       /* source is a JSON array of strings: one of them */
    LOAM_GRAMMAR_EBNF,         /* rules as llama.cpp's GBNF writes them, starting with root */
} loam_grammar_kind;

/* Compiles source[0..n) for an engine's vocabulary; the same source again is taken from a cache. LOAM_E_ARG: source is
 * not what kind says; LOAM_E_UNSUPPORTED: it is, and can't be honoured; the message names place and keyword. Any thread.
 * *out is the caller's to close, before the engine is. It may be used by many requests at the same time. */
int loam_grammar_open(loam_grammar **out, loam_engine *e, loam_grammar_kind kind, const char *source, size_t n, loam_err *err);

/* Gives the caller's reference back; requests that use the grammar hold their own. NULL is fine. */
void loam_grammar_close(loam_grammar *g);

/* ---- requests and streams ------------------------------------------------------------------------------ */

enum { LOAM_MAX_STOP = 16, LOAM_MAX_LOGPROBS = 20 };

typedef struct loam_logit_bias {
    int32_t id;
    float bias;
} loam_logit_bias;

/* How the next token is chosen. Zero is greedy decoding without penalties. */
typedef struct loam_sampling {
    float temperature;         /* 0 = greedy; otherwise divides the logits */
    float top_p;               /* nucleus (Holtzman et al. 2019); 0 or 1 = off */
    float min_p;               /* keep p >= min_p * p_max; 0 = off */
    uint32_t top_k;            /* 0 = off */
    float repetition_penalty;  /* divides positive and multiplies negative logits of tokens seen; 0 or 1 = off */
    float presence_penalty;    /* subtracted once from tokens generated */
    float frequency_penalty;   /* subtracted per occurrence from tokens generated */
    uint64_t seed;             /* used when has_seed; otherwise one is drawn */
    bool has_seed;
    const loam_logit_bias *bias; /* [n_bias], added to the logits */
    uint32_t n_bias;
} loam_sampling;

/* One piece of work. Everything is copied by loam_submit. */
typedef struct loam_request {
    const int32_t *tokens;     /* [n_tokens] the prompt, at least 1 */
    uint32_t n_tokens;
    uint32_t max_new;          /* tokens to generate at most; 0 = until the context is full */
    uint32_t min_new;          /* end-of-text is not chosen before */
    loam_sampling how;
    const char *const *stop;   /* [n_stop] strings that end the answer and are not part of it */
    uint32_t n_stop;
    const int32_t *stop_tokens; /* [n_stop_tokens] ids that end the answer, besides the model's own */
    uint32_t n_stop_tokens;
    bool ignore_eos;
    bool keep_special;         /* special tokens appear in the text */
    loam_grammar *grammar;     /* what the answer has to look like, or NULL. A reference is taken */
    uint32_t n_logprobs;       /* 0 = none; k = the chosen token's and the k most likely ones' */
    bool want_logprobs;        /* the chosen token's alone counts too */
    uint64_t cache_salt;       /* requests share cached prefixes only with those of the same salt */
    int32_t priority;          /* the lower, the sooner; 0 is ordinary. One start in eight, and one step with prompts in
                                  eight, goes by who came first: less urgent ones wait longer, not for ever */
    uint64_t client;           /* who asks (a hash of the API key, say): clients get equal shares of the work. 0 is one, too */
    uint32_t timeout_ms;       /* from submit to the last token; then it ends with LOAM_E_TIMEOUT. 0 = never */
    bool more;                 /* another request follows at once, that this one shall begin with: an idle engine waits for it (or for this
                                  one's end) */
    void (*on_ready)(void *arg); /* called on the engine thread when a reader that found nothing should look
                                    again; must not block and must not call loam. NULL for readers that wait */
    void *on_ready_arg;
} loam_request;

typedef enum loam_finish {
    LOAM_FINISH_NONE = 0,      /* still running */
    LOAM_FINISH_STOP,          /* end of text, or a stop string or token */
    LOAM_FINISH_LENGTH,        /* max_new or the context */
    LOAM_FINISH_CANCELLED,
    LOAM_FINISH_ERROR,         /* the result's code says which: LOAM_E_TIMEOUT, LOAM_E_MACHINE */
} loam_finish;

typedef struct loam_logprob {
    int32_t id;
    float logprob;             /* natural logarithm, of the distribution before temperature and cuts */
} loam_logprob;

/* One step of an answer. text is complete UTF-8, may be empty (a character or a possible stop string is still
 * open), and is valid until the next loam_stream_next on this stream. */
typedef struct loam_token {
    int32_t id;                /* -1: text held back earlier, no token of its own */
    const char *text;
    size_t text_len;
    float logprob;             /* if asked for */
    const loam_logprob *top;   /* [n_top] most likely first, valid as text is */
    uint32_t n_top;
    double gap_s;              /* between this token and the one before it, as the engine made them; 0 for the first */
} loam_token;

typedef struct loam_result {
    loam_finish finish;
    int code;                  /* LOAM_OK or why it failed */
    char msg[256];
    const char *stop;          /* the stop string met, or NULL; the stream's */
    uint32_t prompt_tokens, new_tokens;
    uint32_t cached_tokens;    /* of the prompt, found in the KV cache */
    double queue_s, prefill_s, decode_s; /* waiting, prompt, first token to last; the first two are the TTFT */
    uint32_t preemptions;      /* times it gave its place back and started over: no pages (overcommit), or its reader lagged by
                                  64 tokens while others waited */
} loam_result;

typedef struct loam_stream loam_stream;

/* Queues a request. On success *out is the caller's to close. LOAM_E_BUSY: queue full. LOAM_E_TOO_LONG: the
 * prompt does not fit. Any thread. */
int loam_submit(loam_engine *e, loam_stream **out, const loam_request *request, loam_err *err);

/* The next step of the answer: 1 with *out filled; 0 at the end (see loam_stream_result); LOAM_E_TIMEOUT if
 * nothing came within wait_ms (0 = do not wait; UINT32_MAX = for ever). One reader at a time. The engine runs ahead of its
 * reader by 64 tokens at most; then the request gives its place up to those who wait, and goes on when half are read. */
int loam_stream_next(loam_stream *s, loam_token *out, uint32_t wait_ms);

/* Asks for an early end: obeyed in the queue, in prefill and in decode, within one step. Any thread. */
void loam_stream_cancel(loam_stream *s);

/* How it went; finish is LOAM_FINISH_NONE until loam_stream_next has returned 0. */
void loam_stream_result(const loam_stream *s, loam_result *out);

/* Cancels if still running, frees; on_ready is not called any more. Does not wait. NULL is fine. */
void loam_stream_close(loam_stream *s);

/* ---- jobs: texts that are only read -------------------------------------------------------------------- */

typedef struct loam_tokens {
    const int32_t *ids;        /* [n] */
    uint32_t n;
} loam_tokens;

/* How the final norm's outputs, one a token, become one vector. */
typedef enum loam_pooling {
    LOAM_POOL_MODEL = 0,       /* as the folder's 1_Pooling/config.json (sentence-transformers) says; otherwise MEAN */
    LOAM_POOL_MEAN,
    LOAM_POOL_LAST,            /* the last token's */
} loam_pooling;

typedef enum loam_job_kind {
    LOAM_JOB_EMBED,            /* each text as a vector of length 1 */
    LOAM_JOB_SCORE,            /* natural log-probability of each token but a text's first, given those before it */
} loam_job_kind;

/* Texts that go through the engine beside other requests, under the same rules. A few are ahead at a time, so that short
 * ones share steps, and a job of many takes no more of the queue and the KV cache than its share. */
typedef struct loam_job_request {
    loam_job_kind kind;
    const loam_tokens *texts;  /* [n_texts] of at least one token each. They and their ids stay the caller's, unchanged, until
                                  the job is closed */
    uint32_t n_texts;          /* at least 1 */
    loam_pooling pooling;      /* of embeddings */
    bool want_ranks;           /* of scores: where each token stands, 1 = the likeliest */
    uint32_t n_top;            /* of scores: the likeliest tokens of each place, at most LOAM_MAX_LOGPROBS */
    int32_t priority;          /* this and the rest: see loam_request */
    uint64_t client;
    uint32_t timeout_ms;       /* from begin to the last text */
    void (*on_ready)(void *arg); /* called on the engine thread when poll should be called again; must not block and must not
                                    call loam; possibly before begin returns. NULL for those who wait */
    void *on_ready_arg;
} loam_job_request;

typedef struct loam_outcome {
    loam_finish finish;        /* NONE: not over; STOP: all is there; CANCELLED, ERROR */
    int code;                  /* LOAM_OK or why it failed */
    char msg[256];
    uint32_t failed;           /* the text that code concerns */
    double queue_s, run_s;     /* until the first text's turn came, and from then to the end */

    /* When finish is STOP. The job's, valid until it is closed. Of scores, text after text, a text of n tokens has n - 1 places. */
    const float *floats;       /* vectors [n_texts][embed_dims], or log-probabilities [places] */
    const uint32_t *ranks;     /* [places], or NULL */
    const loam_logprob *top;   /* [places][n_top] most likely first, or NULL */
} loam_outcome;

typedef struct loam_job loam_job;

/* Checks all texts and queues the first ones. On success *out is the caller's to close. LOAM_E_BUSY: queue full; a job that was
 * let in is not turned away later. An error concerns the text *failed (may be NULL). Any thread. */
int loam_job_begin(loam_engine *e, loam_job **out, const loam_job_request *request, uint32_t *failed, loam_err *err);

/* Takes what has come and queues what follows: 0 when the job is over (see loam_job_result), LOAM_E_TIMEOUT if it is not
 * within wait_ms (0 = do not wait; UINT32_MAX = for ever). It does not go on by itself: call this whenever on_ready says
 * so. One caller at a time. */
int loam_job_poll(loam_job *j, uint32_t wait_ms);

/* Asks for an early end: obeyed in the queue and between steps; poll tells. Any thread. */
void loam_job_cancel(loam_job *j);

/* How it went; finish is LOAM_FINISH_NONE until loam_job_poll has returned 0. */
void loam_job_result(const loam_job *j, loam_outcome *out);

/* Cancels if still running, frees; on_ready is not called any more. Does not wait: memory that the engine still writes to goes
 * when it has let go. NULL is fine. */
void loam_job_close(loam_job *j);

/* The same, waiting: embeddings of texts, out[n_texts][embed_dims]. An error concerns the text *failed (may be NULL). */
int loam_embed(loam_engine *e, const loam_tokens *texts, uint32_t n_texts, loam_pooling pooling, float *out,
               uint32_t *failed, loam_err *err);

/* Likewise the scores of one text, n at least 2 and at most context_tokens: logprobs[n-1]. */
int loam_score(loam_engine *e, const int32_t *tokens, uint32_t n, float *logprobs, loam_err *err);

/* The same, with ranks[n-1] and top[n-1][n_top]; either may be NULL. */
int loam_score_top(loam_engine *e, const int32_t *tokens, uint32_t n, uint32_t n_top, float *logprobs, uint32_t *ranks,
                   loam_logprob *top, loam_err *err);

/* ---- what an answer is made of ---------------------------------------------------------------------------- */

/* Models write reasoning and calls of tools into their text, each family with markers of its own; a parser takes
 * the text in pieces and gives these. */
typedef enum loam_part_kind {
    LOAM_PART_TEXT,            /* for the user */
    LOAM_PART_REASONING,       /* what led to it */
    LOAM_PART_CALL,            /* a call begins: text is the tool's name */
    LOAM_PART_ARGUMENTS,       /* a piece of its arguments, which are a JSON object */
    LOAM_PART_CALL_END,
} loam_part_kind;

typedef struct loam_part {
    loam_part_kind kind;
    uint32_t call;             /* of the last three: its number, from 0 */
    const char *text;          /* [text_len], not NUL-terminated; valid during the call of emit */
    size_t text_len;
    const char *id;            /* of CALL: the id that the model gave it, NUL-terminated, or NULL */
} loam_part;

typedef struct loam_parser loam_parser;

/* prompt: as rendered, whose end may have begun the reasoning; may be NULL. tools_json: the tools that the template
 * was given, an array; NULL: nothing is taken for a call. emit is called within put and end. */
int loam_parser_open(loam_parser **out, const loam_text *t, const char *prompt, const char *tools_json,
                     void (*emit)(void *arg, const loam_part *part), void *arg, loam_err *err);

/* The next n bytes of the answer, cut anywhere between characters. Fails only for want of memory. */
int loam_parser_put(loam_parser *p, const char *text, size_t n, loam_err *err);

/* The answer is over: what was held back, lest it were a marker, comes out. */
int loam_parser_end(loam_parser *p, loam_err *err);
void loam_parser_close(loam_parser *p);

enum { LOAM_OFFERS_CHAT = 1, LOAM_OFFERS_TOOLS = 2, LOAM_OFFERS_REASONING = 4 };

/* What the model's chat template is made for: some of these. */
unsigned loam_text_offers(const loam_text *t);

/* Whether the markers are special tokens, so that a parser needs an answer with loam_request.keep_special. */
bool loam_parser_wants_special(const loam_text *t, const char *tools_json);

/* What an answer is to be made of, when it is more than text: see loam_answer_grammar. */
typedef struct loam_answer_form {
    const char *prompt;        /* as rendered: its end may have begun the reasoning */
    loam_grammar_kind kind;    /* of the text; 0: any text */
    const char *source;        /* [source_len] likewise, as for loam_grammar_open */
    size_t source_len;
    const char *tools_json;    /* the tools that may be called, an array; NULL: none */
    bool must_call;            /* one of them has to be called; there is no text */
    const char *tool;          /* ... this one; NULL: whichever */
    bool one_call;             /* no more than one call */
} loam_answer_form;

/* The grammar for the answer to a chat: reasoning first, if the model's template lets it reason; then text of that form, or
 * calls in the family's own format, whose arguments are valid JSON of the tools' schemas. Where nothing is
 * asked of it, *out is NULL. Where a call need not come, a tool whose schema can't be honoured may get any JSON
 * object, unless it says "strict": true. Otherwise as loam_grammar_open. */
int loam_answer_grammar(loam_grammar **out, loam_engine *e, const loam_answer_form *form, loam_err *err);

/* ---- state, checking ------------------------------------------------------------------------------------ */

typedef enum loam_phase {
    LOAM_PHASE_IDLE = 0,       /* waits for work */
    LOAM_PHASE_PREFILL,        /* the step running now has rows of prompts */
    LOAM_PHASE_DECODE,         /* it has none */
} loam_phase;

enum { LOAM_FINISHES = LOAM_FINISH_ERROR + 1, LOAM_STEP_SIZES = 14 };

typedef struct loam_engine_state {
    /* now */
    uint32_t running, waiting;      /* requests */
    uint32_t requests_max;          /* that may be here at once: max_running and max_queued */
    uint32_t pages_used, pages;     /* KV pages that requests hold, and all there are */
    uint32_t pages_kept;            /* those that nobody holds, kept for prompts that begin alike */
    uint32_t near_pages_used, near_pages, near_pages_kept; /* the same of layers with a window, where others see everything; else 0 */
    uint32_t page_tokens;
    uint64_t weight_bytes, kv_bytes, scratch_bytes; /* memory taken; scratch: what steps need, so far */
    uint64_t limit_bytes;           /* of the three together */

    /* the heartbeat */
    loam_phase phase;
    double phase_s;                 /* it has been in this phase for so long */
    double step_s;                  /* age of the step running now, or of what the engine is at between steps; 0: it sleeps. One that grows without end: stalled */
    double step_max_s;              /* the longest step so far */
    uint64_t steps, steps_ahead;    /* steps_ahead of them were begun before the one before them was done */

    /* since open */
    uint64_t prompt_tokens, new_tokens; /* run (not those found in the cache); chosen */
    uint64_t prompt_tokens_read;    /* of prompts read to their end, those found in the cache too */
    uint64_t tokens_run;            /* by all steps, of prompts and answers */
    uint64_t step_tokens[LOAM_STEP_SIZES]; /* steps that ran at most 1, 8, 16, 32, ... 16384 tokens, and more; each without those before it */
    uint64_t prefix_queries, prefix_hits; /* prompt tokens of requests started; of them, found in the cache */
    uint64_t disk_hits;             /* of those, tokens that came from kv_dir */
    uint64_t preemptions;
    uint64_t speculated, speculated_right; /* tokens guessed; of them, what the model chose */
    uint64_t finished[LOAM_FINISHES]; /* requests by loam_finish; of a job, each text is one. So they are in running and waiting */
    uint64_t timeouts;              /* of finished[LOAM_FINISH_ERROR] */
    uint64_t refused;               /* submits that found the queue full */

    /* measured */
    double tokens_per_s;            /* of prompts and answers, in the last seconds of work */
    double retry_s;                 /* whoever finds the queue full should come back after so long: what runs and waits
                                       ahead of it over the measured rate, at least 1 */
} loam_engine_state;

/* A snapshot. Any thread. */
void loam_engine_stat(const loam_engine *e, loam_engine_state *out);

/* Logits after the last of n tokens: logits[vocab_tokens]. Runs between requests, alone. */
int loam_logits(loam_engine *e, const int32_t *tokens, uint32_t n, float *logits, loam_err *err);

/* ---- the machine ------------------------------------------------------------------------------------------ */

/* What one substrate says of this machine. */
typedef struct loam_device {
    const char *name;          /* "cpu", "mlx", ... static */
    bool here;                 /* it can be opened */
    bool chosen;               /* "auto" means this one */
    char device[96];           /* "cpu (avx512)"; empty when it is not here */
    char why[400];             /* why it is not here */
    uint32_t threads;
} loam_device;

/* Opens each substrate once and tells of at most max; returns how many there are. */
uint32_t loam_devices(loam_device *out, uint32_t max);

/* Seconds that a substrate takes for one product of two n x n matrices (bfloat16 weights), the average of several runs
 * after a first one: as many as `runs`, fewer once they took limit_s. n is a multiple of 64, from 64 to 8192. */
int loam_matmul_s(double *seconds, uint32_t *done, const char *substrate, uint32_t n, uint32_t runs, double limit_s, loam_err *err);

#ifdef __cplusplus
}
#endif
#endif
