/* SPDX-License-Identifier: Apache-2.0 */
/* host.c - the other end of the socket: loads a model, answers, and ends with its engine.
 *
 * A host process keeps nothing that matters, so it may be killed at any instant, and it leaves by
 * _exit: a model library's destructors have nothing to say. */
#include "runtime/host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FD_REGION, FD_BOARD, FD_COUNT };

struct host {
    int fd;
    bool is_process;
    struct host_control *control;
    unsigned char *message; /* WIRE_MESSAGE_BYTES_MAX */
    unsigned char *region;
    size_t region_bytes;
    struct wire_board *board;
    struct model *model;
    struct answer answer;    /* of a model that runs one unit at a time */
    struct host_unit *units; /* of one that keeps many: units_max of them, with holes */
    size_t n_units;          /* that are in the model */
};

struct host_unit {
    bool is_used;
    struct model_unit unit; /* its answer keeps its memory */
    struct wire_reply reply;
};

/* Loading. */

static tidemill_error *map_memory(struct host *host, const int *fds, size_t region_bytes)
{
    struct stat status;
    if (fds[FD_REGION] < 0 || fds[FD_BOARD] < 0 || fstat(fds[FD_REGION], &status) != 0 ||
        status.st_size < 0 || (size_t)status.st_size < region_bytes)
        return error_new(ERROR_INTERNAL, "the engine sent no shared memory");
    int protection = PROT_READ | PROT_WRITE;
    void *region = mmap(NULL, region_bytes, protection, MAP_SHARED, fds[FD_REGION], 0);
    if (region == MAP_FAILED)
        return error_errno(ERROR_MEMORY, errno, "cannot map the shared memory");
    host->region = region;
    host->region_bytes = region_bytes;
    void *board = mmap(NULL, sizeof *host->board, protection, MAP_SHARED, fds[FD_BOARD], 0);
    if (board == MAP_FAILED)
        return error_errno(ERROR_MEMORY, errno, "cannot map the shared memory");
    host->board = board;
    return NULL;
}

/* The next string of the message, NULL when it is empty; false when there is none. */
static bool next_string(const char **at, const char *end, const char **ret)
{
    const char *stop = memchr(*at, 0, (size_t)(end - *at));
    if (stop == NULL) return false;
    *ret = stop == *at ? NULL : *at;
    *at = stop + 1;
    return true;
}

static tidemill_error *read_options(const unsigned char *message, size_t size,
                                    struct model_options *ret, const char **names)
{
    struct wire_open wire;
    memcpy(&wire, message, sizeof wire);
    *ret = (struct model_options){.output_names = names,
                                  .n_output_names = wire.n_output_names,
                                  .batch_dimension = (enum batch_dimension)wire.batch_dimension,
                                  .precision = (enum precision)wire.precision,
                                  .threads = (int)wire.threads,
                                  .llama = {.parallel = wire.llama_parallel,
                                            .gpu_layers = wire.llama_gpu_layers,
                                            .task = (enum llama_task)wire.llama_task,
                                            .context = wire.llama_context,
                                            .seed = wire.llama_seed}};
    const char *at = (const char *)message + sizeof wire, *end = (const char *)message + size;
    bool is_fine = wire.n_output_names <= MODEL_VALUES_MAX && next_string(&at, end, &ret->model) &&
                   next_string(&at, end, &ret->onnxruntime) &&
                   next_string(&at, end, &ret->provider) &&
                   next_string(&at, end, &ret->llama.library);
    for (size_t i = 0; is_fine && i < wire.n_output_names; i++) {
        is_fine = next_string(&at, end, &names[i]);
        if (is_fine && names[i] == NULL) names[i] = "";
    }
    if (!is_fine || ret->model == NULL)
        return error_new(ERROR_INTERNAL, "the engine's first message is broken");
    return NULL;
}

/* NULL: this build has none. */
static const struct model_impl *impl_of(enum model_kind kind)
{
    switch (kind) {
    case MODEL_ECHO: return &model_echo;
    case MODEL_EXEC: return &model_exec;
    case MODEL_LLAMA: return &model_llama;
    case MODEL_ONNX: return &model_onnx;
    default: return NULL;
    }
}

