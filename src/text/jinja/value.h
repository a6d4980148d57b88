/* text/jinja/value.h: the values of a template, as Python would see them.
 *
 * Everything lives in the arena of one compilation or one rendering and is freed with it; nothing is counted.
 * Strings, lists, tuples and dicts never change once a template can see them. A failure leaves through
 * loami_j_fail, which jumps to the one exit of loami_jinja_open or loami_jinja_render: nothing in between owns
 * anything outside the arena. */
#ifndef LOAMI_JINJA_VALUE_H
#define LOAMI_JINJA_VALUE_H

#include "base/arena.h"
#include "base/json.h"

#include <setjmp.h>

typedef enum jtype {
    J_MISSING = 0, /* no value at all: an unassigned variable, an argument not given. Templates never see it */
    J_UNDEF, J_NONE, J_BOOL, J_INT, J_FLOAT, J_STR, J_LIST, J_TUPLE, J_DICT,
    J_VIEW,        /* dict.keys(), .values(), .items() */
    J_RANGE,
    J_ITER,        /* a generator: can be walked once */
    J_NS,          /* namespace() */
    J_MACRO, J_FUNC, J_METHOD, J_LOOP, J_CYCLER, J_JOINER,
    J_TYPES
} jtype;

typedef struct jstr jstr;
typedef struct jlist jlist;
typedef struct jdict jdict;
typedef struct jval jval;
typedef struct jrun jrun;

struct jval {
    jtype type;
    union {
        bool b;
        int64_t i;
        double f;
        const jstr *s;
        const jlist *l;            /* J_LIST, J_TUPLE */
        jdict *d;                  /* J_DICT, J_NS */
        const struct jundef *u;
        const struct jview *view;
        const struct jrange *range;
        struct jiter *it;
        const struct jmacro *macro;
        const struct jbuiltin *fn;
        const struct jmethod *method;
        struct jloop *loop;
        struct jcycler *cycler;
        struct jjoiner *joiner;
        const void *p;             /* any of them, for identity */
    };
};

/* A string: n bytes of UTF-8, not NUL-terminated. */
struct jstr {
    const char *p;
    size_t n;
    size_t chars;                  /* code points; SIZE_MAX = not counted yet */
    struct jgrow *grow;            /* the bytes' owner when they may be extended in place, or NULL */
    bool markup;                   /* passed through safe or escape: joins escape what is added to it */
};

struct jlist {
    jval *v;                       /* [n] */
    size_t n;
    bool group;                    /* a pair of groupby: has .grouper and .list */
};

typedef struct jpair {
    jval k, v;
    uint64_t hash;
} jpair;

/* In insertion order. */
struct jdict {
    jpair *p;                      /* [n] of [cap] */
    size_t n, cap;
    uint32_t *index;               /* [index_cap] number of a pair + 1, 0 = free; NULL while small */
    size_t index_cap;
};

typedef struct jundef {
    const jstr *hint;              /* the message, or NULL: made of the rest */
    const jstr *name;              /* of the variable or attribute; NULL when `key` is no string */
    jval owner, key;               /* owner missing: a variable */
} jundef;

typedef struct jview {
    const jdict *d;
    enum { J_KEYS, J_VALUES, J_ITEMS } what;
} jview;

typedef struct jrange {
    int64_t start, stop, step, len;
} jrange;

/* What is walked by a for loop or a filter. next gives 1 with *out, or 0 at the end. */
typedef struct jiter jiter;
struct jiter {
    bool (*next)(jrun *r, jiter *it, jval *out);
    const char *shown;             /* "generator object sync_do_map" */
    jval src;                      /* what is walked, or the inner iterator */
    size_t at;
    bool done;
    void *more;                    /* what the kind of iterator needs besides */
};

typedef struct jcycler {
    const jlist *items;
    size_t at;
} jcycler;

typedef struct jjoiner {
    jval sep;
    bool used;
} jjoiner;

/* One call's arguments. */
typedef struct jargs {
    jval *v;                       /* [n] by position */
    size_t n;
    const jstr **names;            /* [n_named] */
    jval *named;                   /* [n_named] */
    size_t n_named;
} jargs;

enum { J_MAX_PARAMS = 6 };

/* A function, method, filter or test that is written in C. params names its parameters, separated by spaces:
 * "a" must be given, "b?" may be, "*" takes the rest as they are (read from args), a leading "/" forbids names.
 * p[] gets the bound ones, J_MISSING where not given. self: the method's object or the filter's input. */
typedef struct jbuiltin {
    const char *name;
    jval (*call)(jrun *r, jval self, jval *p, const jargs *args);
    const char *params;
} jbuiltin;

