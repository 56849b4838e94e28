/* SPDX-License-Identifier: Apache-2.0 */
/* expect.h - what nearly every unit test asks of errors, and random numbers from a printed seed.
 * It brings cmocka along. */
#ifndef TIDEMILL_TESTS_EXPECT_H
#define TIDEMILL_TESTS_EXPECT_H

#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static inline void expect_fine(tidemill_error *error, const char *row)
{
    if (error != NULL)
        fail_msg("%s: %s: %s", row, error_code_name(error_code_of(error)), error_message(error));
}

/* Frees the error. `part` NULL: any message. */
static inline void expect_error(tidemill_error *error, enum error_code code, const char *part,
                                const char *row)
{
    if (error == NULL) fail_msg("%s: no error, expected %s", row, error_code_name(code));
    if (error_code_of(error) != code)
        fail_msg("%s: %s, not %s: %s", row, error_code_name(error_code_of(error)),
                 error_code_name(code), error_message(error));
    if (part != NULL && strstr(error_message(error), part) == NULL)
        fail_msg("%s: '%s' is not in: %s", row, part, error_message(error));
    error_free(error);
}

static inline void expect_text(const char *found, const char *expected, const char *row)
{
    const char *text = found == NULL ? "(nothing)" : found;
    if (strcmp(text, expected) != 0) fail_msg("%s: \"%s\", not \"%s\"", row, text, expected);
}

/* splitmix64: every state is a good one. */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint64_t random_below(uint64_t *state, uint64_t limit)
{
    return random_next(state) % limit;
}

/* $TIDEMILL_TEST_SEED, or one from the clock; printed, so that a failure can be run again. */
static inline uint64_t random_seed(const char *test)
{
    const char *text = getenv("TIDEMILL_TEST_SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : (uint64_t)clock_now_ns();
    print_message("%s: TIDEMILL_TEST_SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

#endif
