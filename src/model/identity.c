#include "base/mix.h"
#include "model/model.h"

#include <stdlib.h>

/* Every tensor's name, type, shape, and bytes at places all over it: reading all of them would take as long as loading. */
uint64_t loami_model_identity(const loami_model *m)
{
    enum { SAMPLES = 16, SAMPLE_BYTES = 64 };
    char *config = json_dumps(m->config.root, JSON_SORT_KEYS | JSON_COMPACT);
    uint64_t h = config ? loami_mix(0, config, strlen(config)) : 0;
    free(config);
    for (uint32_t i = 0; i < loami_weights_count(m->weights); i++) {
        const loami_tensor_view *t = loami_weights_at(m->weights, i);
        uint64_t n = t->bytes < SAMPLE_BYTES ? t->bytes : SAMPLE_BYTES;
        h = loami_mix(h, t->name, strlen(t->name));
        h = loami_mix(h, t->shape, t->n_dims * sizeof t->shape[0]);
        h = loami_mix_word(h, t->type);
        for (uint64_t k = 0; k < SAMPLES; k++) h = loami_mix(h, (const char *)t->data + (t->bytes - n) / SAMPLES * k, n);
        h = loami_mix(h, (const char *)t->data + (t->bytes - n), n);
    }
    return h;
}
