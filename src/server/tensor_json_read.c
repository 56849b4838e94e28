/* SPDX-License-Identifier: Apache-2.0 */
/* tensor_json_read.c - JSON values into tensors: nested lists are walked with a stack of their own, must
 * be of one length a level, and every number is checked against the type. */
#include "format/decode_text.h"
#include "format/decode_value.h"
#include "format/encode.h"
#include "server/tensor_json.h"

#include <stdlib.h>

#define COUNT_MAX 1000000000000000u

/* --- documents ------------------------------------------------------------------------------------------ */

tidemill_error *json_body_read(struct slice text, yyjson_doc **ret)
{
    yyjson_read_err error;
    if (text.size == 0) return error_new(ERROR_INVALID_JSON, "the body is empty");
    if (!text_is_utf8(text.data, text.size))
        return error_new(ERROR_INVALID_UTF8, "the body is not UTF-8");
    if (json_depth(text.data, text.size, JSON_DEPTH_MAX) > JSON_DEPTH_MAX)
        return error_new(ERROR_INVALID_JSON, "the body is nested deeper than %d", JSON_DEPTH_MAX);
    /* Without YYJSON_READ_INSITU the text is only read. */
    *ret =
        yyjson_read_opts((char *)(uintptr_t)text.data, text.size,
                         YYJSON_READ_NUMBER_AS_RAW | YYJSON_READ_ALLOW_INF_AND_NAN, NULL, &error);
    if (*ret != NULL) return NULL;
    if (error.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION) return error_memory();
    return error_new(ERROR_INVALID_JSON, "the body is not JSON: %s at byte %zu of %zu", error.msg,
                     error.pos, text.size);
}

const char *json_kind(yyjson_val *value)
{
    if (value == NULL) return "nothing";
    if (yyjson_is_obj(value)) return "an object";
    if (yyjson_is_arr(value)) return "a list";
    if (yyjson_is_str(value)) return "a string";
    if (yyjson_is_bool(value)) return "true or false";
    return yyjson_is_null(value) ? "null" : "a number";
}

bool json_count(yyjson_val *value, uint64_t *ret)
{
    const char *text = value == NULL ? NULL : yyjson_get_raw(value);
    size_t size = text == NULL ? 0 : yyjson_get_len(value);
    uint64_t count = 0;
    if (size == 0 || size > 16) return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        count = count * 10 + (uint64_t)(text[i] - '0');
    }
    *ret = count;
    return count <= COUNT_MAX;
}

const char *json_text(yyjson_val *value)
{
    const char *text = yyjson_get_str(value);
    return text != NULL && strlen(text) == yyjson_get_len(value) ? text : NULL;
}

void json_put(struct buffer *out, yyjson_val *value)
{
    size_t size;
    char *text = yyjson_val_write(value, YYJSON_WRITE_ALLOW_INF_AND_NAN, &size);
    if (text == NULL)
        out->is_failed = true;
    else
        buffer_append(out, text, size);
    free(text);
}

/* --- shapes ----------------------------------------------------------------------------------------------- */

/* As far as the first elements tell. False: nested too deep. */
static bool shape_of(yyjson_val *value, struct shape *ret)
{
    *ret = (struct shape){0};
    for (; yyjson_is_arr(value); value = yyjson_arr_get_first(value)) {
        if (ret->rank == TENSOR_RANK_MAX) return false;
        ret->dims[ret->rank++] = (int64_t)yyjson_arr_size(value);
    }
    return true;
}

static tidemill_error *too_deep(const char *name)
{
    return error_new(ERROR_WRONG_SHAPE, "'%s': lists are nested deeper than %d", name,
                     TENSOR_RANK_MAX);
}

/* All scalars of a value whose shape is known, in order. */
struct descent {
    const struct shape *shape;
    yyjson_val *scalar; /* of rank 0, not yet given */
    yyjson_arr_iter levels[TENSOR_RANK_MAX];
    int32_t depth; /* -1: the end */
    const char *problem;
};

