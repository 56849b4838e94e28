/* SPDX-License-Identifier: Apache-2.0 */
/* format_encode_csv_test.c - answers as CSV: which columns there are, quoting, and that each record has
 * exactly as many cells as the header. */
#include "format_encoding.h"

#include <math.h>

#include "format/csv.h"

static const struct encoding_case rows[] = {
    {.name = "a vector has a column for each element",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2)), SPEC(INT64, "n", SHAPE(-1))},
     .values = {VALUE(FLOAT, SHAPE(1, 2), float, 0.5f, -1), VALUE(INT64, SHAPE(1), int64_t, 3)},
     .header = "id,x_0,x_1,n\n",
     .text = "7,0.5,-1.0,3\n"},
    {.name = "a matrix is JSON in one cell",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 1, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 1, 2), float, 1, 2)},
     .header = "id,x\n",
     .text = "7,\"[[1.0,2.0]]\"\n"},
    {.name = "a vector of unknown length is JSON in one cell",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, -1))},
     .values = {VALUE(FLOAT, SHAPE(1, 2), float, 1, 2)},
     .header = "id,x\n",
     .text = "7,\"[1.0,2.0]\"\n"},
    {.name = "a long vector is JSON in one cell",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 4097))},
     .values = {VALUE(FLOAT, SHAPE(1, 1), float, 1)},
     .header = "id,x\n",
     .text = "7,[1.0]\n"},
    {.name = "a vector without elements has no columns",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 0)), SPEC(FLOAT, "y", SHAPE(-1))},
     .values = {{.type = TENSOR_FLOAT, .shape = SHAPE(1, 0)}, VALUE(FLOAT, SHAPE(1), float, 1)},
     .header = "id,y\n",
     .text = "7,1.0\n"},
    {.name = "strings are quoted where they must be",
     .outputs = {SPEC(STRING, "s", SHAPE(-1, 4))},
     .values = {TEXT(SHAPE(1, 4), "\1\0\0\0a\3\0\0\0b,c\4\0\0\0\"\\\xc3\xa4\1\0\0\0\n")},
     .header = "id,s_0,s_1,s_2,s_3\n",
     .text = "7,a,\"b,c\",\"\"\"\\\xc3\xa4\",\"\n\"\n"},
    {.name = "a column's name that needs quotes",
     .outputs = {SPEC(FLOAT, "a,b", SHAPE(-1)), SPEC(FLOAT, "\"", SHAPE(-1, 1))},
     .values = {VALUE(FLOAT, SHAPE(1), float, 1), VALUE(FLOAT, SHAPE(1, 1), float, 2)},
     .header = "id,\"a,b\",\"\"\"_0\"\n",
     .text = "7,1.0,2.0\n"},
    {.name = "ids are text",
     .id = "\"a\\\"\\u00e4,\"",
     .outputs = {SPEC(BOOL, "x", SHAPE(-1))},
     .values = {VALUE(BOOL, SHAPE(1), unsigned char, 1)},
     .text = "\"a\"\"\xc3\xa4,\",true\n"},
    {.name = "kept fields by column, whatever their order; missing ones are empty",
     .keep = {"a", "b", "c", "d\"\t"},
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1))},
     .values = {VALUE(FLOAT, SHAPE(1), float, 1)},
     .kept = {KEPT("\"d\\\"\\t\"", "\"x\""), KEPT("\"c\"", "null"),
              KEPT("\"a\"", "{\"k\": [1, 2]}")},
     .header = "id,a,b,c,\"d\"\"\t\",x\n",
     .text = "7,\"{\"\"k\"\": [1, 2]}\",,,x,1.0\n"},
    {.name = "keep all leaves out the columns that are taken",
     .keep_all = true,
     .columns = {"id", "a", "x", "b"},
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1))},
     .values = {VALUE(FLOAT, SHAPE(1), float, 1)},
     .kept = {KEPT("\"a\"", "\"1\""), KEPT("\"x\"", "\"2\""), KEPT("\"b\"", "\"3\"")},
     .header = "id,a,b,x\n",
     .text = "7,1,3,1.0\n"},
    {.name = "argmax",
     .post = "argmax",
     .labels = {"a,b", "c"},
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 2), float, 2, 1)},
     .header = "id,label,score\n",
     .text = "7,\"a,b\",2.0\n"},
    {.name = "argmax with more classes than cells are allowed, or an unknown number of them",
     .post = "argmax",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, -1))},
     .values = {VALUE(FLOAT, SHAPE(1, 2), float, 2, 1)},
     .header = "id,label,score\n",
     .text = "7,0,2.0\n"},
    {.name = "argmax beside an output called label",
     .post = "argmax",
     .outputs = {SPEC(INT64, "label", SHAPE(-1)), SPEC(FLOAT, "p", SHAPE(-1, 2))},
     .values = {VALUE(INT64, SHAPE(1), int64_t, 4), VALUE(FLOAT, SHAPE(1, 2), float, 2, 1)},
     .header = "id,label,p_label,p_score\n",
     .text = "7,4,0,2.0\n"},
    {.name = "topk with fewer classes than asked for",
     .post = "topk:3",
     .outputs = {SPEC(DOUBLE, "x", SHAPE(-1, 2))},
     .values = {VALUE(DOUBLE, SHAPE(1, 2), double, 0.1, 0.2)},
     .header = "id,top_1_label,top_1_score,top_2_label,top_2_score,top_3_label,top_3_score\n",
     .text = "7,1,0.2,0,0.1,,\n"},
    {.name = "argmax for each token is JSON in one cell",
     .post = "argmax",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 2, 2), float, 1, 2, 2, 1)},
     .header = "id,x\n",
     .text = "7,\"{\"\"label\"\":[1,0],\"\"score\"\":[2.0,2.0]}\"\n"},
    {.name = "argmax of two outputs for each token",
     .post = "argmax",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 1, 2)), SPEC(FLOAT, "y", SHAPE(-1, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 1, 2), float, 1, 2), VALUE(FLOAT, SHAPE(1, 2), float, 2, 1)},
     .header = "id,x,y_label,y_score\n",
     .text = "7,\"{\"\"label\"\":[1],\"\"score\"\":[2.0]}\",0,2.0\n"},
    {.name = "maps are JSON in one cell",
     .is_unbatched = true,
     .outputs = {SPEC_OTHER(MAP, "m")},
     .values = {PARENT(MAP, 1, 2), VALUE(INT64, SHAPE(1), int64_t, 4),
                VALUE(FLOAT, SHAPE(1), float, 0.5f)},
     .header = "id,m\n",
     .text = "7,\"{\"\"4\"\":0.5}\"\n"},
    {.name = "NaN as an empty cell",
     .nonfinite = NONFINITE_NULL,
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 3)), SPEC(FLOAT, "y", SHAPE(-1))},
     .values = {VALUE(FLOAT, SHAPE(1, 3), float, NAN, 1, INFINITY),
                VALUE(FLOAT, SHAPE(1), float, -INFINITY)},
     .text = "7,,1.0,,\n"},
    {.name = "NaN as a word",
     .nonfinite = NONFINITE_STRING,
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 3)), SPEC(FLOAT, "y", SHAPE(-1))},
     .values = {VALUE(FLOAT, SHAPE(1, 3), float, NAN, 1, INFINITY),
                VALUE(FLOAT, SHAPE(1), float, -INFINITY)},
     .text = "7,NaN,1.0,Infinity,-Infinity\n"},
    {.name = "NaN picked",
     .post = "argmax",
     .nonfinite = NONFINITE_STRING,
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 1))},
     .values = {VALUE(FLOAT, SHAPE(1, 1), float, NAN)},
     .text = "7,0,NaN\n"},
    {.name = "NaN as an error",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 3)), SPEC(FLOAT, "y", SHAPE(-1))},
     .values = {VALUE(FLOAT, SHAPE(1, 3), float, 1, 1, NAN), VALUE(FLOAT, SHAPE(1), float, 1)},
     .code = ERROR_OUTPUT_NOT_FINITE,
     .message = "output 'x' has NaN at [2]"},
    {.name = "more numbers than columns",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 3), float, 1, 1, 1)},
     .code = ERROR_MODEL_ERROR,
     .message = "output 'x' has shape [3] a record, the model declares [2]"},
    {.name = "a matrix where picks need a vector",
     .post = "argmax",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, -1))},
     .values = {VALUE(FLOAT, SHAPE(1, 1, 2), float, 1, 1)},
     .code = ERROR_MODEL_ERROR,
     .message = "output 'x' has shape [1, 2] a record, the model declares [?]"},
    {.name = "keep all without columns to name",
     .keep_all = true,
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1))},
     .code = ERROR_USAGE,
     .message = "--keep all with CSV output needs CSV input"},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct encoding_case row = rows[i];
        row.format = FORMAT_CSV;
        check_case(&row);
    }
}

