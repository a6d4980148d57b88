/* A backend's event stream: cut in two anywhere, it gives the same events. */
#include "gateway/sse.h"

#include <stdlib.h>
#include <string.h>

static void note(void *arg, loami_span whole, loami_span data)
{
    loami_buf *out = arg;
    loami_buf_put(out, whole.at, whole.n);
    loami_buf_putc(out, 1);
    if (data.at) loami_buf_put(out, data.at, data.n);
    loami_buf_putc(out, 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    loami_buf whole = { 0 }, cut = { 0 };
    loami_sse a = { .looked = 0 }, b = { .looked = 0 };
    size_t at = size ? data[0] % (size + 1) : 0;
    loami_sse_feed(&a, text, size, note, &whole);
    loami_sse_feed(&b, text, at, note, &cut);
    loami_sse_feed(&b, text + at, size - at, note, &cut);
    if (whole.len != cut.len || (whole.len && memcmp(whole.data, cut.data, whole.len) != 0)) abort();
    loami_buf_free(&whole);
    loami_buf_free(&cut);
    loami_sse_free(&a);
    loami_sse_free(&b);
    return 0;
}
