/* SPDX-License-Identifier: Apache-2.0 */
/* onnx.c - ONNX models through ONNX Runtime's C API: session, call, end.
 *
 * Inputs are tensors over shared memory, and so are outputs whose size is known before the call; the
 * others are copied once. */
#include "runtime/onnx.h"

#include "runtime/onnx_file.h"

#include <stdio.h>
#include <stdlib.h>

tidemill_error *onnx_error(const struct onnx *onnx, enum error_code code, OrtStatus *status)
{
    if (status == NULL) return NULL;
    char text[1800];
    snprintf(text, sizeof text, "%s", onnx->api->GetErrorMessage(status));
    onnx->api->ReleaseStatus(status);
    wire_clean_text(text, sizeof text);
    return error_new(code, "%s", *text != '\0' ? text : "ONNX Runtime gave no reason");
}

static void ORT_API_CALL log_message(void *param, OrtLoggingLevel severity, const char *category,
                                     const char *logid, const char *location, const char *message)
{
    (void)param;
    (void)category;
    (void)logid;
    (void)location;
    log_event(severity >= ORT_LOGGING_LEVEL_ERROR ? LOG_ERROR : LOG_WARNING, "onnxruntime: %s",
              message);
}

static OrtStatus *set_config(struct onnx *onnx, const char *key, const char *value)
{
    return onnx->api->AddSessionConfigEntry(onnx->options, key, value);
}

static tidemill_error *make_options(struct onnx *onnx, const struct model_options *options)
{
    const OrtApi *api = onnx->api;
    ORT_TRY(onnx, api->CreateSessionOptions(&onnx->options));
    ORT_TRY(onnx, api->SetIntraOpNumThreads(onnx->options, MAX(options->threads, 1)));
    ORT_TRY(onnx, api->SetInterOpNumThreads(onnx->options, 1));
    ORT_TRY(onnx, api->SetSessionExecutionMode(onnx->options, ORT_SEQUENTIAL));
    ORT_TRY(onnx, api->SetSessionGraphOptimizationLevel(onnx->options, ORT_ENABLE_ALL));
    /* Helpers that spin between the parts of a call make it up to a third faster for the same processor
     * time (transformer, 2 threads, 8 rows); after the call they are to sleep. */
    const char *spinning = options->threads > 1 ? "1" : "0";
    ORT_TRY(onnx, set_config(onnx, "session.intra_op.allow_spinning", spinning));
    ORT_TRY(onnx, set_config(onnx, "session.force_spinning_stop", spinning));
    return onnx_add_provider(onnx, options->provider != NULL ? options->provider : "cpu",
                             options->precision);
}

/* One line that says whether the file or the machine is at fault. */
static tidemill_error *load_error(tidemill_error *error, const char *path)
{
    if (error == NULL) return NULL;
    bool is_broken = strstr(error_message(error), "rotobuf parsing failed") != NULL;
    return error_context(
        error, is_broken ? "the model '%s' is broken or cut off" : "the model '%s' does not load",
        path);
}

static tidemill_error *open_session(struct onnx *onnx, const struct model_options *options)
{
    TRY(ort_library_open(options->onnxruntime, &onnx->library));
    const OrtApi *api = onnx->api = onnx->library.api;
    ORT_TRY(onnx, api->CreateEnvWithCustomLogger(log_message, NULL, ORT_LOGGING_LEVEL_WARNING,
                                                 "tidemill", &onnx->env));
    TRY(make_options(onnx, options));
    ORT_TRY(onnx,
            api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &onnx->memory_info));
    ORT_TRY(onnx, api->GetAllocatorWithDefaultOptions(&onnx->allocator));
    ORT_TRY(onnx, api->CreateRunOptions(&onnx->run_options));
    /* What goes wrong in a call comes back as its status; it need not stand in the log too. */
    ORT_TRY(onnx,
            api->RunOptionsSetRunLogSeverityLevel(onnx->run_options, ORT_LOGGING_LEVEL_FATAL));
    OrtStatus *status;
    TRY(onnx_create_session(onnx, options, &status));
    return load_error(onnx_error(onnx, ERROR_MODEL_LOAD, status), options->model);
}

