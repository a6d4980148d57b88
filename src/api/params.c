#include "api/params.h"

#include "base/fnv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int loami_read_top_p(void *params, const json_t *v, const char *where, loami_fault *f)
{
    loami_params *p = params;
    double d = json_number_value(v);
    if (!json_is_number(v) || !(d >= 0 && d <= 1)) return loami_field_wrong(f, where, "a number from 0 to 1");
    p->how.top_p = d > 1e-6 ? (float)d : 1e-6f; /* 0 leaves the likeliest token; to the engine 0 is "off" */
    return 0;
}

int loami_read_top_k(void *params, const json_t *v, const char *where, loami_fault *f)
{
    loami_params *p = params;
    json_int_t i;
    if (!loami_whole(v, &i) || i < -1 || i > 1 << 20)
        return loami_field_wrong(f, where, "an integer from -1 to 1048576 (0 and -1 are off)");
    p->how.top_k = i > 0 ? (uint32_t)i : 0;
    return 0;
}

int loami_read_seed(void *params, const json_t *v, const char *where, loami_fault *f)
{
    loami_params *p = params;
    json_int_t i;
    if (!loami_whole(v, &i)) return loami_field_wrong(f, where, "an integer");
    p->how.seed = (uint64_t)i;
    p->how.has_seed = true;
    return 0;
}

static int add_stop(loami_params *p, const json_t *v, const char *where, loami_fault *f)
{
    if (!json_is_string(v)) return loami_field_wrong(f, where, "a string or an array of strings");
    if (json_string_length(v) == 0) return loami_field_wrong(f, where, "not empty");
    if (p->n_stop == LOAM_MAX_STOP)
        return loami_fault_set(f, 400, "invalid_value", "stop", "'stop' has more than %d strings.",
                               LOAM_MAX_STOP);
    p->stop[p->n_stop++] = json_string_value(v);
    return 0;
}

int loami_read_stop(void *params, const json_t *v, const char *where, loami_fault *f)
{
    loami_params *p = params;
    size_t i;
    json_t *one;
    char path[128], index[32];
    if (!json_is_array(v)) return add_stop(p, v, where, f);
    json_array_foreach(v, i, one)
    {
        snprintf(index, sizeof index, "[%zu]", i);
        loami_field_path(path, where, index);
        if (add_stop(p, one, path, f) < 0) return -1;
    }
    return 0;
}

int loami_read_stop_tokens(void *params, const json_t *v, const char *where, loami_fault *f)
{
    loami_params *p = params;
    size_t i;
    json_t *one;
    if (!json_is_array(v) || json_array_size(v) > LOAMI_MAX_STOP_TOKENS)
        return loami_field_wrong(f, where, "an array of at most 64 token ids");
    json_array_foreach(v, i, one)
    {
        json_int_t id = -1;
        if (!loami_whole(one, &id) || id < 0 || id > INT32_MAX)
            return loami_field_wrong(f, where, "an array of token ids");
        p->stop_tokens[p->n_stop_tokens++] = (int32_t)id;
    }
    return 0;
}

int loami_read_bias(void *params, const json_t *v, const char *where, loami_fault *f)
{
    loami_params *p = params;
    const char *key;
    json_t *one;
    if (!json_is_object(v)) return loami_field_wrong(f, where, "an object from token ids to numbers");
    if (json_object_size(v) > LOAMI_MAX_BIAS)
        return loami_field_wrong(f, where, "an object of at most 1024 tokens");
    loam_logit_bias *bias = calloc(json_object_size(v) + 1, sizeof *bias);
    if (!bias) return loami_fault_set(f, 503, NULL, "", "Out of memory.");
    p->how.bias = bias;
    json_object_foreach((json_t *)v, key, one)
    {
        char path[128], *end;
        long id = strtol(key, &end, 10);
        double b = json_number_value(one);
        loami_field_path(path, where, key);
        if (end == key || *end || id < 0 || id > INT32_MAX || (key[0] < '0' || key[0] > '9'))
            return loami_fault_set(f, 400, "invalid_value", path, "'%s' must be named by a token id.", path);
        if (!json_is_number(one) || !(b >= -100 && b <= 100))
            return loami_field_wrong(f, path, "a number from -100 to 100");
        bias[p->how.n_bias++] = (loam_logit_bias){ (int32_t)id, (float)b };
    }
    return 0;
}

