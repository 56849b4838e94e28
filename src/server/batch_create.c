/* SPDX-License-Identifier: Apache-2.0 */
/* batch_create.c - POST /v1/batches: a request for a batch, checked and made a job.
 *
 * With an Idempotency-Key the job's id is made from the key, so that who asks again after a lost answer
 * finds the batch that is there, whatever was killed in between. */
#include "server/batch_object.h"

#include <stdio.h>
#include <stdlib.h>

#define METADATA_PAIRS_MAX 16
#define METADATA_KEY_MAX 64
#define METADATA_VALUE_MAX 512
#define WINDOW_MIN_MS 1000
#define HEAD_BYTES ((size_t)256 << 10) /* of a file, for the model of its first line */

static const char *const endpoints[] = {"/v1/responses",    "/v1/chat/completions",
                                        "/v1/embeddings",   "/v1/completions",
                                        "/v1/moderations",  "/v1/images/generations",
                                        "/v1/images/edits", "/v1/videos",
                                        "/v1/rerank",       "/v1/classify"};

struct creation {
    struct app *app;
    struct exchange *exchange;
    yyjson_val *body;
    struct store_job job;
};

#define REFUSE(creation, param, ...)                                                               \
    do {                                                                                           \
        app_refuse((creation)->exchange, 400, NULL, param, __VA_ARGS__);                           \
        return false;                                                                              \
    } while (0)

/* The functions below answer where something is wrong, and return false then. */

static bool read_text(const struct creation *creation, const char *name, const char **ret)
{
    yyjson_val *value = yyjson_obj_get(creation->body, name);
    *ret = yyjson_get_str(value);
    if (value == NULL) REFUSE(creation, name, "Missing required parameter: '%s'.", name);
    if (*ret == NULL) REFUSE(creation, name, "'%s' must be a string", name);
    return true;
}

static bool check_endpoint(const struct creation *creation)
{
    const char *endpoint;
    if (!read_text(creation, "endpoint", &endpoint)) return false;
    for (size_t i = 0; i < COUNT_OF(endpoints); i++)
        if (strcmp(endpoint, endpoints[i]) == 0) return true;
    REFUSE(creation, "endpoint", "'%.64s' is no endpoint of batches", endpoint);
}

static bool read_window(struct creation *creation)
{
    const char *window;
    int64_t length_ms;
    if (!read_text(creation, "completion_window", &window)) return false;
    if (!duration_parse(window, &length_ms) || length_ms < WINDOW_MIN_MS)
        REFUSE(creation, "completion_window",
               "'completion_window' must be a time such as 24h, 90m "
               "or 7d");
    creation->job.deadline_at = creation->job.created_at + length_ms;
    return true;
}

static bool check_metadata(const struct creation *creation)
{
    yyjson_val *metadata = yyjson_obj_get(creation->body, "metadata"), *name, *value;
    size_t i, n;
    if (metadata == NULL || yyjson_is_null(metadata)) return true;
    if (!yyjson_is_obj(metadata)) REFUSE(creation, "metadata", "'metadata' must be an object");
    if (yyjson_obj_size(metadata) > METADATA_PAIRS_MAX)
        REFUSE(creation, "metadata", "'metadata' has more than %d pairs", METADATA_PAIRS_MAX);
    yyjson_obj_foreach(metadata, i, n, name, value)
    {
        if (yyjson_get_len(name) > METADATA_KEY_MAX)
            REFUSE(creation, "metadata", "a key of 'metadata' has more than %d characters",
                   METADATA_KEY_MAX);
        if (!yyjson_is_str(value) || yyjson_get_len(value) > METADATA_VALUE_MAX)
            REFUSE(creation, "metadata",
                   "a value of 'metadata' is no string of at most %d characters",
                   METADATA_VALUE_MAX);
    }
    return true;
}

