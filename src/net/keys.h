/* net/keys.h: who may use the server, and how much.
 *
 * A file of one key a line: NAME SHA256 [REQUESTS_A_MINUTE [TOKENS_A_MINUTE]], # begins a comment. Only the
 * hash of a key is kept anywhere; the name is what logs show. Limits are token buckets that hold a minute's
 * worth. */
#ifndef LOAMI_KEYS_H
#define LOAMI_KEYS_H

#include "net/server.h"

typedef struct loami_keys loami_keys;
typedef struct loami_key loami_key; /* lives as long as its loami_keys, also after a reload without it */

enum { LOAMI_KEY_TEXT = 64 };

/* path may be NULL: no file. plain: one more key, as it is, named "env"; may be NULL. */
int loami_keys_open(loami_keys **out, const char *path, const char *plain, loam_err *err);

/* Reads the file again; on failure the old keys stay. A key keeps its buckets by its name. */
int loami_keys_reload(loami_keys *k, loam_err *err);
void loami_keys_close(loami_keys *k);

/* The key that a request came with ("Authorization: Bearer KEY" or "X-API-Key: KEY"; either may be NULL), and
 * one request taken from its bucket. NULL with f filled: 401, or 429 with the time to wait. */
loami_key *loami_keys_check(loami_keys *k, const char *authorization, const char *x_api_key, loami_fault *f);
const char *loami_key_name(const loami_key *key);

/* A number that stands for the key, the same after a restart, and that who has not the file cannot guess. */
uint64_t loami_key_number(const loami_key *key);

/* Takes tokens from the key's bucket, which may go below zero: what was used is not taken back. */
void loami_key_charge(loami_key *key, double tokens);

/* A new random key, and its hash in hexadecimal. */
int loami_key_make(char key[LOAMI_KEY_TEXT], char hash[65], loam_err *err);

#endif
