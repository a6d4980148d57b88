/* web/gateway.h: the gateway's own page. */
#ifndef LOAMI_WEB_GATEWAY_H
#define LOAMI_WEB_GATEWAY_H

#include "net/server.h"

/* The rows of a route table: GET /gateway and what it needs. */
extern const loami_route loami_gateway_pages[];

#endif
