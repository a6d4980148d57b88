/* cmd/work.h: what long work shows and heeds: a percentage on stderr when that is a terminal, notes on
 * stdout, and Ctrl-C, which stops it so that it can clean up. One work at a time. And the form in which sizes
 * are shown. */
#ifndef LOAMI_WORK_H
#define LOAMI_WORK_H

#include "store/import.h"

/* Takes SIGINT, SIGTERM and SIGHUP over until the program ends. what: "importing". */
loami_progress loami_work_begin(const char *what);

/* Whether a signal has asked for an end. */
bool loami_work_stopped(void);

/* "98.4 MB" */
void loami_bytes_text(char out[32], uint64_t bytes);

/* Removes the percentage from the screen. */
void loami_work_end(void);

#endif
