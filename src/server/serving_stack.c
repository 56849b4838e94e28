/* SPDX-License-Identifier: Apache-2.0 */
/* serving_stack.c - calls' rows into the tensors of one microbatch. What a call says of its inputs is
 * checked here, once, against what the model declares. */
#include "server/serving_parts.h"

#include <stdio.h>

#define ALIGNMENT ((size_t)64)

/* --- checking ------------------------------------------------------------------------------------------ */

static tidemill_error *wrong_shape(const struct value_spec *spec, const struct shape *found)
{
    char wanted[160], got[160];
    shape_text(&spec->shape, spec->dim_names, wanted, sizeof wanted);
    shape_text(found, NULL, got, sizeof got);
    return error_new(ERROR_WRONG_SHAPE, "input '%s': expected shape %s, found %s", spec->name,
                     wanted, got);
}

static tidemill_error *check_shape(const struct value_spec *spec, const struct shape *found,
                                   bool is_batched)
{
    if (found->rank < 0 || found->rank > TENSOR_RANK_MAX ||
        (spec->shape.rank >= 0 && spec->shape.rank != found->rank) ||
        (is_batched && found->rank < 1))
        return wrong_shape(spec, found);
    for (int32_t d = is_batched ? 1 : 0; d < found->rank; d++) {
        bool is_free = spec->shape.rank < 0 || spec->shape.dims[d] < 0;
        if (found->dims[d] < 0 || (!is_free && found->dims[d] != spec->shape.dims[d]))
            return wrong_shape(spec, found);
    }
    return NULL;
}

bool packed_offset(const unsigned char *data, size_t bytes, size_t n_strings, size_t *ret)
{
    size_t at = 0;
    for (size_t i = 0; i < n_strings; i++) {
        uint32_t size;
        if (bytes - at < sizeof size) return false;
        memcpy(&size, data + at, sizeof size);
        at += sizeof size;
        if (size > bytes - at) return false;
        at += size;
    }
    *ret = at;
    return true;
}

static tidemill_error *check_bytes(const struct value_spec *spec, const struct serving_input *input)
{
    size_t count, bytes;
    if (!shape_count(&input->shape, &count)) return wrong_shape(spec, &input->shape);
    bool is_right = input->type == TENSOR_STRING
                        ? packed_offset(input->data, input->bytes, count, &bytes)
                        : tensor_bytes(input->type, count, &bytes);
    if (is_right && bytes == input->bytes) return NULL;
    return error_new(ERROR_WRONG_SHAPE, "input '%s': %zu bytes of data do not fit its shape",
                     spec->name, input->bytes);
}

static tidemill_error *check_input(const struct value_spec *spec, const struct serving_input *input,
                                   bool is_batched)
{
    if (spec->kind != VALUE_TENSOR)
        return error_new(ERROR_UNSUPPORTED, "input '%s' is no tensor", spec->name);
    if (input->type != spec->type)
        return error_new(ERROR_WRONG_TYPE, "input '%s': expected %s, found %s", spec->name,
                         tensor_type_name(spec->type), tensor_type_name(input->type));
    if (input->type != TENSOR_STRING && tensor_type_bits(input->type) < 8)
        return error_new(ERROR_UNSUPPORTED, "input '%s': %s is not served", spec->name,
                         tensor_type_name(input->type));
    return check_shape(spec, &input->shape, is_batched);
}

static bool find_input(struct ticket *ticket, const struct value_spec *spec, size_t i)
{
    const struct serving_call *call = ticket->call;
    for (size_t k = 0; k < call->n_inputs; k++) {
        if (strcmp(call->inputs[k].name, spec->name) != 0) continue;
        ticket->order[i] = (uint8_t)(k + 1);
        return true;
    }
    return false;
}

static bool knows(const struct model_signature *signature, const char *name)
{
    for (size_t i = 0; i < signature->n_inputs; i++)
        if (strcmp(signature->inputs[i].name, name) == 0) return true;
    return false;
}

