/* SPDX-License-Identifier: Apache-2.0 */
/* server_serving_test.c - calls gathered into microbatches of a model, cut apart again; models that crash,
 * do not load, are let go. This program is its own model host: called with "host" it runs host_main. */
#include "server/serving_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define CALLS_MAX 256
#define WIDTH 2

static void assert_fine(tidemill_error *error)
{
    if (error != NULL) fail_msg("%s", error_message(error));
}

/* --- a server of one model ---------------------------------------------------------------------------------- */

struct stage {
    struct app app;
    struct server_config config;
    struct model_config model;
    struct serving *serving;
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    size_t n_done;
};

static struct stage stage_new(const char *model)
{
    struct stage stage = {.model = {.name = (char *)(uintptr_t) "m",
                                    .is_sync = true,
                                    .keep_warm_ms = -1,
                                    .max_batch = 16,
                                    .max_delay_us = 50000,
                                    .queue_max = 100000}};
    assert_fine(job_spec_init(&stage.model.spec));
    free(stage.model.spec.model);
    stage.model.spec.model = strdup(model);
    return stage;
}

static void stage_start(struct stage *stage)
{
    pthread_mutex_init(&stage->mutex, NULL);
    pthread_cond_init(&stage->condition, NULL);
    stage->config = (struct server_config){.models = &stage->model, .n_models = 1};
    stage->app = (struct app){.io = &io_local, .config = &stage->config};
    assert_fine(serving_start(&stage->app, &stage->serving));
}

static void stage_end(struct stage *stage)
{
    serving_stop(stage->serving);
    job_spec_free(&stage->model.spec);
    pthread_cond_destroy(&stage->condition);
    pthread_mutex_destroy(&stage->mutex);
}

struct asked {
    struct serving_call call;
    struct serving_input input;
    float *rows;
    struct stage *stage;
    bool is_done;
};

static void note_done(struct serving_call *call)
{
    struct asked *asked = call->context;
    struct stage *stage = asked->stage;
    pthread_mutex_lock(&stage->mutex);
    assert_false(asked->is_done); /* once */
    asked->is_done = true;
    stage->n_done++;
    pthread_cond_broadcast(&stage->condition);
    pthread_mutex_unlock(&stage->mutex);
}

static void prepare(struct stage *stage, struct asked *asked, float first, int64_t n_rows)
{
    *asked = (struct asked){.stage = stage};
    asked->rows = malloc((size_t)n_rows * WIDTH * sizeof(float));
    assert_non_null(asked->rows);
    for (int64_t i = 0; i < n_rows * WIDTH; i++) asked->rows[i] = first + (float)i;
    asked->input = (struct serving_input){.name = "x",
                                          .type = TENSOR_FLOAT,
                                          .shape = {2, {n_rows, WIDTH}},
                                          .data = asked->rows,
                                          .bytes = (size_t)n_rows * WIDTH * sizeof(float)};
    asked->call = (struct serving_call){
        .model = "m", .inputs = &asked->input, .n_inputs = 1, .done = note_done, .context = asked};
}

static void ask(struct stage *stage, struct asked *asked)
{
    serving_ask(stage->serving, &asked->call);
}

static void wait_for(struct stage *stage, size_t n)
{
    pthread_mutex_lock(&stage->mutex);
    while (stage->n_done < n) pthread_cond_wait(&stage->condition, &stage->mutex);
    pthread_mutex_unlock(&stage->mutex);
}

static void forget(struct asked *asked)
{
    error_free(asked->call.error);
    free(asked->call.values);
    free(asked->rows);
}

/* The echo model answers with what it was asked. */
static void assert_echoed(const struct asked *asked)
{
    const struct serving_call *call = &asked->call;
    if (call->error != NULL) fail_msg("%s", error_message(call->error));
    assert_int_equal(call->n_values, 1);
    assert_int_equal(call->values[0].shape.dims[0], asked->input.shape.dims[0]);
    assert_int_equal(call->values[0].bytes, asked->input.bytes);
    assert_memory_equal(call->values[0].data, asked->rows, asked->input.bytes);
}

static void assert_failed(const struct asked *asked, enum error_code code, const char *part)
{
    const tidemill_error *error = asked->call.error;
    assert_non_null(error);
    if (error_code_of(error) != code || strstr(error_message(error), part) == NULL)
        fail_msg("%s: %s", error_code_name(error_code_of(error)), error_message(error));
    assert_null(asked->call.values);
}

