/* SPDX-License-Identifier: Apache-2.0 */
/* server_job_parts_test.c - the small parts of a job: its details, its error lines, how fast models are,
 * and where each record's line stands. */
#include "expect.h"
#include "tempdir.h"

#include "server/job_details.h"
#include "server/job_errors.h"
#include "server/job_hours.h"
#include "server/job_index.h"
#include "server/job_rates.h"

#include <stdlib.h>
#include <string.h>

static struct tempdir folder;

/* --- details ------------------------------------------------------------------------------------ */

static void details_change_and_keep_the_rest(void **unused)
{
    (void)unused;
    struct store_job job = {.details = strdup("{\"endpoint\":\"/v1/x\",\"big\":1e400}")};
    expect_fine(details_set_reason(&job, "paused", "no_space", "/d/a: it is \"full\"", "/d", 3),
                "paused");
    expect_fine(details_set_number(&job, "retries", 2), "retries");
    char *code = details_inner_text(&job, "paused", "code");
    assert_string_equal(code, "no_space");
    assert_int_equal((int)details_inner_number(&job, "paused", "attempts", -1), 3);
    char *message = details_inner_text(&job, "paused", "message");
    assert_string_equal(message, "a: it is \"full\"");
    free(message);
    assert_int_equal((int)details_number(&job, "retries", 0), 2);
    expect_fine(details_set(&job, "paused", NULL), "gone");
    assert_string_equal(job.details, "{\"endpoint\":\"/v1/x\",\"big\":1e400,\"retries\":2}");
    assert_false(details_has(&job, "paused"));
    free(code);
    free(job.details);
}

static void details_that_are_none_begin_anew(void **unused)
{
    (void)unused;
    static const char *const broken[] = {NULL, "", "{", "[1]"};
    for (size_t i = 0; i < COUNT_OF(broken); i++) {
        struct store_job job = {.details = broken[i] == NULL ? NULL : strdup(broken[i])};
        assert_false(details_has(&job, "a"));
        expect_fine(details_set(&job, "a", "[1]"), "set");
        assert_string_equal(job.details, "{\"a\":[1]}");
        free(job.details);
    }
}

/* --- error lines -------------------------------------------------------------------------------- */

static const struct {
    enum store_kind kind;
    const char *engine, *expected;
} lines[] = {
    {STORE_BATCH,
     "{\"id\":\"batch_req_1\",\"custom_id\":\"a\",\"response\":null,\"error\":{\"code\":"
     "\"upstream\","
     "\"message\":\"no\"},\"index\":3,\"line\":4,\"input\":\"/data/files/"
     "file-1\",\"code\":\"upstream\","
     "\"record\":{\"custom_id\":\"a\"}}",
     "{\"id\":\"batch_req_1\",\"custom_id\":\"a\",\"response\":null,\"error\":{\"code\":"
     "\"upstream\","
     "\"message\":\"no\"}}\n"},
    {STORE_WINDOW,
     "{\"id\":4,\"index\":3,\"line\":4,\"input\":\"/data/windows/win_1\",\"code\":\"wrong_type\","
     "\"message\":\"m\",\"record\":{\"x\":1e400}}",
     "{\"id\":4,\"index\":3,\"line\":4,\"code\":\"wrong_type\",\"message\":\"m\","
     "\"record\":{\"x\":1e400}}\n"},
};

static void error_lines_lose_what_is_the_servers(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        struct buffer out = {0};
        struct slice line = {lines[i].engine, strlen(lines[i].engine)};
        expect_fine(job_error_line(lines[i].kind, line, NULL, NULL, &out), "line");
        buffer_byte(&out, '\0');
        assert_string_equal(out.data, lines[i].expected);
        buffer_free(&out);
    }
}

