/* SPDX-License-Identifier: Apache-2.0 */
/* batch_object.c - a batch as JSON. Contract: openapi.yaml of openai/openai-openapi. */
#include "server/batch_object.h"

const char *batch_status(const struct store_job *job)
{
    switch (job->state) {
    case STORE_OPEN:
    case STORE_VALIDATING: return "validating";
    case STORE_WAITING:
    case STORE_RUNNING: return "in_progress";
    case STORE_FINALIZING: return "finalizing";
    case STORE_CANCELLING: return "cancelling";
    case STORE_COMPLETED: return "completed";
    case STORE_FAILED: return "failed";
    case STORE_CANCELLED: return "cancelled";
    case STORE_EXPIRED:
    case STORE_STOPPED:
    case STORE_STATES: break;
    }
    return "expired";
}

static int64_t first_of(int64_t a, int64_t b)
{
    return a != 0 && (b == 0 || a < b) ? a : b;
}

static void put_times(yyjson_mut_doc *doc, yyjson_mut_val *object, const struct store_job *job)
{
    const int64_t *at = job->state_at;
    json_out_time(doc, object, "created_at", job->created_at);
    json_out_time(doc, object, "in_progress_at", first_of(at[STORE_WAITING], at[STORE_RUNNING]));
    json_out_time(doc, object, "expires_at", job->deadline_at);
    json_out_time(doc, object, "finalizing_at", at[STORE_FINALIZING]);
    json_out_time(doc, object, "completed_at", at[STORE_COMPLETED]);
    json_out_time(doc, object, "failed_at", at[STORE_FAILED]);
    json_out_time(doc, object, "expired_at", first_of(at[STORE_EXPIRED], at[STORE_STOPPED]));
    json_out_time(doc, object, "cancelling_at", at[STORE_CANCELLING]);
    json_out_time(doc, object, "cancelled_at", at[STORE_CANCELLED]);
}

static void put_counts(yyjson_mut_doc *doc, yyjson_mut_val *object, const struct store_job *job)
{
    const struct store_counts *counts = &job->counts;
    yyjson_mut_val *value = yyjson_mut_obj_add_obj(doc, object, "request_counts");
    yyjson_mut_obj_add_uint(doc, value, "total", counts->total);
    yyjson_mut_obj_add_uint(doc, value, "completed", counts->completed);
    yyjson_mut_obj_add_uint(doc, value, "failed",
                            counts->failed + counts->cancelled + counts->expired);
}

static void put_usage(yyjson_mut_doc *doc, yyjson_mut_val *object, const struct store_job *job)
{
    if (job->tokens_in + job->tokens_out == 0) return;
    yyjson_mut_val *usage = yyjson_mut_obj_add_obj(doc, object, "usage");
    yyjson_mut_obj_add_uint(doc, usage, "input_tokens", job->tokens_in);
    yyjson_mut_val *in = yyjson_mut_obj_add_obj(doc, usage, "input_tokens_details");
    yyjson_mut_obj_add_uint(doc, in, "cached_tokens", job->tokens_cached);
    yyjson_mut_obj_add_uint(doc, usage, "output_tokens", job->tokens_out);
    yyjson_mut_val *out = yyjson_mut_obj_add_obj(doc, usage, "output_tokens_details");
    yyjson_mut_obj_add_uint(doc, out, "reasoning_tokens", 0);
    yyjson_mut_obj_add_uint(doc, usage, "total_tokens", job->tokens_in + job->tokens_out);
}

/* A value of the details, copied; null where it is not there. */
static void put_detail(yyjson_mut_doc *doc, yyjson_mut_val *object, yyjson_val *details,
                       const char *name)
{
    yyjson_val *value = yyjson_obj_get(details, name);
    yyjson_mut_val *copy = value != NULL ? yyjson_val_mut_copy(doc, value) : yyjson_mut_null(doc);
    yyjson_mut_obj_add_val(doc, object, name, copy);
}

static void put_errors(yyjson_mut_doc *doc, yyjson_mut_val *object, yyjson_val *details)
{
    yyjson_val *errors = yyjson_obj_get(details, "errors");
    if (!yyjson_is_arr(errors)) {
        yyjson_mut_obj_add_null(doc, object, "errors");
        return;
    }
    yyjson_mut_val *list = yyjson_mut_obj_add_obj(doc, object, "errors");
    yyjson_mut_obj_add_str(doc, list, "object", "list");
    yyjson_mut_obj_add_val(doc, list, "data", yyjson_val_mut_copy(doc, errors));
}

static const char *verdict_name(enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_ACCEPTED: return "accepted";
    case VERDICT_AT_RISK: return "at_risk";
    case VERDICT_IMPOSSIBLE: return "impossible";
    case VERDICT_UNKNOWN: break;
    }
    return "unknown";
}

