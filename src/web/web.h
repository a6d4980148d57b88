/* web/web.h: the pages of this folder, compiled into the program. */
#ifndef LOAMI_WEB_H
#define LOAMI_WEB_H

#include "net/server.h"

/* The rows of a route table: GET / and what it needs. */
extern const loami_route loami_web_routes[];

#endif
