/* SPDX-License-Identifier: Apache-2.0 */
/* http_tensors.c - nested JSON arrays as tensors. No recursion: a level is a place in an array. */
#include "runtime/http_dialects.h"

static bool is_container(yyjson_val *value)
{
    return yyjson_is_arr(value) || yyjson_is_obj(value);
}

/* Goes down the first elements. */
static bool guess_shape(yyjson_val *value, struct shape *ret)
{
    *ret = (struct shape){0};
    while (yyjson_is_arr(value)) {
        if (ret->rank == TENSOR_RANK_MAX) return false;
        ret->dims[ret->rank++] = (int64_t)yyjson_arr_size(value);
        value = yyjson_arr_get_first(value);
    }
    return !yyjson_is_obj(value);
}

bool tensor_shape_of(yyjson_val *value, struct shape *ret)
{
    yyjson_arr_iter levels[TENSOR_RANK_MAX];
    int depth = 0;
    if (!guess_shape(value, ret)) return false;
    if (ret->rank > 0) yyjson_arr_iter_init(value, &levels[0]);
    while (ret->rank > 0 && depth >= 0) {
        yyjson_val *element = yyjson_arr_iter_next(&levels[depth]);
        if (element == NULL) {
            depth--;
        } else if (depth + 1 == ret->rank) {
            if (is_container(element)) return false;
        } else {
            depth++;
            if (!yyjson_is_arr(element) || yyjson_arr_size(element) != (size_t)ret->dims[depth])
                return false;
            yyjson_arr_iter_init(element, &levels[depth]);
        }
    }
    return true;
}

void tensor_walk_begin(struct tensor_walk *walk, yyjson_val *value)
{
    *walk = (struct tensor_walk){.depth = -1};
    if (!yyjson_is_arr(value)) {
        walk->scalar = value;
        return;
    }
    walk->depth = 0;
    yyjson_arr_iter_init(value, &walk->levels[0]);
}

yyjson_val *tensor_walk_next(struct tensor_walk *walk)
{
    yyjson_val *scalar = walk->scalar;
    walk->scalar = NULL;
    while (scalar == NULL && walk->depth >= 0) {
        yyjson_val *element = yyjson_arr_iter_next(&walk->levels[walk->depth]);
        if (element == NULL)
            walk->depth--;
        else if (yyjson_is_arr(element))
            yyjson_arr_iter_init(element, &walk->levels[++walk->depth]);
        else
            scalar = element;
    }
    return scalar;
}

static void put_brackets(struct buffer *out, char bracket, const struct shape *shape, size_t done)
{
    size_t block = 1; /* scalars in an array of this level */
    for (int32_t d = shape->rank - 1; d >= 0; d--) {
        block *= (size_t)shape->dims[d];
        if (done % block != 0) return;
        buffer_byte(out, bracket);
    }
}

void tensor_put_nested(struct buffer *out, struct tensor_walk *walk, const struct shape *shape,
                       size_t n_scalars)
{
    /* Empty arrays inside of one another are of no use, and could be many: [1000000000, 0]. */
    if (n_scalars == 0) buffer_text(out, "[]");
    for (size_t i = 0; i < n_scalars; i++) {
        if (i > 0) buffer_byte(out, ',');
        put_brackets(out, '[', shape, i);
        http_json_put_scalar(out, tensor_walk_next(walk));
        put_brackets(out, ']', shape, i + 1);
    }
}
