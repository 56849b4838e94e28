/* SPDX-License-Identifier: Apache-2.0 */
/* ort_shim.c - an ONNX Runtime that misbehaves on one record: it forwards to the real library, but its
 * Run dies when a row of the first input (float32) begins with one value. Used through --onnxruntime.
 *
 *   TIDEMILL_SHIM_TARGET  the real library
 *   TIDEMILL_SHIM_VALUE   the first float of the row that is poison
 *   TIDEMILL_SHIM_MODE    "segv" (default), "abort", "exit", "hang", "oom" */
#include <dlfcn.h>
#include <onnxruntime_c_api.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const OrtApiBase *real_base;
static const OrtApi *real_api;
static OrtApi shim_api;

__attribute__((visibility("default"))) const OrtApiBase *ORT_API_CALL OrtGetApiBase(void);

static void misbehave(void)
{
    const char *mode = getenv("TIDEMILL_SHIM_MODE");
    if (mode == NULL) mode = "segv";
    if (strcmp(mode, "abort") == 0) abort();
    if (strcmp(mode, "exit") == 0) _exit(0);
    while (strcmp(mode, "hang") == 0) pause();
    while (strcmp(mode, "oom") == 0) {
        char *memory = malloc((size_t)16 << 20);
        if (memory == NULL) abort();
        memset(memory, 1, (size_t)16 << 20);
    }
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

/* True if `value` is a float tensor with a row that begins with the poison. */
static int is_poisoned(const OrtValue *value)
{
    const char *text = getenv("TIDEMILL_SHIM_VALUE");
    OrtTensorTypeAndShapeInfo *info = NULL;
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    size_t rank = 0, count = 0;
    int64_t dims[8] = {0};
    void *data = NULL;
    if (text == NULL || real_api->GetTensorTypeAndShape(value, &info) != NULL) return 0;
    int is_readable = real_api->GetTensorElementType(info, &type) == NULL &&
                      real_api->GetDimensionsCount(info, &rank) == NULL && rank <= 8 &&
                      real_api->GetDimensions(info, dims, rank) == NULL &&
                      real_api->GetTensorShapeElementCount(info, &count) == NULL;
    real_api->ReleaseTensorTypeAndShapeInfo(info);
    if (!is_readable || type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT || count == 0) return 0;
    if (real_api->GetTensorMutableData((OrtValue *)(uintptr_t)value, &data) != NULL) return 0;
    size_t row = rank > 0 && dims[0] > 0 ? count / (size_t)dims[0] : count;
    for (size_t i = 0; i < count; i += row)
        if (((const float *)data)[i] == strtof(text, NULL)) return 1;
    return 0;
}

static OrtStatus *ORT_API_CALL shim_run(OrtSession *session, const OrtRunOptions *options,
                                        const char *const *input_names,
                                        const OrtValue *const *inputs, size_t n_inputs,
                                        const char *const *output_names, size_t n_outputs,
                                        OrtValue **outputs)
{
    if (n_inputs > 0 && is_poisoned(inputs[0])) misbehave();
    return real_api->Run(session, options, input_names, inputs, n_inputs, output_names, n_outputs,
                         outputs);
}

/* The whole table that we know: one for an older version is a beginning of it. */
static const OrtApi *ORT_API_CALL shim_get_api(uint32_t version)
{
    if (version > ORT_API_VERSION) return NULL;
    real_api = real_base->GetApi(ORT_API_VERSION);
    if (real_api == NULL) return NULL;
    shim_api = *real_api;
    shim_api.Run = shim_run;
    return &shim_api;
}

static const char *ORT_API_CALL shim_version(void)
{
    return real_base->GetVersionString();
}

const OrtApiBase *ORT_API_CALL OrtGetApiBase(void)
{
    static const OrtApiBase shim_base = {.GetApi = shim_get_api, .GetVersionString = shim_version};
    const char *target = getenv("TIDEMILL_SHIM_TARGET");
    void *handle = target != NULL ? dlopen(target, RTLD_NOW | RTLD_LOCAL) : NULL;
    void *symbol = handle != NULL ? dlsym(handle, "OrtGetApiBase") : NULL;
    const OrtApiBase *(ORT_API_CALL * get_base)(void);
    if (symbol == NULL) {
        fprintf(stderr, "ort_shim: TIDEMILL_SHIM_TARGET: %s\n",
                target == NULL ? "not set" : dlerror());
        abort();
    }
    memcpy(&get_base, &symbol, sizeof get_base);
    real_base = get_base();
    return &shim_base;
}