static void onnx_close(struct model *model)
{
    struct onnx *onnx = (struct onnx *)model;
    const OrtApi *api = onnx->api;
    if (api != NULL) {
        onnx_release_values(onnx);
        if (onnx->session != NULL) api->ReleaseSession(onnx->session);
        if (onnx->run_options != NULL) api->ReleaseRunOptions(onnx->run_options);
        if (onnx->memory_info != NULL) api->ReleaseMemoryInfo(onnx->memory_info);
        if (onnx->options != NULL) api->ReleaseSessionOptions(onnx->options);
        if (onnx->env != NULL) api->ReleaseEnv(onnx->env);
    }
    model_signature_free(&model->signature);
    free(onnx->tree);
    free(onnx);
}

static tidemill_error *open_onnx(struct onnx *onnx, const struct model_options *options)
{
    TRY(open_session(onnx, options));
    TRY(onnx_read_signature(onnx, options));
    const char *provider = options->provider != NULL ? options->provider : "cpu";
    snprintf(onnx->model.description, sizeof onnx->model.description, "ONNX Runtime %s (%.*s%s)",
             onnx->library.version, (int)MIN(strcspn(provider, ":"), (size_t)48), provider,
             onnx->precision);
    return NULL;
}

static tidemill_error *onnx_open(const struct model_options *options, struct model **ret)
{
    struct onnx *onnx = calloc(1, sizeof *onnx);
    if (onnx == NULL) return error_memory();
    onnx->model.impl = &model_onnx;
    tidemill_error *error = open_onnx(onnx, options);
    if (error == NULL)
        *ret = &onnx->model;
    else
        onnx_close(&onnx->model);
    return error;
}

static tidemill_error *call(struct onnx *onnx, const struct model_input *inputs,
                            struct answer *answer)
{
    const struct model_signature *signature = &onnx->model.signature;
    const char *input_names[MODEL_VALUES_MAX], *output_names[MODEL_VALUES_MAX];
    for (size_t i = 0; i < signature->n_inputs; i++) input_names[i] = signature->inputs[i].name;
    for (size_t i = 0; i < signature->n_outputs; i++) output_names[i] = signature->outputs[i].name;
    TRY(onnx_make_inputs(onnx, inputs));
    TRY(onnx_place_outputs(onnx, inputs, answer));
    ORT_TRY_RUN(onnx, onnx->api->Run(onnx->session, onnx->run_options, input_names,
                                     (const OrtValue *const *)onnx->inputs, signature->n_inputs,
                                     output_names, signature->n_outputs, onnx->outputs));
    return onnx_take_outputs(onnx, answer);
}

static tidemill_error *onnx_run(struct model *model, const struct model_input *inputs,
                                uint32_t n_rows, struct answer *answer)
{
    struct onnx *onnx = (struct onnx *)model;
    (void)n_rows;
    tidemill_error *error = call(onnx, inputs, answer);
    onnx_release_values(onnx);
    /* Models whose outputs are not of the shapes they declare fail only because of our places. */
    if (error_code_of(error) == ERROR_MODEL_ERROR && !onnx->is_copying &&
        strstr(error_message(error), "hape") != NULL) {
        struct answer again = *answer;
        again.used = again.n_values = 0;
        onnx->is_copying = true;
        tidemill_error *second = call(onnx, inputs, &again);
        onnx_release_values(onnx);
        *answer = again;
        if (second != NULL) onnx->is_copying = false; /* the record was at fault after all */
        error_free(error);
        error = second;
    }
    return error;
}

static void onnx_cancel(struct model *model)
{
    struct onnx *onnx = (struct onnx *)model;
    OrtStatus *status = onnx->api->RunOptionsSetTerminate(onnx->run_options);
    if (status != NULL) onnx->api->ReleaseStatus(status);
}

const struct model_impl model_onnx = {
    .name = "onnx", .open = onnx_open, .run = onnx_run, .cancel = onnx_cancel, .close = onnx_close};
