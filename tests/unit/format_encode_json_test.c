/* SPDX-License-Identifier: Apache-2.0 */
/* format_encode_json_test.c - answers as lines of JSONL: every element type and kind of value, picks,
 * kept fields, policies for NaN, and answers that are not what the model declared. */
#include "format_encoding.h"

#include <math.h>

#include <yyjson.h>

static const struct encoding_case lines[] = {
    {.name = "a vector of float32",
     .outputs = {SPEC(FLOAT, "logits", SHAPE(-1, 3))},
     .values = {VALUE(FLOAT, SHAPE(2, 3), float, 1, 2, 3, 0.1f, -2.5f, 1e-7f)},
     .n_rows = 2,
     .row = 1,
     .text = "{\"id\":7,\"logits\":[0.1,-2.5,1e-07]}\n"},
    {.name = "several outputs, one number each",
     .outputs = {SPEC(INT64, "label", SHAPE(-1)), SPEC(DOUBLE, "p", SHAPE(-1)),
                 SPEC(BOOL, "sure", SHAPE(-1))},
     .values = {VALUE(INT64, SHAPE(2), int64_t, INT64_MIN, INT64_MAX),
                VALUE(DOUBLE, SHAPE(2), double, 0.1, 1e300),
                VALUE(BOOL, SHAPE(2), unsigned char, 1, 0)},
     .n_rows = 2,
     .row = 0,
     .id = "\"a\\u0041\"",
     .text = "{\"id\":\"a\\u0041\",\"label\":-9223372036854775808,\"p\":0.1,\"sure\":true}\n"},
    {.name = "unsigned integers of all sizes",
     .outputs = {SPEC(UINT8, "a", SHAPE(-1)), SPEC(UINT16, "b", SHAPE(-1)),
                 SPEC(UINT32, "c", SHAPE(-1)), SPEC(UINT64, "d", SHAPE(-1))},
     .values = {VALUE(UINT8, SHAPE(1), uint8_t, 255), VALUE(UINT16, SHAPE(1), uint16_t, 65535),
                VALUE(UINT32, SHAPE(1), uint32_t, UINT32_MAX),
                VALUE(UINT64, SHAPE(1), uint64_t, UINT64_MAX)},
     .text = "{\"id\":7,\"a\":255,\"b\":65535,\"c\":4294967295,\"d\":18446744073709551615}\n"},
    {.name = "signed integers of all sizes",
     .outputs = {SPEC(INT8, "a", SHAPE(-1)), SPEC(INT16, "b", SHAPE(-1)),
                 SPEC(INT32, "c", SHAPE(-1))},
     .values = {VALUE(INT8, SHAPE(1), int8_t, -128), VALUE(INT16, SHAPE(1), int16_t, -32768),
                VALUE(INT32, SHAPE(1), int32_t, INT32_MIN)},
     .text = "{\"id\":7,\"a\":-128,\"b\":-32768,\"c\":-2147483648}\n"},
    {.name = "two elements a byte",
     .outputs = {SPEC(INT4, "a", SHAPE(-1, 4)), SPEC(UINT4, "b", SHAPE(-1, 4))},
     .values = {VALUE(INT4, SHAPE(1, 4), unsigned char, 0x7f, 0x08),
                VALUE(UINT4, SHAPE(1, 4), unsigned char, 0x7f, 0x08)},
     .text = "{\"id\":7,\"a\":[-1,7,-8,0],\"b\":[15,7,8,0]}\n"},
    {.name = "a row of two elements a byte begins inside a byte",
     .outputs = {SPEC(UINT4, "b", SHAPE(-1, 3))},
     .values = {VALUE(UINT4, SHAPE(2, 3), unsigned char, 0x21, 0x43, 0x65)},
     .n_rows = 2,
     .row = 1,
     .text = "{\"id\":7,\"b\":[4,5,6]}\n"},
    {.name = "small floats",
     .outputs = {SPEC(FLOAT16, "h", SHAPE(-1, 2)), SPEC(BFLOAT16, "b", SHAPE(-1, 1)),
                 SPEC(FLOAT8E4M3FN, "e", SHAPE(-1))},
     .values = {VALUE(FLOAT16, SHAPE(1, 2), uint16_t, 0x3c00, 0x2e66),
                VALUE(BFLOAT16, SHAPE(1, 1), uint16_t, 0x3dcd),
                VALUE(FLOAT8E4M3FN, SHAPE(1), unsigned char, 0x7e)},
     .text = "{\"id\":7,\"h\":[1.0,0.099975586],\"b\":[0.100097656],\"e\":448.0}\n"},
    {.name = "nested arrays",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2, 1, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 2, 1, 2), float, 1, 2, 3, 4)},
     .text = "{\"id\":7,\"x\":[[[1.0,2.0]],[[3.0,4.0]]]}\n"},
    {.name = "an empty last dimension",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2, 0)), SPEC(FLOAT, "y", SHAPE(-1, 0))},
     .values = {{.type = TENSOR_FLOAT, .shape = SHAPE(1, 2, 0)},
                {.type = TENSOR_FLOAT, .shape = SHAPE(1, 0)}},
     .text = "{\"id\":7,\"x\":[[],[]],\"y\":[]}\n"},
    {.name = "an empty dimension in the middle",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2, 0, 3)), SPEC(INT8, "y", SHAPE(-1, 0, 3))},
     .values = {{.type = TENSOR_FLOAT, .shape = SHAPE(1, 2, 0, 3)},
                {.type = TENSOR_INT8, .shape = SHAPE(1, 0, 3)}},
     .text = "{\"id\":7,\"x\":[[],[]],\"y\":[]}\n"},
    {.name = "strings",
     .outputs = {SPEC(STRING, "s", SHAPE(-1, 2)), SPEC(STRING, "t", SHAPE(-1))},
     .values = {TEXT(SHAPE(2, 2), "\1\0\0\0a\0\0\0\0\3\0\0\0\"\xc3\xa4\2\0\0\0\x01\xff"),
                TEXT(SHAPE(2), "\1\0\0\0a\1\0\0\0z")},
     .n_rows = 2,
     .row = 1,
     .text = "{\"id\":7,\"s\":[\"\\\"\xc3\xa4\",\"\\u0001\xef\xbf\xbd\"],\"t\":\"z\"}\n"},
    {.name = "an output's name that needs escapes",
     .outputs = {SPEC(FLOAT, "a\"b", SHAPE(-1))},
     .values = {VALUE(FLOAT, SHAPE(1), float, 1)},
     .text = "{\"id\":7,\"a\\\"b\":1.0}\n"},
    {.name = "a model without a batch dimension",
     .is_unbatched = true,
     .outputs = {SPEC(FLOAT, "x", SHAPE(2)), SPEC(FLOAT, "n", SCALAR), SPEC(STRING, "s", SCALAR)},
     .values = {VALUE(FLOAT, SHAPE(2), float, 1, 2), VALUE(FLOAT, SCALAR, float, 3),
                TEXT(SCALAR, "\1\0\0\0a")},
     .text = "{\"id\":7,\"x\":[1.0,2.0],\"n\":3.0,\"s\":\"a\"}\n"},
    {.name = "rows behind the records' own in a fixed batch",
     .batch_fixed = 4,
     .outputs = {SPEC(FLOAT, "x", SHAPE(4))},
     .values = {VALUE(FLOAT, SHAPE(4), float, 1, 2, 0, 0)},
     .n_rows = 2,
     .row = 1,
     .text = "{\"id\":7,\"x\":2.0}\n"},
    {.name = "a sequence of maps, one a record",
     .outputs = {SPEC_OTHER(SEQUENCE, "p")},
     .values = {PARENT(SEQUENCE, 1, 2), PARENT(MAP, 3, 2), PARENT(MAP, 5, 2),
                VALUE(INT64, SHAPE(2), int64_t, 0, 1), VALUE(FLOAT, SHAPE(2), float, 0.25f, 0.75f),
                VALUE(INT64, SHAPE(2), int64_t, -1, 5), VALUE(FLOAT, SHAPE(2), float, 0.5f, 0.5f)},
     .n_rows = 2,
     .row = 1,
     .text = "{\"id\":7,\"p\":{\"-1\":0.5,\"5\":0.5}}\n"},
    {.name = "a sequence of tensors, one a record",
     .outputs = {SPEC_OTHER(SEQUENCE, "p")},
     .values = {PARENT(SEQUENCE, 1, 2), VALUE(FLOAT, SHAPE(1), float, 1),
                VALUE(FLOAT, SHAPE(1, 2), float, 2, 3)},
     .n_rows = 2,
     .row = 1,
     .text = "{\"id\":7,\"p\":[[2.0,3.0]]}\n"},
    {.name = "a sequence that is one record's own",
     .is_unbatched = true,
     .outputs = {SPEC_OTHER(SEQUENCE, "p"), SPEC_OTHER(SEQUENCE, "q")},
     .values = {PARENT(SEQUENCE, 2, 2), PARENT(SEQUENCE, 4, 0), VALUE(FLOAT, SHAPE(1), float, 1),
                TEXT(SHAPE(1), "\1\0\0\0a")},
     .text = "{\"id\":7,\"p\":[[1.0],[\"a\"]],\"q\":[]}\n"},
    {.name = "a map with strings on both sides",
     .is_unbatched = true,
     .outputs = {SPEC_OTHER(MAP, "m")},
     .values = {PARENT(MAP, 1, 2), TEXT(SHAPE(2), "\1\0\0\0\"\1\0\0\0b"),
                TEXT(SHAPE(2), "\2\0\0\0xy\0\0\0\0")},
     .text = "{\"id\":7,\"m\":{\"\\\"\":\"xy\",\"b\":\"\"}}\n"},
    {.name = "kept fields as they came",
     .keep = {"a", "b"},
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1))},
     .values = {VALUE(FLOAT, SHAPE(1), float, 1)},
     .kept = {KEPT("\"a\"", "1.50"), KEPT("\"b\"", "{\"c\": [null]}")},
     .text = "{\"id\":7,\"a\":1.50,\"b\":{\"c\": [null]},\"x\":1.0}\n"},
    {.name = "keep all leaves out the id and outputs, however spelled",
     .keep_all = true,
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1))},
     .values = {VALUE(FLOAT, SHAPE(1), float, 1)},
     .kept = {KEPT("\"id\"", "1"), KEPT("\"\\u0069d\"", "2"), KEPT("\"x\"", "3"),
              KEPT("\"x\\\\\"", "4")},
     .text = "{\"id\":7,\"x\\\\\":4,\"x\":1.0}\n"},
};

