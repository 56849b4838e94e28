/* SPDX-License-Identifier: Apache-2.0 */
/* tensor_json.h - JSON from clients into tensors and back, for every dialect that answers at once. Numbers
 * are read as `tidemill run` reads them, from their text, and written in the shortest form that reads
 * back to the same number. Pure: slices in, arenas and buffers out. */
#ifndef TIDEMILL_SERVER_TENSOR_JSON_H
#define TIDEMILL_SERVER_TENSOR_JSON_H

#include "base/base.h"
#include "format/tensor.h"

#include <yyjson.h>

/* UTF-8, at most JSON_DEPTH_MAX deep; numbers are kept as text (yyjson_is_raw), NaN, Infinity and
 * -Infinity among them. ERROR_INVALID_JSON, ERROR_INVALID_UTF8 say where it is wrong. */
tidemill_error *json_body_read(struct slice text, yyjson_doc **ret);
/* "a list", "null": for messages. */
const char *json_kind(yyjson_val *value);
/* A whole number from 0 to 10^15; false: not that. NULL is fine. */
bool json_count(yyjson_val *value, uint64_t *ret);
/* A string without NUL in it; NULL: not that. */
const char *json_text(yyjson_val *value);
/* The value as it was written, on one line. */
void json_put(struct buffer *out, yyjson_val *value);

struct json_tensor {
    enum tensor_type type;
    struct shape shape;
    unsigned char *data; /* in the arena */
    size_t bytes;
};

/* `n` values of one shape, stacked: the shape is [n, ...]. `name` is for messages. With `is_json` each
 * value becomes the text of itself, whatever it is, and the shape is [n]. Strings may be {"b64":".."}. */
tidemill_error *json_tensor_rows(yyjson_val *const *values, size_t n, const char *name,
                                 enum tensor_type type, bool is_json, struct arena *arena,
                                 struct json_tensor *ret);
/* One value, nested as its shape is: a number, a list of lists. */
tidemill_error *json_tensor_read(yyjson_val *value, const char *name, enum tensor_type type,
                                 struct arena *arena, struct json_tensor *ret);
/* Where the model declares another rank, and its fixed dimensions leave one way: that shape. As records
 * of `tidemill run` may come: flat, or a number for [1]. */
void json_tensor_fit(struct json_tensor *tensor, const struct value_spec *spec, bool is_batched);

/* Elements one by one, in their order. */
struct element_walk {
    enum tensor_type type;
    const unsigned char *data, *end;
    size_t k;
    const char *name; /* of the output */
    bool is_json;     /* strings are JSON texts: written as they are */
    bool is_b64;      /* strings are written as {"b64":".."} */
    bool is_bare;     /* NaN and infinity are written as such; else they are an error */
};
struct element_walk element_walk_of(const struct value *value, const char *name);
/* The next `count` elements with commas between. OUTPUT_NOT_FINITE; UNSUPPORTED: a type without JSON;
 * MODEL_ERROR: what the model says instead of JSON, or text that is not UTF-8. */
tidemill_error *element_walk_flat(struct element_walk *walk, size_t count, struct buffer *out);
/* The same as nested lists of `shape`; a number alone for rank 0. */
tidemill_error *element_walk_nested(struct element_walk *walk, const struct shape *shape,
                                    struct buffer *out);

#endif
