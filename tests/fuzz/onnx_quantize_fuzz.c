/* SPDX-License-Identifier: Apache-2.0 */
/* onnx_quantize_fuzz.c - any bytes as an ONNX model that is to be turned into int8. What comes out is
 * read once more. */
#include "runtime/onnx_graph.h"
#include "runtime/onnx_quantize.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_again(struct slice model)
{
    struct pb_reader reader = pb_read(model);
    struct pb_field field;
    size_t n_graphs = 0;
    while (pb_next(&reader, &field)) n_graphs += field.number == MODEL_GRAPH;
    if (reader.is_broken || n_graphs == 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer out = {0};
    struct quantize_counts counts;
    tidemill_error *error = onnx_quantize((struct slice){(const char *)data, size}, &out, &counts);
    if (error == NULL) read_again((struct slice){out.data, out.size});
    if (error == NULL && counts.quantized == 0) abort();
    error_free(error);
    buffer_free(&out);
    return 0;
}
