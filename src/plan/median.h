/* SPDX-License-Identifier: Apache-2.0 */
/* median.h - the middle of a few numbers: one slow measurement, or a lucky one, does not move it. */
#ifndef TIDEMILL_PLAN_MEDIAN_H
#define TIDEMILL_PLAN_MEDIAN_H

#include <stdint.h>

#define MEDIAN_NUMBERS_MAX 16

/* Of n <= MEDIAN_NUMBERS_MAX numbers; 0 of none. */
double median_of(const double *numbers, uint32_t n);

#endif
