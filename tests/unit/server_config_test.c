/* SPDX-License-Identifier: Apache-2.0 */
/* server_config_test.c - tidemill.yaml: what it sets, what is set where it says nothing, and where paths
 * lead. */
#include "config_disk.h"
#include "expect.h"

static struct server_config *load(const char *yaml, const char *row)
{
    struct server_config *config;
    struct simdisk *disk = config_disk(yaml);
    expect_fine(server_config_load(simdisk_io(disk), CONFIG_PATH, &config), row);
    simdisk_free(disk);
    return config;
}

static void one_line_is_a_server(void **unused)
{
    (void)unused;
    struct server_config *config = load("models: {digits: {model: digits.onnx}}", "one line");
    assert_int_equal(config->listen.n, 1);
    assert_string_equal(config->listen.items[0], "127.0.0.1:8080");
    assert_string_equal(config->path, CONFIG_PATH);
    assert_string_equal(config->data, "etc/tidemill-data");
    assert_null(config->resp);
    assert_null(config->tls_certificate);
    assert_false(config->is_insecure || config->needs_key || config->webhooks_private);
    assert_int_equal(config->jobs_max, 2);
    assert_true(config->file_bytes_max == (int64_t)16 << 30);
    assert_int_equal(config->body_bytes_max, 64 << 20);
    assert_true(config->batch_retention_ms == INT64_C(30) * 86400000);
    assert_int_equal(config->cache_bytes, 1 << 30);
    assert_int_equal(config->stop_ms, 30000);
    assert_int_equal(config->loops, 0);
    assert_null(config->webhook.url);

    assert_int_equal(config->n_models, 1);
    const struct model_config *model = server_config_model(config, "digits");
    assert_ptr_equal(model, &config->models[0]);
    assert_string_equal(model->spec.model, "etc/digits.onnx");
    assert_int_equal(model->spec.input_format, 1); /* jsonl */
    assert_int_equal(model->keep_warm_ms, 600000);
    assert_true(model->is_sync);
    assert_int_equal(model->max_batch, 32);
    assert_int_equal(model->max_delay_us, 2000);
    assert_int_equal(model->queue_max, 1024);
    assert_string_equal(model->owner, "tidemill");

    assert_int_equal(config->n_queues, 1);
    const struct queue_config *queue = server_config_queue(config, "digits");
    assert_ptr_equal(queue, &config->queues[0]);
    assert_ptr_equal(queue->model, model);
    assert_int_equal(queue->window.every_ms, 300000);
    assert_false(queue->window.has_at);
    assert_true(queue->window.max_records == 0 && queue->window.max_bytes == 0);
    assert_string_equal(queue->zone_name, "UTC");
    assert_null(queue->zone);
    assert_null(queue->tariff);
    assert_int_equal(queue->priority, 0);
    assert_null(queue->max_errors);
    assert_int_equal(queue->retention_ms, 7 * 86400000);
    assert_int_equal(queue->records_max, 1000000);
    assert_null(queue->key_field);
    assert_int_equal(queue->ttl_ms, 0);
    assert_int_equal(queue->on_miss, ON_MISS_404);
    assert_null(queue->default_value);
    assert_int_equal(queue->n_sinks, 0);
    assert_null(server_config_model(config, "other"));
    assert_null(server_config_queue(config, "other"));
    server_config_free(config);
}

/* Queues stand before the models that they name, as people may write them. */
static const char whole[] =
    "listen: [\"127.0.0.1:80\", \"[::1]:80\", \"unix:/run/t.sock\"]\n"
    "data: /var/lib/tidemill\n"
    "resp: 127.0.0.1:6379\n"
    "tls: {certificate: tls/cert.pem, key: /keys/key.pem}\n"
    "insecure: yes\n"
    "require_key: true\n"
    "jobs: 3\n"
    "max_file_bytes: 0\n"
    "max_body_bytes: 1MiB\n"
    "retention: 2d\n"
    "cache_bytes: 2GiB\n"
    "stop_timeout: 0\n"
    "loops: 4\n"
    "webhook: {url: \"https://example.com/hook\", secret_env: HOOK_SECRET}\n"
    "queues:\n"
    "  nightly:\n"
    "    model: big\n"
    "    window: {every: 24h, at: \"0 22 * * 1-5\", max_records: 1000, max_bytes: 1GiB}\n"
    "    time_zone: Europe/Berlin\n"
    "    hours: [\"22:00-06:00\", \"12:00-13:00\"]\n"
    "    tariff:\n"
    "      - {hours: \"00:00-05:00\", factor: 0.5}\n"
    "      - {hours: \"04:00-05:00\", factor: 0.25}\n"
    "    priority: -5\n"
    "    max_errors: 1%\n"
    "    retention: 1h\n"
    "    max_waiting: 10\n"
    "    key_field: user\n"
    "    ttl: 5m\n"
    "    on_miss: default\n"
    "    default: {label: \"none\", score: 0, list: [true, null, \"7\", x, -1.5e3, 007]}\n"
    "    webhook: {url: \"https://example.com/other\"}\n"
    "    sinks:\n"
    "      - jsonl: out/all.jsonl\n"
    "      - directory: /srv/out\n"
    "      - redis: redis://localhost:6379/0?prefix=p\n"
    "      - http: http://localhost/in\n"
    "  soon:\n"
    "    model: digits\n"
    "    on_miss: enqueue\n"
    "models:\n"
    "  big: {model: \"http://gpu:8000/v1\", price_in: 0.1, price-out: 0.2, max_errors: 5,\n"
    "        keep: [user, \"a,b\"], header: [\"X-A: 1\"], owner: us, keep_warm: always}\n"
    "  digits:\n"
    "    model: /models/d.onnx\n"
    "    threads: 2\n"
    "    batch: 64\n"
    "    post: softmax\n"
    "    labels: labels.txt\n"
    "    tokenizer: none\n"
    "    cache: shared\n"
    "    keep_warm: 0\n"
    "    sync: {enabled: false, max_batch: 8, max_delay: 500us, queue: 5}\n"
    "  program: {model: \"exec:./answer.py --fast\"}\n";

