/* The gate file: what was read is written, and read again as the same. */
#include "rollout/gate.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    loami_gate g, again;
    loami_buf b = { 0 };
    loam_err err;
    if (loami_gate_parse(&g, (const char *)data, size, "gate.json", &err) < 0) return 0;
    loami_gate_write(&g, &b);
    if (b.failed || loami_gate_parse(&again, b.data, b.len, "again", &err) < 0) abort();
    if (again.false_alarms != g.false_alarms || again.doubt != g.doubt || again.prove != g.prove) abort();
    for (int i = 0; i < LOAMI_METRICS; i++)
        if (again.of[i].off != g.of[i].off || (!g.of[i].off && again.of[i].limit != g.of[i].limit)) abort();
    loami_buf_free(&b);
    return 0;
}