static tidemill_error *check_names(const struct serving_call *call,
                                   const struct model_signature *signature)
{
    if (call->n_inputs > MODEL_VALUES_MAX)
        return error_new(ERROR_WRONG_SHAPE, "%zu inputs, more than %d", call->n_inputs,
                         MODEL_VALUES_MAX);
    for (size_t k = 0; k < call->n_inputs; k++) {
        if (!knows(signature, call->inputs[k].name))
            return error_new(ERROR_MISSING_FIELD, "the model has no input '%.100s'",
                             call->inputs[k].name);
        for (size_t j = 0; j < k; j++)
            if (strcmp(call->inputs[j].name, call->inputs[k].name) == 0)
                return error_new(ERROR_WRONG_TYPE, "input '%s' is there twice",
                                 call->inputs[k].name);
    }
    return NULL;
}

/* All inputs of a call count the same rows. */
static tidemill_error *count_rows(struct ticket *ticket, const struct serving_input *input)
{
    int64_t n = input->shape.dims[0];
    if (n < 1 || n > INT32_MAX)
        return error_new(ERROR_WRONG_SHAPE, "input '%s': %lld rows", input->name, (long long)n);
    if (ticket->n_rows != 0 && ticket->n_rows != (uint32_t)n)
        return error_new(ERROR_WRONG_SHAPE, "input '%s' has %lld rows, another one has %u",
                         input->name, (long long)n, ticket->n_rows);
    ticket->n_rows = (uint32_t)n;
    return NULL;
}

static uint64_t key_of(const struct ticket *ticket, const struct model_signature *signature)
{
    struct shape shapes[MODEL_VALUES_MAX];
    memset(shapes, 0, signature->n_inputs * sizeof shapes[0]);
    for (size_t i = 0; i < signature->n_inputs; i++) {
        if (ticket->order[i] == 0) continue;
        const struct shape *shape = &ticket->call->inputs[ticket->order[i] - 1].shape;
        shapes[i].rank = shape->rank;
        for (int32_t d = 1; d < shape->rank; d++) shapes[i].dims[d] = shape->dims[d];
    }
    return hash_checksum(shapes, signature->n_inputs * sizeof shapes[0]);
}

static tidemill_error *check_json(struct ticket *ticket, const struct model_signature *signature)
{
    ticket->n_rows = 1;
    if (signature->n_inputs == 0 || !signature->inputs[0].is_json)
        return error_new(ERROR_WRONG_TYPE, "the model takes tensors, not JSON requests");
    if (ticket->call->body.size > UINT32_MAX)
        return error_new(ERROR_WRONG_SHAPE, "a request of %zu bytes", ticket->call->body.size);
    return NULL;
}

tidemill_error *ticket_check(struct ticket *ticket, const struct model_signature *signature)
{
    const struct serving_call *call = ticket->call;
    if (call->n_inputs == 0) return check_json(ticket, signature);
    TRY(check_names(call, signature));
    for (size_t i = 0; i < signature->n_inputs; i++) {
        const struct value_spec *spec = &signature->inputs[i];
        if (!find_input(ticket, spec, i)) {
            if (spec->is_optional) continue;
            return error_new(ERROR_MISSING_FIELD, "input '%s' is not there", spec->name);
        }
        const struct serving_input *input = &call->inputs[ticket->order[i] - 1];
        TRY(check_input(spec, input, signature->is_batched));
        if (signature->is_batched) TRY(count_rows(ticket, input));
        TRY(check_bytes(spec, input));
    }
    if (!signature->is_batched) ticket->n_rows = 1;
    ticket->row_key = key_of(ticket, signature);
    return NULL;
}

/* --- copying --------------------------------------------------------------------------------------------- */

struct filling {
    const struct model_signature *signature;
    unsigned char *base;
    size_t used, end; /* offsets from base */
};

static bool put(struct filling *f, const void *data, size_t size)
{
    if (size > f->end - f->used) return false;
    if (size > 0) memcpy(f->base + f->used, data, size);
    f->used += size;
    return true;
}

static bool put_string(struct filling *f, struct slice text)
{
    uint32_t size = (uint32_t)text.size;
    return put(f, &size, sizeof size) && put(f, text.data, text.size);
}