static tidemill_error *open_model(struct host *host)
{
    int fds[FD_COUNT];
    size_t size;
    int r =
        wire_receive(host->fd, host->message, WIRE_MESSAGE_BYTES_MAX, fds, FD_COUNT, true, &size);
    struct wire_open wire = {0};
    if (size >= sizeof wire) memcpy(&wire, host->message, sizeof wire);
    tidemill_error *error = NULL;
    if (r != 0 || wire.header.type != WIRE_OPEN)
        error = error_new(ERROR_INTERNAL, "the model process is of another version of tidemill");
    if (error == NULL) error = map_memory(host, fds, (size_t)wire.region_bytes);
    for (size_t i = 0; i < FD_COUNT; i++)
        if (fds[i] >= 0) close(fds[i]);
    if (error != NULL) return error;
    if (host->is_process)
        log_configure(LOG_INFO, wire.is_json_log ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT);

    struct model_options options;
    const char *names[MODEL_VALUES_MAX];
    TRY(read_options(host->message, size, &options, names));
    enum model_kind kind = model_kind(options.model);
    if (kind != MODEL_ONNX && options.precision != PRECISION_FP32)
        return error_new(ERROR_USAGE, "--precision is for ONNX models; this one has its own");
    const struct model_impl *impl = impl_of(kind);
    if (impl == NULL)
        return error_new(ERROR_UNSUPPORTED, "this build has no runtime for %s", options.model);
    return impl->open(&options, &host->model);
}

static void send_load_failed(const struct host *host, tidemill_error *error)
{
    struct wire_load_failed message = {
        .header = {.version = WIRE_VERSION, .type = WIRE_LOAD_FAILED},
        .code = error_code_of(error)};
    snprintf(message.message, sizeof message.message, "%s", error_message(error));
    (void)wire_send(host->fd, &message, sizeof message);
    error_free(error);
}

static tidemill_error *send_ready(const struct host *host)
{
    struct buffer buffer = {0};
    tidemill_error *error =
        wire_write_ready(&host->model->signature, host->model->description,
                         MAX(host->model->units_max, (uint32_t)UNITS_OF_ONE), &buffer);
    int r = error == NULL ? wire_send(host->fd, buffer.data, buffer.size) : 0;
    buffer_free(&buffer);
    if (r != 0) return error_errno(ERROR_IO, r, "cannot send the model's signature");
    return error;
}

/* Work. */

static tidemill_error *read_inputs(const struct host *host, const struct wire_work *work,
                                   struct model_input *inputs)
{
    for (uint32_t i = 0; i < work->n_inputs; i++) {
        const struct wire_input *wire = &work->inputs[i];
        if (wire->rank < 0 || wire->rank > TENSOR_RANK_MAX || wire->offset > host->region_bytes ||
            wire->bytes > host->region_bytes - wire->offset)
            return error_new(ERROR_MODEL_ERROR, "input %u lies outside the shared memory", i);
        inputs[i].type = (enum tensor_type)wire->type;
        inputs[i].shape.rank = wire->rank;
        memcpy(inputs[i].shape.dims, wire->dims, sizeof wire->dims);
        inputs[i].data = host->region + wire->offset;
        inputs[i].bytes = (size_t)wire->bytes;
    }
    return NULL;
}

static tidemill_error *prepare_work(struct host *host, const struct wire_work *work,
                                    struct model_input *inputs, struct answer *answer)
{
    if (work->n_inputs != host->model->signature.n_inputs)
        return error_new(ERROR_MODEL_ERROR, "%u inputs for a model that takes %zu", work->n_inputs,
                         host->model->signature.n_inputs);
    TRY(read_inputs(host, work, inputs));
    if (work->output_offset > host->region_bytes ||
        work->output_capacity > host->region_bytes - work->output_offset)
        return error_new(ERROR_MODEL_ERROR, "the output area lies outside the shared memory");
    answer_begin(answer, host->region + work->output_offset, (size_t)work->output_capacity);
    return NULL;
}

static tidemill_error *finish_answer(struct answer *answer, struct wire_reply *reply)
{
    size_t table_offset = 0;
    TRY(answer_finish(answer, &table_offset));
    reply->table_offset = table_offset;
    reply->n_values = (uint32_t)answer->n_values;
    return NULL;
}