static void records_that_were_not_run_say_why(void **unused)
{
    (void)unused;
    struct buffer one = {0}, again = {0};
    struct store_job job = {.kind = STORE_BATCH, .id = "batch_1"};
    struct job_rest rest = job_rest_of(STORE_EXPIRED);
    struct slice id = {"\"a\\n\"", 5};
    job_rest_line(&job, 7, id, &rest, &one);
    job_rest_line(&job, 7, id, &rest, &again);
    assert_int_equal(one.size, again.size);
    assert_memory_equal(one.data, again.data, one.size); /* nothing of the time in it */
    buffer_byte(&one, '\0');
    assert_non_null(strstr(one.data, "\"custom_id\":\"a\\n\",\"response\":null,\"error\":"
                                     "{\"code\":\"batch_expired\""));
    buffer_reset(&one, SIZE_MAX);
    job.kind = STORE_WINDOW;
    rest = job_rest_of(STORE_STOPPED);
    job_rest_line(&job, 7, (struct slice){0}, &rest, &one);
    buffer_byte(&one, '\0');
    assert_non_null(
        strstr(one.data, "{\"id\":8,\"index\":7,\"line\":8,\"code\":\"budget_exceeded\""));
    buffer_free(&one);
    buffer_free(&again);
}

/* --- rates -------------------------------------------------------------------------------------- */

static void long_jobs_say_more_of_a_models_pace(void **unused)
{
    (void)unused;
    struct rates rates = {0};
    assert_true(rates_pace(&rates, "m").p50_rows_s <= 0);
    const struct job_rate of[] = {{5, 0.5, 1}, {100, 0.1, 1000}, {110, 0.2, 1000}, {40, -1, 300}};
    for (size_t i = 0; i < COUNT_OF(of); i++) expect_fine(rates_add(&rates, "m", &of[i]), "add");
    struct pace pace = rates_pace(&rates, "m");
    assert_int_equal((int)pace.p50_rows_s, 100);
    assert_int_equal((int)pace.p10_rows_s, 40);
    assert_true(pace.usd_row < 0); /* the last job had no price */
    rates_free(&rates);
}

static void rates_outlive_the_server(void **unused)
{
    (void)unused;
    const char *path = tempdir_path(&folder, "rates.json");
    struct rates rates = {0}, read;
    for (int i = 1; i <= RATES_KEPT + 5; i++)
        expect_fine(rates_add(&rates, "a\"b", &(struct job_rate){i, 0.25, 10}), "add");
    expect_fine(rates_add(&rates, "other", &(struct job_rate){7.5, -1, 1}), "add");
    expect_fine(rates_save(&io_local, path, &rates), "save");
    rates_load(&io_local, path, &read);
    assert_int_equal(read.n, 2);
    assert_int_equal(read.models[0].n, RATES_KEPT);
    assert_true(rates_pace(&read, "a\"b").usd_row > 0.2);
    assert_int_equal((int)read.models[0].last[0].rows_s, 6);
    assert_int_equal((int)(10 * rates_pace(&read, "other").p50_rows_s), 75);
    rates_free(&rates);
    rates_free(&read);
    tempdir_write(path, "{\"m\":[[", 7);
    rates_load(&io_local, path, &read);
    assert_int_equal(read.n, 0);
    rates_free(&read);
}

/* --- hours -------------------------------------------------------------------------------------- */

#define HOUR_MS ((int64_t)3600000)
#define MIDNIGHT ((int64_t)1767225600000)