static const struct encoding_case picks[] = {
    {.name = "softmax",
     .post = "softmax",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 2, 2), float, 1000, 1000, -1000, -1000)},
     .text = "{\"id\":7,\"x\":[[0.5,0.5],[0.5,0.5]]}\n"},
    {.name = "sigmoid, doubles stay doubles, integers stay",
     .post = "sigmoid",
     .outputs = {SPEC(DOUBLE, "x", SHAPE(-1, 2)), SPEC(INT8, "n", SHAPE(-1, 1))},
     .values = {VALUE(DOUBLE, SHAPE(1, 2), double, 0, 1), VALUE(INT8, SHAPE(1, 1), int8_t, 3)},
     .text = "{\"id\":7,\"x\":[0.5,0.7310585786300049],\"n\":[3]}\n"},
    {.name = "argmax at the top level",
     .post = "argmax",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 3))},
     .values = {VALUE(FLOAT, SHAPE(1, 3), float, 1, 3, 3)},
     .text = "{\"id\":7,\"label\":1,\"score\":3.0}\n"},
    {.name = "argmax with labels after softmax",
     .post = "softmax,argmax",
     .labels = {"cat", "a \"dog\""},
     .outputs = {SPEC(FLOAT16, "x", SHAPE(-1, 2))},
     .values = {VALUE(FLOAT16, SHAPE(1, 2), uint16_t, 0, 0)},
     .text = "{\"id\":7,\"label\":\"cat\",\"score\":0.5}\n"},
    {.name = "argmax beside an output of the name label, as classifiers of scikit-learn have it",
     .post = "argmax",
     .outputs = {SPEC(INT64, "label", SHAPE(-1)), SPEC(FLOAT, "probabilities", SHAPE(-1, 2))},
     .values = {VALUE(INT64, SHAPE(1), int64_t, 5), VALUE(FLOAT, SHAPE(1, 2), float, 0.25f, 0.75f)},
     .text = "{\"id\":7,\"label\":5,\"probabilities\":{\"label\":1,\"score\":0.75}}\n"},
    {.name = "argmax of an output that is itself called label",
     .post = "argmax",
     .outputs = {SPEC(FLOAT, "label", SHAPE(-1, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 2), float, 2, 1)},
     .text = "{\"id\":7,\"label\":0,\"score\":2.0}\n"},
    {.name = "argmax of two outputs",
     .post = "argmax",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2)), SPEC(DOUBLE, "y", SHAPE(-1, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 2), float, 1, 2), VALUE(DOUBLE, SHAPE(1, 2), double, 2, 0.1)},
     .text = "{\"id\":7,\"x\":{\"label\":1,\"score\":2.0},\"y\":{\"label\":0,\"score\":2.0}}\n"},
    {.name = "argmax with a kept field called score",
     .post = "argmax",
     .keep = {"score"},
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 2), float, 1, 2)},
     .kept = {KEPT("\"score\"", "\"mine\"")},
     .text = "{\"id\":7,\"score\":\"mine\",\"x\":{\"label\":1,\"score\":2.0}}\n"},
    {.name = "keep all may bring any name",
     .post = "topk:1",
     .keep_all = true,
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 2), float, 1, 2)},
     .text = "{\"id\":7,\"x\":{\"top\":[{\"label\":1,\"score\":2.0}]}}\n"},
    {.name = "topk, ties by place, more than there are",
     .post = "topk:5",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 3))},
     .values = {VALUE(FLOAT, SHAPE(1, 3), float, 1, 2, 2)},
     .text = "{\"id\":7,\"top\":[{\"label\":1,\"score\":2.0},{\"label\":2,\"score\":2.0},"
             "{\"label\":0,\"score\":1.0}]}\n"},
    {.name = "argmax for each token",
     .post = "argmax",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, -1, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 3, 2), float, 1, 2, 2, 1, 0, 0)},
     .text = "{\"id\":7,\"label\":[1,0,0],\"score\":[2.0,2.0,0.0]}\n"},
    {.name = "argmax keeps the outer dimensions",
     .post = "argmax",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2, 1, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 2, 1, 2), float, 1, 2, 2, 1)},
     .text = "{\"id\":7,\"label\":[[1],[0]],\"score\":[[2.0],[2.0]]}\n"},
    {.name = "topk for each token",
     .post = "topk:1",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 2, 2), float, 1, 2, 2, 1)},
     .text = "{\"id\":7,\"top\":[[{\"label\":1,\"score\":2.0}],[{\"label\":0,\"score\":2.0}]]}\n"},
    {.name = "argmax for no token",
     .post = "argmax",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, -1, 2))},
     .values = {{.type = TENSOR_FLOAT, .shape = SHAPE(1, 0, 2)}},
     .text = "{\"id\":7,\"label\":[],\"score\":[]}\n"},
    {.name = "argmax of no classes",
     .post = "argmax",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, -1))},
     .values = {{.type = TENSOR_FLOAT, .shape = SHAPE(1, 0)}},
     .text = "{\"id\":7,\"label\":null,\"score\":null}\n"},
    {.name = "argmax passes over NaN where that is allowed",
     .post = "argmax",
     .nonfinite = NONFINITE_NULL,
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 3))},
     .values = {VALUE(FLOAT, SHAPE(1, 3), float, NAN, -INFINITY, NAN)},
     .text = "{\"id\":7,\"label\":1,\"score\":null}\n"},
};

