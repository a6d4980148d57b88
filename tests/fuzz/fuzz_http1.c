/* An answer of a backend: cut in two anywhere, it gives the same head and body, and is refused alike. */
#include "net/http1.h"

#include <stdlib.h>
#include <string.h>

static bool note(void *arg, char *line, size_t n)
{
    loami_buf_put(arg, line, n);
    loami_buf_putc(arg, '\n');
    return true;
}

static int give(loami_http1 *h, const uint8_t *bytes, size_t n, loami_buf *head, loami_buf *body)
{
    char *copy = malloc(n + 1), *at;
    size_t n_body;
    if (!copy) abort();
    memcpy(copy, bytes, n);
    int rc = loami_http1_take(h, copy, n, note, head, &at, &n_body);
    if (n_body > n || at < copy || at + n_body > copy + n) abort();
    loami_buf_put(body, at, n_body);
    free(copy);
    return rc;
}

static void same(const loami_buf *a, const loami_buf *b)
{
    if (a->len != b->len || (a->len && memcmp(a->data, b->data, a->len) != 0)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    loami_buf head[2] = { { 0 } }, body[2] = { { 0 } };
    loami_http1 h[2] = { { .bodiless = data[0] & 1 }, { .bodiless = data[0] & 1 } };
    size_t at = 2 + data[1] % (size - 1);
    int whole = give(&h[0], data + 2, size - 2, &head[0], &body[0]);
    int cut = give(&h[1], data + 2, at - 2, &head[1], &body[1]);
    if (cut == 0) cut = give(&h[1], data + at, size - at, &head[1], &body[1]);
    if (whole != cut || h[0].state != h[1].state) abort();
    same(&head[0], &head[1]);
    if (whole == 0) same(&body[0], &body[1]);
    if (whole == 0 && h[0].state == LOAMI_HTTP1_DONE && h[0].keep != h[1].keep) abort();
    for (int i = 0; i < 2; i++) {
        loami_http1_free(&h[i]);
        loami_buf_free(&head[i]);
        loami_buf_free(&body[i]);
    }
    return 0;
}
