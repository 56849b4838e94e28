/* SPDX-License-Identifier: Apache-2.0 */
/* runtime_host_test.c - hosts that answer, crash, hang, lie and outlive their engine. This program is
 * its own host: called with "host" it runs host_main, or lies as $TIDEMILL_TEST_LIE says. */
#include "runtime/model.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define REGION_BYTES ((size_t)16 << 20)
#define AREA_BYTES ((size_t)64 << 10) /* input and output of one unit */
#define AREAS 64
#define WIDTH 4
#define ROWS 3

struct bench {
    struct shared_region region;
    struct runtime *runtime;
    int n_fds; /* open in this process before */
};

static void assert_fine(tidemill_error *error)
{
    if (error != NULL) fail_msg("%s", error_message(error));
}

static void assert_error(tidemill_error *error, enum error_code code, const char *part)
{
    assert_non_null(error);
    if (error_code_of(error) != code || strstr(error_message(error), part) == NULL)
        fail_msg("%s: %s", error_code_name(error_code_of(error)), error_message(error));
    error_free(error);
}

static void sleep_ms(int ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    nanosleep(&pause, NULL);
}

/* Entries of a folder, "." and ".." apart. */
static int count_entries(const char *path)
{
    DIR *dir = opendir(path);
    int count = 0;
    if (dir == NULL) return 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* The state letter and the parent of a process; false when it is gone. */
static bool read_process(pid_t pid, char *state, pid_t *parent)
{
    char path[64], text[512];
    int number = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    text[MAX(size, 0)] = '\0';
    const char *end = strrchr(text, ')');
    if (end == NULL || sscanf(end + 1, " %c %d", state, &number) != 2) return false;
    *parent = (pid_t)number;
    return true;
}

/* Living children of `parent`, which are its hosts. */
static int find_hosts(pid_t parent, pid_t *pids, int max)
{
    DIR *dir = opendir("/proc");
    int count = 0;
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL && count < max;) {
        char state;
        pid_t owner, pid = (pid_t)atoi(entry->d_name);
        if (pid > 0 && read_process(pid, &state, &owner) && owner == parent && state != 'Z')
            pids[count++] = pid;
    }
    closedir(dir);
    return count;
}

static struct runtime_options make_options(const char *model, bool is_isolated)
{
    return (struct runtime_options){.model = model,
                                    .threads = 1,
                                    .instances_max = 1,
                                    .is_isolated = is_isolated,
                                    .timeout_ms = 20000,
                                    .load_timeout_ms = 20000,
                                    .host_program = "/proc/self/exe"};
}

static void bench_open(struct bench *bench, const struct runtime_options *options)
{
    bench->n_fds = count_entries("/proc/self/fd");
    assert_fine(shared_region_new(REGION_BYTES, &bench->region));
    assert_fine(runtime_open(options, &bench->region, &bench->runtime));
}

static void bench_close(struct bench *bench)
{
    runtime_close(bench->runtime);
    shared_region_free(&bench->region);
    assert_int_equal(count_entries("/proc/self/fd"), bench->n_fds);
}

/* Unit `id`: ROWS rows, each beginning with `first`. */
static void submit_rows(struct bench *bench, uint64_t id, float first, int64_t n_rows)
{
    size_t offset = id % AREAS * 2 * AREA_BYTES;
    float *numbers = (float *)(void *)(bench->region.base + offset);
    for (int64_t i = 0; i < n_rows * WIDTH; i++)
        numbers[i] = i % WIDTH == 0 ? first : (float)i + (float)id / 1024;
    struct work_input input = {.type = TENSOR_FLOAT,
                               .shape = {2, {n_rows, WIDTH}},
                               .offset = offset,
                               .bytes = (size_t)n_rows * WIDTH * sizeof(float)};
    struct runtime_work work = {.id = id,
                                .n_rows = (uint32_t)n_rows,
                                .inputs = &input,
                                .output_offset = offset + AREA_BYTES,
                                .output_capacity = AREA_BYTES};
    assert_fine(runtime_submit(bench->runtime, &work));
}

static void submit(struct bench *bench, uint64_t id, float first)
{
    submit_rows(bench, id, first, ROWS);
}