static void jobs_wait_for_cheap_hours_if_they_can(void **unused)
{
    (void)unused;
    struct tariff tariff;
    tariff_init(&tariff);
    expect_fine(tariff_price(&tariff, "22:00-06:00", 0.5), "price");
    struct queue_config queue = {.name = (char *)(uintptr_t) "q", .tariff = &tariff};
    struct server_config config = {.queues = &queue, .n_queues = 1};
    struct store_job job = {.queue = "q", .counts = {.total = 3600}};
    struct pace pace = {.p50_rows_s = 1, .p10_rows_s = 1};
    int64_t noon = MIDNIGHT + 12 * HOUR_MS;
    struct job_hours hours = job_hours_of(&config, &job, &pace, noon);
    assert_true(hours.start_at == MIDNIGHT + 22 * HOUR_MS);
    job.deadline_at = noon + 3 * HOUR_MS; /* it cannot */
    hours = job_hours_of(&config, &job, &pace, noon);
    assert_true(hours.start_at <= noon + 2 * HOUR_MS);
    job.deadline_at = 0;
    assert_true(job_hours_of(&config, &job, &pace, noon + 11 * HOUR_MS).start_at <=
                noon + 11 * HOUR_MS);
    memcpy(job.queue, "", 1); /* of none: any hour */
    assert_true(job_hours_of(&config, &job, &pace, noon).start_at <= noon);
}

static void hours_that_are_not_allowed_are_waited_for(void **unused)
{
    (void)unused;
    struct tariff tariff;
    tariff_init(&tariff);
    expect_fine(tariff_allow(&tariff, "22:00-06:00"), "hours");
    struct queue_config queue = {.name = (char *)(uintptr_t) "q", .tariff = &tariff};
    struct server_config config = {.queues = &queue, .n_queues = 1};
    struct store_job job = {.queue = "q", .counts = {.total = 1}};
    struct pace pace = {0};
    struct job_hours hours = job_hours_of(&config, &job, &pace, MIDNIGHT + 12 * HOUR_MS);
    assert_true(hours.start_at == MIDNIGHT + 22 * HOUR_MS);
    hours = job_hours_of(&config, &job, &pace, MIDNIGHT + 23 * HOUR_MS);
    assert_true(hours.start_at <= MIDNIGHT + 23 * HOUR_MS);
    assert_true(hours.end_at == MIDNIGHT + 30 * HOUR_MS);
}

/* --- where records stand ------------------------------------------------------------------------ */

#define N_RECORDS 3000

static bool is_failed(uint64_t n)
{
    return n % 7 == 3 || (n >= 500 && n < 1100);
}

struct written {
    struct buffer output, errors;
    uint64_t output_at[N_RECORDS + 1], errors_at[N_RECORDS + 1]; /* bytes once so many are done */
    char output_path[128], errors_path[128];
};

static struct written *write_files(void)
{
    struct written *files = calloc(1, sizeof *files);
    assert_non_null(files);
    for (uint64_t n = 0; n < N_RECORDS; n++) {
        struct buffer *out = is_failed(n) ? &files->errors : &files->output;
        buffer_printf(out, "{\"id\":%d,\"%s\":\"%0*d\"}\n", (int)n + 1, is_failed(n) ? "code" : "y",
                      (int)(n % 90) + 1, 0);
        files->output_at[n + 1] = files->output.size;
        files->errors_at[n + 1] = files->errors.size;
    }
    snprintf(files->output_path, sizeof files->output_path, "%s/o.jsonl", folder.path);
    snprintf(files->errors_path, sizeof files->errors_path, "%s/e.jsonl", folder.path);
    tempdir_write(files->output_path, files->output.data, files->output.size);
    tempdir_write(files->errors_path, files->errors.data, files->errors.size);
    return files;
}

static void free_files(struct written *files)
{
    buffer_free(&files->output);
    buffer_free(&files->errors);
    free(files);
}

static void expect_record(struct job_indexes *indexes, const struct written *files, size_t done,
                          uint64_t n)
{
    struct buffer line = {0};
    bool is_error, is_found;
    char head[32];
    const struct index_files of = {files->output_path, files->errors_path, files->output_at[done],
                                   files->errors_at[done]};
    expect_fine(
        job_indexes_find(indexes, &io_local, "win_1", "", &of, n, &line, &is_error, &is_found),
        "find");
    if (is_found != (n < done)) fail_msg("record %d of %d", (int)n, (int)done);
    if (is_found) {
        assert_int_equal(is_error, is_failed(n));
        snprintf(head, sizeof head, "{\"id\":%d,", (int)n + 1);
        assert_true(line.size > strlen(head) && line.data[line.size - 1] == '}');
        assert_memory_equal(line.data, head, strlen(head));
    }
    buffer_free(&line);
}

