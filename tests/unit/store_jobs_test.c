/* SPDX-License-Identifier: Apache-2.0 */
/* store_jobs_test.c - a job's row: what comes back, who may change it, pages, scans, retention. And a
 * random walk through the states beside a model of it. */
#include "store_steps.h"

#define BIT(state) (1u << (state))

static void expect_job(const struct store_job *found, const struct store_job *expected)
{
    expect_text(found->id, expected->id, "id");
    expect_text(found->tenant, expected->tenant, "tenant");
    expect_text(found->queue, expected->queue, "queue");
    expect_text(found->model, expected->model, "model");
    expect_text(found->input_file, expected->input_file, "input");
    expect_text(found->output_file, expected->output_file, "output");
    expect_text(found->error_file, expected->error_file, "errors");
    expect_text(found->details, expected->details, "details");
    assert_int_equal(found->state, expected->state);
    assert_int_equal(found->priority, expected->priority);
    assert_int_equal(found->created_at, expected->created_at);
    assert_int_equal(found->ready_at, expected->ready_at);
    assert_int_equal(found->deadline_at, expected->deadline_at);
    assert_memory_equal(&found->counts, &expected->counts, sizeof found->counts);
    assert_int_equal(found->bytes, expected->bytes);
    assert_int_equal(found->tokens_in, expected->tokens_in);
    assert_int_equal(found->tokens_cached, expected->tokens_cached);
    assert_int_equal(found->tokens_out, expected->tokens_out);
    assert_true(found->cost_usd == expected->cost_usd);
    assert_true(found->budget_usd == expected->budget_usd);
}

static struct store_job full_job(const char *id)
{
    struct store_job job = job_of(id, "t", STORE_VALIDATING);
    snprintf(job.queue, sizeof job.queue, "night");
    snprintf(job.input_file, sizeof job.input_file, "file-in");
    snprintf(job.output_file, sizeof job.output_file, "file-out");
    snprintf(job.error_file, sizeof job.error_file, "file-err");
    job.priority = -3;
    job.created_at = 11;
    job.ready_at = 12;
    job.deadline_at = 13;
    job.counts = (struct store_counts){10, 1, 2, 3, 4};
    job.bytes = UINT64_C(1) << 40;
    job.tokens_in = 5;
    job.tokens_cached = 6;
    job.tokens_out = 7;
    job.cost_usd = 0.1;
    job.budget_usd = 1e9;
    job.details = (char *)(uintptr_t) "{\"metadata\":{\"a\":\"\xc3\xa4'; DROP TABLE jobs\"}}";
    return job;
}

static void a_job_comes_back_whole(void **state)
{
    struct fixture f;
    struct store_job job = full_job("batch_1");
    (void)state;
    fixture_begin(&f);
    expect_fine(store_job_add(f.store, &job), "add");
    for (int i = 0; i < 2; i++) {
        struct store_job found = get_job(f.store, "batch_1");
        expect_job(&found, &job);
        assert_int_equal(found.state_at[STORE_VALIDATING], 11);
        store_job_free(&found);
        fixture_reopen(&f);
    }
    expect_error(store_job_add(f.store, &job), ERROR_EXISTS, "batch_1", "twice");
    fixture_end(&f);
}

static void a_foreign_job_is_not_found(void **state)
{
    struct fixture f;
    struct store_job job = full_job("batch_1"), found;
    bool is_found;
    (void)state;
    fixture_begin(&f);
    expect_fine(store_job_add(f.store, &job), "add");
    expect_fine(store_job_get(f.store, "t", "batch_1", &found, &is_found), "own");
    assert_true(is_found);
    store_job_free(&found);
    expect_fine(store_job_get(f.store, "u", "batch_1", &found, &is_found), "foreign");
    assert_false(is_found);
    assert_null(found.details);
    expect_fine(store_job_get(f.store, NULL, "batch_2", &found, &is_found), "none");
    assert_false(is_found);
    expect_fine(store_job_delete(f.store, "u", "batch_1", &is_found), "delete a foreign one");
    assert_false(is_found);
    fixture_end(&f);
}

