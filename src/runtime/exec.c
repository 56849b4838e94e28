/* SPDX-License-Identifier: Apache-2.0 */
/* exec.c - any program as a model: records in, results out, many at a time. */
#include "runtime/exec.h"

#include <stdio.h>
#include <stdlib.h>

struct exec {
    struct model model;
    char **arguments;
    struct exec_process process;
    struct exec_hello hello;
    struct buffer request, reply, results;
    double counted_cpu_s;  /* of the program that runs now */
    pthread_mutex_t mutex; /* of process.pid, for cancel */
    bool is_cancelled;
};

static void stop(struct exec *exec, char *text, size_t size)
{
    pthread_mutex_lock(&exec->mutex);
    struct exec_process process = exec->process;
    exec->process = (struct exec_process){.in = -1, .out = -1};
    pthread_mutex_unlock(&exec->mutex);
    exec_stop(&process, text, size);
}

static tidemill_error *start(struct exec *exec)
{
    struct exec_process process;
    char how[160];
    TRY(exec_start(exec->arguments, &process));
    exec->counted_cpu_s = 0;
    pthread_mutex_lock(&exec->mutex);
    exec->process = process;
    bool is_cancelled = exec->is_cancelled;
    pthread_mutex_unlock(&exec->mutex);
    if (is_cancelled) exec_kill(&process);
    tidemill_error *error = exec_receive(&exec->process, EXEC_FRAME_BYTES_MAX, &exec->reply);
    if (error == NULL)
        error = exec_read_hello((struct slice){exec->reply.data, exec->reply.size}, &exec->hello);
    if (error == NULL) return NULL;
    stop(exec, how, sizeof how);
    tidemill_error *ours =
        error_code_of(error) == ERROR_MODEL_LOAD
            ? error
            : error_new(
                  ERROR_MODEL_LOAD,
                  "%s: %s before it said hello (%s); docs/EXEC.md has what a handler says, and "
                  "in Python MODEL.serve() says it",
                  exec->arguments[0], error_message(error), how);
    if (ours != error) error_free(error);
    return ours;
}

static void exec_close(struct model *model)
{
    struct exec *exec = (struct exec *)model;
    stop(exec, NULL, 0);
    model_signature_free(&model->signature);
    buffer_free(&exec->request);
    buffer_free(&exec->reply);
    buffer_free(&exec->results);
    pthread_mutex_destroy(&exec->mutex);
    free(exec->arguments);
    free(exec);
}

static tidemill_error *open_exec(struct exec *exec, const struct model_options *options)
{
    TRY(exec_split_command(options->model + strlen("exec:"), &exec->arguments));
    TRY(signature_make_json(&exec->model.signature, "record", "response", true));
    TRY(start(exec));
    snprintf(exec->model.description, sizeof exec->model.description, "exec %s (%.80s)",
             exec->hello.name, exec->arguments[0]);
    return NULL;
}

static tidemill_error *exec_open(const struct model_options *options, struct model **ret)
{
    struct exec *exec = calloc(1, sizeof *exec);
    if (exec == NULL) return error_memory();
    exec->model.impl = &model_exec;
    exec->process = (struct exec_process){.in = -1, .out = -1};
    pthread_mutex_init(&exec->mutex, NULL);
    tidemill_error *error = open_exec(exec, options);
    if (error != NULL)
        exec_close(&exec->model);
    else
        *ret = &exec->model;
    return error;
}

/* One frame there and one back. */
static tidemill_error *ask(struct exec *exec, const unsigned char **at, const unsigned char *end,
                           uint32_t n, size_t bytes_max)
{
    buffer_reset(&exec->request, (size_t)16 << 20);
    buffer_reset(&exec->reply, (size_t)16 << 20);
    TRY(exec_append_request(&exec->request, at, end, n));
    TRY(exec_send(&exec->process, &exec->request));
    TRY(exec_receive(&exec->process, bytes_max, &exec->reply));
    return exec_append_results((struct slice){exec->reply.data, exec->reply.size}, n,
                               &exec->results);
}

static tidemill_error *ask_all(struct exec *exec, const struct model_input *input, uint32_t n_rows,
                               size_t bytes_max)
{
    const unsigned char *at = input->data, *end = input->data + input->bytes;
    uint32_t step = exec->hello.batch_max > 0 ? exec->hello.batch_max : n_rows;
    buffer_reset(&exec->results, (size_t)16 << 20);
    for (uint32_t done = 0; done < n_rows; done += MIN(step, n_rows - done))
        TRY(ask(exec, &at, end, MIN(step, n_rows - done), bytes_max));
    return NULL;
}

/* It may have ended by a record's fault: its host lives on, and starts another one for the next call. */
static tidemill_error *explain_death(struct exec *exec, tidemill_error *error)
{
    char how[160];
    if (error_code_of(error) != ERROR_HOST_CRASHED) return error;
    stop(exec, how, sizeof how);
    tidemill_error *ours = error_new(ERROR_HOST_CRASHED, "%s: %s", error_message(error), how);
    error_free(error);
    return ours;
}

static void count_usage(struct exec *exec, struct answer *answer)
{
    double cpu_s;
    exec_usage(&exec->process, &cpu_s, &answer->outside_memory_bytes);
    answer->outside_cpu_s = MAX(cpu_s - exec->counted_cpu_s, 0.0);
    exec->counted_cpu_s = cpu_s;
}

static tidemill_error *exec_run(struct model *model, const struct model_input *inputs,
                                uint32_t n_rows, struct answer *answer)
{
    struct exec *exec = (struct exec *)model;
    unsigned char *place = NULL;
    struct wire_value *value = NULL;
    struct shape shape = {.rank = 1, .dims = {n_rows}};
    if (exec->process.pid == 0) TRY(start(exec));
    size_t bytes_max = MIN(answer->capacity, EXEC_FRAME_BYTES_MAX);
    tidemill_error *error = ask_all(exec, &inputs[0], n_rows, bytes_max);
    if (error != NULL) return explain_death(exec, error);
    count_usage(exec, answer);
    TRY(answer_place(answer, exec->results.size, &place));
    memcpy(place, exec->results.data, exec->results.size);
    TRY(answer_add(answer, &value));
    answer_set_tensor(answer, value, TENSOR_STRING, &shape, place, exec->results.size);
    return NULL;
}

static void exec_cancel(struct model *model)
{
    struct exec *exec = (struct exec *)model;
    pthread_mutex_lock(&exec->mutex);
    exec->is_cancelled = true;
    exec_kill(&exec->process);
    pthread_mutex_unlock(&exec->mutex);
}

const struct model_impl model_exec = {
    .name = "exec", .open = exec_open, .run = exec_run, .cancel = exec_cancel, .close = exec_close};
