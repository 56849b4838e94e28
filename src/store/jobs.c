/* SPDX-License-Identifier: Apache-2.0 */
/* jobs.c - rows of jobs: adding, reading, and the one way in which they change.
 *
 * A change names the states that it may come from and is checked against the row inside the
 * transaction, on the one thread that writes: so a job has one linear history. */
#include "store/parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char select_job[] = JOB_ROW "WHERE jobs.id = ?1";
static const char insert_job[] =
    "INSERT INTO jobs (" JOB_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, "
    "?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)";
static const char update_job[] =
    "UPDATE jobs SET (" JOB_COLUMNS ") = (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, "
    "?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28) WHERE id = ?1";

static const char *const state_names[STORE_STATES] = {
    [STORE_OPEN] = "open",
    [STORE_VALIDATING] = "validating",
    [STORE_WAITING] = "waiting",
    [STORE_RUNNING] = "running",
    [STORE_FINALIZING] = "finalizing",
    [STORE_CANCELLING] = "cancelling",
    [STORE_COMPLETED] = "completed",
    [STORE_FAILED] = "failed",
    [STORE_EXPIRED] = "expired",
    [STORE_CANCELLED] = "cancelled",
    [STORE_STOPPED] = "stopped",
};

const char *store_state_name(enum store_state state)
{
    return state < STORE_STATES ? state_names[state] : "?";
}

void store_job_free(struct store_job *job)
{
    free(job->details);
    job->details = NULL;
}

static bool is_terminal(enum store_state state)
{
    return (STORE_TERMINAL >> state & 1) != 0;
}

/* --- rows ----------------------------------------------------------------------------------------- */

#define TIMES_BYTES (STORE_STATES * 24)

static void times_text(const struct store_job *job, char text[TIMES_BYTES])
{
    size_t size = 0;
    for (int i = 0; i < STORE_STATES; i++)
        size += (size_t)snprintf(text + size, TIMES_BYTES - size, "%s%" PRId64, i == 0 ? "" : " ",
                                 job->state_at[i]);
}

/* A row of an older version may have fewer. */
static void times_read(const char *text, struct store_job *job)
{
    char *end;
    for (int i = 0; i < STORE_STATES; i++, text = end) {
        job->state_at[i] = strtoll(text, &end, 10);
        if (end == text) break;
    }
}

/* `times` must live until the query ends. */
static void bind_job(struct query *query, const struct store_job *job, const char *times)
{
    query_text(query, job->id);
    query_int(query, job->kind);
    query_text(query, job->tenant);
    query_text(query, job->queue);
    query_text(query, job->model);
    query_int(query, job->state);
    query_int(query, job->priority);
    query_int(query, job->created_at);
    query_int(query, job->ready_at);
    query_int(query, job->deadline_at);
    query_text(query, times);
    query_int(query, (int64_t)job->counts.total);
    query_int(query, (int64_t)job->counts.completed);
    query_int(query, (int64_t)job->counts.failed);
    query_int(query, (int64_t)job->counts.cancelled);
    query_int(query, (int64_t)job->counts.expired);
    query_int(query, (int64_t)job->bytes);
    query_int(query, (int64_t)job->tokens_in);
    query_int(query, (int64_t)job->tokens_cached);
    query_int(query, (int64_t)job->tokens_out);
    query_real(query, job->cost_usd);
    query_real(query, job->budget_usd);
    query_text(query, job->input_file);
    query_text(query, job->output_file);
    query_text(query, job->error_file);
    query_text(query, job->details);
    query_int(query, is_terminal(job->state) ? job->state_at[job->state] : 0);
    query_sum(query);
}

static tidemill_error *write_row(struct store *store, const char *sql, const struct store_job *job)
{
    struct query query;
    char times[TIMES_BYTES];
    times_text(job, times);
    query_start(&query, &store->db, sql);
    bind_job(&query, job, times);
    return query_run(&query);
}

/* An open window's total is its file's. */
static void read_window(struct query *query, struct store_job *job)
{
    char id[STORE_ID_BYTES];
    if (column_is_null(query)) return;
    column_text(query, id, sizeof id);
    uint64_t records = (uint64_t)column_int(query), bytes = (uint64_t)column_int(query);
    (void)column_digest(query);
    column_sum(query, "window", job->id);
    if (job->state != STORE_OPEN) return;
    job->counts.total = records;
    job->bytes = bytes;
}

