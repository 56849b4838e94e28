/* SPDX-License-Identifier: Apache-2.0 */
/* median.c - sorts a copy and takes the middle, or the mean of the two that are there. */
#include "plan/median.h"

#include <assert.h>

double median_of(const double *numbers, uint32_t n)
{
    double sorted[MEDIAN_NUMBERS_MAX];
    assert(n <= MEDIAN_NUMBERS_MAX);
    if (n == 0) return 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t place = i;
        for (; place > 0 && sorted[place - 1] > numbers[i]; place--)
            sorted[place] = sorted[place - 1];
        sorted[place] = numbers[i];
    }
    return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}
