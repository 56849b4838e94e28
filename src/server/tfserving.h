/* SPDX-License-Identifier: Apache-2.0 */
/* tfserving.h - TensorFlow Serving's REST protocol as bytes: predict by rows and by columns, classify,
 * regress, status, metadata. TorchServe's records are one such row. Pure.
 *
 * Source: tensorflow/serving, g3doc/api_rest.md, and util/json_tensor.cc for the key "results", which the
 * page calls "result".
 *
 * A model that takes JSON (GGUF, exec:, servers) gets each instance as it stands and answers with JSON. A
 * model without batches is called once an instance. Fields of a row that the model has no input for are
 * passed over, as `tidemill run` does. */
#ifndef TIDEMILL_SERVER_TFSERVING_H
#define TIDEMILL_SERVER_TFSERVING_H

#include "server/serving.h"

#include <yyjson.h>

enum tf_verb { TF_PREDICT, TF_CLASSIFY, TF_REGRESS };

struct tf_call {
    struct serving_input *inputs;
    size_t n_inputs;
};

struct tf_request {
    yyjson_doc *doc; /* the caller's: yyjson_doc_free, also after an error */
    enum tf_verb verb;
    bool is_columnar;
    bool is_single; /* one row that was no list: TorchServe */
    size_t n_rows;
    struct tf_call *calls; /* one, or one a row where the model has no batches */
    size_t n_calls;
};

#define TF_ROWS_MAX 100000          /* instances of one request */
#define TF_CALLS_MAX ((size_t)1024) /* ... of a model without batches */

tidemill_error *tf_read(struct slice body, enum tf_verb verb,
                        const struct model_signature *signature, struct arena *arena,
                        struct tf_request *ret);
/* The body is one row. */
tidemill_error *tf_read_single(struct slice body, const struct model_signature *signature,
                               struct arena *arena, struct tf_request *ret);
/* values[i]: of call i. {"predictions":[..]}, {"outputs":..}, {"results":[..]}; a single row's prediction
 * alone. NaN and infinity are bare tokens. */
tidemill_error *tf_write(const struct tf_request *request, const struct model_signature *signature,
                         struct value *const *values, struct buffer *out);
/* The rows as records, a line each; the signature may be NULL, then rows have to name their inputs. */
tidemill_error *tf_lines(struct slice body, enum tf_verb verb,
                         const struct model_signature *signature, struct buffer *out,
                         uint64_t *ret_n);

void tf_put_status(struct buffer *out, bool is_ready);
void tf_put_metadata(const char *model, const struct model_signature *signature,
                     struct buffer *out);

#endif