static void all_of_the_server(void **unused)
{
    (void)unused;
    struct server_config *config = load(whole, "whole");
    assert_int_equal(config->listen.n, 3);
    assert_string_equal(config->listen.items[2], "unix:/run/t.sock");
    assert_string_equal(config->data, "/var/lib/tidemill");
    assert_string_equal(config->resp, "127.0.0.1:6379");
    assert_string_equal(config->tls_certificate, "etc/tls/cert.pem");
    assert_string_equal(config->tls_key, "/keys/key.pem");
    assert_true(config->is_insecure && config->needs_key);
    assert_int_equal(config->jobs_max, 3);
    assert_int_equal(config->file_bytes_max, 0);
    assert_int_equal(config->body_bytes_max, 1 << 20);
    assert_int_equal(config->batch_retention_ms, 2 * 86400000);
    assert_true(config->cache_bytes == (int64_t)2 << 30);
    assert_int_equal(config->stop_ms, 0);
    assert_int_equal(config->loops, 4);
    assert_string_equal(config->webhook.url, "https://example.com/hook");
    assert_string_equal(config->webhook.secret_variable, "HOOK_SECRET");
    server_config_free(config);
}

static void all_of_a_model(void **unused)
{
    (void)unused;
    struct server_config *config = load(whole, "whole");
    const struct model_config *big = server_config_model(config, "big");
    assert_string_equal(big->spec.model, "http://gpu:8000/v1");
    assert_true(big->spec.usd_in == 0.1 && big->spec.usd_out == 0.2);
    assert_int_equal(big->spec.max_errors_count, 5);
    assert_int_equal(big->spec.keep.n, 3);
    assert_string_equal(big->spec.headers.items[0], "X-A: 1");
    assert_string_equal(big->owner, "us");
    assert_int_equal(big->keep_warm_ms, -1);
    const struct model_config *digits = server_config_model(config, "digits");
    assert_string_equal(digits->spec.model, "/models/d.onnx");
    assert_string_equal(digits->spec.labels, "etc/labels.txt");
    assert_string_equal(digits->spec.tokenizer, "none");
    assert_string_equal(digits->spec.cache, "etc/shared");
    assert_int_equal(digits->spec.threads, 2);
    assert_int_equal(digits->spec.batch, 64);
    assert_int_equal(digits->keep_warm_ms, 0);
    assert_false(digits->is_sync);
    assert_int_equal(digits->max_batch, 8);
    assert_int_equal(digits->max_delay_us, 500);
    assert_int_equal(digits->queue_max, 5);
    assert_string_equal(server_config_model(config, "program")->spec.model,
                        "exec:./answer.py --fast");
    server_config_free(config);
}

static void all_of_a_queue(void **unused)
{
    (void)unused;
    struct server_config *config = load(whole, "whole");
    assert_int_equal(config->n_queues, 3); /* and one for the program, which has none */
    const struct queue_config *queue = server_config_queue(config, "nightly");
    assert_ptr_equal(queue->model, server_config_model(config, "big"));
    assert_int_equal(queue->window.every_ms, 86400000);
    assert_true(queue->window.has_at && queue->window.at.weekdays == 0x3e);
    assert_string_equal(queue->at, "0 22 * * 1-5");
    assert_true(queue->window.max_records == 1000 && queue->window.max_bytes == 1 << 30);
    assert_string_equal(queue->zone_name, "Europe/Berlin");
    assert_int_equal(zone_local(queue->zone, INT64_C(1767225600000)).hour, 1);
    const struct tariff *tariff = queue->tariff;
    assert_true(tariff->is_allowed[0] && tariff->is_allowed[725] && !tariff->is_allowed[720 - 1]);
    assert_true(tariff->factor[0] == 0.5F && tariff->factor[245] == 0.25F);
    assert_true(tariff->factor[300] == 1);
    assert_int_equal(queue->priority, -5);
    assert_string_equal(queue->max_errors, "1%");
    assert_int_equal(queue->retention_ms, 3600000);
    assert_int_equal(queue->records_max, 10);
    assert_string_equal(queue->key_field, "user");
    assert_int_equal(queue->ttl_ms, 300000);
    assert_int_equal(queue->on_miss, ON_MISS_DEFAULT);
    assert_string_equal(queue->default_value, "{\"label\":\"none\",\"score\":0,"
                                              "\"list\":[true,null,\"7\",\"x\",-1.5e3,\"007\"]}");
    assert_string_equal(queue->webhook.url, "https://example.com/other");
    assert_null(queue->webhook.secret_variable);
    static const char *const sinks[][2] = {{"jsonl", "etc/out/all.jsonl"},
                                           {"directory", "/srv/out"},
                                           {"redis", "redis://localhost:6379/0?prefix=p"},
                                           {"http", "http://localhost/in"}};
    assert_int_equal(queue->n_sinks, COUNT_OF(sinks));
    for (size_t i = 0; i < COUNT_OF(sinks); i++) {
        assert_string_equal(queue->sinks[i].kind, sinks[i][0]);
        assert_string_equal(queue->sinks[i].to, sinks[i][1]);
    }
    assert_int_equal(server_config_queue(config, "soon")->on_miss, ON_MISS_ENQUEUE);
    assert_int_equal(server_config_queue(config, "soon")->window.every_ms, 300000);
    assert_non_null(server_config_queue(config, "program"));
    assert_null(server_config_queue(config, "digits"));
    server_config_free(config);
}

