/* SPDX-License-Identifier: Apache-2.0 */
/* machine.h - what this process may use of its machine: cores, memory. */
#ifndef TIDEMILL_JOB_MACHINE_H
#define TIDEMILL_JOB_MACHINE_H

#include "io/io.h"

/* Cores that the scheduler lets this process use, cgroup quota included; at least 1. */
int machine_cores(const struct io *io);
/* Memory that is free now, cgroup limit included; 0 when it cannot be told. */
uint64_t machine_memory_free_bytes(const struct io *io);
/* Name of the processor, "unknown" where it cannot be told. */
void machine_cpu_name(const struct io *io, char *ret, size_t size);
/* Largest resident set of this process so far; 0 when it cannot be told. */
uint64_t machine_peak_memory_bytes(const struct io *io);

#endif