static struct serving_stats stats_of(struct stage *stage)
{
    struct serving_stats stats;
    assert_true(serving_stats(stage->serving, "m", &stats));
    return stats;
}

/* --- answers ------------------------------------------------------------------------------------------------ */

static void each_call_gets_its_own_rows(void **state)
{
    (void)state;
    struct stage stage = stage_new("echo:latency_us=2000,width=2");
    struct asked asked[100];
    stage_start(&stage);
    for (size_t i = 0; i < 100; i++) {
        prepare(&stage, &asked[i], (float)(1000 * i), 1 + (int64_t)(i % 3));
        ask(&stage, &asked[i]);
    }
    wait_for(&stage, 100);
    for (size_t i = 0; i < 100; i++) {
        assert_echoed(&asked[i]);
        forget(&asked[i]);
    }
    struct serving_stats stats = stats_of(&stage);
    assert_int_equal(stats.calls, 100);
    assert_int_equal(stats.rows, 199);
    assert_in_range(stats.batches, 13, 50); /* gathered, at most 16 rows each */
    assert_int_equal(stats.waiting, 0);
    stage_end(&stage);
}

static void more_rows_than_a_microbatch_may_have_go_in_pieces(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        int64_t n_rows;
        uint64_t batches;
    } cases[] = {
        {"echo:width=2", 50, 4},         /* 16 16 16 2 */
        {"echo:width=2,fixed=4", 10, 3}, /* 4 4 2, and filler */
        {"echo:width=2,fixed=4", 1, 1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct stage stage = stage_new(cases[i].model);
        struct asked asked;
        stage_start(&stage);
        prepare(&stage, &asked, 7, cases[i].n_rows);
        ask(&stage, &asked);
        wait_for(&stage, 1);
        assert_echoed(&asked);
        assert_int_equal(stats_of(&stage).batches, cases[i].batches);
        forget(&asked);
        stage_end(&stage);
    }
}

/* Rows of strings differ in bytes: pieces are found by walking. */
static void rows_of_strings_go_in_pieces(void **state)
{
    (void)state;
    struct stage stage = stage_new("echo:width=2,type=string");
    struct asked asked[3];
    struct buffer texts = {0};
    for (uint32_t i = 0; i < 2 * 37; i++) {
        uint32_t size = i % 5;
        buffer_append(&texts, &size, sizeof size);
        buffer_append(&texts, "abcd", size);
    }
    stage_start(&stage);
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        prepare(&stage, &asked[i], 0, 1);
        asked[i].input.type = TENSOR_STRING;
        asked[i].input.shape.dims[0] = 37;
        asked[i].input.data = texts.data;
        asked[i].input.bytes = texts.size;
        ask(&stage, &asked[i]);
    }
    wait_for(&stage, COUNT_OF(asked));
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        assert_fine(asked[i].call.error);
        assert_int_equal(asked[i].call.values[0].bytes, texts.size);
        assert_memory_equal(asked[i].call.values[0].data, texts.data, texts.size);
        forget(&asked[i]);
    }
    buffer_free(&texts);
    stage_end(&stage);
}

static void a_crash_costs_the_call_that_did_it(void **state)
{
    (void)state;
    struct stage stage = stage_new("echo:width=2,latency_us=5000,crash_on=3000");
    struct asked asked[12];
    stage_start(&stage);
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        prepare(&stage, &asked[i], (float)(1000 * i), 1);
        ask(&stage, &asked[i]);
    }
    wait_for(&stage, COUNT_OF(asked));
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        if (i == 3)
            assert_failed(&asked[i], ERROR_HOST_CRASHED, "SIGSEGV");
        else
            assert_echoed(&asked[i]);
        forget(&asked[i]);
    }
    stage_end(&stage);
}

static void a_call_that_hangs_ends_at_the_time_limit(void **state)
{
    (void)state;
    struct stage stage = stage_new("echo:width=2,hang_on=5");
    struct asked bad, good;
    stage.model.spec.timeout_ms = 300;
    stage_start(&stage);
    prepare(&stage, &bad, 5, 1);
    prepare(&stage, &good, 100, 1);
    ask(&stage, &bad);
    ask(&stage, &good);
    wait_for(&stage, 2);
    assert_failed(&bad, ERROR_HOST_TIMEOUT, "");
    assert_echoed(&good);
    forget(&bad);
    forget(&good);
    stage_end(&stage);
}