/* Rows [first, first + n) of an input, as bytes. */
static struct slice rows_of(const struct serving_input *input, uint32_t n_rows, uint32_t first,
                            uint32_t n)
{
    const char *data = input->data;
    size_t begin = input->bytes / n_rows * first, end = input->bytes / n_rows * (first + n), count;
    if (input->type == TENSOR_STRING && shape_count(&input->shape, &count)) {
        packed_offset(input->data, input->bytes, count / n_rows * first, &begin);
        packed_offset(input->data, input->bytes, count / n_rows * (first + n), &end);
    }
    return (struct slice){data + begin, end - begin};
}

/* A JSON call has its text, and where it was sent. */
static bool put_json(struct filling *f, const struct serving_call *call, size_t i)
{
    if (i == 0) return put_string(f, call->body);
    bool is_url = strcmp(f->signature->inputs[i].name, "url") == 0 && call->url.size > 0;
    return put_string(f, is_url ? call->url : (struct slice){"", 0});
}

static bool put_rows(struct filling *f, const struct piece *piece, size_t i, uint32_t first,
                     uint32_t n)
{
    const struct ticket *ticket = piece->ticket;
    if (ticket->call->n_inputs == 0) return put_json(f, ticket->call, i);
    if (ticket->order[i] == 0) {
        for (uint32_t r = 0; r < n; r++)
            if (!put_string(f, (struct slice){"", 0})) return false;
        return true;
    }
    const struct serving_input *input = &ticket->call->inputs[ticket->order[i] - 1];
    if (!f->signature->is_batched) return put(f, input->data, input->bytes);
    struct slice rows = rows_of(input, ticket->n_rows, first, n);
    return put(f, rows.data, rows.size);
}

/* The shape that input `i` has in the microbatch. */
static struct shape stacked_shape(const struct filling *f, const struct stack *stack, size_t i,
                                  uint32_t n_rows)
{
    const struct ticket *ticket = stack->pieces[0].ticket;
    struct shape shape = {.rank = f->signature->is_batched ? 1 : 0};
    if (ticket->call->n_inputs > 0 && ticket->order[i] > 0)
        shape = ticket->call->inputs[ticket->order[i] - 1].shape;
    if (f->signature->is_batched) shape.dims[0] = n_rows;
    return shape;
}

static bool fill_input(struct filling *f, const struct stack *stack, size_t i, uint32_t n_padded)
{
    for (size_t p = 0; p < stack->n_pieces; p++) {
        const struct piece *piece = &stack->pieces[p];
        if (!put_rows(f, piece, i, piece->first, piece->n_rows)) return false;
    }
    const struct piece *last = &stack->pieces[stack->n_pieces - 1];
    for (uint32_t r = stack->n_rows; r < n_padded; r++)
        if (!put_rows(f, last, i, last->first + last->n_rows - 1, 1)) return false;
    return true;
}

tidemill_error *stack_fill(struct stack *stack, const struct model_signature *signature,
                           unsigned char *base, size_t offset, size_t capacity,
                           struct work_input *ret)
{
    struct filling f = {
        .signature = signature, .base = base, .used = offset, .end = offset + capacity};
    uint32_t n_padded = stack->n_rows;
    if (signature->is_batched) n_padded = MAX(n_padded, (uint32_t)signature->batch_fixed);
    for (size_t i = 0; i < signature->n_inputs; i++) {
        f.used = MIN((f.used + ALIGNMENT - 1) & ~(ALIGNMENT - 1), f.end);
        size_t start = f.used;
        if (!fill_input(&f, stack, i, n_padded))
            return error_new(
                ERROR_OUT_OF_RANGE,
                "the request's inputs are larger than the %zu MiB that a call may have",
                capacity >> 20);
        ret[i] = (struct work_input){.type = signature->inputs[i].type,
                                     .shape = stacked_shape(&f, stack, i, n_padded),
                                     .offset = start,
                                     .bytes = f.used - start};
    }
    stack->input_bytes = f.used - offset;
    return NULL;
}