static void read_counts(struct query *query, struct store_job *job)
{
    job->counts.total = (uint64_t)column_int(query);
    job->counts.completed = (uint64_t)column_int(query);
    job->counts.failed = (uint64_t)column_int(query);
    job->counts.cancelled = (uint64_t)column_int(query);
    job->counts.expired = (uint64_t)column_int(query);
    job->bytes = (uint64_t)column_int(query);
    job->tokens_in = (uint64_t)column_int(query);
    job->tokens_cached = (uint64_t)column_int(query);
    job->tokens_out = (uint64_t)column_int(query);
    job->cost_usd = column_real(query);
    job->budget_usd = column_real(query);
}

static enum store_state read_state(struct query *query)
{
    int64_t state = column_int(query);
    return state >= 0 && state < STORE_STATES ? (enum store_state)state : STORE_FAILED;
}

void job_read(struct query *query, struct store_job *job)
{
    char times[TIMES_BYTES];
    *job = (struct store_job){0};
    column_text(query, job->id, sizeof job->id);
    job->kind = column_int(query) == STORE_WINDOW ? STORE_WINDOW : STORE_BATCH;
    column_text(query, job->tenant, sizeof job->tenant);
    column_text(query, job->queue, sizeof job->queue);
    column_text(query, job->model, sizeof job->model);
    job->state = read_state(query);
    job->priority = (int)column_int(query);
    job->created_at = column_int(query);
    job->ready_at = column_int(query);
    job->deadline_at = column_int(query);
    column_text(query, times, sizeof times);
    read_counts(query, job);
    column_text(query, job->input_file, sizeof job->input_file);
    column_text(query, job->output_file, sizeof job->output_file);
    column_text(query, job->error_file, sizeof job->error_file);
    job->details = column_string(query);
    (void)column_int(query);
    column_sum(query, "job", job->id);
    times_read(times, job);
    read_window(query, job);
}

tidemill_error *job_select(struct db *db, const char *tenant, const char *id, struct store_job *ret,
                           bool *ret_found)
{
    struct query query;
    *ret = (struct store_job){0};
    query_start(&query, db, select_job);
    query_text(&query, id);
    *ret_found = query_step(&query);
    if (*ret_found) job_read(&query, ret);
    tidemill_error *error = query_end(&query);
    bool is_foreign = *ret_found && tenant != NULL && strcmp(ret->tenant, tenant) != 0;
    if (error != NULL || is_foreign) {
        store_job_free(ret);
        *ret = (struct store_job){0};
        *ret_found = false;
    }
    return error;
}

tidemill_error *store_job_get(struct store *store, const char *tenant, const char *id,
                              struct store_job *ret, bool *ret_found)
{
    struct db *db;
    TRY(reader_take(store, &db));
    tidemill_error *error = job_select(db, tenant, id, ret, ret_found);
    reader_leave(store, db);
    return error;
}

/* --- adding --------------------------------------------------------------------------------------- */

static tidemill_error *check(const struct store_job *job)
{
    bool is_queue_fine = job->queue[0] == '\0' || is_name(job->queue);
    if (!is_id(job->id) || !is_name(job->tenant) || !is_queue_fine ||
        (job->model[0] != '\0' && !is_name(job->model)))
        return error_new(ERROR_USAGE, "a job's id, tenant, queue or model is not a name");
    if (job->state >= STORE_STATES || (job->kind == STORE_BATCH && job->state == STORE_OPEN))
        return error_new(ERROR_USAGE, "the job %s cannot be in that state", job->id);
    return NULL;
}

tidemill_error *job_insert(struct store *store, const struct store_job *job)
{
    TRY(write_row(store, insert_job, job));
    return spending_add(store, job->tenant, job->created_at, job->cost_usd);
}

static tidemill_error *apply_add(struct store *store, void *context)
{
    const struct store_job *job = context;
    struct store_job row = *job;
    if (row.created_at == 0) row.created_at = store_now();
    if (row.state_at[row.state] == 0) row.state_at[row.state] = row.created_at;
    tidemill_error *error = job_insert(store, &row);
    if (error_code_of(error) != ERROR_EXISTS) return error;
    error_free(error);
    return error_new(ERROR_EXISTS, "there is a job %s already", row.id);
}

tidemill_error *store_job_add(struct store *store, const struct store_job *job)
{
    struct store_job row = *job;
    struct write write = {.apply = apply_add, .context = &row, .is_vital = false};
    TRY(check(job));
    if (job->kind == STORE_WINDOW)
        return error_new(ERROR_USAGE, "a window is made by accepting, not by adding %s", job->id);
    return store_write(store, &write);
}

/* --- changing ------------------------------------------------------------------------------------- */

