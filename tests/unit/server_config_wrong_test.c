/* SPDX-License-Identifier: Apache-2.0 */
/* server_config_wrong_test.c - every mistake in tidemill.yaml is told with its line, exactly. */
#include "config_disk.h"
#include "expect.h"

#define ECHO "models: {a: {model: echo}}\n"
#define QUEUE(body) "models: {a: {model: echo}}\nqueues:\n  q:\n    model: a\n" body
#define MODEL(body) "models:\n  a:\n    model: echo\n" body

static const struct row {
    const char *name, *yaml, *message; /* behind the path */
} rows[] = {
    /* the file */
    {"nothing", "", ":1: the file is empty; it needs models"},
    {"a list", "- a\n", ":1: expected a mapping, 'key: value' a line"},
    {"a word", "models\n", ":1: expected a mapping, 'key: value' a line"},
    {"no models", "jobs: 1\n", ":1: no models: name one, 'models: {NAME: {model: FILE}}'"},
    {"models without one", "models: {}\n",
     ":1: no models: name one, 'models: {NAME: {model: FILE}}'"},
    {"a tab", "models:\n\ta: b\n",
     ":2: not valid YAML: found character that cannot start any token"},
    {"an alias", ECHO "data: &d x\nresp: *d\n", ":3: expected a value, not an alias (*name)"},
    {"a key that is a list", "? [a]\n: b\n", ":1: expected a name before the colon"},
    {"two documents", ECHO "---\n" ECHO, ":2: a second document; one file has one"},
    {"a NUL", ECHO "data: \"a\\0b\"\n", ":2: a NUL inside of a text"},
    {"brackets without end", "a: [[[[[[[[[[[[[[[[[[[[[[\n", ":1: nested too deeply"},

    /* keys */
    {"mistyped", ECHO "\nlissen: a\n", ":3: unknown key 'lissen'; did you mean 'listen'?"},
    {"like no other", ECHO "whatsoever: 1\n", ":2: unknown key 'whatsoever' of the server"},
    {"one that belongs elsewhere", ECHO "every: 5m\n",
     ":2: unknown key 'every' of the server; it is one of a window"},
    {"a queue's window, one level up", QUEUE("    every: 5m\n"),
     ":5: unknown key 'every' of a queue; it is one of a window"},
    {"mistyped in a window", QUEUE("    window: {evry: 5m}\n"),
     ":5: unknown key 'evry'; did you mean 'every'?"},
    {"mistyped in a model", MODEL("    thraeds: 2\n"),
     ":4: unknown key 'thraeds'; did you mean 'threads'?"},
    {"mistyped in sync", MODEL("    sync: {enable: true}\n"),
     ":4: unknown key 'enable'; did you mean 'enabled'?"},
    {"twice", ECHO "jobs: 1\njobs: 2\n", ":3: 'jobs' stands twice"},
    {"models twice", ECHO ECHO, ":2: 'models' stands twice"},
    {"twice in a queue", QUEUE("    model: a\n"), ":5: 'model' stands twice"},
    {"an option twice", MODEL("    threads: 1\n    threads: 2\n"), ":5: 'threads' stands twice"},
    {"an option twice, spelled in two ways", MODEL("    max-length: 1\n    max_length: 2\n"),
     ":5: 'max_length' stands twice"},

    /* values of the server */
    {"a word for a number", ECHO "jobs: many\n", ":2: jobs: 'many' is not a whole number"},
    {"a number out of range", ECHO "jobs: 0\n", ":2: jobs: 0 is out of range (1 to 64)"},
    {"a list for a number", ECHO "jobs: [1]\n", ":2: jobs: expected a value, not a list"},
    {"a mapping for a number", ECHO "jobs: {a: 1}\n", ":2: jobs: expected a value, not a mapping"},
    {"no value", ECHO "data:\n", ":2: data: expected a value"},
    {"a size", ECHO "max_file_bytes: 5 apples\n",
     ":2: max_file_bytes: '5 apples' is not a size such as 64MiB"},
    {"a size out of range", ECHO "max_body_bytes: 1\n",
     ":2: max_body_bytes: 1 is out of range (1024 to 4294967296 bytes)"},
    {"a time", ECHO "retention: for ever\n",
     ":2: retention: 'for ever' is not a time such as 5s, 250ms or 2m"},
    {"a truth", ECHO "insecure: maybe\n", ":2: insecure: 'maybe' is not true or false"},
    {"a port alone", ECHO "listen: 8080\n",
     ":2: listen: '8080' is not an address such as 127.0.0.1:8080, [::1]:8080 or unix:PATH"},
    {"a port too large", ECHO "listen: 127.0.0.1:65536\n",
     ":2: listen: '127.0.0.1:65536' is not an address such as 127.0.0.1:8080, [::1]:8080 or "
     "unix:PATH"},
    {"an address of a web page", ECHO "listen: http://127.0.0.1:8080\n",
     ":2: listen: 'http://127.0.0.1:8080' is not an address such as 127.0.0.1:8080, [::1]:8080 or "
     "unix:PATH"},
    {"IPv6 without brackets", ECHO "listen: ::1:8080\n",
     ":2: listen: '::1:8080' is not an address such as 127.0.0.1:8080, [::1]:8080 or unix:PATH"},
    {"nowhere to listen", ECHO "listen: []\n", ":2: listen: an empty list"},
    {"an address twice", ECHO "listen:\n  - localhost:1\n  - localhost:1\n",
     ":4: listen: 'localhost:1' stands twice"},
    {"resp", ECHO "resp: redis\n",
     ":2: resp: 'redis' is not an address such as 127.0.0.1:8080, [::1]:8080 or unix:PATH"},
    {"tls without a key", ECHO "tls: {certificate: tls/cert.pem}\n", ":2: tls: needs key, too"},
    {"tls without a certificate", ECHO "tls: {key: /keys/key.pem}\n",
     ":2: tls: needs certificate, too"},
    {"a certificate that is not there", ECHO "tls:\n  certificate: c.pem\n  key: /keys/key.pem\n",
     ":3: certificate: etc/c.pem is not there"},
    {"a word for tls", ECHO "tls: yes\n", ":2: tls: expected a mapping, 'key: value' a line"},
    {"a webhook without an address", ECHO "webhook: {secret_env: A}\n", ":2: webhook: needs a url"},
    {"the secret itself", ECHO "webhook:\n  url: https://example.com\n  secret_env: whsec_a+b=\n",
     ":4: secret_env: names a variable of the environment; the secret itself does not belong into "
     "this file"},

    /* models */
    {"a file for a model", "models: {a: a.onnx}\n",
     ":1: a: expected a mapping, 'key: value' a line"},
    {"a list of models", "models: [a]\n", ":1: models: expected a mapping, 'NAME: {...}' an item"},
    {"a model without a model", "models:\n  a: {threads: 2}\n",
     ":2: model 'a' names no file or address: model"},
    {"a model that is not there", "models:\n  a:\n    threads: 2\n    model: no.onnx\n",
     ":4: model: etc/no.onnx is not there"},
    {"labels that are not there", MODEL("    labels: no.txt\n"),
     ":4: labels: etc/no.txt is not there"},
    {"a model twice", "models:\n  a: {model: echo}\n  a: {model: echo}\n",
     ":3: model 'a' stands twice (line 2)"},
    {"a name with a slash", "models: {a/b: {model: echo}}\n",
     ":1: model 'a/b': a name has letters, digits, '.', '_' and '-', begins with a letter or "
     "digit, "
     "and is at most 64 long"},
    {"a name of dots", "models: {..: {model: echo}}\n",
     ":1: model '..': a name has letters, digits, '.', '_' and '-', begins with a letter or digit, "
     "and is at most 64 long"},
    {"input", MODEL("    input: a.jsonl\n"),
     ":4: 'input' is not for a server: records come through the server's API"},
    {"input format", MODEL("    input_format: csv\n"),
     ":4: 'input_format' is not for a server: records come through the server's API, as JSON"},
    {"output", MODEL("    output: b.jsonl\n"),
     ":4: 'output' is not for a server: answers go where the server keeps them; `sinks` of a queue "
     "sends them on"},
    {"output format", MODEL("    output-format: csv\n"),
     ":4: 'output-format' is not for a server: who asks for the answers chooses their format"},
    {"errors", MODEL("    errors: e.jsonl\n"),
     ":4: 'errors' is not for a server: failed records are kept with the answers"},
    {"summary", MODEL("    summary: s.json\n"),
     ":4: 'summary' is not for a server: the server tells each job's summary"},
    {"dry run", MODEL("    dry-run: true\n"),
     ":4: 'dry-run' is not for a server: it is for one run; 'tidemill check' looks at all of this "
     "file"},
    {"retry", MODEL("    retry-errors: true\n"),
     ":4: 'retry-errors' is not for a server: a job is retried through the server's API"},
    {"a bad option", MODEL("    batch: many\n"),
     ":4: batch: 'many' is not a whole number or 'auto'"},
    {"a bad choice", MODEL("    nonfinite: maybe\n"),
     ":4: nonfinite: 'maybe' is none of error|null|string"},
    {"a list for one value", MODEL("    batch: [1, 2]\n"),
     ":4: batch: takes one value, not a list"},
    {"a price", MODEL("    price: cheap\n"),
     ":4: price: 'cheap' is neither USD an hour nor a known instance type; 'tidemill prices' lists "
     "them"},
    {"a price of tokens", MODEL("    price-in: cheap\n"),
     ":4: price-in: 'cheap' is not USD for a million tokens"},
    {"a price of tokens, negative", MODEL("    price_out: -1\n"),
     ":4: price-out: '-1' is not USD for a million tokens"},
    {"a share of errors", MODEL("    max_errors: 200%\n"),
     ":4: max-errors: '200%' is not a count or a share such as 1%"},
    {"a precision that it does not have", MODEL("    precision: int8\n"),
     ":4: precision is for ONNX models; echo has its own"},
    {"keep warm", MODEL("    keep_warm: never\n"),
     ":4: keep_warm: 'never' is not a time such as 5s, 250ms or 2m"},
    {"a delay", MODEL("    sync: {max_delay: soon}\n"),
     ":4: max_delay: 'soon' is not a time such as 500us or 2ms"},
    {"a delay of hours", MODEL("    sync: {max_delay: 61s}\n"),
     ":4: max_delay: 61s is longer than 60 s"},
    {"sync", MODEL("    sync: false\n"), ":4: sync: expected a mapping, 'key: value' a line"},

    /* queues */
    {"a model that nobody knows", "models: {digits: {model: echo}}\nqueues:\n  q: {model: digit}\n",
     ":3: model: there is no model 'digit'; did you mean 'digits'?"},
    {"a model like no other", "models: {digits: {model: echo}}\nqueues:\n  q: {model: x}\n",
     ":3: model: there is no model 'x'"},
    {"no model of its name", ECHO "queues:\n  q: {priority: 1}\n",
     ":3: queue 'q': there is no model of its name; name one with model"},
    {"a queue twice", ECHO "queues:\n  a: {}\n  a: {}\n", ":4: queue 'a' stands twice (line 3)"},
    {"another model's name",
     "models: {a: {model: echo}, b: {model: echo}}\nqueues:\n  a: {model: b}\n",
     ":3: queue 'a' runs model 'b', and model 'a' has no queue; give it one"},
    {"a window that never closes", QUEUE("    window: {}\n"),
     ":5: window: never closes; give it every, at, max_records or max_bytes"},
    {"no time", QUEUE("    window: {every: 0}\n"),
     ":5: every: 0 is out of range (10 to 31622400000 ms)"},
    {"cron", QUEUE("    window: {at: \"61 * * * *\"}\n"),
     ":5: at: minute '61' is not *, a number from 0 to 59, or a range such as 0-2"},
    {"cron, too short", QUEUE("    window: {at: 0 22 * *}\n"),
     ":5: at: '0 22 * *' has no weekday; a line is MINUTE HOUR DAY MONTH WEEKDAY"},
    {"30 February", QUEUE("    window: {at: 0 0 30 2 *}\n"),
     ":5: at: '0 0 30 2 *' never comes: no such month has such a day"},
    {"a zone", QUEUE("    time_zone: Europe/Berlyn\n"),
     ":5: time_zone: 'Europe/Berlyn' is no time zone such as Europe/Berlin"},
    {"a way out of the zones' folder", QUEUE("    time_zone: ../../../etc/passwd\n"),
     ":5: time_zone: '../../../etc/passwd' is no time zone such as Europe/Berlin"},
    {"a broken zone", QUEUE("    time_zone: broken\n"),
     ":5: time_zone: /usr/share/zoneinfo/broken: not a time zone's file (TZif): it does not begin "
     "as "
     "one"},
    {"hours", QUEUE("    hours: night\n"), ":5: hours: 'night' is not hours such as 22:00-06:00"},
    {"no hour at all", QUEUE("    hours: 06:00-06:00\n"),
     ":5: hours: '06:00-06:00' names no time; a whole day is 00:00-24:00"},
    {"a tariff that is no list", QUEUE("    tariff: {hours: 1}\n"),
     ":5: tariff: expected a list, '- hours: ...' an item"},
    {"a tariff without a factor", QUEUE("    tariff:\n      - hours: 22:00-06:00\n"),
     ":6: tariff: an item needs hours and factor"},
    {"a factor", QUEUE("    tariff: [{hours: \"22:00-06:00\", factor: half}]\n"),
     ":5: factor: 'half' is not a number"},
    {"a negative factor", QUEUE("    tariff: [{hours: \"22:00-06:00\", factor: -1}]\n"),
     ":5: tariff: a factor is a number from 0 to 1000"},
    {"a priority", QUEUE("    priority: high\n"), ":5: priority: 'high' is not a whole number"},
    {"errors of a queue", QUEUE("    max_errors: few\n"),
     ":5: max_errors: 'few' is not a count or a share such as 1%"},
    {"on_miss", QUEUE("    on_miss: panic\n"),
     ":5: on_miss: 'panic' is none of not_found|default|enqueue"},
    {"no default", QUEUE("    on_miss: default\n"), ":5: on_miss: default needs a value: default"},
    {"a default that is not used", QUEUE("    default: 5\n"),
     ":5: default: is used with 'on_miss: default' only"},
    {"sinks that are no list", QUEUE("    sinks: {jsonl: a}\n"),
     ":5: sinks: expected a list, '- jsonl: PATH' an item"},
    {"an unknown sink", QUEUE("    sinks: [{kafka: a}]\n"), ":5: unknown key 'kafka' of a sink"},
    {"two sinks in one", QUEUE("    sinks:\n      - jsonl: a\n        directory: b\n"),
     ":7: sinks: one sink an item, not also directory"},
    {"an empty sink", QUEUE("    sinks: [{}]\n"), ":5: sinks: an item without a sink"},
    {"a sink's address", QUEUE("    sinks: [{redis: localhost}]\n"),
     ":5: redis: 'localhost' does not begin with redis://HOST"},
    {"a sink's address without a host", QUEUE("    sinks: [{http: \"http:///x\"}]\n"),
     ":5: http: 'http:///x' does not begin with http://HOST"},
    {"a queue's webhook", QUEUE("    webhook: {secret_env: A}\n"), ":5: webhook: needs a url"},
};

