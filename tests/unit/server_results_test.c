/* SPDX-License-Identifier: Apache-2.0 */
/* server_results_test.c - answers by key: whose they are, how old, and what becomes of a miss. */
#include "results_fakes.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct fake_server server;

static int open_server(void **state)
{
    (void)state;
    fake_open(&server);
    return 0;
}

static int close_server(void **state)
{
    (void)state;
    fake_close(&server);
    return 0;
}

static struct slice slice_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

/* NULL: a miss. The text is good until the next call. */
static const char *value_of(const char *tenant, const char *queue, const char *key)
{
    static struct buffer kept;
    struct result result = {0};
    buffer_free(&kept);
    if (!results_get(server.app.results, tenant, queue, slice_of(key), &result)) {
        buffer_free(&result.value);
        return NULL;
    }
    buffer_byte(&result.value, '\0');
    kept = result.value;
    return kept.data;
}

static void keeps_lines_by_key(void **state)
{
    (void)state;
    fake_put(&server, "a", "plain",
             "{\"id\":\"one\",\"label\":1}\n{\"id\":2,\"label\":2}\n"
             "{\"custom_id\":\"three\",\"label\":3}\n{\"label\":4}\n-\n-\n"
             "{\"id\":\"\\u00e9\",\"label\":5}\n{\"id\":\"last\",\"label\":6}",
             1000);
    assert_string_equal(value_of("a", "plain", "one"), "{\"id\":\"one\",\"label\":1}");
    assert_string_equal(value_of("a", "plain", "2"), "{\"id\":\"2\",\"label\":2}");
    assert_string_equal(value_of("a", "plain", "three"),
                        "{\"id\":\"three\",\"custom_id\":\"three\",\"label\":3}");
    assert_string_equal(value_of("a", "plain", "\xc3\xa9"), "{\"id\":\"\xc3\xa9\",\"label\":5}");
    assert_string_equal(value_of("a", "plain", "last"), "{\"id\":\"last\",\"label\":6}");
    assert_null(value_of("a", "plain", "3")); /* no place is a key */
    assert_null(value_of("a", "plain", ""));
}

/* An output that is not of this window is nobody's answer. */
static void refuses_answers_without_records(void **state)
{
    (void)state;
    static const char *const outputs[] = {"{\"id\":2,\"label\":1}\n", "{\"id\":0,\"label\":1}\n",
                                          "{\"id\":\"one\",\"label\":1}\n", "nonsense\n",
                                          "{\"id\":1,\"label\":1}\n{\"id\":1,\"label\":2}\n"};
    for (size_t i = 0; i < COUNT_OF(outputs); i++) {
        struct store_job job = fake_window("a", "plain", "{\"id\":\"one\"}\n", 1000);
        tempdir_write(tempdir_path(&fake.folder, job.output_file), outputs[i], strlen(outputs[i]));
        tidemill_error *error = results_put_window(server.app.results, &job);
        if (error_code_of(error) != ERROR_CORRUPT) fail_msg("%s", outputs[i]);
        error_free(error);
    }
    assert_null(value_of("a", "plain", "one"));
}

static void replaces_what_a_later_window_answers(void **state)
{
    (void)state;
    fake_put(&server, "a", "plain", "{\"id\":\"one\",\"label\":1}\n", 1000);
    fake_put(&server, "a", "plain", "{\"id\":\"one\",\"label\":2}\n", 2000);
    assert_string_equal(value_of("a", "plain", "one"), "{\"id\":\"one\",\"label\":2}");
    /* Read again after a cache was lost: what is newer stays. */
    struct store_job old = fake_window("a", "plain", "{\"id\":\"one\",\"label\":1}\n", 1000);
    assert_null(results_put_output(server.app.results, &old, true));
    assert_string_equal(value_of("a", "plain", "one"), "{\"id\":\"one\",\"label\":2}");
}

