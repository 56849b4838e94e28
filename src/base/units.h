/* SPDX-License-Identifier: Apache-2.0 */
/* units.h - sizes and times as people write them. False: not a number with one of the units. */
#ifndef TIDEMILL_BASE_UNITS_H
#define TIDEMILL_BASE_UNITS_H

#include <stdbool.h>
#include <stdint.h>

/* "500", "64K", "20MB", "1.5GiB" -> bytes. K, M and G are powers of 1,024; KB, MB, GB of 1,000. */
bool size_parse(const char *text, int64_t *ret_bytes);
/* "5", "5s", "250ms", "2m", "1h", "7d" -> milliseconds. A bare number is seconds. */
bool duration_parse(const char *text, int64_t *ret_ms);
/* "500us", "2ms", "1s" -> microseconds. A bare number is seconds here, too. */
bool duration_us_parse(const char *text, int64_t *ret_us);

#endif