static void put_forecast(struct app *app, yyjson_mut_doc *doc, yyjson_mut_val *object,
                         const struct store_job *job)
{
    struct forecast forecast;
    tidemill_error *error = scheduler_forecast(app->scheduler, job, &forecast);
    if (error != NULL) { /* an extra that is not worth a failed answer */
        log_event(LOG_WARNING, "%s: no forecast: %s", job->id, error_message(error));
        error_free(error);
        return;
    }
    yyjson_mut_val *value = yyjson_mut_obj_add_obj(doc, object, "forecast");
    yyjson_mut_obj_add_str(doc, value, "verdict", verdict_name(forecast.verdict));
    json_out_time(doc, value, "start_at", forecast.start_at);
    json_out_time(doc, value, "p50_finish_at", forecast.p50_at);
    json_out_time(doc, value, "p90_finish_at", forecast.p90_at);
    if (forecast.cost_usd >= 0)
        yyjson_mut_obj_add_real(doc, value, "cost_usd", forecast.cost_usd);
    else
        yyjson_mut_obj_add_null(doc, value, "cost_usd");
}

/* What OpenAI's clients leave alone. */
static void put_extra(struct app *app, yyjson_mut_doc *doc, yyjson_mut_val *object,
                      const struct store_job *job, yyjson_val *details)
{
    yyjson_mut_val *extra = yyjson_mut_obj_add_obj(doc, object, "tidemill");
    yyjson_mut_obj_add_str(doc, extra, "state", store_state_name(job->state));
    yyjson_mut_obj_add_uint(doc, extra, "cancelled", job->counts.cancelled);
    yyjson_mut_obj_add_uint(doc, extra, "expired", job->counts.expired);
    yyjson_mut_obj_add_real(doc, extra, "cost_usd", job->cost_usd);
    if (job->budget_usd > 0) yyjson_mut_obj_add_real(doc, extra, "budget_usd", job->budget_usd);
    if (yyjson_obj_get(details, "paused") != NULL) put_detail(doc, extra, details, "paused");
    if ((STORE_TERMINAL >> job->state & 1) == 0) put_forecast(app, doc, extra, job);
}

/* What is done by now, where the job runs. */
static void add_progress(struct app *app, struct store_job *job)
{
    struct job_progress progress;
    if (!scheduler_progress(app->scheduler, job->id, &progress)) return;
    job->counts.completed = MAX(job->counts.completed, progress.counts.ok);
    job->counts.failed = MAX(job->counts.failed, progress.counts.failed);
    job->cost_usd = MAX(job->cost_usd, progress.cost_usd);
}

yyjson_mut_val *batch_object(struct app *app, yyjson_mut_doc *doc, const struct store_job *stored)
{
    struct store_job job = *stored;
    const char *text = job.details != NULL ? job.details : "{}";
    yyjson_doc *details_doc = yyjson_read(text, strlen(text), 0);
    yyjson_val *details = yyjson_doc_get_root(details_doc);
    yyjson_mut_val *object = yyjson_mut_obj(doc);
    add_progress(app, &job);
    yyjson_mut_obj_add_strcpy(doc, object, "id", job.id);
    yyjson_mut_obj_add_str(doc, object, "object", "batch");
    put_detail(doc, object, details, "endpoint");
    json_out_text(doc, object, "model", job.model);
    put_errors(doc, object, details);
    yyjson_mut_obj_add_strcpy(doc, object, "input_file_id", job.input_file);
    put_detail(doc, object, details, "completion_window");
    yyjson_mut_obj_add_str(doc, object, "status", batch_status(&job));
    json_out_text(doc, object, "output_file_id", job.output_file);
    json_out_text(doc, object, "error_file_id", job.error_file);
    put_times(doc, object, &job);
    put_counts(doc, object, &job);
    put_usage(doc, object, &job);
    put_detail(doc, object, details, "metadata");
    put_extra(app, doc, object, &job, details);
    yyjson_doc_free(details_doc);
    return object;
}

void batch_answer(struct exchange *exchange, struct app *app, const struct store_job *job)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    json_answer(exchange, 200, doc, doc != NULL ? batch_object(app, doc, job) : NULL);
}

void batch_refuse_missing(struct exchange *exchange, const char *id)
{
    app_refuse(exchange, 404, NULL, "id", "No batch found with id '%.64s'", id);
}

bool batch_find(struct exchange *exchange, struct app *app, struct store_job *ret)
{
    bool is_found = false;
    const char *id = exchange_capture(exchange, 0);
    tidemill_error *error =
        store_job_get(app->store, app_caller(exchange)->tenant, id, ret, &is_found);
    if (error != NULL) {
        app_refuse_error(exchange, error);
        return false;
    }
    if (is_found && ret->kind == STORE_BATCH) return true;
    if (is_found) store_job_free(ret);
    batch_refuse_missing(exchange, id);
    return false;
}
