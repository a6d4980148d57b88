/* cmd/rollout_report.h: what a gateway knows of its rollouts as an HTML page. */
#ifndef LOAMI_ROLLOUT_REPORT_H
#define LOAMI_ROLLOUT_REPORT_H

#include "base/json.h"

/* answer: of GET /gateway/api/rollout?full=1. pool: one of them alone, or NULL. */
void loami_rollout_page(loami_buf *out, const json_t *answer, const char *pool);

#endif
