/* SPDX-License-Identifier: Apache-2.0 */
/* server_webhook_test.c - what webhooks say, and that they are signed as their receivers check it. */
#include "server/webhook.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include <yyjson.h>

/* From the tests of the Standard Webhooks libraries. */
static void signs_as_the_standard_does(void **state)
{
    (void)state;
    static const char body[] = "{\"test\": 2432232314}";
    char signature[WEBHOOK_SIGNATURE_BYTES];
    tidemill_error *error =
        webhook_sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek",
                     1614265330, (struct slice){body, strlen(body)}, signature);
    assert_null(error);
    assert_string_equal(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

static void refuses_secrets(void **state)
{
    (void)state;
    static const char *const secrets[] = {"", "whsec_", "whsec_AAAA",
                                          "whsec_not base64 at all, but long", "password"};
    char signature[WEBHOOK_SIGNATURE_BYTES];
    for (size_t i = 0; i < COUNT_OF(secrets); i++) {
        tidemill_error *error =
            webhook_sign(secrets[i], "evt_1", 0, (struct slice){"x", 1}, signature);
        assert_int_equal(error_code_of(error), ERROR_USAGE);
        if (i == 3) assert_null(strstr(error_message(error), "not base64"));
        error_free(error);
    }
}

static struct store_job job_of(const char *id, enum store_kind kind, enum store_state state)
{
    struct store_job job = {
        .kind = kind, .state = state, .counts = {.total = 3, .completed = 2, .failed = 1}};
    snprintf(job.id, sizeof job.id, "%s", id);
    snprintf(job.queue, sizeof job.queue, "%s", kind == STORE_WINDOW ? "mails" : "");
    job.state_at[state] = 1700000000999;
    return job;
}

static void says_what_happened(void **state)
{
    (void)state;
    struct store_job job = job_of("batch_1", STORE_BATCH, STORE_COMPLETED);
    struct buffer body = {0};
    webhook_body(&job, "evt_1", &body);
    buffer_byte(&body, '\0');
    assert_string_equal(body.data,
                        "{\"id\":\"evt_1\",\"object\":\"event\",\"type\":\"batch."
                        "completed\",\"created_at\":1700000000,\"data\":{\"id\":\"batch_1\"}}");
    buffer_free(&body);
    body = (struct buffer){0};
    job = job_of("win_1", STORE_WINDOW, STORE_EXPIRED);
    webhook_body(&job, "evt_2", &body);
    yyjson_doc *doc = yyjson_read(body.data, body.size, 0);
    assert_non_null(doc);
    yyjson_val *root = yyjson_doc_get_root(doc);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "type")), "window.expired");
    yyjson_val *data = yyjson_obj_get(root, "data");
    assert_string_equal(yyjson_get_str(yyjson_obj_get(data, "queue")), "mails");
    yyjson_doc_free(doc);
    buffer_free(&body);
    job.state = STORE_RUNNING;
    assert_null(webhook_event_type(&job));
}

static void names_an_event_once(void **state)
{
    (void)state;
    char first[STORE_ID_BYTES], again[STORE_ID_BYTES];
    struct store_job job = job_of("batch_1", STORE_BATCH, STORE_COMPLETED);
    webhook_event_id(&job, "webhook x", first);
    webhook_event_id(&job, "webhook x", again);
    assert_string_equal(first, again);
    assert_int_equal(strlen(first), 36);
    webhook_event_id(&job, "webhook y", again);
    assert_string_not_equal(first, again);
    job.state = STORE_EXPIRED;
    webhook_event_id(&job, "webhook x", again);
    assert_string_not_equal(first, again);
    job = job_of("batch_1", STORE_BATCH, STORE_COMPLETED);
    snprintf(job.output_file, sizeof job.output_file, "file-2"); /* of a retry */
    webhook_event_id(&job, "webhook x", again);
    assert_string_not_equal(first, again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs_as_the_standard_does),
        cmocka_unit_test(refuses_secrets),
        cmocka_unit_test(says_what_happened),
        cmocka_unit_test(names_an_event_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