static void bad_jobs_are_refused(void **state)
{
    struct fixture f;
    (void)state;
    fixture_begin(&f);
    struct store_job path = full_job("../x"), tenant = full_job("b"), open = full_job("b"),
                     window = full_job("b"), range = full_job("b"), queue = full_job("b");
    tenant.tenant[0] = '\0';
    open.state = STORE_OPEN;
    window.kind = STORE_WINDOW;
    range.state = STORE_STATES;
    queue.queue[0] = '/';
    expect_error(store_job_add(f.store, &path), ERROR_USAGE, NULL, "an id that is a path");
    expect_error(store_job_add(f.store, &tenant), ERROR_USAGE, NULL, "no tenant");
    expect_error(store_job_add(f.store, &open), ERROR_USAGE, NULL, "a batch that collects");
    expect_error(store_job_add(f.store, &window), ERROR_USAGE, NULL, "a window");
    expect_error(store_job_add(f.store, &range), ERROR_USAGE, NULL, "no such state");
    expect_error(store_job_add(f.store, &queue), ERROR_USAGE, NULL, "a queue that is a path");
    fixture_end(&f);
}

static void an_end_is_final_but_for_a_retry(void **state)
{
    struct fixture f;
    struct store_job job = full_job("batch_1");
    bool is_done;
    (void)state;
    fixture_begin(&f);
    expect_fine(store_job_add(f.store, &job), "add");
    job.state = STORE_FAILED;
    job.counts.failed = 5;
    expect_fine(store_job_save(f.store, &job, BIT(STORE_VALIDATING), &is_done), "fail");
    assert_true(is_done);
    struct store_job failed = get_job(f.store, "batch_1");
    assert_true(failed.state_at[STORE_FAILED] > 11);
    for (int to = STORE_VALIDATING; to < STORE_STATES; to++) {
        job.state = (enum store_state)to;
        job.counts.failed = 99;
        expect_fine(store_job_save(f.store, &job, ~STORE_TERMINAL, &is_done), "late");
        assert_false(is_done);
    }
    struct store_job still = get_job(f.store, "batch_1");
    expect_job(&still, &failed);
    job.state = STORE_WAITING;
    job.counts.failed = 0;
    expect_fine(store_job_save(f.store, &job, STORE_TERMINAL, &is_done), "retry");
    assert_true(is_done);
    store_job_free(&still);
    still = get_job(f.store, "batch_1");
    assert_int_equal(still.state, STORE_WAITING);
    assert_int_equal(still.state_at[STORE_FAILED], 0);
    assert_int_equal(still.state_at[STORE_VALIDATING], 11);
    store_job_free(&still);
    store_job_free(&failed);
    job.id[6] = '9';
    expect_fine(store_job_save(f.store, &job, ~0u, &is_done), "no such job");
    assert_false(is_done);
    fixture_end(&f);
}

/* Eleven rows of one millisecond: each comes exactly once, in the order in which they were added. */
static void pages_go_on_where_they_ended(void **state)
{
    enum { N = 11 };
    struct fixture f;
    char id[STORE_ID_BYTES];
    (void)state;
    fixture_begin(&f);
    for (int i = 0; i < N; i++) {
        snprintf(id, sizeof id, "batch_%02d", i);
        struct store_job job = full_job(id);
        if (i == 5) snprintf(job.tenant, sizeof job.tenant, "u");
        if (i == 7) job.queue[0] = '\0';
        expect_fine(store_job_add(f.store, &job), id);
    }
    static const struct {
        const char *tenant, *queue, *prefix, *after, *expected;
        size_t limit;
        bool is_ascending, has_more;
    } rows[] = {
        {NULL, NULL, NULL, NULL, "00 01 02 03 04 05 06 07 08 09 10 ", 100, true, false},
        {NULL, NULL, NULL, NULL, "10 09 08 ", 3, false, true},
        {NULL, NULL, NULL, "batch_08", "07 06 05 ", 3, false, true},
        {NULL, NULL, NULL, "batch_02", "01 00 ", 3, false, false},
        {NULL, NULL, NULL, "batch_02", "01 00 ", 2, false, false},
        {"t", NULL, NULL, "batch_06", "04 03 ", 2, false, true},
        {"t", NULL, NULL, "batch_04", "06 07 ", 2, true, true},
        {"t", NULL, NULL, "batch_05", "", 9, true, false}, /* a foreign one */
        {"u", NULL, NULL, NULL, "05 ", 9, true, false},
        {"t", "night", NULL, "batch_06", "08 09 10 ", 9, true, false},
        {"t", "", NULL, NULL, "07 ", 9, true, false},
        {"t", NULL, "batch_0", "batch_08", "09 ", 9, true, false},
        {"t", NULL, "batch%", NULL, "", 9, true, false},
        {"x", NULL, NULL, NULL, "", 9, true, false},
        {NULL, NULL, NULL, "nothing", "", 9, true, false},
        {NULL, NULL, NULL, NULL, "", 0, true, true},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct store_jobs jobs;
        struct buffer found = {0};
        struct store_page page = {.tenant = rows[i].tenant,
                                  .after = rows[i].after,
                                  .prefix = rows[i].prefix,
                                  .limit = rows[i].limit,
                                  .is_ascending = rows[i].is_ascending};
        snprintf(id, sizeof id, "row %zu", i);
        expect_fine(store_job_list(f.store, &page, STORE_BATCH, rows[i].queue, ~0u, &jobs), id);
        for (size_t k = 0; k < jobs.n; k++) buffer_printf(&found, "%s ", jobs.items[k].id + 6);
        buffer_byte(&found, '\0');
        expect_text(found.data, rows[i].expected, id);
        assert_int_equal(jobs.has_more, rows[i].has_more);
        buffer_free(&found);
        store_jobs_free(&jobs);
    }
    fixture_end(&f);
}

