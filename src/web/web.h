/* web/web.h: the pages of this folder and docs/openapi.yaml, compiled into the program. */
#ifndef LOAMI_WEB_H
#define LOAMI_WEB_H

#include <stddef.h>

typedef struct loami_web_file {
    const char *path, *type;
    const unsigned char *data; /* [size] */
    size_t size;
} loami_web_file;

/* Ends with { 0 }. */
extern const loami_web_file loami_web_files[];

#endif