static void descent_begin(struct descent *d, yyjson_val *value, const struct shape *shape)
{
    *d = (struct descent){.shape = shape, .depth = -1};
    if (shape->rank == 0)
        d->scalar = value;
    else
        yyjson_arr_iter_init(value, &d->levels[d->depth = 0]);
}

/* NULL: the end, or d->problem. */
static yyjson_val *descent_next(struct descent *d)
{
    yyjson_val *scalar = d->scalar;
    d->scalar = NULL;
    while (scalar == NULL && d->depth >= 0) {
        yyjson_val *element = yyjson_arr_iter_next(&d->levels[d->depth]);
        bool is_innermost = d->depth + 1 == d->shape->rank;
        if (element == NULL) {
            d->depth--;
        } else if (is_innermost != !yyjson_is_arr(element)) {
            d->problem = "its lists are nested to different depths";
            return NULL;
        } else if (is_innermost) {
            scalar = element;
        } else if (yyjson_arr_size(element) != (size_t)d->shape->dims[d->depth + 1]) {
            d->problem = "its lists differ in length";
            return NULL;
        } else {
            yyjson_arr_iter_init(element, &d->levels[++d->depth]);
        }
    }
    return scalar;
}

static void begin(struct descent *d, yyjson_val *value, struct shape *shape, const char **problem)
{
    if (shape->rank > 0 && !yyjson_is_arr(value)) *problem = "a value that is no list";
    descent_begin(d, value, shape);
}

/* --- scalars ------------------------------------------------------------------------------------------------ */

static tidemill_error *wrong_type(const struct row *row, const char *name, yyjson_val *value)
{
    bool is_whole =
        !type_is_float(row->type) && row->type != TENSOR_BOOL && row->type != TENSOR_STRING;
    const char *text = yyjson_is_raw(value) ? yyjson_get_raw(value) : json_kind(value);
    size_t size = yyjson_is_raw(value) ? yyjson_get_len(value) : strlen(text);
    return error_new(ERROR_WRONG_TYPE, "'%s': expected a %s%s (%s), found %.*s", name,
                     is_whole ? "whole " : "", element_word(row->type, false),
                     tensor_type_name(row->type), (int)MIN(size, (size_t)40), text);
}

static tidemill_error *explain(enum error_code code, const struct row *row, const char *name,
                               yyjson_val *value)
{
    if (code == ERROR_OK) return NULL;
    if (code == ERROR_MEMORY) return error_memory();
    if (code != ERROR_OUT_OF_RANGE) return wrong_type(row, name, value);
    return error_new(code, "'%s': %.*s does not fit %s", name,
                     (int)MIN(yyjson_get_len(value), (size_t)40), yyjson_get_raw(value),
                     tensor_type_name(row->type));
}

static enum error_code append_raw(struct row *row, yyjson_val *value)
{
    const char *text = yyjson_get_raw(value), *end = text + yyjson_get_len(value);
    struct number number;
    struct scalar scalar;
    if (number_scan(text, end, &number) == end) return row_append_number(row, &number, text, end);
    if (!type_is_float(row->type) || !scalar_of_word(text, (size_t)(end - text), true, &scalar))
        return ERROR_WRONG_TYPE;
    return row_append(row, &scalar);
}

static enum error_code append_scalar(struct row *row, yyjson_val *value)
{
    struct scalar scalar;
    if (yyjson_is_raw(value)) return append_raw(row, value);
    if (yyjson_is_bool(value) && row->type == TENSOR_BOOL)
        return row_append(row, &(struct scalar){.magnitude = yyjson_get_bool(value)});
    if (!yyjson_is_str(value)) return ERROR_WRONG_TYPE;
    const char *text = yyjson_get_str(value);
    size_t size = yyjson_get_len(value);
    if (row->type == TENSOR_STRING) return row_append_string(row, text, size);
    if (!type_is_float(row->type) || !scalar_of_word(text, size, false, &scalar))
        return ERROR_WRONG_TYPE;
    return row_append(row, &scalar);
}

/* --- strings: their bytes are not known beforehand -------------------------------------------------------------- */