/* The next answer, at most 20 s later. */
static struct runtime_done wait_one(struct bench *bench)
{
    struct runtime_done done;
    size_t count = 0;
    int64_t end_ns = clock_now_ns() + INT64_C(20000000000);
    while (count == 0 && clock_now_ns() < end_ns)
        assert_fine(runtime_poll(bench->runtime, 1000, -1, &done, 1, &count));
    if (count == 0) fail_msg("no answer");
    return done;
}

static void assert_echo(struct bench *bench, struct runtime_done *done)
{
    if (done->code != ERROR_OK) fail_msg("%s: %s", error_code_name(done->code), done->message);
    const unsigned char *sent = bench->region.base + done->id % AREAS * 2 * AREA_BYTES;
    assert_int_equal(done->n_values, 1);
    assert_int_equal(done->values[0].shape.dims[0], ROWS);
    assert_memory_equal(done->values[0].data, sent, ROWS * WIDTH * sizeof(float));
    free(done->values);
}

static void assert_done(struct runtime_done *done, uint64_t id, enum error_code code,
                        const char *part)
{
    if (done->id != id || done->code != code || strstr(done->message, part) == NULL)
        fail_msg("unit %d: %s: %s", (int)done->id, error_code_name(done->code), done->message);
    free(done->values);
}

static void answer_all(const char *model, bool is_isolated, int instances, int units_max)
{
    struct bench bench;
    struct runtime_options options = make_options(model, is_isolated);
    bool is_answered[200] = {false};
    options.instances_max = instances;
    bench_open(&bench, &options);
    assert_string_equal(runtime_description(bench.runtime), "echo");
    assert_int_equal(runtime_capacity(bench.runtime), units_max * instances);
    size_t submitted = 0, answered = 0, oldest = 0; /* not answered yet: its area is in use */
    while (answered < COUNT_OF(is_answered)) {
        while (submitted < MIN(COUNT_OF(is_answered), oldest + AREAS) &&
               runtime_capacity(bench.runtime) > 0)
            submit(&bench, submitted++, 1);
        struct runtime_done done = wait_one(&bench);
        assert_false(is_answered[done.id]);
        is_answered[done.id] = true;
        while (oldest < COUNT_OF(is_answered) && is_answered[oldest]) oldest++;
        assert_echo(&bench, &done);
        answered++;
    }
    struct runtime_stats stats;
    runtime_get_stats(bench.runtime, &stats);
    assert_int_equal(stats.hosts, instances);
    assert_int_equal(stats.restarts, 0);
    assert_true(stats.busy_s > 0);
    if (is_isolated) assert_true(stats.cpu_s > 0 && stats.peak_memory_bytes > 0);
    bench_close(&bench);
}

static void every_unit_is_answered_once(void **state)
{
    (void)state;
    answer_all("echo", true, 1, 2);
    answer_all("echo:width=4,latency_us=200", true, 3, 2);
    answer_all("echo", false, 1, 2);
    answer_all("echo:width=4,latency_us=200", false, 3, 2);
    answer_all("echo:units=8", true, 1, 8);
    answer_all("echo:units=8,latency_us=200", true, 3, 8);
    answer_all("echo:units=8,latency_us=200", false, 2, 8);
}

/* What goes wrong on the record that begins with 7. */
static const struct {
    const char *name, *model, *message;
    enum error_code code;
    bool is_isolated;
    int restarts;
} faults[] = {
    {"crash", "echo:crash_on=7", "killed by SIGSEGV", ERROR_HOST_CRASHED, true, 1},
    {"abort", "echo:abort_on=7", "killed by SIGABRT", ERROR_HOST_CRASHED, true, 1},
    {"exit", "echo:exit_on=7", "exited with status 0 in the middle of a call", ERROR_HOST_CRASHED,
     true, 1},
    {"hang", "echo:hang_on=7", "no answer after 300 ms", ERROR_HOST_TIMEOUT, true, 1},
    {"error", "echo:error_on=7", "told to refuse", ERROR_MODEL_ERROR, true, 0},
    {"hang of a thread", "echo:hang_on=7", "no answer after 300 ms", ERROR_HOST_TIMEOUT, false, 1},
    {"error of a thread", "echo:error_on=7", "told to refuse", ERROR_MODEL_ERROR, false, 0},
};

