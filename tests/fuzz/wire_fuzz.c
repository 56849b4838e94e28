/* SPDX-License-Identifier: Apache-2.0 */
/* wire_fuzz.c - everything that a host can send, from a host that is out to harm: an output area with
 * its table, or a signature. What is accepted is read in full. */
#include "runtime/wire.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_values(const struct value *values, size_t n_values)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n_values; i++) {
        if ((uint64_t)values[i].first_child + values[i].n_children > n_values) abort();
        for (size_t k = 0; k < values[i].bytes; k++) sum += values[i].data[k];
    }
    if (sum == UINT64_MAX) abort(); /* it is used: no compiler may leave the reads out */
}

/* The input is the area; its first 16 bytes are what the reply says of it. */
static void fuzz_area(const uint8_t *data, size_t size)
{
    char names[] = "a\0b";
    struct value_spec specs[] = {
        {.name = names, .kind = VALUE_TENSOR, .type = TENSOR_FLOAT},
        {.name = names + 2, .kind = VALUE_SEQUENCE},
    };
    struct {
        uint64_t table_offset;
        uint32_t n_values, n_outputs;
    } reply;
    struct value *values = NULL;
    if (size < sizeof reply) return;
    memcpy(&reply, data, sizeof reply);
    struct model_signature signature = {.outputs = specs, .n_outputs = reply.n_outputs % 3};
    size_t capacity = size - sizeof reply;
    unsigned char *area = aligned_alloc(64, (capacity + 64) / 64 * 64);
    if (area == NULL) return;
    memcpy(area, data + sizeof reply, capacity);
    tidemill_error *error =
        wire_read_values(area, capacity, reply.table_offset, reply.n_values, &signature, &values);
    if (error == NULL) read_values(values, reply.n_values);
    error_free(error);
    free(values);
    free(area);
}

static void fuzz_ready(const uint8_t *data, size_t size)
{
    struct model_signature signature;
    char description[160];
    uint32_t units_max;
    error_free(
        wire_read_ready(data, size, &signature, description, sizeof description, &units_max));
    model_signature_free(&signature);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    if (data[0] % 2 == 0)
        fuzz_area(data + 1, size - 1);
    else
        fuzz_ready(data + 1, size - 1);
    return 0;
}