static size_t count_cells(struct slice text, const char *name)
{
    struct arena arena = {0};
    struct slice cells[64];
    size_t n = 0;
    bool is_short;
    if (text.data[text.size - 1] == '\n') text.size--;
    const char *wrong = csv_split(text, cells, COUNT_OF(cells), &arena, &n, &is_short);
    if (wrong != NULL) fail_msg("%s: %s in %.*s", name, wrong, (int)text.size, text.data);
    arena_free(&arena);
    return n;
}

/* Our own reader finds as many cells in each record as in the header. */
static void test_cells_are_as_many_as_columns(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (rows[i].code != ERROR_OK) continue;
        struct encoding_case row = rows[i];
        struct encoding encoding;
        const char *message = "";
        row.format = FORMAT_CSV;
        expect_fine(encoding_open(&encoding, &row), row.name);
        encoder_begin(encoding.encoder, &encoding.out);
        size_t header_size = encoding.out.size;
        assert_int_equal(encoding_append(&encoding, &row, &message), ERROR_OK);
        struct slice header = {encoding.out.data, header_size};
        struct slice text = {header.data + header_size, encoding.out.size - header_size};
        size_t n_columns = count_cells(header, row.name), n_cells = count_cells(text, row.name);
        if (n_columns != n_cells)
            fail_msg("%s: %zu columns, %zu cells", row.name, n_columns, n_cells);
        encoding_close(&encoding);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_cells_are_as_many_as_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