static void rows_of_other_shapes_are_not_stacked(void **state)
{
    (void)state;
    struct stage stage = stage_new("echo:latency_us=2000"); /* any width */
    struct asked asked[20];
    stage_start(&stage);
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        prepare(&stage, &asked[i], (float)i, 2);
        if (i % 2 == 0) asked[i].input.shape = (struct shape){2, {4, 1}};
        ask(&stage, &asked[i]);
    }
    wait_for(&stage, COUNT_OF(asked));
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        assert_echoed(&asked[i]);
        assert_int_equal(asked[i].call.values[0].shape.dims[1], i % 2 == 0 ? 1 : WIDTH);
        forget(&asked[i]);
    }
    stage_end(&stage);
}

static void set_name(struct asked *asked)
{
    asked->input.name = "z";
}
static void set_type(struct asked *asked)
{
    asked->input.type = TENSOR_INT32;
}
static void set_rank(struct asked *asked)
{
    asked->input.shape.rank = 1;
}
static void set_width(struct asked *asked)
{
    asked->input.shape.dims[1] = 3;
}
static void set_rows(struct asked *asked)
{
    asked->input.shape.dims[0] = 0;
}
static void set_bytes(struct asked *asked)
{
    asked->input.bytes--;
}
static void set_json(struct asked *asked)
{
    asked->call.n_inputs = 0;
}
static void set_model(struct asked *asked)
{
    asked->call.model = "other";
}

static void what_does_not_fit_the_model_is_refused(void **state)
{
    (void)state;
    static const struct {
        void (*spoil)(struct asked *asked);
        enum error_code code;
        const char *part;
    } cases[] = {
        {set_name, ERROR_MISSING_FIELD, "no input 'z'"},
        {set_type, ERROR_WRONG_TYPE, "expected float32, found int32"},
        {set_rank, ERROR_WRONG_SHAPE, "expected shape [batch, 2]"},
        {set_width, ERROR_WRONG_SHAPE, "found [2, 3]"},
        {set_rows, ERROR_WRONG_SHAPE, "0 rows"},
        {set_bytes, ERROR_WRONG_SHAPE, "15 bytes"},
        {set_json, ERROR_WRONG_TYPE, "takes tensors"},
        {set_model, ERROR_INPUT, "no model 'other'"},
    };
    struct stage stage = stage_new("echo:width=2");
    stage_start(&stage);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct asked asked;
        prepare(&stage, &asked, 1, 2);
        cases[i].spoil(&asked);
        ask(&stage, &asked);
        wait_for(&stage, i + 1);
        assert_failed(&asked, cases[i].code, cases[i].part);
        forget(&asked);
    }
    assert_int_equal(stats_of(&stage).batches, 0);
    stage_end(&stage);
}

static void ask_json(struct stage *stage, struct asked *asked, const char *body)
{
    *asked = (struct asked){.stage = stage};
    asked->call = (struct serving_call){
        .model = "m", .body = {body, strlen(body)}, .done = note_done, .context = asked};
    ask(stage, asked);
}

static void a_model_of_json_gets_the_request_as_it_is(void **state)
{
    (void)state;
    struct stage stage = stage_new("echo:json=1,usage=1");
    struct asked asked;
    const char *body = "{\"messages\":[\"two words\"]}";
    stage_start(&stage);
    ask_json(&stage, &asked, body);
    wait_for(&stage, 1);
    assert_fine(asked.call.error);
    uint32_t size;
    memcpy(&size, asked.call.values[0].data, sizeof size);
    assert_int_equal(size, strlen(body));
    assert_memory_equal(asked.call.values[0].data + sizeof size, body, size);
    assert_int_equal(asked.call.usage.in, 3);
    forget(&asked);
    stage_end(&stage);
}

/* --- the model's life ---------------------------------------------------------------------------------------- */

static void a_model_that_does_not_load_says_why_to_all(void **state)
{
    (void)state;
    struct stage stage = stage_new("echo:load_fail=1,load_ms=100");
    struct asked asked[6];
    stage_start(&stage);
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        prepare(&stage, &asked[i], 1, 1);
        ask(&stage, &asked[i]);
    }
    wait_for(&stage, COUNT_OF(asked));
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        assert_failed(&asked[i], ERROR_MODEL_LOAD, "echo was told to fail to load");
        forget(&asked[i]);
    }
    assert_false(serving_is_loaded(stage.serving, "m"));
    assert_false(serving_is_ready(stage.serving, "m"));
    const struct model_signature *signature;
    tidemill_error *error = serving_signature(stage.serving, "m", &signature);
    assert_int_equal(error_code_of(error), ERROR_MODEL_LOAD);
    error_free(error);
    stage_end(&stage);
}