static void only_the_poison_is_blamed(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(faults); i++) {
        struct bench bench;
        struct runtime_options options = make_options(faults[i].model, faults[i].is_isolated);
        if (faults[i].code == ERROR_HOST_TIMEOUT) options.timeout_ms = 300;
        bench_open(&bench, &options);
        submit(&bench, 0, 7);
        submit(&bench, 1, 1); /* waits behind it in the same host */
        struct runtime_done done = wait_one(&bench);
        assert_done(&done, 0, faults[i].code, faults[i].message);
        done = wait_one(&bench);
        assert_int_equal(done.id, 1);
        assert_echo(&bench, &done);
        submit(&bench, 2, 2);
        done = wait_one(&bench);
        assert_echo(&bench, &done);
        struct runtime_stats stats;
        runtime_get_stats(bench.runtime, &stats);
        assert_int_equal(stats.restarts, faults[i].restarts);
        bench_close(&bench);
    }
}

/* A host with eight units in work at a time dies of one of them: the others are answered. Which of
 * them it had begun is chance; so the blame must not depend on it. */
static void among_many_only_the_poison_is_blamed(void **state)
{
    (void)state;
    static const char *const first[] = {"echo:units=8,latency_us=2000,", "echo:units=8,"};
    for (size_t i = 0; i < COUNT_OF(faults) * 2; i++) {
        const char *option = strchr(faults[i / 2].model, ':') + 1;
        char model[128];
        snprintf(model, sizeof model, "%s%s", first[i % 2], option);
        struct bench bench;
        struct runtime_options options = make_options(model, faults[i / 2].is_isolated);
        if (faults[i / 2].code == ERROR_HOST_TIMEOUT) options.timeout_ms = 300;
        bench_open(&bench, &options);
        bool is_answered[10] = {false};
        for (uint64_t id = 0; id < 8; id++) submit(&bench, id, id == 3 || id == 6 ? 7 : 1);
        for (int n = 0; n < 10; n++) {
            struct runtime_done done = wait_one(&bench);
            assert_false(is_answered[done.id]);
            is_answered[done.id] = true;
            if (done.id == 3 || done.id == 6)
                assert_done(&done, done.id, faults[i / 2].code, faults[i / 2].message);
            else
                assert_echo(&bench, &done);
            if (n < 2) submit(&bench, (uint64_t)n + 8, 2);
        }
        bench_close(&bench);
    }
}

/* A host that is killed while it holds several: nobody is blamed, all are answered. */
static void a_killed_host_of_many_blames_nobody(void **state)
{
    (void)state;
    struct bench bench;
    struct runtime_options options = make_options("echo:units=8,latency_us=20000", true);
    bench_open(&bench, &options);
    for (uint64_t id = 0; id < 8; id++) submit(&bench, id, 1);
    sleep_ms(30);
    pid_t host = 0;
    assert_int_equal(find_hosts(getpid(), &host, 1), 1);
    kill(host, SIGKILL);
    for (int n = 0; n < 8; n++) {
        struct runtime_done done = wait_one(&bench);
        assert_echo(&bench, &done);
    }
    struct runtime_stats stats;
    runtime_get_stats(bench.runtime, &stats);
    assert_int_equal(stats.restarts, 1);
    bench_close(&bench);
}

/* Sockets to hosts hold the least that the kernel allows: a few messages. */
static void shrink_sockets(void)
{
    int least = 1, type, n_shrunk = 0;
    for (int fd = 3; fd < 256; fd++) {
        socklen_t size = sizeof type;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET)
            continue;
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
        n_shrunk++;
    }
    assert_true(n_shrunk > 0);
}

/* More units than a socket holds, to a host that reads none. Returns its process. */
static pid_t submit_to_a_stopped_host(struct bench *bench)
{
    struct runtime_options options = make_options("echo:units=256", true);
    pid_t host;
    bench_open(bench, &options);
    shrink_sockets();
    assert_int_equal(find_hosts(getpid(), &host, 1), 1);
    assert_int_equal(kill(host, SIGSTOP), 0);
    pid_t rescuer = fork(); /* else this program would hang where it should fail */
    if (rescuer == 0) {
        sleep_ms(3000);
        kill(host, SIGCONT);
        _exit(0);
    }
    int64_t begin_ns = clock_now_ns();
    for (uint64_t id = 0; id < 256; id++) submit(bench, id, 1);
    assert_true(clock_now_ns() - begin_ns < INT64_C(2000000000));
    assert_int_equal(runtime_capacity(bench->runtime), 0);
    kill(rescuer, SIGKILL);
    waitpid(rescuer, NULL, 0);
    return host;
}

