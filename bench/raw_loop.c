/* SPDX-License-Identifier: Apache-2.0 */
/* raw_loop.c - the limit: a bare loop over the ONNX Runtime library, inputs already in memory, one
 * session a process. Sweeps batch size, threads and processes; a line of JSON for each.
 *
 * raw_loop LIBRARY MODEL [--seq N] [--seconds S] [--batches 1,16,256] [--threads 1,2] [--processes 1,2]
 */
#include <onnxruntime_c_api.h>

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define INPUTS_MAX 8
#define SIZES_MAX 32

static const OrtApi *ort;

struct setting {
    const char *library, *model;
    int64_t sequence;
    double seconds;
    int batches[SIZES_MAX], threads[SIZES_MAX], processes[SIZES_MAX];
    size_t n_batches, n_threads, n_processes;
};

/* What one process measured; shared with the parent. */
struct result {
    double seconds, cpu_s;
    uint64_t rows;
};

static void check(OrtStatus *status)
{
    if (status == NULL) return;
    fprintf(stderr, "raw_loop: %s\n", ort->GetErrorMessage(status));
    exit(1);
}

static double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void open_library(const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "raw_loop: %s\n", dlerror());
        exit(1);
    }
    const OrtApiBase *(*base)(void);
    *(void **)&base = dlsym(library, "OrtGetApiBase");
    ort = base()->GetApi(17);
}

static OrtSession *open_session(const struct setting *setting, int threads, OrtEnv **env)
{
    OrtSessionOptions *options;
    OrtSession *session;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "raw", env));
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, threads));
    check(ort->SetInterOpNumThreads(options, 1));
    check(ort->CreateSession(*env, setting->model, options, &session));
    ort->ReleaseSessionOptions(options);
    return session;
}

/* A tensor of the input's type and shape: small numbers, all masks 1. */
static OrtValue *make_input(OrtSession *session, size_t i, int batch, int64_t sequence,
                            const char *name)
{
    OrtTypeInfo *info;
    const OrtTensorTypeAndShapeInfo *tensor;
    ONNXTensorElementDataType type;
    size_t rank, count = 1;
    int64_t dims[8];
    OrtAllocator *allocator;
    OrtValue *value;
    void *data;
    check(ort->SessionGetInputTypeInfo(session, i, &info));
    check(ort->CastTypeInfoToTensorInfo(info, &tensor));
    check(ort->GetTensorElementType(tensor, &type));
    check(ort->GetDimensionsCount(tensor, &rank));
    check(ort->GetDimensions(tensor, dims, rank));
    for (size_t d = 0; d < rank; d++) {
        if (dims[d] < 0) dims[d] = d == 0 ? batch : sequence;
        count *= (size_t)dims[d];
    }
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    check(ort->CreateTensorAsOrtValue(allocator, dims, rank, type, &value));
    check(ort->GetTensorMutableData(value, &data));
    bool is_mask = strstr(name, "mask") != NULL;
    for (size_t k = 0; k < count; k++) {
        if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64)
            ((int64_t *)data)[k] = is_mask ? 1 : (int64_t)(k * 7919 % 997);
        else
            ((float *)data)[k] = (float)(k * 7919 % 17);
    }
    ort->ReleaseTypeInfo(info);
    return value;
}

static void measure(const struct setting *setting, int threads, int batch, struct result *ret)
{
    OrtEnv *env;
    OrtSession *session = open_session(setting, threads, &env);
    OrtAllocator *allocator;
    size_t n_inputs;
    char *inputs[INPUTS_MAX], *output;
    OrtValue *values[INPUTS_MAX], *answer = NULL;
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    check(ort->SessionGetInputCount(session, &n_inputs));
    for (size_t i = 0; i < n_inputs; i++) {
        check(ort->SessionGetInputName(session, i, allocator, &inputs[i]));
        values[i] = make_input(session, i, batch, setting->sequence, inputs[i]);
    }
    check(ort->SessionGetOutputName(session, 0, allocator, &output));
    double started_s = 0, cpu_s = 0, now_s = 0;
    for (uint64_t calls = 0, warm = 2;; calls++) {
        if (calls == warm) {
            started_s = seconds_of(CLOCK_MONOTONIC);
            cpu_s = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
            ret->rows = 0;
        }
        check(ort->Run(session, NULL, (const char *const *)inputs,
                       (const OrtValue *const *)values, n_inputs, (const char *const *)&output, 1,
                       &answer));
        ort->ReleaseValue(answer);
        answer = NULL;
        ret->rows += (uint64_t)batch;
        now_s = seconds_of(CLOCK_MONOTONIC);
        if (calls > warm && now_s - started_s >= setting->seconds) break;
    }
    ret->seconds = now_s - started_s;
    ret->cpu_s = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu_s;
}

static void measure_processes(const struct setting *setting, int processes, int threads, int batch)
{
    size_t bytes = (size_t)processes * sizeof(struct result);
    struct result *results =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int p = 0; p < processes; p++) {
        if (fork() != 0) continue;
        open_library(setting->library); /* after the fork: the library has threads */
        measure(setting, threads, batch, &results[p]);
        _exit(0);
    }
    double rate = 0, cpu_s = 0;
    uint64_t rows = 0;
    for (int p = 0; p < processes; p++) {
        int status;
        wait(&status);
        if (status != 0) exit(1);
    }
    for (int p = 0; p < processes; p++) {
        rate += (double)results[p].rows / results[p].seconds;
        cpu_s += results[p].cpu_s;
        rows += results[p].rows;
    }
    printf("{\"processes\":%d,\"threads\":%d,\"batch\":%d,\"rows_per_s\":%.1f,"
           "\"cpu_s_per_million\":%.4f}\n",
           processes, threads, batch, rate, cpu_s / (double)rows * 1e6);
    fflush(stdout);
    munmap(results, bytes);
}

static size_t read_numbers(const char *text, int *numbers)
{
    size_t n = 0;
    for (char *end; n < SIZES_MAX && *text != '\0'; text = *end == ',' ? end + 1 : end) {
        numbers[n++] = (int)strtol(text, &end, 10);
        if (end == text) exit(2);
    }
    return n;
}

int main(int argc, char **argv)
{
    struct setting setting = {.sequence = 64, .seconds = 0.5};
    if (argc < 3) {
        fputs("usage: raw_loop LIBRARY MODEL [--seq N] [--seconds S] [--batches N,...] "
              "[--threads N,...] [--processes N,...]\n",
              stderr);
        return 2;
    }
    setting.library = argv[1];
    setting.model = argv[2];
    setting.n_batches = read_numbers("1,4,16,64,256,1024,4096", setting.batches);
    setting.n_threads = read_numbers("1", setting.threads);
    setting.n_processes = read_numbers("1", setting.processes);
    for (int i = 3; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seq") == 0) setting.sequence = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--seconds") == 0) setting.seconds = atof(argv[i + 1]);
        if (strcmp(argv[i], "--batches") == 0)
            setting.n_batches = read_numbers(argv[i + 1], setting.batches);
        if (strcmp(argv[i], "--threads") == 0)
            setting.n_threads = read_numbers(argv[i + 1], setting.threads);
        if (strcmp(argv[i], "--processes") == 0)
            setting.n_processes = read_numbers(argv[i + 1], setting.processes);
    }
    for (size_t p = 0; p < setting.n_processes; p++)
        for (size_t t = 0; t < setting.n_threads; t++)
            for (size_t b = 0; b < setting.n_batches; b++)
                measure_processes(&setting, setting.processes[p], setting.threads[t],
                                  setting.batches[b]);
    return 0;
}
