/* SPDX-License-Identifier: Apache-2.0 */
/* onnx_precision.c - a session in the precision that was asked for: the model as it is, or its bytes
 * rewritten for int8 first (onnx_quantize.c). bf16 is the provider's to do. */
#include "runtime/onnx.h"

#include "runtime/onnx_file.h"
#include "runtime/onnx_quantize.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

static size_t provider_length(const char *provider)
{
    return strcspn(provider, ":");
}

static bool is_provider(const char *provider, const char *name)
{
    return provider_length(provider) == strlen(name) && strncmp(provider, name, strlen(name)) == 0;
}

tidemill_error *onnx_check_precision(const char *provider, enum precision precision)
{
    int length = (int)provider_length(provider);
    if (precision == PRECISION_INT8 && !is_provider(provider, "cpu"))
        return error_new(ERROR_USAGE,
                         "--precision int8 is for --provider cpu: the operators that it is made of "
                         "are not in '%.*s'",
                         length, provider);
    if (precision == PRECISION_BF16 && !is_provider(provider, "tensorrt"))
        return error_new(
            ERROR_USAGE,
            "--precision bf16: ONNX Runtime's provider '%.*s' has no switch for products in bf16. "
            "tensorrt has one, which this sets (trt_bf16_enable). For openvino, name a file with "
            "INFERENCE_PRECISION_HINT in --provider openvino:load_config=FILE and leave out "
            "--precision. On a processor, --precision int8 is the one that is faster",
            length, provider);
    return NULL;
}

/* Whether the processor adds four products of 8 bits at once in 32 bits. Without that, x86 adds two in 16
 * bits, which overflows with int8 weights, and the library has to be told to go its slower way. */
static bool is_overflowing(void)
{
#ifdef __x86_64__
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    bool has_avx512_vnni = __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ecx >> 11 & 1) != 0;
    bool has_avx_vnni = __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1) != 0;
    return !has_avx512_vnni && !has_avx_vnni;
#else
    return false;
#endif
}

static OrtStatus *create_from_path(struct onnx *onnx, const char *path)
{
    /* The path, not the bytes: external data is looked for beside it. */
    return onnx->api->CreateSession(onnx->env, path, onnx->options, &onnx->session);
}

static tidemill_error *quantize_file(struct onnx *onnx, const char *path, struct buffer *ret)
{
    struct quantize_counts counts;
    char *bytes = NULL;
    size_t size = 0;
    TRY(onnx_file_read(path, &bytes, &size));
    tidemill_error *error = onnx_quantize((struct slice){bytes, size}, ret, &counts);
    free(bytes);
    if (error == NULL)
        snprintf(onnx->precision, sizeof onnx->precision, ", int8 in %u of %u products",
                 (unsigned)counts.quantized, (unsigned)counts.products);
    return error_context(error, "the model '%s'", path);
}

tidemill_error *onnx_create_session(struct onnx *onnx, const struct model_options *options,
                                    OrtStatus **ret_status)
{
    *ret_status = NULL;
    if (options->precision == PRECISION_BF16)
        snprintf(onnx->precision, sizeof onnx->precision, ", bf16");
    if (options->precision != PRECISION_INT8) {
        *ret_status = create_from_path(onnx, options->model);
        return NULL;
    }
    if (is_overflowing())
        ORT_TRY(onnx,
                onnx->api->AddSessionConfigEntry(onnx->options, "session.x64quantprecision", "1"));
    struct buffer model = {0};
    tidemill_error *error = quantize_file(onnx, options->model, &model);
    if (error == NULL)
        *ret_status = onnx->api->CreateSessionFromArray(onnx->env, model.data, model.size,
                                                        onnx->options, &onnx->session);
    buffer_free(&model);
    return error;
}
