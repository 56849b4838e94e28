/* SPDX-License-Identifier: Apache-2.0 */
/* exec.c - any program as a model: records in, results out, many at a time. */
#include "runtime/exec.h"

#include <stdio.h>
#include <stdlib.h>

#define END_MS 2000 /* from the end of its output to its own */
#define HELLO_BYTES_MAX ((size_t)64 << 10)

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

/* The pipes and the log's thread know where the process is: it stays there. The mutex is for `pid`. */
static void stop(struct exec *exec, int patience_ms, char *text, size_t size)
{
    pthread_mutex_lock(&exec->mutex);
    exec_stop(&exec->process, patience_ms, text, size);
    pthread_mutex_unlock(&exec->mutex);
}

/* Takes an error of the exchange with a handler that is of no use any more, and says how it ended. */
static tidemill_error *explain_end(struct exec *exec, tidemill_error *error)
{
    char how[160];
    if (error == NULL || error_code_of(error) != ERROR_HOST_CRASHED) return error;
    stop(exec, END_MS, how, sizeof how);
    if (how[0] == '\0') return error;
    tidemill_error *ours = error_new(ERROR_HOST_CRASHED, "%s: %s", error_message(error), how);
    error_free(error);
    return ours;
}

static tidemill_error *greet(struct exec *exec)
{
    TRY(exec_exchange(&exec->process, NULL, HELLO_BYTES_MAX, &exec->reply));
    return exec_read_hello((struct slice){exec->reply.data, exec->reply.size}, &exec->hello);
}

static tidemill_error *start(struct exec *exec)
{
    pthread_mutex_lock(&exec->mutex);
    tidemill_error *error = exec->is_cancelled ? error_new(ERROR_MODEL_LOAD, "cancelled")
                                               : exec_start(exec->arguments, &exec->process);
    pthread_mutex_unlock(&exec->mutex);
    exec->counted_cpu_s = 0;
    if (error == NULL) error = explain_end(exec, greet(exec));
    if (error == NULL || error_code_of(error) == ERROR_MODEL_LOAD) return error;
    tidemill_error *ours =
        error_new(ERROR_MODEL_LOAD,
                  "%s, before it said hello; docs/EXEC.md has what a handler says, and in Python "
                  "MODEL.serve() says it",
                  error_message(error));
    error_free(error);
    return ours;
}

static void exec_close(struct model *model)
{
    struct exec *exec = (struct exec *)model;
    stop(exec, 0, NULL, 0);
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
    exec->process = EXEC_PROCESS_NONE;
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
    TRY(exec_exchange(&exec->process, &exec->request, bytes_max, &exec->reply));
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

/* One that ended between two calls is nobody's fault. If it cannot be started again, no record is to
 * blame: the host gives up before it has begun the call, and the engine decides what follows. */
static tidemill_error *revive(struct exec *exec)
{
    if (exec->process.pid != 0 && !exec_has_ended(&exec->process)) return NULL;
    stop(exec, 0, NULL, 0);
    return start(exec);
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
    TRY(revive(exec));
    size_t bytes_max = MIN(answer->capacity, EXEC_FRAME_BYTES_MAX);
    tidemill_error *error = ask_all(exec, &inputs[0], n_rows, bytes_max);
    if (error_code_of(error) == ERROR_MEMORY)
        stop(exec, 0, NULL, 0); /* it is in the middle of a frame */
    TRY(explain_end(exec, error));
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
