/* store/hash.h: SHA-256 of a model's files, and loam.json, which keeps them.
 *
 * {"version": 1, "source": "where it came from", "files": {"model.safetensors": {"bytes": n, "sha256":
 * "..."}}} */
#ifndef LOAMI_HASH_H
#define LOAMI_HASH_H

#include "base/file.h"

enum { LOAMI_HASH_HEX = 65 }; /* 64 digits and a NUL */

/* The file's SHA-256, in small hexadecimal digits. */
int loami_hash_file(char hex[LOAMI_HASH_HEX], const char *path, loam_err *err);

/* Hashes all files of dir and writes loam.json. */
int loami_hash_write(const char *dir, const char *source, loam_err *err);

/* Compares the files with loam.json, or, in the Hugging Face cache, with the names of the blobs they link to.
 * *checked = how many had a known hash; LOAM_E_FORMAT names the first that differs. */
int loami_hash_check(const char *dir, unsigned *checked, loam_err *err);

#endif
