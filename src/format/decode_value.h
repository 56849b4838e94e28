/* SPDX-License-Identifier: Apache-2.0 */
/* decode_value.h - one row of one input under construction: numbers and strings are appended, then
 * the shape that was found is matched with the shape that the model takes. */
#ifndef TIDEMILL_FORMAT_DECODE_VALUE_H
#define TIDEMILL_FORMAT_DECODE_VALUE_H

#include "format/decode.h"
#include "format/number.h"

struct input_plan;

struct row {
    const struct input_plan *input;
    enum tensor_type type;
    enum nonfinite_policy nonfinite;
    unsigned char *out;
    size_t capacity; /* bytes */
    size_t bytes;    /* written */
    size_t count;    /* elements written */
    struct shape shape;
    bool is_full; /* an append failed for want of room */
    bool is_made; /* the record has no field for it: decode_tokens.c fills it */
};

/* A number before it has a type. */
struct scalar {
    bool is_real;
    bool is_negative;
    uint64_t magnitude; /* not is_real */
    double real;
};

bool type_is_float(enum tensor_type type);  /* of any width; complex not */
bool type_is_number(enum tensor_type type); /* has a scalar: not strings, not complex */

/* Appends. WRONG_TYPE, OUT_OF_RANGE, NOT_FINITE as they say; MEMORY (and is_full): no room. */
enum error_code row_append(struct row *row, const struct scalar *scalar);
/* [text, end) is what was scanned. */
enum error_code row_append_number(struct row *row, const struct number *number, const char *text,
                                  const char *end);
enum error_code row_append_string(struct row *row, const char *text, size_t size);
/* `count` packed elements of another type or the same; *ret_index: the element at fault. */
enum error_code row_append_elements(struct row *row, enum tensor_type type,
                                    const unsigned char *data, size_t count, size_t *ret_index);
/* Element `index` of packed data of a number type. */
struct scalar scalar_load(enum tensor_type type, const unsigned char *data, size_t index);
/* "NaN", "Infinity", "-Infinity", and, lenient, what else CSV writers write. */
bool scalar_of_word(const char *text, size_t size, bool is_lenient, struct scalar *ret);

/* Does a value of shape `found` serve? Then *ret is the row's shape. Exactly that shape, or with a
 * leading 1 more, or, where the row shape is fixed, a flat list of as many elements. */
bool row_shape_match(const struct input_plan *input, const struct shape *found, struct shape *ret);

/* "64 numbers", "a string", "numbers of shape [3, 224, 224]" */
void expected_text(const struct input_plan *input, char *text, size_t size);
const char *element_word(enum tensor_type type, bool is_plural); /* "number", "strings" */

#endif