static void a_model_is_loaded_when_asked_and_let_go_when_not(void **state)
{
    (void)state;
    struct stage stage = stage_new("echo:width=2");
    const struct timespec pause = {.tv_nsec = 5000000};
    stage.model.keep_warm_ms = 30;
    stage_start(&stage);
    assert_false(serving_is_loaded(stage.serving, "m"));
    for (size_t round = 1; round <= 2; round++) {
        struct asked asked;
        prepare(&stage, &asked, 1, 1);
        ask(&stage, &asked);
        wait_for(&stage, round);
        assert_echoed(&asked);
        forget(&asked);
        while (serving_is_loaded(stage.serving, "m")) nanosleep(&pause, NULL);
    }
    assert_non_null(serving_known_signature(stage.serving, "m")); /* still known */
    stage_end(&stage);
}

static void a_full_queue_answers_at_once(void **state)
{
    (void)state;
    struct stage stage = stage_new("echo:width=2,load_ms=300");
    struct asked asked[5];
    stage.model.queue_max = 3;
    stage_start(&stage);
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        prepare(&stage, &asked[i], (float)i, 1);
        ask(&stage, &asked[i]);
    }
    wait_for(&stage, COUNT_OF(asked));
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        if (i < 3)
            assert_echoed(&asked[i]);
        else
            assert_failed(&asked[i], ERROR_LOCKED, "3 requests wait already");
        forget(&asked[i]);
    }
    assert_int_equal(stats_of(&stage).refused, 2);
    stage_end(&stage);
}

static void a_stop_answers_all(void **state)
{
    (void)state;
    static const char *const models[] = {"echo:width=2,latency_us=30000000",
                                         "echo:width=2,load_ms=600000"};
    for (size_t k = 0; k < COUNT_OF(models); k++) {
        struct stage stage = stage_new(models[k]);
        struct asked asked[40];
        stage_start(&stage);
        for (size_t i = 0; i < COUNT_OF(asked); i++) {
            prepare(&stage, &asked[i], (float)i, 1);
            ask(&stage, &asked[i]);
        }
        stage_end(&stage);
        assert_int_equal(stage.n_done, COUNT_OF(asked));
        for (size_t i = 0; i < COUNT_OF(asked); i++) {
            assert_failed(&asked[i], ERROR_INTERRUPTED, "stopping");
            forget(&asked[i]);
        }
    }
}

static void a_reload_replaces_what_changed_and_answers_who_waits(void **state)
{
    (void)state;
    struct stage stage = stage_new("echo:width=2,latency_us=100000");
    struct stage other = stage_new("echo:width=2");
    struct asked asked[3];
    stage_start(&stage);
    prepare(&stage, &asked[0], 1, 1);
    ask(&stage, &asked[0]);
    const struct model_config *before = serving_model(stage.serving, "m");
    assert_fine(serving_reload(stage.serving)); /* nothing changed */
    assert_ptr_equal(serving_model(stage.serving, "m"), before);

    struct server_config changed = {.models = &other.model, .n_models = 1};
    stage.app.config = &changed;
    prepare(&stage, &asked[1], 1, 1);
    ask(&stage, &asked[1]); /* still of the old one */
    assert_fine(serving_reload(stage.serving));
    assert_ptr_equal(serving_model(stage.serving, "m"), &other.model);
    prepare(&stage, &asked[2], 1, 1);
    ask(&stage, &asked[2]);
    wait_for(&stage, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_echoed(&asked[i]);
        forget(&asked[i]);
    }
    assert_int_equal(stats_of(&stage).calls, 1);

    struct server_config empty = {0};
    stage.app.config = &empty;
    assert_fine(serving_reload(stage.serving));
    assert_null(serving_model(stage.serving, "m"));
    stage_end(&stage);
    job_spec_free(&other.model.spec);
}

/* --- callers on threads of their own --------------------------------------------------------------------------- */

#define CALLERS 8
#define CALLS_EACH 50

struct caller_thread {
    struct stage *stage;
    pthread_t thread;
    size_t number;
};

static void *call_often(void *argument)
{
    struct caller_thread *caller = argument;
    const struct model_signature *signature;
    if (serving_signature(caller->stage->serving, "m", &signature) != NULL) abort();
    for (size_t i = 0; i < CALLS_EACH; i++) {
        struct asked *asked = malloc(sizeof *asked);
        if (asked == NULL) abort();
        prepare(caller->stage, asked, (float)(caller->number * 1000 + i), 1);
        ask(caller->stage, asked);
        pthread_mutex_lock(&caller->stage->mutex);
        while (!asked->is_done) pthread_cond_wait(&caller->stage->condition, &caller->stage->mutex);
        pthread_mutex_unlock(&caller->stage->mutex);
        bool is_right = asked->call.error == NULL &&
                        memcmp(asked->call.values[0].data, asked->rows, asked->input.bytes) == 0;
        if (!is_right) abort();
        forget(asked);
        free(asked);
    }
    return NULL;
}