static void lists_and_scans_choose_by_kind_and_state(void **state)
{
    struct fixture f;
    struct store_jobs jobs;
    struct store_page page = {.limit = 9, .is_ascending = true};
    (void)state;
    fixture_begin(&f);
    struct store_job waiting = full_job("batch_w"), ended = full_job("batch_e");
    waiting.state = STORE_WAITING;
    ended.state = STORE_COMPLETED;
    struct store_accept accept = accept_of("night", "t", "1\n2\n");
    expect_fine(store_job_add(f.store, &waiting), "add");
    expect_fine(store_job_add(f.store, &ended), "add");
    expect_fine(accept_and_wait(f.store, &accept), "accept");
    expect_fine(store_job_list(f.store, &page, STORE_WINDOW, "night", ~0u, &jobs), "windows");
    assert_int_equal(jobs.n, 1);
    assert_int_equal(jobs.items[0].counts.total, 2);
    store_jobs_free(&jobs);
    expect_fine(store_job_list(f.store, &page, STORE_BATCH, NULL, STORE_TERMINAL, &jobs), "ended");
    assert_int_equal(jobs.n, 1);
    expect_text(jobs.items[0].id, "batch_e", "ended");
    store_jobs_free(&jobs);
    expect_fine(store_job_scan(f.store, ~STORE_TERMINAL, &jobs), "alive");
    assert_int_equal(jobs.n, 2);
    expect_text(jobs.items[0].id, "batch_w", "the older one first");
    store_jobs_free(&jobs);
    expect_fine(store_job_scan(f.store, ~0u, &jobs), "all");
    assert_int_equal(jobs.n, 3);
    store_jobs_free(&jobs);
    expect_fine(store_job_scan(f.store, BIT(STORE_RUNNING), &jobs), "none");
    assert_int_equal(jobs.n, 0);
    store_jobs_free(&jobs);
    fixture_end(&f);
}

/* --- the end ---------------------------------------------------------------------------------------- */

static bool has_file(struct store *store, const char *id)
{
    struct store_file file;
    bool is_found;
    char *path;
    expect_fine(store_file_get(store, NULL, id, &file, &is_found), id);
    store_file_free(&file);
    expect_fine(store_file_path(store, id, &path), id);
    assert_int_equal(io_exists(&io_local, path), is_found);
    free(path);
    return is_found;
}

static void finish(struct fixture *f, struct store_job *job, const char *output, bool expect_done)
{
    struct store_upload *uploads[2];
    struct store_file files[2] = {{.purpose = "batch_output"}, {.purpose = "batch_output"}};
    bool is_done;
    for (int i = 0; i < 2; i++) {
        memcpy(files[i].tenant, job->tenant, sizeof files[i].tenant);
        expect_fine(store_upload_new(f->store, &uploads[i]), "upload");
        expect_fine(store_upload_write(uploads[i], output, strlen(output)), "write");
        store_new_id("file-", files[i].id);
    }
    memcpy(job->output_file, files[0].id, sizeof job->output_file);
    memcpy(job->error_file, files[1].id, sizeof job->error_file);
    job->state = STORE_COMPLETED;
    expect_fine(store_job_finish(f->store, job, BIT(STORE_FINALIZING), uploads, files, 2, &is_done),
                "finish");
    assert_int_equal(is_done, expect_done);
    for (int i = 0; i < 2; i++) assert_int_equal(has_file(f->store, files[i].id), expect_done);
}