static const struct encoding_case failures[] = {
    {.name = "NaN says where",
     .outputs = {SPEC(FLOAT, "logits", SHAPE(-1, 4))},
     .values = {VALUE(FLOAT, SHAPE(1, 4), float, 0, 0, 0, NAN)},
     .code = ERROR_OUTPUT_NOT_FINITE,
     .message = "output 'logits' has NaN at [3]"},
    {.name = "infinity in the second output of the second row",
     .outputs = {SPEC(FLOAT, "a", SHAPE(-1)), SPEC(DOUBLE, "b", SHAPE(-1, 2, 2))},
     .values = {VALUE(FLOAT, SHAPE(2), float, 0, 0),
                VALUE(DOUBLE, SHAPE(2, 2, 2), double, 0, 0, 0, 0, 0, 0, (double)-INFINITY, 0)},
     .n_rows = 2,
     .row = 1,
     .code = ERROR_OUTPUT_NOT_FINITE,
     .message = "output 'b' has -infinity at [1, 0]"},
    {.name = "one number that is infinite",
     .outputs = {SPEC(FLOAT16, "a", SHAPE(-1))},
     .values = {VALUE(FLOAT16, SHAPE(1), uint16_t, 0x7c00)},
     .code = ERROR_OUTPUT_NOT_FINITE,
     .message = "output 'a' has infinity"},
    {.name = "softmax spreads NaN, the message names its place",
     .post = "softmax,argmax",
     .outputs = {SPEC(FLOAT, "a", SHAPE(-1, 3))},
     .values = {VALUE(FLOAT, SHAPE(1, 3), float, 0, 0, NAN)},
     .code = ERROR_OUTPUT_NOT_FINITE,
     .message = "output 'a' has NaN at [2]"},
    {.name = "NaN in a map's values",
     .is_unbatched = true,
     .outputs = {SPEC_OTHER(MAP, "m")},
     .values = {PARENT(MAP, 1, 2), VALUE(INT64, SHAPE(2), int64_t, 4, 5),
                VALUE(FLOAT, SHAPE(2), float, 0, NAN)},
     .code = ERROR_OUTPUT_NOT_FINITE,
     .message = "output 'm' has NaN at [1]"},
    {.name = "too few rows",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1))},
     .values = {VALUE(FLOAT, SHAPE(2), float, 0, 0)},
     .n_rows = 3,
     .code = ERROR_MODEL_ERROR,
     .message = "output 'x' has 2 rows for 3 records"},
    {.name = "no batch dimension where there should be one",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1))},
     .values = {VALUE(FLOAT, SCALAR, float, 0)},
     .code = ERROR_MODEL_ERROR},
    {.name = "another type than declared",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1))},
     .values = {VALUE(INT32, SHAPE(1), int32_t, 0)},
     .code = ERROR_MODEL_ERROR,
     .message = "output 'x' is not of the type that the model declares"},
    {.name = "a sequence with fewer items than records",
     .outputs = {SPEC_OTHER(SEQUENCE, "p")},
     .values = {PARENT(SEQUENCE, 1, 1), VALUE(FLOAT, SHAPE(1), float, 1)},
     .n_rows = 2,
     .code = ERROR_MODEL_ERROR,
     .message = "output 'p' has 1 rows for 2 records"},
    {.name = "one map for two records",
     .outputs = {SPEC_OTHER(MAP, "m")},
     .values = {PARENT(MAP, 1, 2)},
     .n_rows = 2,
     .code = ERROR_MODEL_ERROR,
     .message = "output 'm' has 1 rows for 2 records"},
    {.name = "more classes than labels, seen only in the answer",
     .post = "argmax",
     .labels = {"a", "b"},
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, -1))},
     .values = {VALUE(FLOAT, SHAPE(1, 3), float, 1, 2, 3)},
     .code = ERROR_MODEL_ERROR,
     .message = "output 'x' has 3 classes, --labels has 2 names"},
    {.name = "nothing to choose from, seen only in the answer",
     .post = "argmax",
     .outputs = {SPEC(FLOAT, "x", {.rank = -1})},
     .values = {VALUE(FLOAT, SHAPE(1), float, 1)},
     .code = ERROR_MODEL_ERROR,
     .message = "output 'x' is one number a record, --post works over a dimension"},
    {.name = "a string longer than the tensor",
     .outputs = {SPEC(STRING, "s", SHAPE(-1))},
     .values = {TEXT(SHAPE(1), "\2\0\0\0a")},
     .code = ERROR_MODEL_ERROR},
    {.name = "a kept field called id",
     .keep = {"id"},
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1))},
     .code = ERROR_USAGE,
     .message = "--keep id"},
    {.name = "a kept field with an output's name",
     .keep = {"a", "x"},
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1))},
     .code = ERROR_USAGE,
     .message = "--keep x"},
    {.name = "an output called id",
     .outputs = {SPEC(FLOAT, "id", SHAPE(-1))},
     .code = ERROR_USAGE,
     .message = "output named 'id'"},
    {.name = "labels without a pick",
     .post = "softmax",
     .labels = {"a"},
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 1))},
     .code = ERROR_USAGE,
     .message = "--post argmax"},
    {.name = "labels of another number",
     .post = "argmax",
     .labels = {"a", "b"},
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 3))},
     .code = ERROR_USAGE,
     .message = "2 names but output 'x' has 3 classes"},
    {.name = "post where there is no float",
     .post = "argmax",
     .outputs = {SPEC(STRING, "x", SHAPE(-1, 3))},
     .code = ERROR_USAGE,
     .message = "no output"},
    {.name = "post on one number",
     .post = "argmax",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1))},
     .code = ERROR_USAGE,
     .message = "one number a record"},
};

