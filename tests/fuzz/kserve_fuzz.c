/* SPDX-License-Identifier: Apache-2.0 */
/* kserve_fuzz.c - any bytes as a KServe request, JSON or with binary tensors, held against a model; then as
 * records. What is taken has to say no more bytes than there are, and its answer has to be JSON. The
 * first two bytes are the header's length; 0xffff: all is JSON. */
#include "format/decode_text.h"
#include "server/kserve.h"
#include "server/serving_parts.h"
#include "server/tensor_json.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
    if (!is_true) abort();
}

/* All inputs' names are the model's, so that some requests are taken as far as they can be. */
static void check_against_model(struct kserve_request *request)
{
    struct value_spec specs[MODEL_VALUES_MAX] = {0};
    struct model_signature signature = {.inputs = specs,
                                        .outputs = specs,
                                        .n_inputs = request->n_inputs,
                                        .n_outputs = request->n_inputs,
                                        .is_batched = true};
    for (size_t i = 0; i < request->n_inputs; i++)
        specs[i] = (struct value_spec){.name = (char *)(uintptr_t)request->inputs[i].name,
                                       .type = request->inputs[i].type,
                                       .shape = {.rank = -1}};
    tidemill_error *error = kserve_fit(request, &signature);
    struct serving_call call = {.inputs = request->inputs, .n_inputs = request->n_inputs};
    struct ticket ticket = {.call = &call};
    if (error == NULL) error = ticket_check(&ticket, &signature);
    struct value values[MODEL_VALUES_MAX];
    for (size_t i = 0; error == NULL && i < request->n_inputs; i++)
        values[i] = (struct value){.type = request->inputs[i].type,
                                   .shape = request->inputs[i].shape,
                                   .data = request->inputs[i].data,
                                   .bytes = request->inputs[i].bytes};
    struct buffer out = {0};
    size_t header_bytes = 0;
    if (error == NULL) error = kserve_write(request, "m", &signature, values, &out, &header_bytes);
    if (error == NULL) {
        yyjson_doc *doc;
        size_t length = header_bytes > 0 ? header_bytes : out.size;
        require(json_body_read((struct slice){out.data, length}, &doc) == NULL);
        yyjson_doc_free(doc);
    }
    error_free(error);
    buffer_free(&out);
}

static void check_lines(const struct kserve_request *request)
{
    struct buffer out = {0};
    uint64_t n;
    if (request->inputs[0].shape.rank > 0 && request->inputs[0].shape.dims[0] > 1000) return;
    error_free(kserve_lines(request, NULL, &out, &n));
    buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    size_t length = size - 2;
    char *body = malloc(length == 0 ? 1 : length); /* nothing behind it to read */
    if (body == NULL) return 0;
    memcpy(body, data + 2, length);
    int64_t header_bytes = data[0] | data[1] << 8;
    struct arena arena = {0};
    struct kserve_request request;
    tidemill_error *error = kserve_read(
        (struct slice){body, length}, header_bytes == 0xffff ? -1 : header_bytes, &arena, &request);
    if (error == NULL) {
        check_lines(&request);
        check_against_model(&request);
    } else {
        require(text_is_utf8(error_message(error), strlen(error_message(error))));
    }
    error_free(error);
    yyjson_doc_free(request.doc);
    arena_free(&arena);
    free(body);
    return 0;
}
