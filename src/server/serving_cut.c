/* SPDX-License-Identifier: Apache-2.0 */
/* serving_cut.c - a microbatch's answer into calls' rows. Rows are copied out of shared memory: the slot
 * is free for the next microbatch, however long a client takes to read. */
#include "server/serving_parts.h"

#include <stdlib.h>

static size_t align(size_t size)
{
    return (size + 15) & ~(size_t)15;
}

tidemill_error *cut_check(const struct value *values, size_t n_values,
                          const struct model_signature *signature, uint32_t n_rows)
{
    if (n_values < signature->n_outputs)
        return error_new(ERROR_MODEL_ERROR, "the model gave %zu outputs of %zu", n_values,
                         signature->n_outputs);
    for (size_t i = 0; i < signature->n_outputs; i++) {
        const struct value *value = &values[i];
        const char *name = signature->outputs[i].name;
        if (value->kind != VALUE_TENSOR)
            return error_new(ERROR_UNSUPPORTED,
                             "output '%s' is a sequence or a map, which only jobs can write; name "
                             "the outputs that are tensors with 'outputs'",
                             name);
        if (value->type != TENSOR_STRING && tensor_type_bits(value->type) < 8)
            return error_new(ERROR_UNSUPPORTED, "output '%s': %s is not served", name,
                             tensor_type_name(value->type));
        if (!signature->is_batched) continue;
        int64_t found = value->shape.rank > 0 ? value->shape.dims[0] : -1;
        if (found != (int64_t)n_rows)
            return error_new(ERROR_MODEL_ERROR, "output '%s' has %lld rows for %u records", name,
                             (long long)found, n_rows);
    }
    return NULL;
}

/* Bytes of rows [first, first + n). */
static struct slice rows_of(const struct value *value, uint32_t first, uint32_t n)
{
    const char *data = (const char *)value->data;
    size_t rows = (size_t)value->shape.dims[0], count = 0, begin = 0, end = 0;
    if (value->type == TENSOR_STRING && shape_count(&value->shape, &count)) {
        packed_offset(value->data, value->bytes, count / rows * first, &begin);
        packed_offset(value->data, value->bytes, count / rows * (first + n), &end);
    } else {
        begin = value->bytes / rows * first;
        end = value->bytes / rows * (first + n);
    }
    return (struct slice){data + begin, end - begin};
}

tidemill_error *cut_rows(const struct value *values, const struct model_signature *signature,
                         uint32_t first, uint32_t n, struct value **ret)
{
    struct slice rows[MODEL_VALUES_MAX];
    size_t n_values = signature->n_outputs, total = align(n_values * sizeof(struct value));
    for (size_t i = 0; i < n_values; i++) {
        rows[i] = (struct slice){(const char *)values[i].data, values[i].bytes};
        if (signature->is_batched) rows[i] = rows_of(&values[i], first, n);
        if (size_add(total, align(rows[i].size), &total)) return error_memory();
    }
    unsigned char *block = malloc(MAX(total, (size_t)1));
    if (block == NULL) return error_memory();
    struct value *cut = (struct value *)(void *)block;
    unsigned char *place = block + align(n_values * sizeof(struct value));
    for (size_t i = 0; i < n_values; i++) {
        cut[i] = values[i];
        if (signature->is_batched) cut[i].shape.dims[0] = n;
        if (rows[i].size > 0) memcpy(place, rows[i].data, rows[i].size);
        cut[i].data = place;
        cut[i].bytes = rows[i].size;
        place += align(rows[i].size);
    }
    *ret = cut;
    return NULL;
}

tidemill_error *ticket_add_part(struct ticket *ticket, uint32_t first, uint32_t n,
                                struct value *values, size_t n_values)
{
    struct answer_part *part = malloc(sizeof *part);
    if (part == NULL) return error_memory();
    struct answer_part **place = &ticket->parts;
    while (*place != NULL && (*place)->first < first) place = &(*place)->next;
    *part = (struct answer_part){
        .next = *place, .first = first, .n_rows = n, .values = values, .n_values = n_values};
    *place = part;
    return NULL;
}

/* --- several parts into one -------------------------------------------------------------------------------- */

static bool is_one_shape(const struct shape *a, const struct shape *b)
{
    if (a->rank != b->rank) return false;
    for (int32_t d = 1; d < a->rank; d++)
        if (a->dims[d] != b->dims[d]) return false;
    return true;
}

/* The joined value `i` without its data. */
static tidemill_error *join_shape(const struct answer_part *parts, size_t i, struct value *ret)
{
    *ret = parts->values[i];
    for (const struct answer_part *part = parts->next; part != NULL; part = part->next) {
        const struct value *value = &part->values[i];
        if (!is_one_shape(&ret->shape, &value->shape))
            return error_new(ERROR_MODEL_ERROR,
                             "the request has more rows than run at a time, and their answers are "
                             "of different shapes; ask in several requests");
        ret->shape.dims[0] += value->shape.dims[0];
        if (size_add(ret->bytes, value->bytes, &ret->bytes)) return error_memory();
    }
    return NULL;
}

static tidemill_error *join(const struct answer_part *parts, struct value **ret)
{
    size_t n = parts->n_values, total = align(n * sizeof(struct value));
    struct value joined[MODEL_VALUES_MAX];
    for (size_t i = 0; i < n; i++) {
        TRY(join_shape(parts, i, &joined[i]));
        if (size_add(total, align(joined[i].bytes), &total)) return error_memory();
    }
    unsigned char *block = malloc(MAX(total, (size_t)1)), *place;
    if (block == NULL) return error_memory();
    place = block + align(n * sizeof(struct value));
    for (size_t i = 0; i < n; i++) {
        unsigned char *out = place;
        for (const struct answer_part *part = parts; part != NULL; part = part->next) {
            const struct value *value = &part->values[i];
            if (value->bytes > 0) memcpy(out, value->data, value->bytes);
            out += value->bytes;
        }
        joined[i].data = place;
        place += align(joined[i].bytes);
    }
    if (n > 0) memcpy(block, joined, n * sizeof joined[0]);
    *ret = (struct value *)(void *)block;
    return NULL;
}

/* Models that take JSON say why a record has no answer in the answer's place. */
static tidemill_error *error_in_answer(const struct serving_call *call)
{
    const struct value *value = call->values;
    if (call->n_inputs > 0 || call->n_values == 0 || value->type != TENSOR_STRING) return NULL;
    if (value->bytes <= sizeof(uint32_t) || value->data[sizeof(uint32_t)] != JSON_ERROR_MARK)
        return NULL;
    uint32_t size;
    memcpy(&size, value->data, sizeof size);
    const char *text = (const char *)value->data + sizeof size + 1;
    return error_new(ERROR_MODEL_ERROR, "%.*s", (int)MIN(size - 1, 4096U), text);
}

void ticket_finish(struct ticket *ticket)
{
    struct serving_call *call = ticket->call;
    struct answer_part *parts = ticket->parts;
    call->error = ticket->error;
    call->values = NULL;
    if (call->error == NULL && parts != NULL && parts->next == NULL) {
        call->values = parts->values;
        parts->values = NULL;
    } else if (call->error == NULL && parts != NULL) {
        call->error = join(parts, &call->values);
    }
    call->n_values = call->values == NULL || parts == NULL ? 0 : parts->n_values;
    for (struct answer_part *part = parts, *next; part != NULL; part = next) {
        next = part->next;
        free(part->values);
        free(part);
    }
    if (call->error == NULL) call->error = error_in_answer(call);
    if (call->error != NULL) {
        free(call->values);
        call->values = NULL;
        call->n_values = 0;
    }
    free(ticket);
}
