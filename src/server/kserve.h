/* SPDX-License-Identifier: Apache-2.0 */
/* kserve.h - KServe's V2 protocol as bytes: requests and answers, JSON and binary tensors. Pure.
 *
 * Sources: kserve/open-inference-protocol, inference_rest.md; Triton's extension_binary_data.md,
 * extension_model_configuration.md. */
#ifndef TIDEMILL_SERVER_KSERVE_H
#define TIDEMILL_SERVER_KSERVE_H

#include "server/serving.h"

#include <yyjson.h>

struct kserve_wanted {
    const char *name;
    bool is_binary;
};

struct kserve_request {
    yyjson_doc *doc; /* the caller's: yyjson_doc_free, also after an error */
    const char *id;  /* NULL: none */
    struct serving_input *inputs;
    size_t n_inputs;
    struct kserve_wanted *outputs; /* n 0: all */
    size_t n_outputs;
    bool is_binary; /* outputs that are not named, too */
};

/* `header_bytes`: of the JSON, binary tensors follow; -1: it is all. Inputs point into the body or the
 * arena. Errors name the input. */
tidemill_error *kserve_read(struct slice body, int64_t header_bytes, struct arena *arena,
                            struct kserve_request *ret);
/* What needs the model: shapes of models without batches, strings that have to be JSON, outputs' names. */
tidemill_error *kserve_fit(struct kserve_request *request, const struct model_signature *signature);
/* The answer. *ret_header_bytes: of its JSON where binary tensors follow, else 0. */
tidemill_error *kserve_write(const struct kserve_request *request, const char *model,
                             const struct model_signature *signature, const struct value *values,
                             struct buffer *out, size_t *ret_header_bytes);
/* The request's rows as records, {"input":row,...} a line. */
tidemill_error *kserve_lines(const struct kserve_request *request,
                             const struct model_signature *signature, struct buffer *out,
                             uint64_t *ret_n);

/* "FP32"; NULL: KServe has no such type. */
const char *kserve_datatype(enum tensor_type type);
enum tensor_type kserve_type_of(const char *datatype); /* 0: unknown */
/* The answers of GET /v2/models/{m} and .../config. */
void kserve_put_metadata(const char *model, const char *platform,
                         const struct model_signature *signature, struct buffer *out);
void kserve_put_config(const struct model_config *config, const char *platform,
                       const struct model_signature *signature, struct buffer *out);

#endif
