/* SPDX-License-Identifier: Apache-2.0 */
/* answer.h - the host's end of an output area: a model puts its values here.
 *
 * The tree of values is built level by level (breadth first): first the outputs, one answer_add
 * each, in order; then, going through the values from the first, the children of each that has some,
 * one behind another. The engine takes no other order. */
#ifndef TIDEMILL_RUNTIME_ANSWER_H
#define TIDEMILL_RUNTIME_ANSWER_H

#include "runtime/wire.h"

/* All zero but for the area is a valid start; keeps its table's memory between calls. */
struct answer {
    unsigned char *base; /* of the output area */
    size_t capacity;
    size_t used;
    struct wire_value *values;
    size_t n_values, values_capacity;
    struct token_usage usage; /* what the model says the call took */
    double outside_cpu_s;     /* of a model's own processes: for the call; their memory now */
    uint64_t outside_memory_bytes;
};

void answer_begin(struct answer *answer, unsigned char *base, size_t capacity);
/* A stretch of the area, aligned to 64. ERROR_OUTPUT_TOO_LARGE when it does not fit. */
tidemill_error *answer_place(struct answer *answer, size_t bytes, unsigned char **ret);
/* The next value of the tree, zeroed; *ret is valid until the next call. */
tidemill_error *answer_add(struct answer *answer, struct wire_value **ret);
/* Makes `value` a tensor whose bytes were placed by answer_place. */
void answer_set_tensor(const struct answer *answer, struct wire_value *value, enum tensor_type type,
                       const struct shape *shape, const unsigned char *data, size_t bytes);
/* Copies the table behind the data; its offset in the area. */
tidemill_error *answer_finish(struct answer *answer, size_t *ret_table_offset);
void answer_free(struct answer *answer);

#endif