static void wait_for_all_of_256(struct bench *bench)
{
    bool is_answered[256] = {false};
    for (size_t i = 0; i < COUNT_OF(is_answered); i++) {
        struct runtime_done done = wait_one(bench);
        assert_echo(bench, &done);
        assert_false(is_answered[done.id]);
        is_answered[done.id] = true;
    }
}

static void a_host_that_does_not_read_blocks_nobody(void **state)
{
    (void)state;
    struct bench bench;
    pid_t host = submit_to_a_stopped_host(&bench);
    kill(host, SIGCONT);
    wait_for_all_of_256(&bench);
    bench_close(&bench);
}

static void what_a_full_socket_kept_back_is_answered_by_the_next_host(void **state)
{
    (void)state;
    struct bench bench;
    struct runtime_stats stats;
    pid_t host = submit_to_a_stopped_host(&bench);
    kill(host, SIGKILL);
    wait_for_all_of_256(&bench);
    runtime_get_stats(bench.runtime, &stats);
    assert_int_equal(stats.restarts, 1);
    bench_close(&bench);
}

/* A host that is stopped before it takes any work has begun none: it is replaced, nobody is blamed. */
static void a_host_of_many_that_takes_nothing_is_replaced(void **state)
{
    (void)state;
    struct bench bench;
    struct runtime_options options = make_options("echo:units=8", true);
    options.timeout_ms = 400;
    bench_open(&bench, &options);
    pid_t host = 0;
    assert_int_equal(find_hosts(getpid(), &host, 1), 1);
    kill(host, SIGSTOP);
    int64_t start_ns = clock_now_ns();
    for (uint64_t id = 0; id < 4; id++) submit(&bench, id, 1);
    for (int n = 0; n < 4; n++) {
        struct runtime_done done = wait_one(&bench);
        if (n == 0) assert_true(clock_now_ns() - start_ns >= INT64_C(400000000));
        assert_echo(&bench, &done);
    }
    struct runtime_stats stats;
    runtime_get_stats(bench.runtime, &stats);
    assert_int_equal(stats.restarts, 1);
    bench_close(&bench);
}

/* So is one that is stopped between its units, however long it has answered before. */
static void a_host_of_many_that_takes_no_more_is_replaced(void **state)
{
    (void)state;
    struct bench bench;
    struct runtime_options options = make_options("echo:units=8", true);
    options.timeout_ms = 400;
    bench_open(&bench, &options);
    submit(&bench, 0, 1);
    struct runtime_done done = wait_one(&bench);
    assert_echo(&bench, &done);
    sleep_ms(500); /* it had nothing to do: that is nothing to be blamed for */
    pid_t host = 0;
    assert_int_equal(find_hosts(getpid(), &host, 1), 1);
    kill(host, SIGSTOP);
    int64_t start_ns = clock_now_ns();
    submit(&bench, 1, 1);
    done = wait_one(&bench);
    assert_true(clock_now_ns() - start_ns >= INT64_C(400000000));
    assert_echo(&bench, &done);
    struct runtime_stats stats;
    runtime_get_stats(bench.runtime, &stats);
    assert_int_equal(stats.restarts, 1);
    bench_close(&bench);
}

/* Units that wait in the socket for longer than a call may take, as others are in the model: no host is
 * killed for that. On one core the engine often looks before the host has taken the next one. */
static void waiting_behind_others_is_no_timeout(void **state)
{
    (void)state;
    struct bench bench;
    cpu_set_t before, one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    struct runtime_options options = make_options("echo:units=60,room=1,latency_us=20000", true);
    options.timeout_ms = 400;
    bench_open(&bench, &options);
    for (uint64_t id = 0; id < 60; id++) submit(&bench, id, 1);
    for (int n = 0; n < 60; n++) {
        struct runtime_done done = wait_one(&bench);
        assert_echo(&bench, &done);
    }
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    struct runtime_stats stats;
    runtime_get_stats(bench.runtime, &stats);
    assert_int_equal(stats.restarts, 0);
    bench_close(&bench);
}

