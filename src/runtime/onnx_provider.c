/* SPDX-License-Identifier: Apache-2.0 */
/* onnx_provider.c - execution providers: where a model runs. "cpu", "cuda:device_id=1", ... */
#include "runtime/onnx.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define OPTIONS_MAX 32

/* The names we take, the library's list, and the generic call's. */
static const struct {
    const char *name, *listed, *generic;
} providers[] = {
    {"cpu", "CPUExecutionProvider", NULL},
    {"cuda", "CUDAExecutionProvider", NULL},
    {"tensorrt", "TensorrtExecutionProvider", NULL},
    {"openvino", "OpenVINOExecutionProvider", "OpenVINO"},
    {"xnnpack", "XnnpackExecutionProvider", "XNNPACK"},
    {"qnn", "QNNExecutionProvider", "QNN"},
    {"coreml", "CoreMLExecutionProvider", "CoreML"},
    {"webgpu", "WebGpuExecutionProvider", "WebGPU"},
    {"azure", "AzureExecutionProvider", "AZURE"},
};

struct provider_options {
    const char *keys[OPTIONS_MAX], *values[OPTIONS_MAX];
    size_t count;
};

static tidemill_error *parse_options(char *text, struct provider_options *ret)
{
    char *rest = NULL;
    for (char *part = strtok_r(text, ",", &rest); part != NULL; part = strtok_r(NULL, ",", &rest)) {
        char *equals = strchr(part, '=');
        if (equals == NULL || ret->count == OPTIONS_MAX)
            return error_new(ERROR_MODEL_LOAD, "provider option '%s' is not key=value", part);
        *equals = '\0';
        ret->keys[ret->count] = part;
        ret->values[ret->count++] = equals + 1;
    }
    return NULL;
}

static tidemill_error *add_cuda(struct onnx *onnx, const struct provider_options *options)
{
    OrtCUDAProviderOptionsV2 *cuda = NULL;
    ORT_TRY(onnx, onnx->api->CreateCUDAProviderOptions(&cuda));
    OrtStatus *status =
        onnx->api->UpdateCUDAProviderOptions(cuda, options->keys, options->values, options->count);
    if (status == NULL)
        status = onnx->api->SessionOptionsAppendExecutionProvider_CUDA_V2(onnx->options, cuda);
    onnx->api->ReleaseCUDAProviderOptions(cuda);
    return onnx_error(onnx, ERROR_MODEL_LOAD, status);
}

/* Behind it CUDA, for the nodes that TensorRT does not take. */
static tidemill_error *add_tensorrt(struct onnx *onnx, const struct provider_options *options)
{
    OrtTensorRTProviderOptionsV2 *tensorrt = NULL;
    struct provider_options behind = {0};
    for (size_t i = 0; i < options->count; i++) {
        if (strcmp(options->keys[i], "device_id") != 0) continue;
        behind.keys[0] = options->keys[i];
        behind.values[0] = options->values[i];
        behind.count = 1;
    }
    ORT_TRY(onnx, onnx->api->CreateTensorRTProviderOptions(&tensorrt));
    OrtStatus *status = onnx->api->UpdateTensorRTProviderOptions(tensorrt, options->keys,
                                                                 options->values, options->count);
    if (status == NULL)
        status =
            onnx->api->SessionOptionsAppendExecutionProvider_TensorRT_V2(onnx->options, tensorrt);
    onnx->api->ReleaseTensorRTProviderOptions(tensorrt);
    TRY(onnx_error(onnx, ERROR_MODEL_LOAD, status));
    return add_cuda(onnx, &behind);
}

/* The short name of what the library lists. */
static const char *short_name(const char *listed)
{
    for (size_t i = 0; i < COUNT_OF(providers); i++)
        if (strcmp(providers[i].listed, listed) == 0) return providers[i].name;
    return listed;
}

/* An error that lists what there is, unless `listed` is there. */
static tidemill_error *check_available(struct onnx *onnx, const char *name, const char *listed)
{
    char **available = NULL;
    int count = 0;
    struct buffer text = {0};
    bool is_there = false;
    ORT_TRY(onnx, onnx->api->GetAvailableProviders(&available, &count));
    for (int i = 0; i < count; i++) {
        is_there = is_there || strcmp(available[i], listed) == 0;
        buffer_printf(&text, "%s%s", i > 0 ? ", " : "", short_name(available[i]));
    }
    OrtStatus *status = onnx->api->ReleaseAvailableProviders(available, count);
    if (status != NULL) onnx->api->ReleaseStatus(status);
    tidemill_error *error = NULL;
    if (!is_there)
        error = error_new(ERROR_MODEL_LOAD,
                          "ONNX Runtime %s at '%s' has no provider '%s'; it has: %.*s",
                          onnx->library.version, onnx->library.path, name,
                          text.is_failed ? 0 : (int)text.size, text.data != NULL ? text.data : "");
    buffer_free(&text);
    return error;
}

static tidemill_error *add(struct onnx *onnx, const char *name,
                           const struct provider_options *options)
{
    const char *listed = name, *generic = name;
    for (size_t i = 0; i < COUNT_OF(providers); i++) {
        if (strcasecmp(name, providers[i].name) != 0 && strcmp(name, providers[i].listed) != 0)
            continue;
        name = providers[i].name;
        listed = providers[i].listed;
        generic = providers[i].generic;
    }
    TRY(check_available(onnx, name, listed));
    if (strcmp(name, "cpu") == 0) {
        if (options->count == 0) return NULL;
        return error_new(ERROR_MODEL_LOAD, "it has no options");
    }
    if (strcmp(name, "cuda") == 0) return add_cuda(onnx, options);
    if (strcmp(name, "tensorrt") == 0) return add_tensorrt(onnx, options);
    if (strcmp(name, "openvino") == 0)
        return onnx_error(onnx, ERROR_MODEL_LOAD,
                          onnx->api->SessionOptionsAppendExecutionProvider_OpenVINO_V2(
                              onnx->options, options->keys, options->values, options->count));
    return onnx_error(onnx, ERROR_MODEL_LOAD,
                      onnx->api->SessionOptionsAppendExecutionProvider(
                          onnx->options, generic, options->keys, options->values, options->count));
}

tidemill_error *onnx_add_provider(struct onnx *onnx, const char *provider, enum precision precision)
{
    TRY(onnx_check_precision(provider, precision));
    char *copy = strdup(provider);
    if (copy == NULL) return error_memory();
    struct provider_options options = {0};
    char *colon = strchr(copy, ':');
    if (colon != NULL) *colon = '\0';
    tidemill_error *error = colon != NULL ? parse_options(colon + 1, &options) : NULL;
    if (error == NULL && precision == PRECISION_BF16 && options.count < OPTIONS_MAX) {
        options.keys[options.count] = "trt_bf16_enable"; /* the one provider that gets here */
        options.values[options.count++] = "1";
    }
    if (error == NULL) error = add(onnx, copy, &options);
    error = error_context(error, "provider '%s'", copy);
    free(copy);
    return error;
}