static void keeps_tenants_and_queues_apart(void **state)
{
    (void)state;
    fake_put(&server, "a", "plain", "{\"id\":\"k\",\"of\":\"a\"}\n", 1000);
    assert_null(value_of("b", "plain", "k"));
    assert_null(value_of("a", "usual", "k"));
    /* No way to spell one's way across: the parts are told apart by their ends. */
    assert_null(value_of("aplain", "", "k"));
    assert_null(value_of("", "aplain", "k"));
    fake_put(&server, "b", "plain", "{\"id\":\"k\",\"of\":\"b\"}\n", 1000);
    assert_string_equal(value_of("a", "plain", "k"), "{\"id\":\"k\",\"of\":\"a\"}");
    assert_string_equal(value_of("b", "plain", "k"), "{\"id\":\"k\",\"of\":\"b\"}");
}

static void takes_many_lines(void **state)
{
    (void)state;
    struct buffer lines = {0};
    for (int i = 0; i < 20000; i++) buffer_printf(&lines, "{\"id\":\"k%d\",\"v\":%d}\n", i, i);
    buffer_byte(&lines, '\0');
    fake_put(&server, "a", "plain", lines.data, 1000);
    buffer_free(&lines);
    assert_string_equal(value_of("a", "plain", "k0"), "{\"id\":\"k0\",\"v\":0}");
    assert_string_equal(value_of("a", "plain", "k4096"), "{\"id\":\"k4096\",\"v\":4096}");
    assert_string_equal(value_of("a", "plain", "k19999"), "{\"id\":\"k19999\",\"v\":19999}");
    struct results_stats stats;
    results_stats(server.app.results, &stats);
    assert_int_equal(stats.entries, 20000);
}

struct told {
    struct result_ask ask;
    char id[REQUEST_ID_BYTES];
    int n;
    bool is_error;
};

static void note_told(struct result_ask *ask, const char *request_id, const tidemill_error *error)
{
    struct told *told = ask->context;
    told->n++;
    told->is_error = error != NULL;
    if (request_id != NULL) snprintf(told->id, sizeof told->id, "%s", request_id);
}

static enum result_found find(size_t queue, const char *key, struct told *told)
{
    struct result result = {0};
    if (told != NULL) *told = (struct told){.ask = {.done = note_told, .context = told}};
    enum result_found found =
        results_find(server.app.results, &server.queues[queue], "a", slice_of(key), &result,
                     told == NULL ? NULL : &told->ask);
    buffer_free(&result.value);
    return found;
}

static void accept_last(const char *window, uint64_t first, tidemill_error *error)
{
    struct store_accept *accept = fake.accepts[fake.n_accepts - 1].accept;
    snprintf(accept->window, sizeof accept->window, "%s", window);
    accept->first = first;
    accept->done(accept, error);
}

static void answers_misses_as_the_queue_says(void **state)
{
    (void)state;
    struct told told;
    assert_int_equal(find(0, "k", NULL), RESULT_MISS);
    assert_int_equal(find(1, "k", NULL), RESULT_DEFAULT);
    assert_int_equal(find(2, "say \"hi\"", &told), RESULT_ENQUEUED);
    assert_int_equal(fake.n_accepts, 1);
    assert_string_equal(fake.accepts[0].line, "{\"text\":\"say \\\"hi\\\"\"}\n");
    assert_string_equal(fake.accepts[0].accept->tenant, "a");
    assert_int_equal(told.n, 0);
    accept_last("win_0a", 7, NULL);
    assert_int_equal(told.n, 1);
    assert_string_equal(told.id, "req_0a_7");
    assert_int_equal(fake.settled, 1);
    assert_int_equal(fake.scheduled, 1);
    struct results_stats stats;
    results_stats(server.app.results, &stats);
    assert_int_equal(stats.misses, 1);
    assert_int_equal(stats.defaults, 1);
    assert_int_equal(stats.enqueued, 1);
}