static void output_that_does_not_fit(void **state)
{
    (void)state;
    struct bench bench;
    struct runtime_options options = make_options("echo", true);
    bench_open(&bench, &options);
    struct work_input input = {.type = TENSOR_FLOAT, .shape = {2, {100, WIDTH}}, .bytes = 1600};
    struct runtime_work work = {
        .n_rows = 100, .inputs = &input, .output_offset = 4096, .output_capacity = 1024};
    assert_fine(runtime_submit(bench.runtime, &work));
    struct runtime_done done = wait_one(&bench);
    assert_done(&done, 0, ERROR_OUTPUT_TOO_LARGE, "1024 bytes");
    bench_close(&bench);
}

/* Single records that crash are progress, larger units are not. */
static void deaths_without_progress_end_it(void **state)
{
    (void)state;
    struct bench bench;
    struct runtime_options options = make_options("echo:crash_on=7", true);
    bench_open(&bench, &options);
    for (uint64_t i = 0; i < 60; i++) {
        submit_rows(&bench, i, 7, 1);
        struct runtime_done done = wait_one(&bench);
        assert_done(&done, i, ERROR_HOST_CRASHED, "SIGSEGV");
    }
    tidemill_error *error = NULL;
    int deaths = 0;
    for (; error == NULL && deaths < 200; deaths++) {
        struct runtime_done done;
        size_t count = 0;
        while (error == NULL && runtime_capacity(bench.runtime) == 0)
            error = runtime_poll(bench.runtime, 1000, -1, &done, 1, &count);
        if (error != NULL) break;
        submit(&bench, 1000, 7);
        while (error == NULL && count == 0)
            error = runtime_poll(bench.runtime, 1000, -1, &done, 1, &count);
    }
    assert_true(deaths > 40 && deaths < 60);
    assert_error(error, ERROR_HOST_FAILED, "killed by SIGSEGV");
    assert_int_equal(runtime_capacity(bench.runtime), 0);
    bench_close(&bench);
}

static void open_error(struct runtime_options options, enum error_code code, const char *part)
{
    struct shared_region region;
    struct runtime *runtime = NULL;
    assert_fine(shared_region_new(4096, &region));
    assert_error(runtime_open(&options, &region, &runtime), code, part);
    assert_null(runtime);
    shared_region_free(&region);
}

static void models_that_do_not_load(void **state)
{
    (void)state;
    struct runtime_options options = make_options("echo:load_fail=1", true);
    open_error(options, ERROR_MODEL_LOAD, "told to fail to load");
    options.model = "echo:wdith=4";
    open_error(options, ERROR_MODEL_LOAD, "no option 'wdith'");
    options.model = "echo:load_ms=60000";
    options.load_timeout_ms = 200;
    open_error(options, ERROR_MODEL_LOAD, "not loaded after 200 ms");
    options.load_timeout_ms = 0;
    options.wake_fd = eventfd(1, EFD_CLOEXEC);
    open_error(options, ERROR_INTERRUPTED, "loading");
    close(options.wake_fd);
    options = make_options("echo", true);
    options.host_program = "/nonexistent/tidemill";
    open_error(options, ERROR_HOST_FAILED, "/nonexistent/tidemill");
    options.host_program = "/bin/true";
    open_error(options, ERROR_MODEL_LOAD, "exited with status 0");
}

/* A file for the check that comes before loading. */
static void check_file(const char *bytes, size_t size, const char *part)
{
    char path[] = "/tmp/tidemill-model-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
    tidemill_error *error = model_check_file(path);
    unlink(path);
    if (part == NULL)
        assert_fine(error);
    else
        assert_error(error, ERROR_MODEL_LOAD, part);
}

static void files_that_are_no_models(void **state)
{
    (void)state;
    assert_error(model_check_file("/nonexistent.onnx"), ERROR_MODEL_LOAD, "No such file");
    assert_error(model_check_file("/tmp"), ERROR_MODEL_LOAD, "is a folder");
    assert_error(model_check_file("/dev/null"), ERROR_MODEL_LOAD, "not a regular file");
    check_file("", 0, "is empty");
    check_file("version https://git-lfs.github.com/spec/v1\n", 43, "git lfs pull");
    check_file("hello\n", 6, "first bytes are text");
    check_file("PK\003\004abcd", 8, "zip archive");
    check_file("\x08\x08\x3a\x02\x0a\x00", 6, NULL); /* a graph of one empty node */
    check_file("\x08\x08\x3a\x20\x0a\x00", 6, "cut off");
    check_file("\x08\x08", 2, "not an ONNX model");
    check_file("\x08\x08\x07", 3, "not an ONNX model");
}