static bool check_output_expiry(const struct creation *creation)
{
    yyjson_val *after = yyjson_obj_get(creation->body, "output_expires_after");
    if (after == NULL || yyjson_is_null(after)) return true;
    int64_t seconds = yyjson_get_sint(yyjson_obj_get(after, "seconds"));
    if (!yyjson_equals_str(yyjson_obj_get(after, "anchor"), "created_at"))
        REFUSE(creation, "output_expires_after", "'anchor' must be created_at");
    if (seconds < 3600 || seconds > 2592000)
        REFUSE(creation, "output_expires_after", "'seconds' must be from 3600 to 2592000");
    return true;
}

/* A number of US dollars, or text such as "20USD". */
static bool read_budget(struct creation *creation)
{
    yyjson_val *value = yyjson_obj_get(creation->body, "budget");
    if (value == NULL || yyjson_is_null(value)) return true;
    double usd = yyjson_get_num(value);
    if (yyjson_is_str(value)) {
        char *end;
        usd = strtod(yyjson_get_str(value), &end);
        if (end == yyjson_get_str(value) || (*end != '\0' && strcmp(end, "USD") != 0)) usd = 0;
    }
    if (!(usd > 0 && usd < 1e12))
        REFUSE(creation, "budget",
               "'budget' must be a number of US dollars above 0, such as 20 or "
               "\"20USD\"");
    creation->job.budget_usd = usd;
    return true;
}

/* The model that the file's first line names, for the forecast; validation looks at all lines. */
static void peek_model(struct creation *creation, const char *path)
{
    char *head = malloc(HEAD_BYTES);
    int fd = -1;
    size_t size = 0;
    tidemill_error *error = io_open(creation->app->io, path, O_RDONLY, 0, &fd);
    if (error == NULL && head != NULL)
        error = io_read_all(creation->app->io, fd, path, head, HEAD_BYTES, &size);
    io_close(creation->app->io, fd);
    error_free(error);
    char *end = head != NULL ? memchr(head, '\n', size) : NULL;
    yyjson_doc *doc =
        head != NULL ? yyjson_read(head, end != NULL ? (size_t)(end - head) : size, 0) : NULL;
    yyjson_val *body = yyjson_obj_get(yyjson_doc_get_root(doc), "body");
    const char *model = yyjson_get_str(yyjson_obj_get(body, "model"));
    if (model != NULL && server_config_model(creation->app->config, model) != NULL)
        snprintf(creation->job.model, sizeof creation->job.model, "%s", model);
    yyjson_doc_free(doc);
    free(head);
}

static bool find_input(struct creation *creation)
{
    const char *id;
    struct store_file file = {0};
    bool is_found = false;
    char *path = NULL;
    if (!read_text(creation, "input_file_id", &id)) return false;
    tidemill_error *error =
        store_file_get(creation->app->store, creation->job.tenant, id, &file, &is_found);
    if (error == NULL && is_found) error = store_file_path(creation->app->store, id, &path);
    if (error != NULL) {
        app_refuse_error(creation->exchange, error);
        return false;
    }
    if (!is_found) REFUSE(creation, "input_file_id", "No such File object: %.64s", id);
    bool is_batch = strcmp(file.purpose, "batch") == 0;
    snprintf(creation->job.input_file, sizeof creation->job.input_file, "%s", file.id);
    creation->job.bytes = file.bytes;
    creation->job.counts.total = 0; /* validation counts */
    if (is_batch) peek_model(creation, path);
    free(path);
    store_file_free(&file);
    if (!is_batch) REFUSE(creation, "input_file_id", "the file's purpose is not batch");
    return true;
}

/* What the API shows again and the job does not need. */
static bool write_details(struct creation *creation)
{
    static const char *const kept[] = {"endpoint", "completion_window", "metadata",
                                       "output_expires_after"};
    const char *trace = exchange_header(creation->exchange, "traceparent");
    struct slice body = exchange_body(creation->exchange);
    char digest[DIGEST_TEXT_BYTES];
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    digest_text(hash_bytes(body.data, body.size), digest);
    yyjson_mut_obj_add_str(doc, root, "dialect", "openai");
    yyjson_mut_obj_add_strcpy(doc, root, "request", digest);
    for (size_t i = 0; i < COUNT_OF(kept); i++) {
        yyjson_val *value = yyjson_obj_get(creation->body, kept[i]);
        if (value != NULL && !yyjson_is_null(value))
            yyjson_mut_obj_add_val(doc, root, kept[i], yyjson_val_mut_copy(doc, value));
    }
    if (trace != NULL) yyjson_mut_obj_add_strcpy(doc, root, "traceparent", trace);
    creation->job.details = yyjson_mut_write(doc, 0, NULL);
    yyjson_mut_doc_free(doc);
    if (creation->job.details != NULL) return true;
    app_refuse_error(creation->exchange, error_memory());
    return false;
}

