/* SPDX-License-Identifier: Apache-2.0 */
/* raw_loop.c - the limit: a bare loop over the ONNX Runtime library, nothing read, nothing written.
 *
 * The inputs are in memory before the clock starts and are the same in every call; the output is
 * written to the same place. One session a process. Measures every combination of batch size,
 * threads and processes, and prints a line of JSON for each: rows/s of all processes together and
 * their processor seconds per million rows. */
#include <onnxruntime_c_api.h>

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define API_VERSION 17 /* ONNX Runtime 1.17 and later */
#define INPUTS_MAX 8
#define RANK_MAX 8
#define SIZES_MAX 32
#define PROCESSES_MAX 256
#define WARM_CALLS 2

static const OrtApi *ort;

static const char usage[] =
    "usage: raw_loop LIBRARY MODEL [OPTION VALUE]...\n"
    "  --batches N,...    rows in one call; 1,2,4,...,4096\n"
    "  --threads N,...    intra-op threads of a session; 1\n"
    "  --processes N,...  processes, each with a session of its own; 1\n"
    "  --spinning 0|1     whether threads that wait for work spin; 1, as is the library's default\n"
    "  --length N         of dimensions that the model leaves open, but for the first; 64\n"
    "  --seconds S        to measure each combination for; 0.5\n";

struct setting {
    const char *library, *model, *spinning;
    int length;
    double seconds;
    int batches[SIZES_MAX], threads[SIZES_MAX], processes[SIZES_MAX];
    size_t n_batches, n_threads, n_processes;
};

/* What one process measured. */
struct result {
    double seconds, cpu_s;
    uint64_t rows;
};

/* Between the parent and the processes that measure. */
struct shared {
    pthread_barrier_t all_loaded; /* so that nobody measures while another one loads */
    struct result results[PROCESSES_MAX];
};

struct loop {
    OrtEnv *env;
    OrtSession *session;
    size_t n_inputs;
    char *input_names[INPUTS_MAX], *output_name;
    OrtValue *inputs[INPUTS_MAX], *output;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "raw_loop: %s: %s\n", what, why);
    exit(1);
}

static void check(OrtStatus *status)
{
    if (status != NULL) die("ONNX Runtime", ort->GetErrorMessage(status));
}

static double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void open_library(const char *path)
{
    const OrtApiBase *(*get_base)(void);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) die("cannot open the library", dlerror());
    void *symbol = dlsym(library, "OrtGetApiBase");
    if (symbol == NULL) die(path, "not ONNX Runtime");
    memcpy(&get_base, &symbol, sizeof get_base);
    ort = get_base()->GetApi(API_VERSION);
    if (ort == NULL) die(path, "too old");
}

static void open_session(const struct setting *setting, int threads, struct loop *loop)
{
    OrtSessionOptions *options;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "raw_loop", &loop->env));
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, threads));
    check(ort->SetInterOpNumThreads(options, 1));
    check(
        ort->AddSessionConfigEntry(options, "session.intra_op.allow_spinning", setting->spinning));
    check(ort->CreateSession(loop->env, setting->model, options, &loop->session));
    ort->ReleaseSessionOptions(options);
}

static void fill(void *data, size_t count, ONNXTensorElementDataType type, const char *name)
{
    bool is_mask = strstr(name, "mask") != NULL, is_type = strstr(name, "token_type") != NULL;
    for (size_t k = 0; k < count; k++) {
        int value = is_mask ? 1 : is_type ? 0 : (int)(k * 7919 % 997);
        if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64)
            ((int64_t *)data)[k] = value;
        else if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
            ((float *)data)[k] = (float)value / 64;
        else
            die("the model", "inputs are neither float nor int64");
    }
}

/* A tensor for input i: small numbers, but ones where the name says that it is a mask, and zeros for
 * the types of tokens. */
static OrtValue *make_input(const struct setting *setting, const struct loop *loop, size_t i,
                            int batch, OrtAllocator *allocator)
{
    OrtTypeInfo *info;
    const OrtTensorTypeAndShapeInfo *tensor;
    ONNXTensorElementDataType type;
    size_t rank, count = 1;
    int64_t dims[RANK_MAX];
    OrtValue *value;
    void *data;
    check(ort->SessionGetInputTypeInfo(loop->session, i, &info));
    check(ort->CastTypeInfoToTensorInfo(info, &tensor));
    check(ort->GetTensorElementType(tensor, &type));
    check(ort->GetDimensionsCount(tensor, &rank));
    if (rank < 1 || rank > RANK_MAX) die("the model", "an input has no batch dimension");
    check(ort->GetDimensions(tensor, dims, rank));
    for (size_t d = 0; d < rank; d++) {
        if (dims[d] < 0) dims[d] = d == 0 ? batch : setting->length;
        count *= (size_t)dims[d];
    }
    check(ort->CreateTensorAsOrtValue(allocator, dims, rank, type, &value));
    check(ort->GetTensorMutableData(value, &data));
    fill(data, count, type, loop->input_names[i]);
    ort->ReleaseTypeInfo(info);
    return value;
}

static void open_loop(const struct setting *setting, int threads, int batch, struct loop *loop)
{
    OrtAllocator *allocator;
    *loop = (struct loop){0};
    open_session(setting, threads, loop);
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    check(ort->SessionGetInputCount(loop->session, &loop->n_inputs));
    if (loop->n_inputs > INPUTS_MAX) die("the model", "too many inputs");
    for (size_t i = 0; i < loop->n_inputs; i++) {
        check(ort->SessionGetInputName(loop->session, i, allocator, &loop->input_names[i]));
        loop->inputs[i] = make_input(setting, loop, i, batch, allocator);
    }
    check(ort->SessionGetOutputName(loop->session, 0, allocator, &loop->output_name));
}