static void growing_follows_the_backlog(void **state)
{
    (void)state;
    struct bench bench;
    struct runtime_options options = make_options("echo:latency_us=3000", true);
    struct runtime_stats stats;
    options.instances_max = 3;
    options.is_growing = true;
    bench_open(&bench, &options);
    runtime_get_stats(bench.runtime, &stats);
    assert_int_equal(stats.hosts, 1);
    int64_t start_ns = clock_now_ns();
    uint64_t submitted = 0;
    while (stats.hosts < 3 && clock_now_ns() - start_ns < INT64_C(20000000000)) {
        while (runtime_capacity(bench.runtime) > 0) submit(&bench, submitted++, 1);
        runtime_hint_backlog(bench.runtime, true);
        struct runtime_done done = wait_one(&bench);
        assert_echo(&bench, &done);
        runtime_get_stats(bench.runtime, &stats);
    }
    assert_int_equal(stats.hosts, 3);
    assert_true(clock_now_ns() - start_ns > INT64_C(500000000)); /* not at the first sign */
    bench_close(&bench);
}

/* Signals from outside. */

static void signals_to_hosts(void **state)
{
    (void)state;
    struct bench bench;
    struct runtime_options options = make_options("echo:hang_on=7", true);
    options.timeout_ms = 1000;
    bench_open(&bench, &options);
    pid_t host = 0;
    assert_int_equal(find_hosts(getpid(), &host, 1), 1);
    kill(host, SIGINT); /* Ctrl-C goes to the whole group: the engine decides */
    kill(host, SIGTERM);
    submit(&bench, 0, 1);
    struct runtime_done done = wait_one(&bench);
    assert_echo(&bench, &done);

    kill(host, SIGKILL); /* idle: nobody is to blame */
    submit(&bench, 1, 1);
    done = wait_one(&bench);
    assert_echo(&bench, &done);

    assert_int_equal(find_hosts(getpid(), &host, 1), 1);
    submit(&bench, 2, 7);
    sleep_ms(100);
    kill(host, SIGKILL);
    done = wait_one(&bench);
    assert_done(&done, 2, ERROR_HOST_CRASHED, "killed by SIGKILL");

    while (runtime_capacity(bench.runtime) == 0) {
        size_t count;
        assert_fine(runtime_poll(bench.runtime, 100, -1, &done, 1, &count));
    }
    assert_int_equal(find_hosts(getpid(), &host, 1), 1);
    kill(host, SIGSTOP);
    submit(&bench, 3, 1);
    done = wait_one(&bench);
    assert_done(&done, 3, ERROR_HOST_TIMEOUT, "no answer after 1000 ms");
    bench_close(&bench);
}

static void wake_ends_the_wait(void **state)
{
    (void)state;
    struct bench bench;
    struct runtime_options options = make_options("echo", true);
    struct runtime_done done;
    size_t count = 1;
    bench_open(&bench, &options);
    int wake = eventfd(1, EFD_CLOEXEC);
    int64_t start_ns = clock_now_ns();
    assert_fine(runtime_poll(bench.runtime, 10000, wake, &done, 1, &count));
    assert_int_equal(count, 0);
    assert_true(clock_now_ns() - start_ns < INT64_C(5000000000));
    close(wake);
    start_ns = clock_now_ns();
    assert_fine(runtime_poll(bench.runtime, 50, -1, &done, 1, &count));
    assert_true(clock_now_ns() - start_ns >= INT64_C(50000000));
    bench_close(&bench);
}

/* The host of an engine that dies in the middle of a call is gone within a second, and no shared
 * memory stays. */
