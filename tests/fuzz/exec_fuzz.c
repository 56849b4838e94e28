/* SPDX-License-Identifier: Apache-2.0 */
/* exec_fuzz.c - anything as a handler's reply to some records, and as a hello. What is taken is so many
 * whole packed strings, each on one line. */
#include "runtime/exec.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct buffer *out, uint32_t n)
{
    size_t at = 0;
    for (uint32_t r = 0; r < n; r++) {
        uint32_t length;
        if (out->size - at < sizeof length) abort();
        memcpy(&length, out->data + at, sizeof length);
        at += sizeof length;
        if (length == 0 || out->size - at < length) abort();
        bool is_error = out->data[at] == JSON_ERROR_MARK;
        if (!is_error && memchr(out->data + at, '\n', length) != NULL) abort();
        at += length;
    }
    if (at != out->size) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer out = {0};
    struct exec_hello hello;
    if (size < 1) return 0;
    char *copy = malloc(size); /* exactly as large: reading behind it is found */
    if (copy == NULL) return 0;
    memcpy(copy, data + 1, size - 1);
    uint32_t n = data[0] % 4;
    struct slice payload = {copy, size - 1};
    tidemill_error *error = exec_append_results(payload, n, &out);
    if (error == NULL) check(&out, n);
    error_free(error);
    error_free(exec_read_hello(payload, &hello));
    buffer_free(&out);
    free(copy);
    return 0;
}
