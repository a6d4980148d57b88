/* base/utf8.h: reading and writing UTF-8 (RFC 3629). */
#ifndef LOAMI_UTF8_H
#define LOAMI_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decodes one character at s (n > 0 bytes left). Returns its length, 1..4, and *cp; for an invalid or cut-off
 * sequence 0, and *cp is U+FFFD. Overlong forms, surrogates and values above U+10FFFF are invalid. */
size_t loami_utf8_next(const char *s, size_t n, uint32_t *cp);

/* Writes cp to out, returns its length 1..4. cp must be a scalar value. */
size_t loami_utf8_put(char out[4], uint32_t cp);

bool loami_utf8_valid(const char *s, size_t n);

/* The longest prefix of s[0..n) that does not end inside a character: n, or less if the last 1 to 3 bytes are
 * the start of a character that goes on. Invalid bytes elsewhere are left alone. */
size_t loami_utf8_cut(const char *s, size_t n);

#endif
