/* SPDX-License-Identifier: Apache-2.0 */
/* prompt_fuzz.c - any bytes as a request: nothing is read beyond them, what is found is bounded by them
 * and is found again. */
#include "format/prompt.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 1e20 is written with all its digits. */
#define GROWTH 8
#define ROLES 16

static void require(bool is_true)
{
    if (!is_true) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {0};
    struct prompt one, two;
    char *text = malloc(size + 1); /* the bytes alone: one read too far is seen */
    if (text == NULL) return 0;
    if (size > 0) memcpy(text, data, size);
    struct slice json = {text, size};
    if (prompt_read(json, size % 2 == 0, &arena, &one) &&
        prompt_read(json, size % 2 == 0, &arena, &two)) {
        require(one.text.size <= GROWTH * size + ROLES);
        require(one.text.size == two.text.size && one.is_sampled == two.is_sampled);
        require(one.text.size == 0 || memcmp(one.text.data, two.text.data, one.text.size) == 0);
        require(one.text.size > 0 || !one.is_sampled);
    }
    arena_free(&arena);
    free(text);
    return 0;
}