static const struct encoding_case policies[] = {
    {.name = "null",
     .nonfinite = NONFINITE_NULL,
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 4)), SPEC(DOUBLE, "y", SHAPE(-1))},
     .values = {VALUE(FLOAT, SHAPE(1, 4), float, NAN, INFINITY, -INFINITY, 1),
                VALUE(DOUBLE, SHAPE(1), double, (double)NAN)},
     .text = "{\"id\":7,\"x\":[null,null,null,1.0],\"y\":null}\n"},
    {.name = "string",
     .nonfinite = NONFINITE_STRING,
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 4)), SPEC(DOUBLE, "y", SHAPE(-1))},
     .values = {VALUE(FLOAT, SHAPE(1, 4), float, NAN, INFINITY, -INFINITY, 1),
                VALUE(DOUBLE, SHAPE(1), double, (double)NAN)},
     .text = "{\"id\":7,\"x\":[\"NaN\",\"Infinity\",\"-Infinity\",1.0],\"y\":\"NaN\"}\n"},
    {.name = "after steps",
     .post = "softmax",
     .nonfinite = NONFINITE_STRING,
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 2), float, NAN, 1)},
     .text = "{\"id\":7,\"x\":[\"NaN\",\"NaN\"]}\n"},
    {.name = "softmax takes minus infinity for impossible",
     .post = "softmax",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 2), float, -INFINITY, 1)},
     .text = "{\"id\":7,\"x\":[0.0,1.0]}\n"},
};