static tidemill_error *run_work(struct host *host, const struct wire_work *work,
                                struct wire_reply *reply)
{
    struct model_input inputs[MODEL_VALUES_MAX];
    TRY(prepare_work(host, work, inputs, &host->answer));
    int64_t start_ns = clock_now_ns();
    tidemill_error *error =
        host->model->impl->run(host->model, inputs, work->n_rows, &host->answer);
    reply->run_ns = clock_now_ns() - start_ns;
    reply->usage = host->answer.usage;
    reply->outside_cpu_s = host->answer.outside_cpu_s;
    reply->outside_memory_bytes = host->answer.outside_memory_bytes;
    return error != NULL ? error : finish_answer(&host->answer, reply);
}

/* The WORK that has come; false: it is none. */
static bool read_work(const struct host *host, size_t size, struct wire_work *ret)
{
    size_t fixed = offsetof(struct wire_work, inputs);
    memset(ret, 0, sizeof *ret);
    if (size < fixed || size > sizeof *ret) return false;
    memcpy(ret, host->message, size);
    return ret->header.type == WIRE_WORK && ret->n_inputs <= MODEL_VALUES_MAX &&
           size == fixed + ret->n_inputs * sizeof ret->inputs[0];
}

static struct wire_reply make_reply(const struct wire_work *work)
{
    return (struct wire_reply){.header = {.version = WIRE_VERSION, .type = WIRE_REPLY},
                               .seq = work->seq};
}

/* Takes `error`, which may be NULL. False: there is nobody to answer to. */
static bool send_reply(const struct host *host, struct wire_reply *reply, tidemill_error *error)
{
    if (error != NULL) {
        enum error_code code = error_code_of(error);
        bool is_known = code == ERROR_OUTPUT_TOO_LARGE || code == ERROR_HOST_CRASHED;
        reply->code = is_known ? code : ERROR_MODEL_ERROR;
        snprintf(reply->message, sizeof reply->message, "%s", error_message(error));
        error_free(error);
    }
    return wire_send(host->fd, reply, sizeof *reply) == 0;
}

static bool answer_work(struct host *host, size_t size)
{
    struct wire_work work;
    if (!read_work(host, size, &work)) return false;
    atomic_store(&host->board->started_seq, work.seq);
    struct wire_reply reply = make_reply(&work);
    tidemill_error *error = run_work(host, &work, &reply);
    if (error_code_of(error) == ERROR_MODEL_LOAD) { /* the call has not begun: nobody is to blame */
        atomic_store(&host->board->started_seq, 0);
        log_event(LOG_WARNING, "%s", error_message(error));
        error_free(error);
        return false;
    }
    return send_reply(host, &reply, error);
}

/* Many units at a time. */

static bool give_work(struct host *host, size_t size)
{
    struct wire_work work;
    struct host_unit *place = NULL;
    if (!read_work(host, size, &work)) return false;
    for (size_t i = 0; i < host->model->units_max && place == NULL; i++)
        if (!host->units[i].is_used) place = &host->units[i];
    if (place == NULL) return false; /* more than READY allows */
    place->unit = (struct model_unit){.answer = place->unit.answer};
    place->reply = make_reply(&work);
    tidemill_error *error = prepare_work(host, &work, place->unit.inputs, &place->unit.answer);
    if (error != NULL) return send_reply(host, &place->reply, error);
    atomic_store(&host->board->started_seq, work.seq);
    place->is_used = true;
    place->unit.index = work.index;
    place->unit.n_rows = work.n_rows;
    host->n_units++;
    host->model->impl->give(host->model, &place->unit);
    return true;
}

/* Takes what the socket has; waits for it only if there is nothing to do. */
static bool take_all(struct host *host)
{
    while (host->model->impl->has_room(host->model)) {
        size_t size;
        int r = wire_receive(host->fd, host->message, WIRE_MESSAGE_BYTES_MAX, NULL, 0,
                             host->n_units == 0, &size);
        if (r == EAGAIN) return true;
        if (r != 0 || size == 0 || !give_work(host, size)) return false;
    }
    return true;
}

/* Each unit in the model pays for its part of the step. */
static bool step_all(struct host *host)
{
    int64_t start_ns = clock_now_ns();
    host->model->impl->step(host->model);
    int64_t share_ns = (clock_now_ns() - start_ns) / (int64_t)MAX(host->n_units, (size_t)1);
    for (size_t i = 0; i < host->model->units_max; i++) {
        struct host_unit *place = &host->units[i];
        if (!place->is_used) continue;
        place->reply.run_ns += share_ns;
        if (!place->unit.is_done) continue;
        tidemill_error *error = place->unit.error;
        if (error == NULL) error = finish_answer(&place->unit.answer, &place->reply);
        place->reply.usage = place->unit.usage;
        place->is_used = false;
        host->n_units--;
        if (!send_reply(host, &place->reply, error)) return false;
    }
    return true;
}