static tidemill_error *put_base64(struct buffer *out, const char *name, yyjson_val *text)
{
    size_t size = 0, length = yyjson_get_len(text);
    char *place = buffer_reserve(out, length / 4 * 3 + 3);
    if (place == NULL) return error_memory();
    if (parse_base64(yyjson_get_str(text), length, (unsigned char *)place, &size)) {
        out->size += size;
        return NULL;
    }
    return error_new(ERROR_WRONG_TYPE, "'%s': \"b64\" is not base64", name);
}

static tidemill_error *put_string(struct buffer *out, const char *name, yyjson_val *value)
{
    size_t head = out->size;
    uint32_t size = 0;
    buffer_append(out, &size, sizeof size);
    yyjson_val *base64 = yyjson_obj_get(value, "b64");
    if (yyjson_is_str(value)) {
        buffer_append(out, yyjson_get_str(value), yyjson_get_len(value));
    } else if (yyjson_is_str(base64) && yyjson_obj_size(value) == 1) {
        TRY(put_base64(out, name, base64));
    } else {
        return error_new(ERROR_WRONG_TYPE, "'%s': expected a string or {\"b64\":\"...\"}, found %s",
                         name, json_kind(value));
    }
    if (out->is_failed) return error_memory();
    if (out->size - head - sizeof size > UINT32_MAX)
        return error_new(ERROR_OUT_OF_RANGE, "'%s': a string of more than 4 GiB", name);
    size = (uint32_t)(out->size - head - sizeof size);
    memcpy(out->data + head, &size, sizeof size);
    return NULL;
}

static tidemill_error *put_json_text(struct buffer *out, const char *name, yyjson_val *value)
{
    size_t head = out->size;
    uint32_t size = 0;
    buffer_append(out, &size, sizeof size);
    json_put(out, value);
    if (out->is_failed) return error_memory();
    if (out->size - head - sizeof size > UINT32_MAX)
        return error_new(ERROR_OUT_OF_RANGE, "'%s': a value of more than 4 GiB", name);
    size = (uint32_t)(out->size - head - sizeof size);
    memcpy(out->data + head, &size, sizeof size);
    return NULL;
}

/* --- rows ---------------------------------------------------------------------------------------------------------- */

struct stacking {
    const char *name;
    enum tensor_type type;
    bool is_json;
    struct shape shape;    /* of one row */
    struct row row;        /* numbers */
    struct buffer strings; /* strings */
};

static tidemill_error *put_row(struct stacking *s, yyjson_val *value)
{
    struct descent d;
    const char *problem = NULL;
    yyjson_val *scalar;
    if (s->is_json) return put_json_text(&s->strings, s->name, value);
    begin(&d, value, &s->shape, &problem);
    if (problem != NULL || (s->shape.rank == 0 && yyjson_is_arr(value)) ||
        (s->shape.rank > 0 && yyjson_arr_size(value) != (size_t)s->shape.dims[0]))
        return error_new(ERROR_WRONG_SHAPE, "'%s': its values differ in shape", s->name);
    while ((scalar = descent_next(&d)) != NULL) {
        if (s->type == TENSOR_STRING)
            TRY(put_string(&s->strings, s->name, scalar));
        else
            TRY(explain(append_scalar(&s->row, scalar), &s->row, s->name, scalar));
    }
    if (d.problem == NULL) return NULL;
    return error_new(ERROR_WRONG_SHAPE, "'%s': %s", s->name, d.problem);
}

/* Room for all numbers: there cannot be more than the values have nodes, so it is bounded by the body. */
static tidemill_error *reserve(struct stacking *s, size_t n, struct arena *arena)
{
    size_t count, total, bytes;
    if (!type_is_number(s->type) || tensor_type_bits(s->type) < 8)
        return error_new(ERROR_UNSUPPORTED, "'%s': %s is not taken as JSON", s->name,
                         tensor_type_name(s->type));
    if (!shape_count(&s->shape, &count) || size_mul(count, n, &total) ||
        !tensor_bytes(s->type, total, &bytes))
        return error_new(ERROR_WRONG_SHAPE, "'%s': its shape is impossible", s->name);
    s->row = (struct row){.type = s->type, .nonfinite = NONFINITE_STRING, .capacity = bytes};
    s->row.out = arena_alloc(arena, MAX(bytes, (size_t)1));
    return s->row.out == NULL ? error_memory() : NULL;
}