static bool fill(struct creation *creation)
{
    struct store_job *job = &creation->job;
    job->kind = STORE_BATCH;
    job->state = STORE_VALIDATING;
    job->created_at = job->ready_at = store_now();
    snprintf(job->tenant, sizeof job->tenant, "%s", app_caller(creation->exchange)->tenant);
    return check_endpoint(creation) && read_window(creation) && check_metadata(creation) &&
           check_output_expiry(creation) && read_budget(creation) && find_input(creation) &&
           write_details(creation);
}

/* --- once under each key ------------------------------------------------------------------------ */

static void id_from_key(const struct creation *creation, const char *key, char id[STORE_ID_BYTES])
{
    const char *tenant = app_caller(creation->exchange)->tenant;
    struct hash_key hash;
    char text[DIGEST_TEXT_BYTES];
    hash_key_start(&hash, (struct digest){0});
    hash_key_add(&hash, "batch", 6);
    hash_key_add(&hash, tenant, strlen(tenant) + 1);
    hash_key_add(&hash, key, strlen(key) + 1);
    digest_text(hash_key_end(&hash), text);
    snprintf(id, STORE_ID_BYTES, "batch_%.24s", text);
}

static bool is_same_request(const struct creation *creation, const struct store_job *job)
{
    struct slice body = exchange_body(creation->exchange);
    char digest[DIGEST_TEXT_BYTES];
    yyjson_doc *doc =
        job->details != NULL ? yyjson_read(job->details, strlen(job->details), 0) : NULL;
    digest_text(hash_bytes(body.data, body.size), digest);
    bool is_same = yyjson_equals_str(yyjson_obj_get(yyjson_doc_get_root(doc), "request"), digest);
    yyjson_doc_free(doc);
    return is_same;
}

/* True: the key was used before, and that has been answered. */
static bool is_repeat(const struct creation *creation)
{
    struct store_job earlier = {0};
    bool is_found = false;
    tidemill_error *error =
        store_job_get(creation->app->store, app_caller(creation->exchange)->tenant,
                      creation->job.id, &earlier, &is_found);
    if (error != NULL) {
        app_refuse_error(creation->exchange, error);
        return true;
    }
    if (!is_found) return false;
    if (is_same_request(creation, &earlier))
        batch_answer(creation->exchange, creation->app, &earlier);
    else
        app_refuse(creation->exchange, 422, "idempotency_key_reused", NULL,
                   "this Idempotency-Key was used for another request");
    store_job_free(&earlier);
    return true;
}

static void add(struct creation *creation)
{
    const char *key = exchange_header(creation->exchange, "idempotency-key");
    if (key != NULL) {
        id_from_key(creation, key, creation->job.id);
        if (is_repeat(creation)) return;
    } else {
        store_new_id("batch_", creation->job.id);
    }
    if (!fill(creation)) return;
    tidemill_error *error = store_job_add(creation->app->store, &creation->job);
    if (error_code_of(error) == ERROR_EXISTS && is_repeat(creation)) { /* two at once */
        error_free(error);
        return;
    }
    if (error != NULL) {
        app_refuse_error(creation->exchange, error);
        return;
    }
    scheduler_wake(creation->app->scheduler);
    batch_answer(creation->exchange, creation->app, &creation->job);
}

void batch_create(struct exchange *exchange, void *context)
{
    struct creation creation = {.app = context, .exchange = exchange};
    yyjson_doc *doc = json_body(exchange);
    if (doc == NULL) return;
    creation.body = yyjson_doc_get_root(doc);
    add(&creation);
    store_job_free(&creation.job);
    yyjson_doc_free(doc);
}
