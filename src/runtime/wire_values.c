/* SPDX-License-Identifier: Apache-2.0 */
/* wire_values.c - the one place where a host's table of values becomes pointers.
 *
 * In: bytes that a host wrote, and may go on writing. Out: values whose every pointer, length, rank,
 * type and child index is safe to use. What is checked is a private copy; numbers themselves stay in
 * shared memory, as no value of theirs can do harm. */
#include "runtime/wire.h"

#include <stdlib.h>

#define NONSENSE(...)                                                                              \
    error_new(ERROR_HOST_CRASHED, "the model process answered nonsense: " __VA_ARGS__)

#define EMPTY_COUNT_MAX ((size_t)1 << 24)

struct table {
    const unsigned char *base;
    size_t capacity;
    const struct wire_value *rows; /* the private copy */
    uint32_t n_rows, n_outputs;
    size_t string_bytes; /* of all string tensors */
};

/* [1000000000000, 0] has no bytes but keeps a writer of nested lists busy for ever. */
static bool is_empty_but_huge(const struct shape *shape)
{
    size_t product = 1;
    for (int32_t d = 0; d < shape->rank; d++) {
        size_t dim = (size_t)MAX(shape->dims[d], INT64_C(1));
        if (size_mul(product, dim, &product) || product > EMPTY_COUNT_MAX) return true;
    }
    return false;
}

/* Walks packed strings that nobody changes any more. */
static bool strings_are_sane(const unsigned char *data, size_t bytes, size_t count)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t length;
        if (bytes - at < sizeof length) return false;
        memcpy(&length, data + at, sizeof length);
        at += sizeof length;
        if (length > bytes - at) return false;
        at += length;
    }
    return at == bytes;
}

static tidemill_error *check_tensor(struct table *table, uint32_t row)
{
    const struct wire_value *value = &table->rows[row];
    if (value->type == TENSOR_UNDEFINED || value->type >= TENSOR_TYPE_COUNT)
        return NONSENSE("value %u has element type %u", row, value->type);
    if (value->rank < 0 || value->rank > TENSOR_RANK_MAX)
        return NONSENSE("value %u has rank %d", row, value->rank);
    if (value->n_children != 0) return NONSENSE("tensor %u has children", row);
    if (value->offset > table->capacity || value->bytes > table->capacity - value->offset)
        return NONSENSE("value %u lies outside the output area", row);

    struct shape shape = {.rank = value->rank};
    memcpy(shape.dims, value->dims, sizeof shape.dims);
    size_t count, bytes;
    if (!shape_count(&shape, &count)) return NONSENSE("value %u has an impossible shape", row);
    if (count == 0 && is_empty_but_huge(&shape))
        return NONSENSE("value %u has an impossible shape", row);
    if (value->type == TENSOR_STRING) {
        if (count > value->bytes / sizeof(uint32_t))
            return NONSENSE("value %u has fewer strings than its shape says", row);
        table->string_bytes +=
            value->bytes; /* no overflow: each is below capacity, as is the sum */
        if (table->string_bytes > table->capacity) return NONSENSE("its strings overlap");
        return NULL;
    }
    if (!tensor_bytes((enum tensor_type)value->type, count, &bytes) || bytes != value->bytes)
        return NONSENSE("value %u has %zu bytes, which its shape does not", row,
                        (size_t)value->bytes);
    if (((uintptr_t)table->base + value->offset) % 16 != 0)
        return NONSENSE("value %u is not aligned", row);
    return NULL;
}

/* Keys and values: two tensors of one length, keys of a type that can be a key. */
static tidemill_error *check_map(const struct table *table, uint32_t row)
{
    const struct wire_value *map = &table->rows[row];
    if (map->n_children != 2 || map->first_child >= table->n_rows - 1)
        return NONSENSE("map %u has %u children", row, map->n_children);
    const struct wire_value *keys = &table->rows[map->first_child], *values = keys + 1;
    if (keys->kind != VALUE_TENSOR || values->kind != VALUE_TENSOR || keys->rank != 1 ||
        values->rank != 1 || keys->dims[0] != values->dims[0])
        return NONSENSE("map %u has keys and values that do not match", row);
    if (keys->type != TENSOR_STRING && keys->type != TENSOR_INT64)
        return NONSENSE("map %u has keys of type %u", row, keys->type);
    return NULL;
}