static void files_of_a_job_come_with_its_end(void **state)
{
    struct fixture f;
    (void)state;
    fixture_begin(&f);
    struct store_job job = full_job("batch_1");
    expect_fine(store_job_add(f.store, &job), "add");
    finish(&f, &job, "a\n", false); /* it is validating */
    job.state = STORE_FINALIZING;
    bool is_done;
    expect_fine(store_job_save(f.store, &job, ~STORE_TERMINAL, &is_done), "finalize");
    finish(&f, &job, "a\n", true);
    struct store_job first = get_job(f.store, "batch_1");
    finish(&f, &job, "b\n", false); /* twice */
    struct store_job second = get_job(f.store, "batch_1");
    expect_job(&second, &first);
    store_job_free(&first);
    store_job_free(&second);
    fixture_end(&f);
}

static void what_ended_long_ago_goes_with_all_it_left(void **state)
{
    struct fixture f;
    size_t n;
    char *folder, *inner;
    bool is_done;
    (void)state;
    fixture_begin(&f);
    struct store_file input = {0}, shared = {0};
    expect_fine(upload(f.store, "t", "x\n", &input), "input");
    expect_fine(upload(f.store, "t", "y\n", &shared), "shared input");
    struct store_job job = full_job("batch_1"), other = full_job("batch_2");
    job.state = STORE_FINALIZING;
    memcpy(job.input_file, input.id, sizeof job.input_file);
    memcpy(other.input_file, shared.id, sizeof other.input_file);
    expect_fine(store_job_add(f.store, &job), "add");
    expect_fine(store_job_add(f.store, &other), "add");
    finish(&f, &job, "a\n", true);
    expect_fine(store_job_folder(f.store, "batch_1", &folder), "folder");
    assert_true(asprintf(&inner, "%s/inner", folder) > 0);
    expect_fine(io_make_directory(&io_local, inner, 0700), "inner");
    free(inner);
    assert_true(asprintf(&inner, "%s/inner/file", folder) > 0);
    tempdir_write(inner, "x", 1);
    struct store_delivery delivery = {.id = "evt_1", .job = "batch_1", .next_at = 5};
    delivery.target = delivery.body = (char *)(uintptr_t) "x";
    expect_fine(store_delivery_add(f.store, &delivery), "delivery");
    expect_fine(store_job_purge(f.store, NULL, job.created_at, &n), "too early");
    assert_int_equal(n, 0);
    expect_fine(store_job_purge(f.store, "day", INT64_MAX, &n), "another queue");
    assert_int_equal(n, 0);
    expect_fine(store_job_purge(f.store, "night", INT64_MAX, &n), "purge");
    assert_int_equal(n, 1);
    assert_false(io_exists(&io_local, folder));
    assert_false(has_file(f.store, job.output_file));
    assert_false(has_file(f.store, input.id));
    assert_true(has_file(f.store, shared.id));
    struct store_delivery *due;
    expect_fine(store_delivery_due(f.store, INT64_MAX, 9, &due, &n), "due");
    assert_int_equal(n, 0);
    store_deliveries_free(due, n);
    struct store_job left = get_job(f.store, "batch_2");
    store_job_free(&left);
    expect_fine(store_job_delete(f.store, "t", "batch_2", &is_done), "it has not ended");
    assert_false(is_done);
    other.state = STORE_FAILED;
    expect_fine(store_job_save(f.store, &other, ~0u, &is_done), "fail");
    expect_fine(store_job_delete(f.store, "t", "batch_2", &is_done), "delete");
    assert_true(is_done);
    assert_false(has_file(f.store, shared.id));
    free(inner);
    free(folder);
    store_file_free(&input);
    store_file_free(&shared);
    fixture_end(&f);
}