/* A window that names only how full it may be closes when it is, and by no clock. */
static void a_window_has_only_what_it_names(void **unused)
{
    (void)unused;
    struct server_config *config = load("models: {a: {model: echo}}\n"
                                        "queues: {a: {window: {max_records: 5}}}\n",
                                        "records alone");
    assert_int_equal(config->queues[0].window.every_ms, 0);
    assert_true(window_close_at(&config->queues[0].window, NULL, 0) == INT64_MAX);
    server_config_free(config);
}

static void check_shows_when_windows_close(void **unused)
{
    (void)unused;
    struct server_config *config = load(whole, "whole");
    struct buffer out = {0};
    server_config_print(config, INT64_C(1774656000000), &out); /* Saturday, 28 March 2026 */
    buffer_byte(&out, '\0');
    static const char *const parts[] = {
        "etc/tidemill.yaml: 3 models, 3 queues\n",
        "listens at  https://127.0.0.1:80, https://[::1]:80, unix:/run/t.sock, "
        "redis://127.0.0.1:6379\n",
        "keeps in    /var/lib/tidemill\n",
        "model digits\n  is          /models/d.onnx\n  at once     no, in jobs only\n",
        "  stays       always\n",
        "queue nightly\n  model       big\n"
        "  closes      every 1d, at '0 22 * * 1-5' (Europe/Berlin), at 1000 records, at 1073741824 "
        "bytes\n",
        "  next        Sun 2026-03-29 01:00 +01:00, Mon 2026-03-30 02:00 +02:00, "
        "Mon 2026-03-30 22:00 +02:00\n",
        "  runs        12:00-13:00, 22:00-00:00, 00:00-04:00 at 0.5 of the price, 04:00-05:00 at "
        "0.25 of the price, 05:00-06:00 (Europe/Berlin)\n",
        "  an hour's   Sun 2026-03-29 04:00 +02:00 for 1h, at 0.25 of the price\n",
        "  sends to    directory /srv/out\n",
        "queue soon\n  model       digits\n  closes      every 5m\n"
        "  next        Sat 2026-03-28 00:05 UTC",
    };
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        if (strstr(out.data, parts[i]) == NULL) fail_msg("no '%s' in:\n%s", parts[i], out.data);
    buffer_free(&out);
    server_config_free(config);
}

static void paths_are_seen_from_the_files_folder(void **unused)
{
    (void)unused;
    static const char yaml[] = "models: {a: {model: m.onnx}}";
    static const struct {
        const char *path, *model, *data;
    } rows[] = {
        {"tidemill.yaml", "m.onnx", "tidemill-data"},
        {"/etc/tidemill/t.yaml", "/etc/tidemill/m.onnx", "/etc/tidemill/tidemill-data"},
        {"../t.yaml", "../m.onnx", "../tidemill-data"},
        {"/t.yaml", "/m.onnx", "/tidemill-data"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct simdisk *disk = simdisk_new();
        struct server_config *config;
        simdisk_put(disk, rows[i].path, yaml, sizeof yaml - 1);
        simdisk_put(disk, rows[i].model, "", 0);
        expect_fine(server_config_load(simdisk_io(disk), rows[i].path, &config), rows[i].path);
        expect_text(config->data, rows[i].data, rows[i].path);
        expect_text(config->models[0].spec.model, rows[i].model, rows[i].path);
        server_config_free(config);
        simdisk_free(disk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_line_is_a_server),
        cmocka_unit_test(all_of_the_server),
        cmocka_unit_test(all_of_a_model),
        cmocka_unit_test(all_of_a_queue),
        cmocka_unit_test(a_window_has_only_what_it_names),
        cmocka_unit_test(check_shows_when_windows_close),
        cmocka_unit_test(paths_are_seen_from_the_files_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