static void check_all(const struct encoding_case *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) check_case(&rows[i]);
}

static void test_lines(void **state)
{
    (void)state;
    check_all(lines, COUNT_OF(lines));
}

static void test_picks(void **state)
{
    (void)state;
    check_all(picks, COUNT_OF(picks));
}

static void test_failures(void **state)
{
    (void)state;
    check_all(failures, COUNT_OF(failures));
}

static void test_policies_for_nan(void **state)
{
    (void)state;
    check_all(policies, COUNT_OF(policies));
}

/* Random tensors of rank 0 to 4 read back by another parser give shape and numbers again. */
static void check_nested(yyjson_val *found, const struct shape *shape, int32_t d,
                         const float **next)
{
    if (d == shape->rank) {
        float value = (float)yyjson_get_real(found);
        assert_true(yyjson_is_real(found));
        assert_memory_equal(&value, (*next)++, sizeof value);
        return;
    }
    assert_int_equal(yyjson_arr_size(found), shape->dims[d]);
    for (size_t k = 0; k < (size_t)shape->dims[d]; k++)
        check_nested(yyjson_arr_get(found, k), shape, d + 1, next);
}

static void test_random_tensors_read_back(void **state)
{
    (void)state;
    uint64_t seed = random_seed("random tensors");
    for (int round = 0; round < 500; round++) {
        struct encoding_case row = {.name = "random", .outputs = {SPEC(FLOAT, "x", {.rank = -1})}};
        struct shape *shape = &row.values[0].shape;
        size_t count;
        shape->rank = 1 + (int32_t)random_below(&seed, 5);
        for (int32_t d = 0; d < shape->rank; d++) shape->dims[d] = (int64_t)random_below(&seed, 4);
        shape->dims[0] = (int64_t)(row.n_rows = 1 + (uint32_t)random_below(&seed, 3));
        row.row = (uint32_t)random_below(&seed, row.n_rows);
        assert_true(shape_count(shape, &count));
        float *numbers = malloc((count + 1) * sizeof *numbers);
        assert_non_null(numbers);
        for (size_t k = 0; k < count; k++) {
            uint32_t bits = (uint32_t)random_next(&seed) & 0xff7fffffu; /* finite */
            memcpy(&numbers[k], &bits, sizeof bits);
        }
        row.values[0].type = TENSOR_FLOAT;
        row.values[0].data = (const unsigned char *)numbers;
        row.values[0].bytes = count * sizeof *numbers;

        struct encoding encoding;
        const char *message = "";
        expect_fine(encoding_open(&encoding, &row), "random");
        assert_int_equal(encoding_append(&encoding, &row, &message), ERROR_OK);
        yyjson_doc *doc = yyjson_read(encoding.out.data, encoding.out.size, 0);
        assert_non_null(doc);
        struct shape part = *shape;
        part.rank--;
        memmove(part.dims, part.dims + 1, (size_t)part.rank * sizeof part.dims[0]);
        const float *next = numbers + count / row.n_rows * row.row;
        check_nested(yyjson_obj_get(yyjson_doc_get_root(doc), "x"), &part, 0, &next);
        yyjson_doc_free(doc);
        encoding_close(&encoding);
        free(numbers);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_picks),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_policies_for_nan),
        cmocka_unit_test(test_random_tensors_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