static void a_purged_window_takes_its_records_along(void **state)
{
    struct fixture f;
    size_t n;
    bool is_done;
    char *path;
    (void)state;
    fixture_begin(&f);
    struct store_accept accept = accept_of("q", "t", "1\n");
    expect_fine(accept_and_wait(f.store, &accept), "accept");
    struct store_job job = get_job(f.store, accept.window);
    job.state = STORE_CANCELLED;
    expect_fine(store_job_save(f.store, &job, ~0u, &is_done), "cancel");
    expect_fine(store_window_path(f.store, accept.window, &path), "path");
    assert_true(io_exists(&io_local, path));
    expect_fine(store_job_purge(f.store, "q", INT64_MAX, &n), "purge");
    assert_int_equal(n, 1);
    assert_false(io_exists(&io_local, path));
    fixture_reopen(&f);
    free(path);
    store_job_free(&job);
    fixture_end(&f);
}

/* --- a random walk ------------------------------------------------------------------------------------ */

enum { JOBS = 8, STEPS = 1500 };

struct model {
    enum store_state state;
    uint64_t completed;
    int64_t state_at[STORE_STATES];
    double spent;
};

static void walk_one(struct fixture *f, uint64_t *seed, struct model *model, const char *id)
{
    bool is_done;
    unsigned from = (unsigned)random_below(seed, 1u << STORE_STATES);
    struct store_job job = full_job(id);
    job.state = (enum store_state)(1 + random_below(seed, STORE_STATES - 1));
    job.counts.completed = random_below(seed, 1000);
    job.cost_usd = (double)random_below(seed, 100);
    bool is_expected = (from >> model->state & 1) != 0;
    struct store_job old = get_job(f->store, id);
    expect_fine(store_job_save(f->store, &job, from, &is_done), id);
    assert_int_equal(is_done, is_expected);
    if (is_done) {
        bool is_retry = model->state >= STORE_COMPLETED && job.state < STORE_COMPLETED;
        for (int i = STORE_COMPLETED; i < STORE_STATES && is_retry; i++) model->state_at[i] = 0;
        if (job.cost_usd > old.cost_usd) model->spent += job.cost_usd - old.cost_usd;
        model->state = job.state;
        model->completed = job.counts.completed;
    }
    struct store_job found = get_job(f->store, id);
    assert_int_equal(found.state, model->state);
    assert_int_equal(found.counts.completed, model->completed);
    assert_true(found.state_at[found.state] > 0);
    for (int i = 0; i < STORE_STATES; i++) {
        if (model->state_at[i] != 0) assert_int_equal(found.state_at[i], model->state_at[i]);
        if (is_done && i != (int)model->state && model->state_at[i] == 0)
            assert_int_equal(found.state_at[i], 0);
        model->state_at[i] = found.state_at[i];
    }
    store_job_free(&old);
    store_job_free(&found);
}

static void a_job_goes_only_where_it_may(void **state)
{
    struct fixture f;
    struct model models[JOBS] = {0};
    uint64_t seed = random_seed("a_job_goes_only_where_it_may");
    char id[STORE_ID_BYTES];
    double spent = 0, usd;
    (void)state;
    fixture_begin(&f);
    for (int i = 0; i < JOBS; i++) {
        snprintf(id, sizeof id, "batch_%d", i);
        struct store_job job = full_job(id);
        job.cost_usd = 0;
        expect_fine(store_job_add(f.store, &job), id);
        models[i] = (struct model){.state = STORE_VALIDATING, .completed = 1};
        models[i].state_at[STORE_VALIDATING] = 11;
    }
    for (int step = 0; step < STEPS; step++) {
        int i = (int)random_below(&seed, JOBS);
        snprintf(id, sizeof id, "batch_%d", i);
        walk_one(&f, &seed, &models[i], id);
        if (random_below(&seed, 300) == 0) fixture_reopen(&f);
    }
    for (int i = 0; i < JOBS; i++) spent += models[i].spent;
    expect_fine(store_spent(f.store, "t", 0, &usd), "spent");
    assert_true(spent > 0 && usd == spent);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_comes_back_whole),
        cmocka_unit_test(a_foreign_job_is_not_found),
        cmocka_unit_test(bad_jobs_are_refused),
        cmocka_unit_test(an_end_is_final_but_for_a_retry),
        cmocka_unit_test(pages_go_on_where_they_ended),
        cmocka_unit_test(lists_and_scans_choose_by_kind_and_state),
        cmocka_unit_test(files_of_a_job_come_with_its_end),
        cmocka_unit_test(what_ended_long_ago_goes_with_all_it_left),
        cmocka_unit_test(a_purged_window_takes_its_records_along),
        cmocka_unit_test(a_job_goes_only_where_it_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