static void every_record_is_found_as_the_files_grow(void **unused)
{
    (void)unused;
    static const size_t done[] = {0, 1, 256, 257, 700, 1100, 2999, N_RECORDS};
    struct written *files = write_files();
    struct job_indexes indexes;
    job_indexes_init(&indexes);
    for (size_t i = 0; i < COUNT_OF(done); i++) {
        for (uint64_t n = 0; n < N_RECORDS; n += 61) expect_record(&indexes, files, done[i], n);
        if (done[i] > 0) expect_record(&indexes, files, done[i], done[i] - 1);
        expect_record(&indexes, files, done[i], done[i]);
    }
    for (uint64_t n = 0; n < N_RECORDS; n += 7) expect_record(&indexes, files, N_RECORDS, n);
    job_indexes_free(&indexes);
    free_files(files);
}

/* A retry has replaced both files: what was known of the old ones is not used. */
static void files_that_were_replaced_are_read_anew(void **unused)
{
    (void)unused;
    struct written *files = write_files();
    struct job_indexes indexes;
    struct buffer all = {0}, line = {0};
    bool is_error, is_found;
    job_indexes_init(&indexes);
    expect_record(&indexes, files, N_RECORDS, N_RECORDS - 1);
    for (int n = 0; n < N_RECORDS; n++) buffer_printf(&all, "{\"id\":%d,\"y\":2}\n", n + 1);
    tempdir_write(files->output_path, all.data, all.size);
    const struct index_files of = {files->output_path, NULL, all.size, 0};
    expect_fine(
        job_indexes_find(&indexes, &io_local, "win_1", "", &of, 1500, &line, &is_error, &is_found),
        "find");
    assert_true(is_found && !is_error);
    buffer_byte(&line, '\0');
    assert_string_equal(line.data, "{\"id\":1501,\"y\":2}");
    buffer_free(&all);
    buffer_free(&line);
    job_indexes_free(&indexes);
    free_files(files);
}

static void many_jobs_share_few_places(void **unused)
{
    (void)unused;
    struct job_indexes indexes;
    job_indexes_init(&indexes);
    const char *path = tempdir_path(&folder, "one.jsonl");
    tempdir_write(path, "{\"id\":1,\"y\":1}\n", 15);
    for (int i = 0; i < 3 * INDEXES_KEPT; i++) {
        struct buffer line = {0};
        bool is_error, is_found;
        char id[STORE_ID_BYTES];
        const struct index_files of = {path, NULL, 15, 0};
        snprintf(id, sizeof id, "win_%d", i);
        expect_fine(
            job_indexes_find(&indexes, &io_local, id, "", &of, 0, &line, &is_error, &is_found), id);
        assert_true(is_found);
        buffer_free(&line);
    }
    job_indexes_free(&indexes);
}

static int open_folder(void **unused)
{
    (void)unused;
    tempdir_open(&folder);
    return 0;
}

static int close_folder(void **unused)
{
    (void)unused;
    tempdir_close(&folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(details_change_and_keep_the_rest),
        cmocka_unit_test(details_that_are_none_begin_anew),
        cmocka_unit_test(error_lines_lose_what_is_the_servers),
        cmocka_unit_test(records_that_were_not_run_say_why),
        cmocka_unit_test(long_jobs_say_more_of_a_models_pace),
        cmocka_unit_test(rates_outlive_the_server),
        cmocka_unit_test(jobs_wait_for_cheap_hours_if_they_can),
        cmocka_unit_test(hours_that_are_not_allowed_are_waited_for),
        cmocka_unit_test(every_record_is_found_as_the_files_grow),
        cmocka_unit_test(files_that_were_replaced_are_read_anew),
        cmocka_unit_test(many_jobs_share_few_places),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