static void keep_what_stays(const struct store_job *old, struct store_job *row)
{
    row->kind = old->kind;
    row->created_at = old->created_at;
    memcpy(row->tenant, old->tenant, sizeof row->tenant);
    memcpy(row->queue, old->queue, sizeof row->queue);
    /* a batch's own is known once its file was read */
    if (old->model[0] != '\0') memcpy(row->model, old->model, sizeof row->model);
}

static void set_times(const struct store_job *old, struct store_job *row)
{
    bool is_retry = is_terminal(old->state) && !is_terminal(row->state);
    for (int i = 0; i < STORE_STATES; i++) {
        if (old->state_at[i] != 0) row->state_at[i] = old->state_at[i];
        if (is_retry && is_terminal((enum store_state)i)) row->state_at[i] = 0;
    }
    if (row->state_at[row->state] == 0) row->state_at[row->state] = store_now();
}

/* What came after the caller looked. */
static void take_window_counts(const struct store_job *old, struct store_job *row)
{
    uint64_t known =
        row->counts.completed + row->counts.failed + row->counts.cancelled + row->counts.expired;
    row->counts.total = old->counts.total;
    row->bytes = old->bytes;
    if (!is_terminal(row->state) || known >= old->counts.total) return;
    uint64_t rest = old->counts.total - known;
    if (row->state == STORE_CANCELLED) row->counts.cancelled += rest;
    if (row->state == STORE_EXPIRED) row->counts.expired += rest;
    if (row->state == STORE_FAILED) row->counts.failed += rest;
}

static tidemill_error *save_over(struct store *store, const struct store_job *old,
                                 const struct store_job *job)
{
    struct store_job row = *job;
    keep_what_stays(old, &row);
    set_times(old, &row);
    if (old->state == STORE_OPEN) {
        take_window_counts(old, &row);
        if (row.state != STORE_OPEN) TRY(window_tidy(store, row.id));
    }
    TRY(check(&row));
    TRY(write_row(store, update_job, &row));
    return spending_add(store, row.tenant, store_now(), row.cost_usd - old->cost_usd);
}

tidemill_error *job_save_row(struct store *store, const struct store_job *job, unsigned from,
                             bool *ret_done)
{
    struct store_job old;
    bool is_found;
    *ret_done = false;
    TRY(job_select(&store->db, NULL, job->id, &old, &is_found));
    if (!is_found) return NULL;
    tidemill_error *error = NULL;
    if ((from >> old.state & 1) != 0) {
        error = save_over(store, &old, job);
        *ret_done = error == NULL;
    }
    store_job_free(&old);
    return error;
}

struct save {
    const struct store_job *job;
    unsigned from;
    bool is_done;
};

static tidemill_error *apply_save(struct store *store, void *context)
{
    struct save *save = context;
    return job_save_row(store, save->job, save->from, &save->is_done);
}

static void after_save(struct store *store, void *context)
{
    const struct save *save = context;
    if (save->is_done && (save->from >> STORE_OPEN & 1) != 0) window_forget(store, save->job->id);
}

tidemill_error *store_job_save(struct store *store, const struct store_job *job, unsigned from,
                               bool *ret_done)
{
    struct save save = {.job = job, .from = from};
    struct write write = {
        .apply = apply_save, .after = after_save, .context = &save, .is_vital = true};
    *ret_done = false;
    TRY(store_write(store, &write));
    *ret_done = save.is_done;
    return NULL;
}

/* --- closing a window ------------------------------------------------------------------------------- */

struct closing {
    const char *id;
    int64_t ready_at;
    bool is_done;
};

static tidemill_error *apply_close(struct store *store, void *context)
{
    struct closing *closing = context;
    struct store_job job;
    bool is_found;
    closing->is_done = false;
    TRY(job_select(&store->db, NULL, closing->id, &job, &is_found));
    if (!is_found) return NULL;
    job.state = STORE_WAITING;
    job.ready_at = closing->ready_at;
    tidemill_error *error = job_save_row(store, &job, 1u << STORE_OPEN, &closing->is_done);
    store_job_free(&job);
    return error;
}

static void after_close(struct store *store, void *context)
{
    const struct closing *closing = context;
    if (closing->is_done) window_forget(store, closing->id);
}

tidemill_error *store_window_close(struct store *store, const char *id, int64_t ready_at,
                                   bool *ret_done)
{
    struct closing closing = {.id = id, .ready_at = ready_at};
    struct write write = {
        .apply = apply_close, .after = after_close, .context = &closing, .is_vital = true};
    *ret_done = false;
    TRY(store_write(store, &write));
    *ret_done = closing.is_done;
    return NULL;
}