static void hosts_die_with_their_engine(void **state)
{
    (void)state;
    int n_shm = count_entries("/dev/shm");
    pid_t engine = fork();
    assert_true(engine >= 0);
    if (engine == 0) {
        struct bench bench = {.n_fds = 0};
        struct runtime_options options = make_options("echo:hang_on=7", true);
        options.instances_max = 2;
        bench_open(&bench, &options);
        submit(&bench, 0, 7);
        pause();
        _exit(1);
    }
    pid_t hosts[2] = {0};
    for (int i = 0; i < 1000 && find_hosts(engine, hosts, 2) < 2; i++) sleep_ms(10);
    sleep_ms(300);
    assert_int_equal(find_hosts(engine, hosts, 2), 2);
    kill(engine, SIGKILL);
    assert_int_equal(waitpid(engine, NULL, 0), engine);
    bool is_gone = false;
    for (int i = 0; i < 100 && !is_gone; i++) {
        is_gone = true;
        for (int k = 0; k < 2; k++) {
            char letter = 'Z';
            pid_t parent;
            if (read_process(hosts[k], &letter, &parent) && letter != 'Z') is_gone = false;
        }
        sleep_ms(10);
    }
    assert_true(is_gone);
    assert_int_equal(count_entries("/dev/shm"), n_shm);
}

static bool has_text(pid_t pid, const char *file, const char *text)
{
    char path[64];
    static char content[1 << 16];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t size = read(fd, content, sizeof content);
    close(fd);
    return size > 0 && memmem(content, (size_t)size, text, strlen(text)) != NULL;
}

static void hosts_get_no_secrets(void **state)
{
    (void)state;
    struct bench bench;
    struct runtime_options options = make_options("echo", true);
    setenv("AWS_SECRET_ACCESS_KEY", "hush-hush", 1);
    setenv("TIDEMILL_HARMLESS", "fine-fine", 1);
    int leaked = open("/dev/null", O_RDONLY); /* some library forgot O_CLOEXEC */
    bench_open(&bench, &options);
    pid_t host = 0;
    assert_int_equal(find_hosts(getpid(), &host, 1), 1);
    assert_false(has_text(host, "environ", "hush-hush"));
    assert_true(has_text(host, "environ", "fine-fine"));
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)host);
    assert_int_equal(count_entries(path), 4); /* 0, 1, 2 and the socket */
    bench_close(&bench);
    close(leaked);
    unsetenv("AWS_SECRET_ACCESS_KEY");
}

/* Hosts that lie. */

static void lie_about_work(int fd, const char *lie, const struct wire_work *work,
                           unsigned char *region)
{
    struct wire_reply reply = {.header = {.version = WIRE_VERSION, .type = WIRE_REPLY},
                               .seq = work->seq};
    if (strcmp(lie, "outside") == 0) {
        reply.n_values = 1;
        reply.table_offset = UINT64_MAX / 2;
    } else if (strcmp(lie, "pointer") == 0) {
        struct wire_value value = {
            .type = TENSOR_FLOAT, .rank = 1, .dims = {1 << 20}, .offset = 0, .bytes = 4 << 20};
        memcpy(region + work->output_offset, &value, sizeof value);
        reply.n_values = 1;
    } else if (strcmp(lie, "sequence") == 0) {
        reply.seq += 1;
    } else if (strcmp(lie, "code") == 0) {
        reply.code = ERROR_NO_SPACE;
    } else if (strcmp(lie, "version") == 0) {
        reply.header.version = 99;
    } else if (strcmp(lie, "type") == 0) {
        reply.header.type = WIRE_OPEN;
    }
    if (strcmp(lie, "huge") == 0) {
        static char message[1 << 17 | 64];
        memcpy(message, &reply, sizeof reply);
        wire_send(fd, message, sizeof message);
    } else {
        wire_send(fd, &reply, strcmp(lie, "short") == 0 ? 12 : sizeof reply);
    }
    pause();
}