static void serve_many(struct host *host)
{
    while (take_all(host) && step_all(host)) continue;
}

/* A cancel that came while the model was loading takes effect here. */
static bool show_model(struct host_control *control, struct model *model)
{
    pthread_mutex_lock(&control->mutex);
    control->model = model;
    bool is_cancelled = control->is_cancelled;
    pthread_mutex_unlock(&control->mutex);
    return !is_cancelled;
}

void host_cancel(struct host_control *control)
{
    pthread_mutex_lock(&control->mutex);
    control->is_cancelled = true;
    if (control->model != NULL) control->model->impl->cancel(control->model);
    pthread_mutex_unlock(&control->mutex);
}

static void serve(struct host *host)
{
    tidemill_error *error = open_model(host);
    if (error == NULL && host->model->units_max > 0) {
        host->units = calloc(host->model->units_max, sizeof *host->units);
        if (host->units == NULL) error = error_memory();
    }
    if (error == NULL && show_model(host->control, host->model)) error = send_ready(host);
    if (error != NULL) {
        send_load_failed(host, error);
        return;
    }
    if (host->model->units_max > 0) {
        serve_many(host);
        return;
    }
    size_t size;
    while (wire_receive(host->fd, host->message, WIRE_MESSAGE_BYTES_MAX, NULL, 0, true, &size) == 0)
        if (size == 0 || !answer_work(host, size)) return;
}

void host_serve(int fd, bool is_process, struct host_control *control)
{
    struct host host = {.fd = fd, .is_process = is_process, .control = control};
    host.message = malloc(WIRE_MESSAGE_BYTES_MAX);
    if (host.message == NULL)
        send_load_failed(&host, error_memory());
    else
        serve(&host);
    uint32_t n_units = host.units != NULL ? host.model->units_max : 0;
    if (host.model != NULL) {
        show_model(control, NULL);
        host.model->impl->close(host.model);
    }
    if (host.region != NULL) munmap(host.region, host.region_bytes);
    if (host.board != NULL) munmap(host.board, sizeof *host.board);
    for (uint32_t i = 0; i < n_units; i++) answer_free(&host.units[i].unit.answer);
    answer_free(&host.answer);
    free(host.units);
    free(host.message);
}

/* The process. */

/* Ends the process with its engine, even in the middle of a call: the engine's end of the socket closes
 * however it dies. PR_SET_PDEATHSIG does the same for a host whose threads cannot run, but acts when
 * the *thread* that started the host ends, so it alone would not do. */
static void *watch_engine(void *argument)
{
    struct pollfd item = {.fd = *(const int *)argument, .events = 0};
    for (;;)
        if (poll(&item, 1, -1) > 0 && (item.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0)
            _exit(0);
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t written = write(fd, text, strlen(text));
    (void)written; /* a wish: where it is not granted, life goes on */
    close(fd);
}

static void prepare_process(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE,
              &none); /* a crash is an answer here; a core would hold the user's data */
    prctl(PR_SET_NAME, "tidemill-host");
    /* When memory runs out, the host is to go: the engine finds the record and goes on. */
    write_file("/proc/self/oom_score_adj", "500");
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
    sigset_t none_blocked;
    for (size_t i = 0; i < COUNT_OF(ignored); i++) signal(ignored[i], SIG_IGN);
    sigemptyset(&none_blocked);
    sigprocmask(SIG_SETMASK, &none_blocked, NULL);
}

int host_main(int argc, char **argv)
{
    int fd = -1;
    long parent = 0;
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--fd") == 0) fd = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--parent") == 0) parent = atol(argv[i + 1]);
    }
    if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        fputs("tidemill host is started by tidemill itself\n", stderr);
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (parent > 0 && getppid() != (pid_t)parent) return 0; /* died before the line above */
    prepare_process();

    pthread_t watcher;
    int r = pthread_create(&watcher, NULL, watch_engine, &fd);
    if (r != 0) {
        fprintf(stderr, "tidemill host: cannot start a thread: %s\n", strerror(r));
        return 3;
    }
    struct host_control control = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    host_serve(fd, true, &control);
    _exit(0);
}
