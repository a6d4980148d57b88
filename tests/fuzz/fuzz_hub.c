/* What a hub, or who claims to be one, can say: the API's JSON (j), headers of answers (h), what a range header asks of
 * us (r), and the part file that lies beside a download (p). The first byte chooses. */
#include "api/share.h"
#include "store/curl.h"
#include "store/hub.h"
#include "store/part.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fuzz_model(const char *text, size_t n)
{
    loami_hub_model m;
    loam_err err;
    if (loami_hub_parse(&m, text, n, "fuzz", &err) < 0) return;
    if (strspn(m.commit, "0123456789abcdef") != strlen(m.commit) || strlen(m.commit) < 40) abort();
    for (uint32_t i = 0; i < m.n; i++) {
        const loami_hub_file *f = &m.files[i];
        if (!loami_hub_name_ok(f->name) || f->name[0] == '/' || strstr(f->name, "/../") || strncmp(f->name, "../", 3) == 0) abort();
        if (f->hash[0] && (!loami_part_hash_ok(f->hash) || f->bytes > (uint64_t)1 << 60)) abort();
    }
    loami_hub_model_free(&m);
}

static void fuzz_headers(const char *text, size_t n)
{
    loami_buf head = { 0 };
    char hash[65];
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t k = end ? (size_t)(end - text) + 1 - at : n - at;
        loami_curl_header(&head, text + at, k);
        at += k;
    }
    if (loami_curl_wait_s(&head) < 0) abort();
    loami_hub_etag(hash, loami_curl_find(&head, "etag"));
    if (hash[0] && !loami_part_hash_ok(hash)) abort();
    loami_buf_free(&head);
}

static void fuzz_range(const char *text, size_t n)
{
    char header[512];
    uint64_t from, len;
    if (n >= sizeof header) return;
    memcpy(header, text, n);
    header[n] = 0;
    for (uint64_t bytes = 0; bytes < 3; bytes++) {
        int rc = loami_share_range(header, bytes, &from, &len);
        if (rc >= 0 && (from > bytes || len > bytes - from)) abort();
    }
}

static void fuzz_part(const void *data, size_t n)
{
    static const char hash[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    static char path[300], part[320];
    const char *tmp = getenv("TMPDIR");
    loami_part_file p;
    if (!path[0]) snprintf(path, sizeof path, "%.200s/loam-fuzz-%ld", tmp && *tmp ? tmp : "/tmp", (long)getpid());
    snprintf(part, sizeof part, "%s.loam-part", path);
    FILE *f = fopen(part, "wb");
    if (!f) abort();
    if (fwrite(data, 1, n, f) != n) abort();
    fclose(f);
    loami_part_found(path, 3, hash);
    if (loami_part_open(&p, path, "fuzz", 3, hash, 2, NULL) == 0) {
        for (uint32_t i = 0; i < p.n; i++)
            if (p.done[i] > loami_part_size(&p, i) || loami_part_begin(&p, i) + loami_part_size(&p, i) > 3) abort();
        while (loami_part_hash(&p, 100, NULL) == 1) {}
        loami_part_close(&p);
    }
    unlink(part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    const char *text = (const char *)data + 1;
    if (data[0] == 'j') fuzz_model(text, size - 1);
    if (data[0] == 'h') fuzz_headers(text, size - 1);
    if (data[0] == 'r') fuzz_range(text, size - 1);
    if (data[0] == 'p') fuzz_part(text, size - 1);
    return 0;
}