/* The first row's shape times the number of rows may claim far more than there is: [[..1000 empty..]]. */
static tidemill_error *check_claim(const struct stacking *s, yyjson_val *const *values, size_t n)
{
    size_t count, total;
    struct shape shape;
    if (!shape_count(&s->shape, &count) || size_mul(count, n, &total))
        return error_new(ERROR_WRONG_SHAPE, "'%s': its shape is impossible", s->name);
    for (size_t i = 0; i < n; i++) {
        if (!shape_of(values[i], &shape)) return too_deep(s->name);
        bool is_same = shape.rank == s->shape.rank &&
                       memcmp(shape.dims, s->shape.dims, sizeof shape.dims) == 0;
        if (!is_same)
            return error_new(ERROR_WRONG_SHAPE, "'%s': its values differ in shape", s->name);
    }
    return NULL;
}

static tidemill_error *take_strings(struct stacking *s, struct arena *arena,
                                    struct json_tensor *ret)
{
    ret->data = (unsigned char *)arena_copy(arena, s->strings.data, s->strings.size);
    ret->bytes = s->strings.size;
    return ret->data == NULL ? error_memory() : NULL;
}

static tidemill_error *stack_rows(struct stacking *s, yyjson_val *const *values, size_t n,
                                  struct arena *arena, struct json_tensor *ret)
{
    if (!s->is_json) {
        if (n > 0 && !shape_of(values[0], &s->shape)) return too_deep(s->name);
        if (s->shape.rank == TENSOR_RANK_MAX) return too_deep(s->name);
        TRY(check_claim(s, values, n));
    }
    bool is_text = s->is_json || s->type == TENSOR_STRING;
    if (!is_text) TRY(reserve(s, n, arena));
    for (size_t i = 0; i < n; i++) TRY(put_row(s, values[i]));
    *ret = (struct json_tensor){.type = s->type, .shape = {.rank = s->shape.rank + 1}};
    ret->shape.dims[0] = (int64_t)n;
    for (int32_t d = 0; d < s->shape.rank; d++) ret->shape.dims[d + 1] = s->shape.dims[d];
    ret->data = s->row.out;
    ret->bytes = s->row.bytes;
    return is_text ? take_strings(s, arena, ret) : NULL;
}

tidemill_error *json_tensor_rows(yyjson_val *const *values, size_t n, const char *name,
                                 enum tensor_type type, bool is_json, struct arena *arena,
                                 struct json_tensor *ret)
{
    struct stacking s = {.name = name, .type = type, .is_json = is_json};
    tidemill_error *error = stack_rows(&s, values, n, arena, ret);
    buffer_free(&s.strings);
    return error;
}

tidemill_error *json_tensor_read(yyjson_val *value, const char *name, enum tensor_type type,
                                 struct arena *arena, struct json_tensor *ret)
{
    struct shape shape;
    if (!shape_of(value, &shape)) return too_deep(name);
    if (shape.rank == TENSOR_RANK_MAX) return too_deep(name);
    TRY(json_tensor_rows(&value, 1, name, type, false, arena, ret));
    ret->shape.rank--; /* the one row is the tensor */
    memmove(ret->shape.dims, ret->shape.dims + 1, (size_t)ret->shape.rank * sizeof(int64_t));
    return NULL;
}

void json_tensor_fit(struct json_tensor *tensor, const struct value_spec *spec, bool is_batched)
{
    int32_t first = is_batched ? 1 : 0;
    struct shape shape = spec->shape;
    size_t wanted = 1, found;
    if (shape.rank < first || shape.rank == tensor->shape.rank || tensor->shape.rank < first)
        return;
    if (is_batched) shape.dims[0] = tensor->shape.dims[0];
    if (!shape_count(&shape, &wanted) || !shape_count(&tensor->shape, &found) || wanted != found)
        return;
    tensor->shape = shape;
}
