/* SPDX-License-Identifier: Apache-2.0 */
/* tensor.h - element types, shapes, and what a model takes and gives, in words that all rooms share.
 *
 * Element types carry ONNX's numbers. Numbers lie in memory in the machine's order (little-endian),
 * packed, row-major. String elements lie one after another as a 4-byte length and the bytes, no
 * alignment, no NUL ("packed strings"). bool is one byte, 0 or 1. 4-bit types hold two elements a
 * byte, the first in the low half. */
#ifndef TIDEMILL_FORMAT_TENSOR_H
#define TIDEMILL_FORMAT_TENSOR_H

#include "base/base.h"

#define TENSOR_RANK_MAX 8
#define JSON_ERROR_MARK '\x01' /* no JSON begins so */
#define MODEL_VALUES_MAX 64    /* inputs, and outputs, of one model */

/* name, ONNX number, numpy name, bits an element (0: variable) */
#define TENSOR_TYPES(ROW)                                                                          \
    ROW(FLOAT, 1, "float32", 32)                                                                   \
    ROW(UINT8, 2, "uint8", 8)                                                                      \
    ROW(INT8, 3, "int8", 8)                                                                        \
    ROW(UINT16, 4, "uint16", 16)                                                                   \
    ROW(INT16, 5, "int16", 16)                                                                     \
    ROW(INT32, 6, "int32", 32)                                                                     \
    ROW(INT64, 7, "int64", 64)                                                                     \
    ROW(STRING, 8, "string", 0)                                                                    \
    ROW(BOOL, 9, "bool", 8)                                                                        \
    ROW(FLOAT16, 10, "float16", 16)                                                                \
    ROW(DOUBLE, 11, "float64", 64)                                                                 \
    ROW(UINT32, 12, "uint32", 32)                                                                  \
    ROW(UINT64, 13, "uint64", 64)                                                                  \
    ROW(COMPLEX64, 14, "complex64", 64)                                                            \
    ROW(COMPLEX128, 15, "complex128", 128)                                                         \
    ROW(BFLOAT16, 16, "bfloat16", 16)                                                              \
    ROW(FLOAT8E4M3FN, 17, "float8_e4m3fn", 8)                                                      \
    ROW(FLOAT8E4M3FNUZ, 18, "float8_e4m3fnuz", 8)                                                  \
    ROW(FLOAT8E5M2, 19, "float8_e5m2", 8)                                                          \
    ROW(FLOAT8E5M2FNUZ, 20, "float8_e5m2fnuz", 8)                                                  \
    ROW(UINT4, 21, "uint4", 4)                                                                     \
    ROW(INT4, 22, "int4", 4)

enum tensor_type {
    TENSOR_UNDEFINED = 0,
#define ROW(name, number, text, bits) TENSOR_##name = number,
    TENSOR_TYPES(ROW)
#undef ROW
        TENSOR_TYPE_COUNT
};

const char *tensor_type_name(enum tensor_type type);    /* "float32" */
enum tensor_type tensor_type_of_name(const char *name); /* also "float", "double"; 0 unknown */
unsigned tensor_type_bits(enum tensor_type type);       /* 0 for strings */
/* Bytes of `count` packed elements; 0 for strings. False: overflow. */
bool tensor_bytes(enum tensor_type type, size_t count, size_t *ret_bytes);

/* Conversions of small floats, round to nearest even. E4M3FN and the FNUZ kinds have no infinity:
 * too large becomes NaN. */
float float_from_half(uint16_t half);
uint16_t half_from_float(float value);
float float_from_bfloat16(uint16_t value);
uint16_t bfloat16_from_float(float value);
float float_from_float8(uint8_t value, enum tensor_type type);
uint8_t float8_from_float(float value, enum tensor_type type);

/* Element `k` of packed numbers of a floating-point type of 16 bits or more; NaN for other types. */
double tensor_real(const unsigned char *data, enum tensor_type type, size_t k);

struct shape {
    int32_t rank;
    int64_t dims[TENSOR_RANK_MAX]; /* -1: any */
};

/* Product of the dimensions; 1 for rank 0. False: a dimension is negative, or overflow. */
bool shape_count(const struct shape *shape, size_t *ret_count);
/* "[batch, 64]", "[]"; unknown dimensions as their name or "?" (names may be NULL). */
void shape_text(const struct shape *shape, char *const *dim_names, char *text, size_t size);

enum value_kind { VALUE_TENSOR, VALUE_SEQUENCE, VALUE_MAP };

/* One input or output as the model declares it, the batch dimension included. */
struct value_spec {
    char *name;
    enum value_kind kind;
    enum tensor_type type;     /* of a tensor; of the elements in a sequence; of map values */
    enum tensor_type key_type; /* of a map's keys: STRING or INT64 */
    struct shape shape;        /* rank -1: not declared */
    char *dim_names[TENSOR_RANK_MAX]; /* NULL where the dimension has no name */
    /* of a string tensor: each element is the text of one JSON value; of an output: or JSON_ERROR_MARK
     * and a sentence that says why the record has none */
    bool is_json;
    bool is_optional; /* an input of strings: "" where a record has no field for it */
};

struct model_signature {
    struct value_spec *inputs, *outputs;
    size_t n_inputs, n_outputs;
    bool is_batched;     /* the first dimension of every input and output counts records */
    int64_t batch_fixed; /* > 0: the model takes exactly that many records a call */
};

void model_signature_free(struct model_signature *signature); /* what it points to, not itself */

/* One record's part of an input: the declared shape, without the first dimension when batched. */
struct shape value_row_shape(const struct value_spec *spec, bool is_batched);
/* Whether records may differ in the shape of some input. */
bool signature_has_dynamic_row(const struct model_signature *signature);

/* What a model answered for one microbatch: a tree in an array; [0..n_outputs) are the outputs in
 * the order asked for, children lie behind. `data` is borrowed (shared memory). */
struct value {
    enum value_kind kind;
    enum tensor_type type;
    struct shape shape;
    const unsigned char *data; /* VALUE_TENSOR */
    size_t bytes;
    uint32_t first_child; /* SEQUENCE: its elements; MAP: keys tensor [k], values tensor [k] */
    uint32_t n_children;
};

#endif
