/* SPDX-License-Identifier: Apache-2.0 */
/* clock.c - the only place that asks the system for the time. */
#include "base/clock.h"

#include <time.h>

static int64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t clock_now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

double clock_now_s(void)
{
    return (double)clock_now_ns() * 1e-9;
}

double clock_process_cpu_s(void)
{
    return (double)read_clock(CLOCK_PROCESS_CPUTIME_ID) * 1e-9;
}