static int liar_main(int fd, const char *lie)
{
    static unsigned char message[WIRE_MESSAGE_BYTES_MAX];
    struct value_spec spec = {
        .name = (char[]){"x"}, .type = TENSOR_FLOAT, .shape = {2, {-1, WIDTH}}};
    struct model_signature signature = {
        .inputs = &spec, .n_inputs = 1, .outputs = &spec, .n_outputs = 1, .is_batched = true};
    struct buffer ready = {0};
    struct wire_work work;
    int fds[2];
    size_t size;
    if (wire_receive(fd, message, sizeof message, fds, 2, true, &size) != 0) return 1;
    struct shared_region region = {.fd = fds[0], .size = REGION_BYTES};
    region.base = mmap(NULL, region.size, PROT_READ | PROT_WRITE, MAP_SHARED, region.fd, 0);
    if (strcmp(lie, "unsolicited") == 0) {
        struct wire_reply reply = {.header = {.version = WIRE_VERSION, .type = WIRE_REPLY}};
        wire_send(fd, &reply, sizeof reply);
    }
    if (strcmp(lie, "signature") == 0) spec.type = (enum tensor_type)99;
    if (wire_write_ready(&signature, "liar", UNITS_OF_ONE, &ready) != NULL) return 1;
    wire_send(fd, ready.data, ready.size);
    if (strcmp(lie, "twice") == 0) wire_send(fd, ready.data, ready.size);
    for (;;) {
        if (wire_receive(fd, message, sizeof message, NULL, 0, true, &size) != 0 || size == 0)
            return 0;
        memcpy(&work, message, size);
        lie_about_work(fd, lie, &work, region.base);
    }
}

static void lies_are_found_out(void **state)
{
    (void)state;
    static const char *const lies[] = {"outside", "pointer", "sequence", "code",
                                       "version", "type",    "huge",     "short"};
    for (size_t i = 0; i < COUNT_OF(lies); i++) {
        struct bench bench;
        struct runtime_options options = make_options("echo", true);
        setenv("TIDEMILL_TEST_LIE", lies[i], 1);
        bench_open(&bench, &options);
        submit(&bench, 5, 1);
        struct runtime_done done = wait_one(&bench);
        assert_done(&done, 5, ERROR_HOST_CRASHED, "the model process");
        bench_close(&bench);
    }
    setenv("TIDEMILL_TEST_LIE", "signature", 1);
    open_error(make_options("echo", true), ERROR_MODEL_LOAD, "the model process");
    setenv("TIDEMILL_TEST_LIE", "unsolicited", 1);
    open_error(make_options("echo", true), ERROR_MODEL_LOAD, "the model process");
    unsetenv("TIDEMILL_TEST_LIE");
}

static void released_pages_read_as_zero(void **state)
{
    (void)state;
    struct shared_region region;
    assert_fine(shared_region_new(1 << 20, &region));
    memset(region.base, 1, region.size);
    shared_region_release(&region, 100, 300000);
    assert_int_equal(region.base[99], 1);
    assert_int_equal(region.base[100], 0);
    assert_int_equal(region.base[300099], 0);
    assert_int_equal(region.base[300100], 1);
    assert_int_not_equal(ftruncate(region.fd, 4096), 0); /* sealed: no host can take pages away */
    shared_region_free(&region);
    shared_region_free(&region);
}

int main(int argc, char **argv)
{
    const char *lie = getenv("TIDEMILL_TEST_LIE");
    if (argc > 3 && strcmp(argv[1], "host") == 0)
        return lie != NULL ? liar_main(atoi(argv[3]), lie) : host_main(argc - 1, argv + 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_unit_is_answered_once),
        cmocka_unit_test(only_the_poison_is_blamed),
        cmocka_unit_test(among_many_only_the_poison_is_blamed),
        cmocka_unit_test(a_killed_host_of_many_blames_nobody),
        cmocka_unit_test(a_host_that_does_not_read_blocks_nobody),
        cmocka_unit_test(what_a_full_socket_kept_back_is_answered_by_the_next_host),
        cmocka_unit_test(a_host_of_many_that_takes_nothing_is_replaced),
        cmocka_unit_test(a_host_of_many_that_takes_no_more_is_replaced),
        cmocka_unit_test(waiting_behind_others_is_no_timeout),
        cmocka_unit_test(output_that_does_not_fit),
        cmocka_unit_test(deaths_without_progress_end_it),
        cmocka_unit_test(models_that_do_not_load),
        cmocka_unit_test(files_that_are_no_models),
        cmocka_unit_test(growing_follows_the_backlog),
        cmocka_unit_test(signals_to_hosts),
        cmocka_unit_test(wake_ends_the_wait),
        cmocka_unit_test(hosts_die_with_their_engine),
        cmocka_unit_test(hosts_get_no_secrets),
        cmocka_unit_test(lies_are_found_out),
        cmocka_unit_test(released_pages_read_as_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