static void each_mistake_has_its_line(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct simdisk *disk = config_disk(rows[i].yaml);
        struct server_config *config;
        char expected[512];
        snprintf(expected, sizeof expected, CONFIG_PATH "%s", rows[i].message);
        tidemill_error *error = server_config_load(simdisk_io(disk), CONFIG_PATH, &config);
        if (error == NULL) fail_msg("%s: no error", rows[i].name);
        assert_null(config);
        expect_text(error_message(error), expected, rows[i].name);
        assert_int_equal(error_code_exit_status(error_code_of(error)), 2);
        error_free(error);
        simdisk_free(disk);
    }
    print_message("%zu wrong files\n", COUNT_OF(rows));
}

/* These messages are the address's own: only where they point is ours. */
static void webhooks_go_to_the_public_only(void **unused)
{
    (void)unused;
    static const struct {
        const char *yaml, *begin;
    } hooks[] = {
        {ECHO "webhook:\n  url: http://127.0.0.1/x\n", CONFIG_PATH ":3: url: "},
        {QUEUE("    webhook:\n      url: nonsense\n"), CONFIG_PATH ":6: url: "},
        {QUEUE("    webhook: {url: \"https://10.0.0.1/\"}\n"), CONFIG_PATH ":5: url: "},
        {ECHO "webhooks_private: true\nwebhook:\n  url: http://127.0.0.1/x\n", NULL},
        {ECHO "webhook:\n  url: http://127.0.0.1/x\nwebhooks_private: true\n", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(hooks); i++) {
        struct simdisk *disk = config_disk(hooks[i].yaml);
        struct server_config *config;
        tidemill_error *error = server_config_load(simdisk_io(disk), CONFIG_PATH, &config);
        if (hooks[i].begin == NULL)
            expect_fine(error, hooks[i].yaml);
        else
            expect_error(error, ERROR_USAGE, hooks[i].begin, hooks[i].yaml);
        server_config_free(config);
        simdisk_free(disk);
    }
}

static void a_file_that_is_not_there(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    struct server_config *config;
    expect_error(server_config_load(simdisk_io(disk), "no.yaml", &config), ERROR_USAGE,
                 "no.yaml is not there", "not there");
    size_t size = ((size_t)4 << 20) + 1;
    char *large = malloc(size);
    assert_non_null(large);
    memset(large, '#', size);
    simdisk_put(disk, "large.yaml", large, size);
    expect_error(server_config_load(simdisk_io(disk), "large.yaml", &config), ERROR_IO,
                 "large.yaml", "more than a configuration can need");
    free(large);
    simdisk_free(disk);
}

/* No call of the disk may fail unseen: an error each time, and nothing that leaks. */
static void each_call_may_fail(void **unused)
{
    (void)unused;
    static const char yaml[] = QUEUE("    time_zone: Europe/Berlin\n");
    for (uint64_t nth = 1;; nth++) {
        struct simdisk *disk = config_disk(yaml);
        struct server_config *config;
        simdisk_fail(disk, SIMDISK_READ, nth, SIMDISK_ONCE, 5);
        tidemill_error *error = server_config_load(simdisk_io(disk), CONFIG_PATH, &config);
        bool has_failed = simdisk_has_failed(disk);
        simdisk_free(disk);
        assert_true(has_failed == (error != NULL));
        assert_true(has_failed == (config == NULL));
        error_free(error);
        server_config_free(config);
        if (!has_failed) break;
        assert_true(nth < 20);
    }
}

/* Cut, changed and doubled files: an error or none, but never a crash, a leak or a hang. */
static void any_bytes_are_survived(void **unused)
{
    (void)unused;
    uint64_t random = random_seed(__func__);
    for (int round = 0; round < 3000; round++) {
        char text[2048];
        size_t place = random_below(&random, COUNT_OF(rows));
        snprintf(text, sizeof text, "%s%s", rows[place].yaml,
                 rows[random_below(&random, COUNT_OF(rows))].yaml);
        size_t size = strlen(text);
        if (size > 0 && random_below(&random, 3) == 0) text[random_below(&random, size)] = '\0';
        for (uint64_t changes = random_below(&random, 4); changes > 0 && size > 0; changes--) {
            static const char odd[] = "\n\t :[]{}-&*!|>'\"%@`#?,~\x80\xff";
            text[random_below(&random, size)] = odd[random_below(&random, sizeof odd - 1)];
        }
        struct simdisk *disk = config_disk(text);
        struct server_config *config;
        error_free(server_config_load(simdisk_io(disk), CONFIG_PATH, &config));
        server_config_free(config);
        simdisk_free(disk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_mistake_has_its_line),
        cmocka_unit_test(webhooks_go_to_the_public_only),
        cmocka_unit_test(a_file_that_is_not_there),
        cmocka_unit_test(each_call_may_fail),
        cmocka_unit_test(any_bytes_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