/* The first call makes the output, the others write into it. */
static void call(struct loop *loop)
{
    check(ort->Run(loop->session, NULL, (const char *const *)loop->input_names,
                   (const OrtValue *const *)loop->inputs, loop->n_inputs,
                   (const char *const *)&loop->output_name, 1, &loop->output));
}

static void measure(const struct setting *setting, struct loop *loop, int batch, struct result *ret)
{
    double started_s = seconds_of(CLOCK_MONOTONIC), now_s = started_s;
    double started_cpu_s = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    for (ret->rows = 0; now_s - started_s < setting->seconds; ret->rows += (uint64_t)batch) {
        call(loop);
        now_s = seconds_of(CLOCK_MONOTONIC);
    }
    ret->seconds = now_s - started_s;
    ret->cpu_s = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - started_cpu_s;
}

/* Opens the library behind the fork: it starts threads. */
static void run_process(const struct setting *setting, int threads, int batch,
                        struct shared *shared, struct result *ret)
{
    struct loop loop;
    open_library(setting->library);
    open_loop(setting, threads, batch, &loop);
    for (int i = 0; i < WARM_CALLS; i++) call(&loop);
    pthread_barrier_wait(&shared->all_loaded);
    measure(setting, &loop, batch, ret);
    _exit(0);
}

/* A process that fails leaves the others at the barrier: end them all. */
static void wait_for_all(const pid_t *pids, int processes)
{
    int status;
    for (int p = 0; p < processes; p++) {
        if (wait(&status) > 0 && status == 0) continue;
        for (int other = 0; other < processes; other++) kill(pids[other], SIGKILL);
        exit(1);
    }
}

static void print(const struct setting *setting, int processes, int threads, int batch,
                  const struct result *results)
{
    double rate = 0, cpu_s = 0;
    uint64_t rows = 0;
    for (int p = 0; p < processes; p++) {
        rate += (double)results[p].rows / results[p].seconds;
        cpu_s += results[p].cpu_s;
        rows += results[p].rows;
    }
    printf("{\"processes\":%d,\"threads\":%d,\"spinning\":%s,\"batch\":%d,\"rows_per_s\":%.1f,"
           "\"cpu_s_per_million\":%.4f}\n",
           processes, threads, setting->spinning, batch, rate, cpu_s / (double)rows * 1e6);
    fflush(stdout);
}

static void measure_processes(const struct setting *setting, int processes, int threads, int batch,
                              struct shared *shared)
{
    pid_t pids[PROCESSES_MAX];
    pthread_barrierattr_t attributes;
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&shared->all_loaded, &attributes, (unsigned)processes);
    for (int p = 0; p < processes; p++) {
        pids[p] = fork();
        if (pids[p] < 0) die("cannot start a process", "fork");
        if (pids[p] == 0) run_process(setting, threads, batch, shared, &shared->results[p]);
    }
    wait_for_all(pids, processes);
    pthread_barrier_destroy(&shared->all_loaded);
    print(setting, processes, threads, batch, shared->results);
}

static size_t read_numbers(const char *text, int *numbers, long most)
{
    size_t n = 0;
    for (char *end; n < SIZES_MAX && *text != '\0'; text = *end == ',' ? end + 1 : end) {
        long number = strtol(text, &end, 10);
        if (end == text || number < 1 || number > most) die(text, "not a number that is possible");
        numbers[n++] = (int)number;
    }
    return n;
}

static bool set_option(struct setting *setting, const char *name, const char *value)
{
    if (strcmp(name, "--batches") == 0)
        setting->n_batches = read_numbers(value, setting->batches, 1 << 20);
    else if (strcmp(name, "--threads") == 0)
        setting->n_threads = read_numbers(value, setting->threads, 1024);
    else if (strcmp(name, "--processes") == 0)
        setting->n_processes = read_numbers(value, setting->processes, PROCESSES_MAX);
    else if (strcmp(name, "--spinning") == 0)
        setting->spinning = strcmp(value, "0") == 0 ? "0" : "1";
    else if (strcmp(name, "--length") == 0)
        setting->length = atoi(value);
    else if (strcmp(name, "--seconds") == 0)
        setting->seconds = strtod(value, NULL);
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    struct setting setting = {.spinning = "1", .length = 64, .seconds = 0.5};
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool is_understood = argc >= 3 && argc % 2 == 1;
    set_option(&setting, "--batches", "1,2,4,8,16,32,64,128,256,512,1024,2048,4096");
    set_option(&setting, "--threads", "1");
    set_option(&setting, "--processes", "1");
    for (int i = 3; is_understood && i < argc; i += 2)
        is_understood = set_option(&setting, argv[i], argv[i + 1]);
    if (!is_understood || (void *)shared == MAP_FAILED) {
        fputs(usage, stderr);
        return 2;
    }
    setting.library = argv[1];
    setting.model = argv[2];
    for (size_t p = 0; p < setting.n_processes; p++)
        for (size_t t = 0; t < setting.n_threads; t++)
            for (size_t b = 0; b < setting.n_batches; b++)
                measure_processes(&setting, setting.processes[p], setting.threads[t],
                                  setting.batches[b], shared);
    return 0;
}