static void asks_once_until_the_window_has_ended(void **state)
{
    (void)state;
    struct told first, second, third;
    find(2, "k", &first);
    find(2, "k", &second); /* while the first is on its way */
    assert_int_equal(fake.n_accepts, 1);
    accept_last("win_0b", 0, NULL);
    assert_string_equal(first.id, "req_0b_0");
    assert_string_equal(second.id, "req_0b_0");
    find(2, "k", &third);
    assert_int_equal(fake.n_accepts, 1);
    assert_string_equal(third.id, "req_0b_0");
    find(2, "other", &third);
    assert_int_equal(fake.n_accepts, 2);
    accept_last("win_0c", 0, NULL);
    /* The window ends without an answer for it. */
    struct store_job job = {.kind = STORE_WINDOW, .state = STORE_FAILED, .id = "win_0b"};
    assert_null(results_put_window(server.app.results, &job));
    find(2, "k", &third);
    assert_int_equal(fake.n_accepts, 3);
    accept_last("win_0d", 0, NULL);
    find(2, "other", &third);
    assert_int_equal(fake.n_accepts, 3);
}

static void tells_who_waits_that_it_cannot_be(void **state)
{
    (void)state;
    struct told told;
    find(2, "k", &told);
    accept_last("", 0, error_new(ERROR_NO_SPACE, "the disk is full"));
    assert_int_equal(told.n, 1);
    assert_true(told.is_error);
    fake.is_full = true;
    find(2, "k", &told);
    assert_int_equal(told.n, 1);
    assert_true(told.is_error);
    assert_int_equal(fake.n_accepts, 1);
    fake.is_full = false; /* nothing is left of the tries before */
    find(2, "k", &told);
    assert_int_equal(fake.n_accepts, 2);
    accept_last("win_0e", 1, NULL);
    assert_string_equal(told.id, "req_0e_1");
}

static void asks_anew_for_what_is_stale(void **state)
{
    (void)state;
    fake.now = 100000;
    fake_put(&server, "a", "asked", "{\"id\":0,\"text\":\"k\",\"label\":1}\n", 100000);
    assert_int_equal(find(2, "k", NULL), RESULT_FRESH);
    fake.now = 110000;
    assert_int_equal(find(2, "k", NULL), RESULT_FRESH);
    fake.now = 110001;
    assert_int_equal(find(2, "k", NULL), RESULT_STALE);
    assert_int_equal(find(2, "k", NULL), RESULT_STALE);
    assert_int_equal(fake.n_accepts, 1);
    accept_last("win_0f", 1, NULL);
}

/* Slots move when others go: nothing may be lost or stay. */
static void remembers_many_keys(void **state)
{
    (void)state;
    char key[16], window[16];
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "k%d", i);
        snprintf(window, sizeof window, "win_%x", i % 3);
        find(2, key, NULL);
        accept_last(window, (uint64_t)i, i % 7 == 0 ? error_new(ERROR_IO, "x") : NULL);
        fake.n_accepts = 0;
    }
    struct store_job job = {.kind = STORE_WINDOW, .state = STORE_FAILED, .id = "win_1"};
    assert_null(results_put_window(server.app.results, &job));
    for (int i = 0; i < 5000; i++) {
        struct told told;
        snprintf(key, sizeof key, "k%d", i);
        find(2, key, &told);
        bool is_gone = i % 7 == 0 || i % 3 == 1;
        assert_int_equal(fake.n_accepts, is_gone);
        if (!is_gone) assert_int_equal(told.n, 1);
        if (is_gone) accept_last("win_9", 0, error_new(ERROR_IO, "x"));
        fake.n_accepts = 0;
    }
}

static void knows_when_a_window_closes(void **state)
{
    (void)state;
    assert_int_equal(results_next_close(server.app.results, &server.queues[2], 60001), 120000);
    assert_int_equal(results_next_close(server.app.results, &server.queues[2], 119999), 120000);
    assert_int_equal(results_next_close(server.app.results, &server.queues[2], 120001), 180000);
    assert_int_equal(results_next_close(server.app.results, &server.queues[2], 60002), 120000);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_server, close_server)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keeps_lines_by_key),
        TEST(refuses_answers_without_records),
        TEST(replaces_what_a_later_window_answers),
        TEST(keeps_tenants_and_queues_apart),
        TEST(takes_many_lines),
        TEST(answers_misses_as_the_queue_says),
        TEST(asks_once_until_the_window_has_ended),
        TEST(tells_who_waits_that_it_cannot_be),
        TEST(asks_anew_for_what_is_stale),
        TEST(remembers_many_keys),
        TEST(knows_when_a_window_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
