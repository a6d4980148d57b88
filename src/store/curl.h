/* store/curl.h: what fetch.c and download.c share of libcurl. */
#ifndef LOAMI_CURL_H
#define LOAMI_CURL_H

#include "store/download.h"

#include <curl/curl.h>

/* Once a process. */
int loami_curl_begin(loam_err *err);

/* A handle for GETs of url with the token, limits and protocols that all requests have; NULL when memory ran out.
 * *headers belongs to the handle's life: curl_slist_free_all after curl_easy_cleanup. */
CURL *loami_curl_new(const char *url, const loami_fetch_options *o, struct curl_slist **headers);

/* A header line of an answer into head ("name\0value\0" ...); a status line empties it. */
void loami_curl_header(loami_buf *head, const char *line, size_t n);
const char *loami_curl_find(const loami_buf *head, const char *name);

/* Whether asking again may help, and the seconds that the answer says to wait (Retry-After, or the hub's
 * RateLimit); 0 = it does not say. */
bool loami_curl_retry(CURLcode code, int status);
double loami_curl_wait_s(const loami_buf *head);

/* Seconds before try number k, from 1. */
double loami_curl_backoff_s(uint32_t k);

/* Longer than this nobody waits; the message says so instead. */
#define LOAMI_WAIT_MAX_S 310.0

#endif
