#include "file/config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    loami_config c;
    loami_quant_config q;
    loam_err err;
    if (loami_config_parse(&c, (const char *)data, size, "config.json", &err) < 0) return 0;
    if (!c.dim || !c.n_layers || !c.n_heads || !c.n_kv_heads || !c.head_dim || !c.vocab ||
        c.n_heads % c.n_kv_heads)
        abort();
    loami_config_quant(&c, "model.embed_tokens", &q, &err);
    loami_config_close(&c);
    return 0;
}
