/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c - places values in an output area, and their table behind them. */
#include "runtime/answer.h"

#include <stdlib.h>

#define ALIGNMENT 64

void answer_begin(struct answer *answer, unsigned char *base, size_t capacity)
{
    answer->base = base;
    answer->capacity = capacity;
    answer->used = 0;
    answer->n_values = 0;
    answer->usage = (struct token_usage){0};
    answer->outside_cpu_s = 0;
    answer->outside_memory_bytes = 0;
}

tidemill_error *answer_place(struct answer *answer, size_t bytes, unsigned char **ret)
{
    uintptr_t next = (uintptr_t)answer->base + answer->used;
    size_t padding = (ALIGNMENT - next % ALIGNMENT) % ALIGNMENT;
    size_t left = answer->capacity - answer->used;
    if (padding > left || bytes > left - padding)
        return error_new(ERROR_OUTPUT_TOO_LARGE,
                         "the model's answer needs more than the %zu bytes there are for it",
                         answer->capacity);
    *ret = answer->base + answer->used + padding;
    answer->used += padding + bytes;
    return NULL;
}

tidemill_error *answer_add(struct answer *answer, struct wire_value **ret)
{
    if (answer->n_values == answer->values_capacity) {
        size_t capacity = MAX(answer->values_capacity * 2, (size_t)64), bytes;
        if (size_mul(capacity, sizeof *answer->values, &bytes)) return error_memory();
        struct wire_value *values = realloc(answer->values, bytes);
        if (values == NULL) return error_memory();
        answer->values = values;
        answer->values_capacity = capacity;
    }
    *ret = &answer->values[answer->n_values++];
    **ret = (struct wire_value){0};
    return NULL;
}

void answer_set_tensor(const struct answer *answer, struct wire_value *value, enum tensor_type type,
                       const struct shape *shape, const unsigned char *data, size_t bytes)
{
    value->kind = VALUE_TENSOR;
    value->type = type;
    value->rank = shape->rank;
    memcpy(value->dims, shape->dims, sizeof value->dims);
    value->offset = (uint64_t)(data - answer->base);
    value->bytes = bytes;
}

tidemill_error *answer_finish(struct answer *answer, size_t *ret_table_offset)
{
    unsigned char *table = NULL;
    size_t bytes = answer->n_values * sizeof *answer->values;
    TRY(answer_place(answer, bytes, &table));
    if (bytes > 0) memcpy(table, answer->values, bytes);
    *ret_table_offset = (size_t)(table - answer->base);
    return NULL;
}

void answer_free(struct answer *answer)
{
    free(answer->values);
    *answer = (struct answer){0};
}