typedef struct jmethod {
    jval self;
    const jbuiltin *fn;
} jmethod;

/* ---- memory, failure, work ----------------------------------------------------------------------------- */

/* The state of one compilation or one rendering, as far as values need it. */
typedef struct jmem {
    loami_arena arena;
    char *at;                      /* free bytes of the current piece */
    size_t left;
    size_t used, limit;            /* bytes */
    uint64_t steps, step_limit;
    uint32_t depth, line;          /* nesting now; line of the statement at work */
    int code;                      /* LOAM_E_* of a failure */
    loam_err *err;
    jmp_buf exit;
} jmem;

/* n zeroed bytes, aligned to 16. Fails when memory or the limit is out. */
void *loami_j_alloc(jrun *r, size_t n);
void *loami_j_array(jrun *r, size_t count, size_t size);

/* Ends compilation or rendering: "line 3: " and the words. */
_Noreturn void loami_j_fail(jrun *r, const char *fmt, ...) LOAMI_PRINTF(2, 3);
_Noreturn void loami_j_fail_code(jrun *r, int code, const char *text, size_t n);

/* Counts n units of work against the limit; about one a node or 16 bytes. */
void loami_j_work(jrun *r, size_t n);
void loami_j_enter(jrun *r);       /* one level deeper; fails when too deep */
void loami_j_leave(jrun *r);

/* ---- strings ------------------------------------------------------------------------------------------- */

/* A string over bytes that outlive the rendering. */
jval loami_j_str(jrun *r, const char *p, size_t n);
jval loami_j_strz(jrun *r, const char *p);
/* A part of another: shares bytes and keeps markup. */
jval loami_j_part(jrun *r, const jstr *of, size_t at, size_t n);
jval loami_j_concat(jrun *r, const jstr *a, const jstr *b);
size_t loami_j_chars(const jstr *s);
/* Byte offset of the k-th code point, k <= chars. */
size_t loami_j_offset(const jstr *s, size_t k);
bool loami_j_is(const jstr *s, const char *z);

/* A string under construction in the arena. */
typedef struct jsb {
    jrun *r;
    char *p;
    size_t n, cap;
} jsb;

void loami_j_put(jsb *b, const char *p, size_t n);
void loami_j_puts(jsb *b, const char *z);
void loami_j_putc(jsb *b, char c);
void loami_j_putcp(jsb *b, uint32_t cp);
void loami_j_printf(jsb *b, const char *fmt, ...) LOAMI_PRINTF(2, 3);
jval loami_j_sbval(jsb *b);        /* the string; b must not be used after */

/* ---- containers ---------------------------------------------------------------------------------------- */

/* A list under construction. */
typedef struct jlb {
    jrun *r;
    jval *v;
    size_t n, cap;
} jlb;

void loami_j_push(jlb *b, jval v);
jval loami_j_list(jrun *r, jtype type, jval *v, size_t n); /* keeps v */
jval loami_j_lbval(jlb *b, jtype type);
jval loami_j_pair(jrun *r, jval a, jval b);                /* a tuple of two */

jdict *loami_j_dict(jrun *r);
void loami_j_dict_set(jrun *r, jdict *d, jval k, jval v);  /* replaces in place; fails for a key that has no hash */
bool loami_j_dict_get(jrun *r, const jdict *d, jval k, jval *out);
bool loami_j_dict_gets(jrun *r, const jdict *d, const char *k, size_t n, jval *out);

/* Python's ==, and hash() consistent with it; unhashable values fail. */
bool loami_j_equal(jrun *r, jval a, jval b);
uint64_t loami_j_hash(jrun *r, jval v);

/* ---- small --------------------------------------------------------------------------------------------- */

static inline jval loami_j_none(void) { return (jval){ .type = J_NONE }; }
static inline jval loami_j_bool(bool b) { return (jval){ .type = J_BOOL, .b = b }; }
static inline jval loami_j_int(int64_t i) { return (jval){ .type = J_INT, .i = i }; }
static inline jval loami_j_float(double f) { return (jval){ .type = J_FLOAT, .f = f }; }

/* "str", "list", "NoneType": type(v).__name__ */
const char *loami_j_typename(jval v);

/* A value of a JSON document, which must outlive the rendering. */
jval loami_j_from_json(jrun *r, const json_t *v);

/* An undefined value: with a hint, or named after what was looked up. */
jval loami_j_undef_hint(jrun *r, const char *fmt, ...) LOAMI_PRINTF(2, 3);
jval loami_j_undef_var(jrun *r, const jstr *name);
jval loami_j_undef_key(jrun *r, jval owner, jval key);
_Noreturn void loami_j_fail_undef(jrun *r, const jundef *u);

#endif
