#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/format/powers_of_ten.h, exactly, from integer arithmetic.

    tools/powers_of_ten.py > src/format/powers_of_ten.h
"""

FIRST, LAST = -292, 324  # what Schubfach needs for float64


def ceiling(power):
    """The 128 leading bits of 10**power, rounded up; the first bit is set."""
    numerator, denominator = (10**power, 1) if power >= 0 else (1, 10**-power)
    shift = 128 - (numerator.bit_length() - denominator.bit_length())
    for s in (shift - 1, shift, shift + 1):
        n, d = (numerator << s, denominator) if s >= 0 else (numerator, denominator << -s)
        quotient = -(-n // d)
        if (n // d).bit_length() == 128 and quotient.bit_length() == 128:
            return quotient
    raise AssertionError(power)


print("""/* SPDX-License-Identifier: Apache-2.0 */
/* powers_of_ten.h - the 128 leading bits of 10^POWER_FIRST .. 10^POWER_LAST, rounded up, high half
 * first. Made by tools/powers_of_ten.py. */
#ifndef TIDEMILL_FORMAT_POWERS_OF_TEN_H
#define TIDEMILL_FORMAT_POWERS_OF_TEN_H

#include <stdint.h>
""")
print(f"#define POWER_FIRST ({FIRST})")
print(f"#define POWER_LAST {LAST}")
print("""
/* clang-format off */
static const uint64_t powers_of_ten[POWER_LAST - POWER_FIRST + 1][2] = {""")
entries = [ceiling(power) for power in range(FIRST, LAST + 1)]
text = [f"{{0x{e >> 64:016x}, 0x{e & (2**64 - 1):016x}}}" for e in entries]
for i in range(0, len(text), 2):
    print("    " + ", ".join(text[i:i + 2]) + ",")
print("""};
/* clang-format on */

#endif""")