int loami_read_stream_options(void *params, const json_t *v, const char *where, loami_fault *f)
{
    static const loami_field table[] = {
        LOAMI_FIELD(BOOL, "include_usage", loami_params, include_usage),
        LOAMI_REFUSE_TRUE("include_obfuscation", "nothing is added to hide the length of a piece"),
        { 0 },
    };
    if (!json_is_object(v)) return loami_field_wrong(f, where, "an object");
    return loami_fields_read(table, v, where, false, params, f);
}

int loami_read_prompt_logprobs(void *params, const json_t *v, const char *where, loami_fault *f)
{
    loami_params *p = params;
    json_int_t k = -1;
    if (!loami_whole(v, &k) || k < 0 || k > LOAM_MAX_LOGPROBS)
        return loami_field_wrong(f, where, "an integer from 0 to 20");
    p->show_prompt_logprobs = p->score_prompt = true;
    p->n_prompt_logprobs = (uint32_t)k;
    return 0;
}

int loami_read_skip_special(void *params, const json_t *v, const char *where, loami_fault *f)
{
    loami_params *p = params;
    if (!json_is_boolean(v)) return loami_field_wrong(f, where, "true or false");
    p->keep_special = json_is_false(v);
    return 0;
}

int loami_read_timeout(void *to, const json_t *v, const char *where, loami_fault *f)
{
    double s = json_number_value(v);
    if (!json_is_number(v) || !(s > 0 && s <= LOAMI_TIMEOUT_MAX_S))
        return loami_field_wrong(f, where, "a number of seconds, above 0 and at most 1000000");
    *(float *)to = (float)s;
    return 0;
}

int loami_read_priority(void *to, const json_t *v, const char *where, loami_fault *f)
{
    json_int_t i;
    if (!loami_whole(v, &i) || i < INT32_MIN || i > INT32_MAX)
        return loami_field_wrong(f, where, "an integer of 32 bits (the lower, the sooner)");
    *(int32_t *)to = (int32_t)i;
    return 0;
}

int loami_read_cache_salt(void *params, const json_t *v, const char *where, loami_fault *f)
{
    loami_params *p = params;
    if (!json_is_string(v) || json_string_length(v) == 0) return loami_field_wrong(f, where, "a string, not empty");
    p->cache_salt = loami_fnv(json_string_value(v), json_string_length(v));
    return 0;
}

int loami_params_check(loami_params *p, loami_fault *f)
{
    if (p->include_usage && !p->stream)
        return loami_fault_set(f, 400, "invalid_value", "stream_options",
                               "'stream_options' is for stream: true.");
    if (p->max_completion_tokens && p->max_tokens && p->max_tokens != p->max_completion_tokens)
        return loami_fault_set(f, 400, "invalid_value", "max_tokens",
                               "'max_tokens' and 'max_completion_tokens' contradict each other.");
    if (p->max_completion_tokens) p->max_tokens = p->max_completion_tokens;
    if (p->max_tokens && p->min_tokens > p->max_tokens)
        return loami_fault_set(f, 400, "invalid_value", "min_tokens",
                               "'min_tokens' is larger than 'max_tokens'.");
    return 0;
}

void loami_params_free(loami_params *p)
{
    free((void *)p->how.bias);
    p->how.bias = NULL;
}

void loami_params_request(const loami_params *p, uint32_t default_max_tokens, loam_request *out)
{
    *out = (loam_request){
        .max_new = p->max_tokens ? p->max_tokens : default_max_tokens,
        .min_new = p->min_tokens,
        .how = p->how,
        .stop = p->stop,
        .n_stop = p->n_stop,
        .stop_tokens = p->stop_tokens,
        .n_stop_tokens = p->n_stop_tokens,
        .ignore_eos = p->ignore_eos,
        .keep_special = p->keep_special,
        .n_logprobs = p->n_logprobs,
        .want_logprobs = p->want_logprobs,
        .priority = p->priority,
        .cache_salt = p->cache_salt,
    };
}
