/* cmd/gateway.h: what the files of `loam gateway` share. */
#ifndef LOAMI_CMD_GATEWAY_H
#define LOAMI_CMD_GATEWAY_H

#include "cmd/cmd.h"

/* From a gateway to its successor: the listening socket's number, and whom to tell when it is there. */
#define LOAM_LISTEN_FD   "LOAM_LISTEN_FD"
#define LOAM_PREDECESSOR "LOAM_PREDECESSOR"

/* gateway_admin.c: what is asked of a running gateway. */
loami_cmd loami_gateway_status, loami_gateway_drain_cmd, loami_gateway_undrain_cmd, loami_gateway_reload_cmd,
    loami_gateway_restart_cmd;

/* gateway_usage.c, gateway_export.c */
loami_cmd loami_gateway_usage, loami_gateway_export;

#endif
