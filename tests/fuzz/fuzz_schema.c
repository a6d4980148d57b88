/* A JSON Schema: compiled or refused, and what compiled is walked. */
#include "fuzz/grammar_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    walk_grammar(LOAM_GRAMMAR_JSON_SCHEMA, data, size);
    return 0;
}
