/* SPDX-License-Identifier: Apache-2.0 */
/* onnx.h - the inside of the ONNX runtime: one session of ONNX Runtime. */
#ifndef TIDEMILL_RUNTIME_ONNX_H
#define TIDEMILL_RUNTIME_ONNX_H

#include "runtime/model.h"
#include "runtime/ort_library.h"

struct onnx {
    struct model model;
    struct ort_library library;
    const OrtApi *api;
    OrtEnv *env;
    OrtSessionOptions *options;
    OrtSession *session;
    OrtRunOptions *run_options;
    OrtMemoryInfo *memory_info; /* of the processor's memory, where all our tensors are */
    OrtAllocator *allocator;    /* the library's default one; not ours to free */
    char precision[64]; /* for the description: what of the model is not float32; else empty */
    bool is_copying; /* outputs are not written in place: the model's declared shapes are wrong */
    OrtValue *inputs[MODEL_VALUES_MAX], *outputs[MODEL_VALUES_MAX];
    const unsigned char *places[MODEL_VALUES_MAX]; /* of outputs that are written in place */
    OrtValue **tree; /* of outputs that are no plain tensors; as many as the answer has values */
    size_t tree_capacity;
};

/* NULL when `status` is; else an error with the library's message, and the status is released. */
tidemill_error *onnx_error(const struct onnx *onnx, enum error_code code, OrtStatus *status);

/* TRY for a call of the library at load time. */
#define ORT_TRY(onnx, call) TRY(onnx_error((onnx), ERROR_MODEL_LOAD, (call)))
/* The same in a call of the model. */
#define ORT_TRY_RUN(onnx, call) TRY(onnx_error((onnx), ERROR_MODEL_ERROR, (call)))

/* onnx_provider.c: "cuda:device_id=1,..." -> options for the session. ERROR_MODEL_LOAD lists what the
 * library has when it lacks the one asked for. */
tidemill_error *onnx_add_provider(struct onnx *onnx, const char *provider,
                                  enum precision precision);

/* onnx_precision.c: ERROR_USAGE where the provider does not have the precision. */
tidemill_error *onnx_check_precision(const char *provider, enum precision precision);
/* Loads the model into onnx->session. What the library says of it is in *ret_status. */
tidemill_error *onnx_create_session(struct onnx *onnx, const struct model_options *options,
                                    OrtStatus **ret_status);

/* onnx_signature.c: fills model.signature from the session. ERROR_UNSUPPORTED for types that cannot
 * be given or shown; ERROR_MODEL_LOAD for an output that is not there. */
tidemill_error *onnx_read_signature(struct onnx *onnx, const struct model_options *options);

/* onnx_values.c */
tidemill_error *onnx_make_inputs(struct onnx *onnx, const struct model_input *inputs);
/* Outputs of known size are placed in the answer's area; the others are left to the library. */
tidemill_error *onnx_place_outputs(struct onnx *onnx, const struct model_input *inputs,
                                   struct answer *answer);
tidemill_error *onnx_take_outputs(struct onnx *onnx, struct answer *answer);
void onnx_release_values(struct onnx *onnx);

#endif