/* Breadth-first order without gaps: the only order in which nothing is shared or circular. */
static tidemill_error *check_tree(struct table *table)
{
    uint32_t next_child = table->n_outputs, level_end = table->n_outputs, depth = 1;
    if (table->n_rows < table->n_outputs)
        return NONSENSE("%u values for %u outputs", table->n_rows, table->n_outputs);
    for (uint32_t i = 0; i < table->n_rows; i++) {
        if (i >= next_child) return NONSENSE("value %u has no parent", i);
        if (i == level_end) {
            level_end = next_child;
            if (++depth > WIRE_DEPTH_MAX) return NONSENSE("values too deep in one another");
        }
        const struct wire_value *value = &table->rows[i];
        if (value->kind == VALUE_TENSOR) {
            TRY(check_tensor(table, i));
            continue;
        }
        if (value->kind > VALUE_MAP) return NONSENSE("value %u is of kind %u", i, value->kind);
        if (value->n_children > table->n_rows - next_child)
            return NONSENSE("value %u has more children than there are values", i);
        if (value->n_children > 0 && value->first_child != next_child)
            return NONSENSE("value %u has its children in the wrong place", i);
        if (value->kind == VALUE_MAP) TRY(check_map(table, i));
        next_child += value->n_children;
    }
    return NULL;
}

static tidemill_error *check_outputs(const struct table *table,
                                     const struct model_signature *signature)
{
    for (uint32_t i = 0; i < table->n_outputs; i++) {
        const struct value_spec *spec = &signature->outputs[i];
        if (table->rows[i].kind != (uint32_t)spec->kind)
            return NONSENSE("output '%s' is of another kind than declared", spec->name);
        if (spec->kind == VALUE_TENSOR && table->rows[i].type != (uint32_t)spec->type)
            return NONSENSE("output '%s' is %s, not %s", spec->name,
                            tensor_type_name((enum tensor_type)table->rows[i].type),
                            tensor_type_name(spec->type));
    }
    return NULL;
}

/* Fills values[] and copies strings behind it. */
static tidemill_error *make_values(const struct table *table, struct value *values,
                                   unsigned char *strings)
{
    for (uint32_t i = 0; i < table->n_rows; i++) {
        const struct wire_value *wire = &table->rows[i];
        struct value *value = &values[i];
        *value = (struct value){.kind = (enum value_kind)wire->kind,
                                .type = (enum tensor_type)wire->type,
                                .first_child = wire->first_child,
                                .n_children = wire->n_children};
        if (value->kind != VALUE_TENSOR) {
            value->type = TENSOR_UNDEFINED;
            if (value->n_children == 0) value->first_child = 0;
            continue;
        }
        value->first_child = 0;
        value->shape.rank = wire->rank;
        memcpy(value->shape.dims, wire->dims, sizeof value->shape.dims);
        value->data = table->base + wire->offset;
        value->bytes = (size_t)wire->bytes;
        if (value->type != TENSOR_STRING) continue;

        size_t count = 0;
        if (value->bytes > 0) memcpy(strings, value->data, value->bytes);
        value->data = strings;
        strings += value->bytes;
        if (!shape_count(&value->shape, &count) ||
            !strings_are_sane(value->data, value->bytes, count))
            return NONSENSE("value %u has strings longer than the tensor", i);
    }
    return NULL;
}

tidemill_error *wire_read_values(const unsigned char *base, size_t capacity, uint64_t table_offset,
                                 uint32_t n_values, const struct model_signature *signature,
                                 struct value **ret)
{
    *ret = NULL;
    size_t table_bytes = 0;
    if (size_mul(n_values, sizeof(struct wire_value), &table_bytes) || table_offset > capacity ||
        table_bytes > capacity - table_offset)
        return NONSENSE("its table of %u values lies outside the output area", n_values);

    struct wire_value *rows = malloc(table_bytes + 1);
    if (rows == NULL) return error_memory();
    memcpy(rows, base + table_offset, table_bytes);
    struct table table = {.base = base,
                          .capacity = capacity,
                          .rows = rows,
                          .n_rows = n_values,
                          .n_outputs = (uint32_t)signature->n_outputs};
    struct value *values = NULL;
    tidemill_error *error = check_tree(&table);
    if (error == NULL) error = check_outputs(&table, signature);
    size_t values_bytes = (size_t)n_values * sizeof *values, total;
    if (error == NULL) {
        bool is_overflow = size_add(values_bytes, table.string_bytes, &total);
        values = is_overflow ? NULL : malloc(MAX(total, (size_t)1));
        if (values == NULL) error = error_memory();
    }
    if (error == NULL) error = make_values(&table, values, (unsigned char *)values + values_bytes);
    free(rows);
    if (error != NULL) {
        free(values);
        return error;
    }
    *ret = values;
    return NULL;
}