static void many_threads_ask_at_once(void **state)
{
    (void)state;
    struct stage stage = stage_new("echo:width=2,latency_us=200");
    struct caller_thread callers[CALLERS];
    stage_start(&stage);
    for (size_t i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller_thread){.stage = &stage, .number = i};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call_often, &callers[i]), 0);
    }
    for (size_t i = 0; i < CALLERS; i++) pthread_join(callers[i].thread, NULL);
    assert_int_equal(stats_of(&stage).calls, CALLERS * CALLS_EACH);
    stage_end(&stage);
}

/* --- the rule: pure --------------------------------------------------------------------------------------------- */

static void microbatches_go_when_waiting_is_of_no_use(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct gather gather;
        uint32_t n_calls;
        uint64_t n_rows;
        uint32_t n_batches, n_running;
        int64_t due_ns; /* the first call came at 1000 */
    } cases[] = {
        {"one caller alone", {true, 16, 2000, 1, 1}, 1, 1, 0, 0, INT64_MIN},
        {"others were here lately", {true, 16, 2000, 1, 8}, 1, 1, 0, 0, 3000},
        {"all of them are here", {true, 16, 2000, 1, 8}, 8, 8, 0, 0, INT64_MIN},
        {"it is busy", {true, 16, 2000, 1, 8}, 1, 1, 1, 7, INT64_MAX},
        {"full, though it is busy", {true, 16, 2000, 1, 8}, 3, 16, 1, 7, INT64_MIN},
        {"another host is idle", {true, 16, 2000, 2, 8}, 1, 1, 1, 7, INT64_MIN},
        {"its share for one of two hosts", {true, 16, 2000, 2, 8}, 4, 4, 0, 0, INT64_MIN},
        {"calls that cannot be stacked", {false, 16, 2000, 1, 8}, 1, 1, 3, 3, INT64_MIN},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int64_t due_ns = gather_due_ns(&cases[i].gather, cases[i].n_calls, cases[i].n_rows, 1000,
                                       cases[i].n_batches, cases[i].n_running);
        if (due_ns != cases[i].due_ns) fail_msg("%s: %lld", cases[i].name, (long long)due_ns);
    }
}

static void who_left_is_forgotten(void **state)
{
    (void)state;
    struct gather gather = {.peak_calls = 1};
    gather_note(&gather, 64);
    assert_int_equal(gather.peak_calls, 64);
    int n = 0;
    for (; gather.peak_calls > 1; n++) gather_note(&gather, 1);
    assert_in_range(n, 8, 40);
    gather_note(&gather, 0);
    assert_int_equal(gather.peak_calls, 0);
}

int main(int argc, char **argv)
{
    if (argc > 3 && strcmp(argv[1], "host") == 0) return host_main(argc - 1, argv + 1);
    setenv("TIDEMILL_BINARY", "/proc/self/exe", 1);
    log_configure(LOG_ERROR, LOG_FORMAT_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_gets_its_own_rows),
        cmocka_unit_test(more_rows_than_a_microbatch_may_have_go_in_pieces),
        cmocka_unit_test(rows_of_strings_go_in_pieces),
        cmocka_unit_test(a_crash_costs_the_call_that_did_it),
        cmocka_unit_test(a_call_that_hangs_ends_at_the_time_limit),
        cmocka_unit_test(rows_of_other_shapes_are_not_stacked),
        cmocka_unit_test(what_does_not_fit_the_model_is_refused),
        cmocka_unit_test(a_model_of_json_gets_the_request_as_it_is),
        cmocka_unit_test(a_model_that_does_not_load_says_why_to_all),
        cmocka_unit_test(a_model_is_loaded_when_asked_and_let_go_when_not),
        cmocka_unit_test(a_full_queue_answers_at_once),
        cmocka_unit_test(a_stop_answers_all),
        cmocka_unit_test(a_reload_replaces_what_changed_and_answers_who_waits),
        cmocka_unit_test(many_threads_ask_at_once),
        cmocka_unit_test(microbatches_go_when_waiting_is_of_no_use),
        cmocka_unit_test(who_left_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
