/* SPDX-License-Identifier: Apache-2.0 */
/* tfserving_fuzz.c - any bytes as a TF Serving request or a TorchServe record, for several models; as
 * records; as a job's line of output. What is taken has to fit the model or be refused by name, and
 * answers have to be JSON. The first byte chooses. */
#include "server/dialects.h"
#include "server/serving_parts.h"
#include "server/tensor_json.h"
#include "server/tfserving.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NAME(text) (char *)(uintptr_t)text

static struct value_spec numbers[] = {
    {.name = NAME("x"), .type = TENSOR_FLOAT, .shape = {2, {-1, 2}}}};
static struct value_spec pair[] = {
    {.name = NAME("a"), .type = TENSOR_INT8, .shape = {.rank = -1}},
    {.name = NAME("b"), .type = TENSOR_STRING, .shape = {.rank = -1}}};
static struct value_spec text[] = {
    {.name = NAME("r"), .type = TENSOR_STRING, .shape = {1, {-1}}, .is_json = true}};
static struct value_spec single[] = {
    {.name = NAME("x"), .type = TENSOR_DOUBLE, .shape = {1, {-1}}}};
static const struct model_signature models[] = {
    {numbers, numbers, 1, 1, true, 0},
    {pair, pair, 2, 2, true, 0},
    {text, text, 1, 1, true, 0},
    {single, single, 1, 1, false, 0},
};

static void require(bool is_true)
{
    if (!is_true) abort();
}

/* The model answers what it was asked. */
static tidemill_error *echo(const struct tf_request *request,
                            const struct model_signature *signature, struct arena *arena)
{
    struct value **values = arena_calloc(arena, request->n_calls + 1, sizeof *values);
    struct buffer out = {0};
    for (size_t c = 0; c < request->n_calls; c++) {
        const struct tf_call *call = &request->calls[c];
        struct serving_call asked = {.inputs = call->inputs, .n_inputs = call->n_inputs};
        struct ticket ticket = {.call = &asked};
        TRY(ticket_check(&ticket, signature));
        require(!signature->is_batched || request->is_columnar || ticket.n_rows == request->n_rows);
        values[c] = arena_calloc(arena, MODEL_VALUES_MAX, sizeof **values);
        for (size_t i = 0; i < call->n_inputs; i++)
            values[c][i] = (struct value){.type = call->inputs[i].type,
                                          .shape = call->inputs[i].shape,
                                          .data = call->inputs[i].data,
                                          .bytes = call->inputs[i].bytes};
    }
    tidemill_error *error = tf_write(request, signature, values, &out);
    if (error == NULL) {
        yyjson_doc *doc;
        tidemill_error *nested = json_body_read((struct slice){out.data, out.size}, &doc);
        /* An answer may be nested deeper than a request: its own levels come on top. */
        require(nested == NULL || strstr(error_message(nested), "nested deeper") != NULL);
        if (nested == NULL) yyjson_doc_free(doc);
        error_free(nested);
    }
    buffer_free(&out);
    return error;
}

static void fuzz_request(struct slice body, unsigned choice)
{
    const struct model_signature *signature = &models[choice % COUNT_OF(models)];
    enum tf_verb verb = (enum tf_verb)(choice / COUNT_OF(models) % 3);
    struct arena arena = {0};
    struct tf_request request;
    struct buffer lines = {0};
    uint64_t n;
    tidemill_error *error = choice / 12 % 2 == 0
                                ? tf_read(body, verb, signature, &arena, &request)
                                : tf_read_single(body, signature, &arena, &request);
    if (error == NULL) error = echo(&request, signature, &arena);
    error_free(error);
    error_free(tf_lines(body, verb, signature, &lines, &n));
    buffer_free(&lines);
    yyjson_doc_free(request.doc);
    arena_free(&arena);
}

static void fuzz_reply(struct slice body, unsigned choice)
{
    const struct slice lines[] = {body, body};
    struct buffer out = {0};
    enum dialect dialect = (enum dialect)(choice % (DIALECT_TORCHSERVE + 1));
    error_free(dialect_reply(dialect, "m", choice % 2 == 0 ? NULL : &models[0], lines,
                             1 + choice / 8 % 2, &out));
    buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    size_t length = size - 1;
    char *body = malloc(length == 0 ? 1 : length); /* nothing behind it to read */
    if (body == NULL) return 0;
    memcpy(body, data + 1, length);
    if (data[0] < 192)
        fuzz_request((struct slice){body, length}, data[0]);
    else
        fuzz_reply((struct slice){body, length}, data[0]);
    free(body);
    return 0;
}
