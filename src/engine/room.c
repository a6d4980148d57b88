/* Apart from the engine, so that whoever asks does not link it. */
#include "engine/engine.h"

enum { CONTEXTS = 8 };         /* whole ones, where they are long */

uint64_t loam_kv_tokens(uint32_t context_tokens, uint32_t max_running)
{
    uint64_t all = (uint64_t)context_tokens * (max_running ? max_running : RUNNING_DEFAULT);
    uint64_t most = CONTEXTS * (uint64_t)(context_tokens > CONTEXT_DEFAULT ? context_tokens : CONTEXT_DEFAULT);
    return all < most ? all : most;
}
