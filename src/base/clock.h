/* base/clock.h: monotonic time. */
#ifndef LOAMI_CLOCK_H
#define LOAMI_CLOCK_H

#include <stdint.h>

int64_t loami_now_ns(void); /* monotonic, from an arbitrary start */
double loami_now_s(void);   /* the same in seconds */

#endif
