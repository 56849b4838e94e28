/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - monotonic time for durations, processor time for bills. Wall-clock steps do not move
 * anything here. */
#ifndef TIDEMILL_BASE_CLOCK_H
#define TIDEMILL_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_now_ns(void);       /* monotonic, since an arbitrary start */
double clock_now_s(void);         /* the same in seconds */
double clock_process_cpu_s(void); /* user + system seconds of this process, all threads */

#endif
