/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.c - which runtime a model has, and the calls of runtime.h handed on to it. */
#include "runtime/impl.h"

enum model_kind model_kind(const char *model)
{
    size_t size = strlen(model);
    if (model_is_echo(model)) return MODEL_ECHO;
    if (strncmp(model, "http://", 7) == 0 || strncmp(model, "https://", 8) == 0) return MODEL_HTTP;
    if (strncmp(model, "exec:", 5) == 0) return MODEL_EXEC;
    if (size > 5 && strcmp(model + size - 5, ".gguf") == 0) return MODEL_LLAMA;
    return MODEL_ONNX;
}

tidemill_error *runtime_open(const struct runtime_options *options,
                             const struct shared_region *region, struct runtime **ret)
{
    *ret = NULL;
    const struct runtime_impl *impl = &runtime_hosts;
    if (model_kind(options->model) == MODEL_HTTP)
        impl = options->http.is_batch ? &runtime_batch : &runtime_http;
    return impl->open(options, region, ret);
}

const char *precision_name(enum precision precision)
{
    static const char *const names[] = {"fp32", "bf16", "int8"};
    return names[precision];
}

const struct model_signature *runtime_signature(const struct runtime *runtime)
{
    return &runtime->signature;
}

const char *runtime_description(const struct runtime *runtime)
{
    return runtime->description;
}

size_t runtime_capacity(const struct runtime *runtime)
{
    return runtime->impl->capacity(runtime);
}

size_t runtime_under_way(const struct runtime *runtime)
{
    return runtime->impl->under_way != NULL ? runtime->impl->under_way(runtime) : SIZE_MAX;
}

tidemill_error *runtime_submit(struct runtime *runtime, const struct runtime_work *work)
{
    return runtime->impl->submit(runtime, work);
}

tidemill_error *runtime_poll(struct runtime *runtime, int timeout_ms, int wake_fd,
                             struct runtime_done *done, size_t done_capacity, size_t *ret_n)
{
    return runtime->impl->poll(runtime, timeout_ms, wake_fd, done, done_capacity, ret_n);
}

void runtime_hint_backlog(struct runtime *runtime, bool has_backlog)
{
    if (runtime->impl->hint_backlog != NULL) runtime->impl->hint_backlog(runtime, has_backlog);
}

void runtime_want_hosts(struct runtime *runtime, int n)
{
    if (runtime->impl->want_hosts != NULL) runtime->impl->want_hosts(runtime, n);
}

void runtime_get_stats(struct runtime *runtime, struct runtime_stats *ret)
{
    runtime->impl->get_stats(runtime, ret);
}

void runtime_end_hosts(struct runtime *runtime)
{
    runtime->impl->end(runtime);
}

void runtime_close(struct runtime *runtime)
{
    if (runtime != NULL) runtime->impl->close(runtime);
}
