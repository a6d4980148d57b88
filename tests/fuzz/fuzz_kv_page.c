/* A file of the KV cache, as somebody else may have left it: the first bytes say what is looked for, the rest is the file. It
 * is taken only if every byte is what the checksum says, so a changed one never is. */
#include "engine/disk.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int32_t tokens[16];
    if (size < 2) return 0;
    uint32_t n_tokens = data[0] % 17;
    loami_disk_config c = { .identity = 1, .page_bytes = data[1], .page_tokens = 4, .context_tokens = 16 };
    for (int32_t i = 0; i < 16; i++) tokens[i] = i;
    size_t n = size - 2, start = loami_disk_check(&c, data + 2, n, 2, 3, tokens, n_tokens);
    if (!start) return 0;
    uint8_t *copy = malloc(n);
    if (!copy || start + c.page_bytes != n) abort();
    memcpy(copy, data + 2, n);
    copy[n / 2] ^= 1;
    if (loami_disk_check(&c, copy, n, 2, 3, tokens, n_tokens)) abort();
    free(copy);
    return 0;
}
