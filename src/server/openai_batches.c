/* SPDX-License-Identifier: Apache-2.0 */
/* openai_batches.c - OpenAI's Batch API, and what is beyond it: results while a batch runs, and a retry
 * of what failed. */
#include "server/batch_object.h"
#include "server/routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PIECE_BYTES ((size_t)256 << 10)
#define FOLLOWERS_MAX 8 /* each holds a thread of the pool */
#define LOOK_MS 200

static void retrieve_batch(struct exchange *exchange, void *context)
{
    struct store_job job = {0};
    if (!batch_find(exchange, context, &job)) return;
    batch_answer(exchange, context, &job);
    store_job_free(&job);
}

static void list_batches(struct exchange *exchange, void *context)
{
    struct app *app = context;
    struct store_jobs jobs = {0};
    struct store_page page = {.tenant = app_caller(exchange)->tenant,
                              .after = exchange_query(exchange, "after"),
                              .prefix = "batch_"};
    if (!json_query_limit(exchange, 20, 100, &page.limit)) return;
    tidemill_error *error = store_job_list(app->store, &page, STORE_BATCH, NULL, ~0u, &jobs);
    if (error != NULL) {
        app_refuse_error(exchange, error);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *data = yyjson_mut_arr(doc);
    for (size_t i = 0; i < jobs.n && doc != NULL; i++)
        yyjson_mut_arr_append(data, batch_object(app, doc, &jobs.items[i]));
    json_answer_list(exchange, doc, data, jobs.has_more);
    store_jobs_free(&jobs);
}

/* The batch as it is after what was done to it. */
static void answer_anew(struct exchange *exchange, struct app *app, tidemill_error *error,
                        bool is_found)
{
    struct store_job job = {0};
    if (error != NULL) {
        app_refuse_error(exchange, error);
        return;
    }
    if (!batch_find(exchange, app, &job)) return;
    if (is_found)
        batch_answer(exchange, app, &job);
    else
        app_refuse(exchange, 409, NULL, NULL, "the batch is %s: that cannot be done with it now",
                   batch_status(&job));
    store_job_free(&job);
}

static void cancel_batch(struct exchange *exchange, void *context)
{
    struct app *app = context;
    bool is_found = false;
    tidemill_error *error = scheduler_cancel(app->scheduler, app_caller(exchange)->tenant,
                                             exchange_capture(exchange, 0), &is_found);
    answer_anew(exchange, app, error, is_found);
}

/* {"budget": USD}, or nothing; negative: wrong, and answered. */
static double read_budget(struct exchange *exchange)
{
    if (exchange_body(exchange).size == 0) return 0;
    yyjson_doc *doc = json_body(exchange);
    if (doc == NULL) return -1;
    yyjson_val *value = yyjson_obj_get(yyjson_doc_get_root(doc), "budget");
    double usd = value == NULL ? 0 : yyjson_is_num(value) ? yyjson_get_num(value) : -1;
    yyjson_doc_free(doc);
    if (usd < 0)
        app_refuse(exchange, 400, NULL, "budget", "'budget' must be a number of US dollars");
    return usd;
}

static void retry_batch(struct exchange *exchange, void *context)
{
    struct app *app = context;
    bool is_found = false;
    double budget_usd = read_budget(exchange);
    if (budget_usd < 0) return;
    tidemill_error *error = scheduler_retry(app->scheduler, app_caller(exchange)->tenant,
                                            exchange_capture(exchange, 0), budget_usd, &is_found);
    answer_anew(exchange, app, error, is_found);
}

/* --- results while it runs ---------------------------------------------------------------------- */

static bool wants_follow(struct exchange *exchange)
{
    const char *text = exchange_query(exchange, "follow");
    return text != NULL && (strcmp(text, "true") == 0 || strcmp(text, "1") == 0);
}

static void wait_a_little(void)
{
    struct timespec time = {.tv_nsec = LOOK_MS * 1000000L};
    nanosleep(&time, NULL);
}

/* Its state now, in place; an error also where it was deleted meanwhile. */
static tidemill_error *look_again(struct app *app, struct store_job *job)
{
    struct store_job now = {0};
    bool is_found = false;
    TRY(store_job_get(app->store, job->tenant, job->id, &now, &is_found));
    if (!is_found) return error_new(ERROR_INPUT, "the batch %s was deleted", job->id);
    store_job_free(job);
    *job = now;
    return NULL;
}

static tidemill_error *send_committed(struct exchange *exchange, struct app *app,
                                      struct store_job *job, bool is_followed)
{
    struct buffer piece = {0};
    uint64_t offset = 0;
    tidemill_error *error = NULL;
    bool is_end = false;
    while (error == NULL && !is_end) {
        buffer_reset(&piece, PIECE_BYTES);
        error = job_committed(app, job, offset, PIECE_BYTES, &piece, &is_end);
        if (error == NULL && piece.size > 0)
            error = exchange_write(exchange, piece.data, piece.size);
        offset += piece.size;
        if (error != NULL || is_end || piece.size > 0) continue;
        if (!is_followed || app->is_stopping || exchange_is_gone(exchange)) break;
        wait_a_little();
        error = look_again(app, job);
    }
    buffer_free(&piece);
    return error;
}

static void stream_results(struct exchange *exchange, void *context)
{
    struct app *app = context;
    struct store_job job = {0};
    bool is_followed = wants_follow(exchange);
    if (!batch_find(exchange, app, &job)) return;
    if (is_followed && atomic_fetch_add(&app->n_followers, 1) >= FOLLOWERS_MAX) {
        atomic_fetch_sub(&app->n_followers, 1);
        exchange_set_header(exchange, "Retry-After", "10");
        app_refuse(exchange, 429, NULL, NULL,
                   "%d clients follow batches already; ask without follow", FOLLOWERS_MAX);
        store_job_free(&job);
        return;
    }
    exchange_begin(exchange, 200, "application/jsonl");
    tidemill_error *error = send_committed(exchange, app, &job, is_followed);
    exchange_end(exchange, error == NULL);
    if (is_followed) atomic_fetch_sub(&app->n_followers, 1);
    error_free(error); /* the client sees that the answer is cut off */
    store_job_free(&job);
}

#define INFO(summary)                                                                              \
    &(const struct route_info)                                                                     \
    {                                                                                              \
        DIALECT_OPENAI, ROUTE_USER, summary, false                                                 \
    }

const struct net_route openai_batch_routes[] = {
    {.method = NET_POST,
     .pattern = "/v1/batches",
     .body = NET_BODY_WHOLE,
     .body_max = (size_t)1 << 20,
     .is_blocking = true,
     .handle = batch_create,
     .operation = "createBatch",
     .data = INFO("Create a batch from an uploaded file")},
    {.method = NET_GET,
     .pattern = "/v1/batches",
     .is_blocking = true,
     .handle = list_batches,
     .operation = "listBatches",
     .data = INFO("List batches, the newest first")},
    {.method = NET_GET,
     .pattern = "/v1/batches/{batch_id}",
     .is_blocking = true,
     .handle = retrieve_batch,
     .operation = "retrieveBatch",
     .data = INFO("A batch's object")},
    {.method = NET_POST,
     .pattern = "/v1/batches/{batch_id}/cancel",
     .body = NET_BODY_WHOLE,
     .is_blocking = true,
     .handle = cancel_batch,
     .operation = "cancelBatch",
     .data = INFO("Cancel a batch; what is done is kept")},
    {.method = NET_POST,
     .pattern = "/v1/batches/{batch_id}/retry",
     .body = NET_BODY_WHOLE,
     .body_max = (size_t)64 << 10,
     .is_blocking = true,
     .handle = retry_batch,
     .operation = "retryBatch",
     .data = INFO("Run an ended batch's failed requests again")},
    {.method = NET_GET,
     .pattern = "/v1/batches/{batch_id}/results",
     .is_blocking = true,
     .handle = stream_results,
     .operation = "streamBatchResults",
     .data = INFO("What is done so far; ?follow=true stays to the end")},
    {0},
};
