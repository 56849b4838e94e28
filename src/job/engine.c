/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c - the coordinator: the way of a record in one loop. See pipeline.h for who owns what.
 *
 * It waits in two places: in runtime_poll, which also wakes for the workers, the writer and a request to
 * stop, and for room in the writer's queue, which closes when the writer fails.
 * A microbatch that fails is halved until the culprit is alone: with one culprit among B rows
 * that costs at most 2 * ceil(log2 B) further calls, and the other rows are answered. */
#include "job/engine_parts.h"

#include "job/workers.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS 100
#define OBSERVE_S 0.2
/* After a request to stop, calls of the model that run longer are abandoned, not waited for. */
#define STOP_PATIENCE_S 8.0
#define DONE_MAX 16

/* --- the reader's and the writer's threads --------------------------------------------------------- */

static void *read_chunks(void *argument)
{
    struct engine *engine = argument;
    tidemill_error *error = NULL;
    uint64_t number = engine->config.first_chunk_number + (engine->config.first_chunk != NULL);
    bool is_last = engine->config.first_chunk != NULL && engine->config.first_chunk->raw.is_last;
    struct chunk *chunk;
    while (!is_last && error == NULL && (chunk = queue_pop(engine->free_chunks)) != NULL) {
        error = source_read_chunk(engine->config.source, &chunk->raw);
        if (error != NULL) break;
        chunk->number = number++;
        chunk->share_read = source_progress(engine->config.source);
        is_last = chunk->raw.is_last;
        workers_decode(engine->workers, chunk);
    }
    if (error_code_of(error) == ERROR_INTERRUPTED) { /* who asked for that knows */
        error_free(error);
        return NULL;
    }
    pthread_mutex_lock(&engine->mutex);
    engine->reader_error = error;
    engine->is_reader_done = true;
    engine->n_chunks = number;
    pthread_mutex_unlock(&engine->mutex);
    job_stop_wake(engine->config.stop);
    return NULL;
}

static void *write_pieces(void *argument)
{
    struct engine *engine = argument;
    struct sink *sink = engine->config.sink;
    tidemill_error *error = NULL;
    bool is_closed = false;
    while (error == NULL && !is_closed) {
        struct piece *piece = queue_pop_timed(engine->pieces, sink_commit_due_ms(sink), &is_closed);
        if (piece != NULL) {
            error = sink_write(sink, piece);
            if (error == NULL) chunk_forget_lines(piece->chunk, piece->from, piece->to);
            if (error == NULL && piece->is_chunk_done) {
                chunk_recycle(piece->chunk, engine->config.region);
                queue_push(engine->free_chunks, piece->chunk);
            }
            free(piece);
        } else if (sink_commit_due_ms(sink) == 0) {
            error = sink_commit(sink);
        }
    }
    if (error == NULL) error = sink_commit(sink);
    pthread_mutex_lock(&engine->mutex);
    engine->writer_error = error;
    pthread_mutex_unlock(&engine->mutex);
    queue_close(engine->pieces); /* who waits for room there need not wait any more */
    job_stop_wake(engine->config.stop);
    return NULL;
}

/* The first error of the two threads, taken over. */
static tidemill_error *thread_error(struct engine *engine)
{
    pthread_mutex_lock(&engine->mutex);
    tidemill_error *error = engine->writer_error;
    if (error != NULL) {
        engine->writer_error = NULL;
    } else {
        error = engine->reader_error;
        engine->reader_error = NULL;
    }
    pthread_mutex_unlock(&engine->mutex);
    return error;
}

static bool is_all_read(struct engine *engine, uint64_t *ret_n_chunks)
{
    pthread_mutex_lock(&engine->mutex);
    bool is_done = engine->is_reader_done;
    *ret_n_chunks = engine->n_chunks;
    pthread_mutex_unlock(&engine->mutex);
    return is_done;
}

/* --- the model -------------------------------------------------------------------------------------- */

static tidemill_error *submit_one(struct engine *engine, struct microbatch *mb)
{
    struct work_input inputs[MODEL_VALUES_MAX];
    uint32_t rows = mb->n_rows;
    if (engine->signature->is_batched && engine->signature->batch_fixed > 0)
        rows = (uint32_t)engine->signature->batch_fixed;
    TRY(microbatch_inputs(mb, engine->signature, engine->config.region, rows, inputs));
    if (engine->config.is_careful)
        TRY(sink_note_attempt(engine->config.sink, mb->chunk->raw.start.index + mb->rows[0]));
    struct runtime_work work = {
        .id = (uint64_t)(uintptr_t)mb,
        .index = mb->chunk->raw.start.index + mb->rows[0],
        .n_rows = rows,
        .inputs = inputs,
        .output_offset = mb->slot->output_offset,
        .output_capacity = mb->slot->output_capacity,
    };
    return runtime_submit(engine->config.runtime, &work);
}

static struct microbatch *take_ready(struct engine *engine)
{
    struct microbatch *mb = engine->ready;
    engine->ready = mb->next_ready;
    if (engine->ready == NULL) engine->ready_last = &engine->ready;
    return mb;
}

/* A job that is closed: what would run now fails instead. */
static tidemill_error *close_ready(struct engine *engine)
{
    enum error_code code = engine->config.spec->close_code;
    while (engine->ready != NULL) {
        struct microbatch *mb = take_ready(engine);
        for (uint32_t r = 0; r < mb->n_rows; r++) {
            struct chunk_record *record = &mb->chunk->records[mb->rows[r]];
            if (record->state == RECORD_PENDING)
                engine_fail_record(mb->chunk, record, code, error_code_sentence(code));
            TRY(engine_finish_record(engine, mb->chunk, mb->rows[r]));
        }
    }
    return NULL;
}

static tidemill_error *submit_ready(struct engine *engine)
{
    if (engine->config.spec->close_code != ERROR_OK) return close_ready(engine);
    /* careful: one record at a time, so that its attempt is the last one noted */
    size_t in_flight_max = engine->config.is_careful ? 1 : SIZE_MAX;
    while (engine->ready != NULL && engine->free_slots != NULL && !engine->is_stopping &&
           engine->n_in_flight < in_flight_max && runtime_capacity(engine->config.runtime) > 0) {
        struct microbatch *mb = take_ready(engine);
        mb->slot = engine->free_slots;
        engine->free_slots = mb->slot->next;
        TRY(submit_one(engine, mb));
        engine->n_in_flight++;
    }
    runtime_hint_backlog(engine->config.runtime, engine->ready != NULL && !engine->is_stopping);
    return NULL;
}

static void free_slot(struct engine *engine, struct microbatch *mb)
{
    mb->slot->next = engine->free_slots;
    engine->free_slots = mb->slot;
    mb->slot = NULL;
    free(mb->values);
    mb->values = NULL;
}

static struct microbatch *half_of(struct microbatch *mb, uint32_t from, uint32_t n_rows)
{
    struct microbatch *half = arena_calloc(&mb->chunk->arena, 1, sizeof *half);
    if (half == NULL) return NULL;
    half->chunk = mb->chunk;
    half->rows = mb->rows + from;
    half->n_rows = n_rows;
    half->next_in_chunk = mb->chunk->microbatches;
    mb->chunk->microbatches = half;
    return half;
}

/* Halves go to the front: their chunk is the one that others wait for. */
static tidemill_error *halve(struct engine *engine, struct microbatch *mb)
{
    uint32_t n_left = mb->n_rows / 2;
    struct microbatch *left = half_of(mb, 0, n_left);
    struct microbatch *right = half_of(mb, n_left, mb->n_rows - n_left);
    if (left == NULL || right == NULL) return error_memory();
    left->next_ready = right;
    right->next_ready = engine->ready;
    if (engine->ready == NULL) engine->ready_last = &right->next_ready;
    engine->ready = left;
    return NULL;
}

static tidemill_error *blame(struct engine *engine, struct microbatch *mb, enum error_code code,
                             const char *message)
{
    if (mb->n_rows > 1) return halve(engine, mb);
    struct chunk_record *record = &mb->chunk->records[mb->rows[0]];
    if (record->state == RECORD_PENDING) engine_fail_record(mb->chunk, record, code, message);
    return engine_finish_record(engine, mb->chunk, mb->rows[0]);
}

static tidemill_error *take_answer(struct engine *engine, struct runtime_done *done)
{
    struct microbatch *mb = (struct microbatch *)(uintptr_t)done->id;
    engine->n_in_flight--;
    sink_add_tokens(engine->config.sink, &done->usage);
    mb->values = done->values;
    mb->n_values = done->n_values;
    if (done->code == ERROR_OK) {
        engine->n_encoding++;
        workers_encode(engine->workers, mb);
        return NULL;
    }
    free_slot(engine, mb);
    return blame(engine, mb, done->code, done->message);
}

static tidemill_error *poll_runtime(struct engine *engine)
{
    struct runtime_done done[DONE_MAX];
    size_t n_done = 0;
    TRY(runtime_poll(engine->config.runtime, POLL_MS, engine->config.stop->wake_fd, done, DONE_MAX,
                     &n_done));
    tidemill_error *error = NULL;
    for (size_t i = 0; i < n_done; i++) {
        if (error == NULL)
            error = take_answer(engine, &done[i]);
        else
            free(done[i].values);
    }
    if (error == NULL) error = sink_note_paid(engine->config.sink);
    job_stop_drain(engine->config.stop);
    return error;
}

static tidemill_error *finish_rows(struct engine *engine, struct microbatch *mb)
{
    for (uint32_t r = 0; r < mb->n_rows; r++)
        TRY(engine_finish_record(engine, mb->chunk, mb->rows[r]));
    return NULL;
}

static tidemill_error *take_encoded(struct engine *engine)
{
    struct microbatch *mb;
    while ((mb = queue_try_pop(engine->encoded)) != NULL) {
        engine->n_encoding--;
        microbatch_trim(mb, engine->config.region);
        free_slot(engine, mb);
        if (mb->code == ERROR_MEMORY) return error_memory();
        if (mb->code == ERROR_OK)
            TRY(finish_rows(engine, mb));
        else
            TRY(blame(engine, mb, mb->code, mb->message));
    }
    return NULL;
}

/* --- to the writer, in input order -------------------------------------------------------------------- */

static tidemill_error *push_piece(struct engine *engine, struct chunk *chunk, size_t to)
{
    struct piece *piece = malloc(sizeof *piece);
    if (piece == NULL) return error_memory();
    *piece = (struct piece){
        .chunk = chunk,
        .from = chunk->n_released,
        .to = to,
        .is_chunk_done = to == chunk->raw.n_records,
    };
    chunk->n_released = to;
    if (!queue_push(engine->pieces, piece)) free(piece); /* the writer failed: its error follows */
    return NULL;
}

static tidemill_error *release_finished(struct engine *engine)
{
    while (engine->first != NULL) {
        struct chunk *chunk = engine->first;
        size_t n = chunk->n_finished_prefix;
        while (n < chunk->raw.n_records && chunk->records[n].is_finished) n++;
        chunk->n_finished_prefix = n;
        bool is_done = n == chunk->raw.n_records;
        if (is_done) {
            engine->first = chunk->next;
            engine->n_left_behind += chunk->raw.n_records;
            if (engine->first == NULL) engine->last = &engine->first;
        }
        if (n > chunk->n_released || is_done) TRY(push_piece(engine, chunk, n));
        if (!is_done) return NULL;
    }
    return NULL;
}

/* --- the loop ------------------------------------------------------------------------------------------ */

/* Hosts' processor time goes into commits as it grows, so that a kill does not lose it. */
static void note_host_cpu(struct engine *engine)
{
    struct runtime_stats stats;
    runtime_get_stats(engine->config.runtime, &stats);
    sink_add_host_cpu(engine->config.sink, stats.cpu_s);
}

/* Records of this run that are finished, written or not: of a chunk that is sorted by length, the first
 * ones may be the last to be answered. */
static void count_finished(const struct engine *engine, struct job_progress *ret)
{
    uint64_t in_chunks = 0, admitted = engine->n_left_behind;
    for (const struct chunk *chunk = engine->first; chunk != NULL; chunk = chunk->next) {
        admitted += chunk->raw.n_records;
        for (size_t i = 0; i < chunk->raw.n_records; i++)
            in_chunks += chunk->records[i].is_finished;
    }
    uint64_t finished = engine->n_left_behind + in_chunks;
    ret->records_this_run = finished;
    ret->records_done =
        engine->first == NULL ? ret->counts.records : engine->first->raw.start.index + in_chunks;
    double share_this_run = engine->share_read - engine->share_start;
    double share_finished = (double)finished / (double)MAX(admitted, UINT64_C(1));
    ret->share_done =
        engine->share_read < 0 ? -1 : engine->share_start + share_this_run * share_finished;
}

/* Over the last two seconds or more. */
static void measure_rates(struct engine *engine, double now_s, struct job_progress *progress)
{
    uint64_t tokens = progress->counts.tokens.in + progress->counts.tokens.out;
    double span_s = MAX(now_s - engine->rate_s, 1e-3);
    if (span_s >= 2 || engine->rate_rows_s == 0) {
        engine->rate_rows_s = (double)(progress->records_this_run - engine->rate_records) / span_s;
        engine->rate_tokens_s = (double)(tokens - engine->rate_tokens) / span_s;
        engine->rate_records = progress->records_this_run;
        engine->rate_tokens = tokens;
        engine->rate_s = now_s;
    }
    progress->rate_rows_s = engine->rate_rows_s;
    progress->rate_tokens_s = engine->rate_tokens_s;
}

static double cost_so_far(const struct engine *engine, const struct job_counts *counts)
{
    struct job_cost cost = job_cost_prices(engine->config.spec);
    double wall_s, cpu_s;
    sink_times(engine->config.sink, &wall_s, &cpu_s);
    job_cost_fill(&cost, wall_s, counts);
    return job_cost_has_price(&cost) ? cost.usd : -1;
}

static void observe(struct engine *engine)
{
    const struct job_observer *observer = engine->config.observer;
    double now_s = clock_now_s();
    if (now_s - engine->observed_s < OBSERVE_S) return;
    engine->observed_s = now_s;
    note_host_cpu(engine);
    if (observer == NULL || observer->progress == NULL) return;
    struct job_progress progress = {
        .counts = sink_counts(engine->config.sink),
        .batch = engine->config.limits.is_padded ? 0 : engine->config.limits.rows_max,
        .elapsed_s = now_s - engine->started_s,
        .left_s = -1,
    };
    progress.cost_usd = cost_so_far(engine, &progress.counts);
    count_finished(engine, &progress);
    measure_rates(engine, now_s, &progress);
    double share_this_run = progress.share_done - engine->share_start;
    if (progress.share_done >= 0 && share_this_run > 0.001)
        progress.left_s = progress.elapsed_s / share_this_run * (1 - progress.share_done);
    observer->progress(observer->context, &progress);
}

static void heed_stop(struct engine *engine)
{
    if (!engine->config.stop->is_asked || engine->is_stopping) return;
    engine->is_stopping = true;
    engine->stop_s = clock_now_s();
    queue_close(engine->free_chunks); /* the reader ends after the chunk in its hands */
}

/* Whether no answer is on its way. */
static bool is_idle(const struct engine *engine)
{
    size_t under_way = MIN(engine->n_in_flight, runtime_under_way(engine->config.runtime));
    return under_way == 0 && engine->n_encoding == 0;
}

/* Whether nothing more will come: all written, or stopping and nothing in flight worth waiting for. */
static bool is_finished(struct engine *engine)
{
    uint64_t n_chunks;
    if (engine->is_stopping)
        return is_idle(engine) || clock_now_s() - engine->stop_s > STOP_PATIENCE_S;
    return is_all_read(engine, &n_chunks) && engine->next_chunk_number == n_chunks &&
           engine->first == NULL;
}

static tidemill_error *coordinate(struct engine *engine)
{
    for (;;) {
        TRY(thread_error(engine));
        heed_stop(engine);
        TRY(engine_take_decoded(engine));
        TRY(submit_ready(engine));
        TRY(take_encoded(engine));
        TRY(release_finished(engine));
        observe(engine);
        if (is_finished(engine)) return NULL;
        TRY(poll_runtime(engine));
    }
}

/* --- building and taking apart ---------------------------------------------------------------------- */

static tidemill_error *start_threads(struct engine *engine)
{
    struct workers_config workers = {
        .n_threads = engine->config.n_workers,
        .decoder = engine->config.decoder,
        .encoder = engine->config.encoder,
        .reuse = engine->config.reuse,
        .decoded = engine->decoded,
        .encoded = engine->encoded,
        .wake_fd = engine->config.stop->wake_fd,
    };
    TRY(workers_start(&workers, &engine->workers));
    engine->has_writer = pthread_create(&engine->writer, NULL, write_pieces, engine) == 0;
    if (engine->has_writer)
        engine->has_reader = pthread_create(&engine->reader, NULL, read_chunks, engine) == 0;
    return engine->has_reader ? NULL : error_new(ERROR_MEMORY, "cannot start a thread");
}

/* Share of the input that lies before the first chunk, judged by records. */
static double share_before(const struct engine_config *config)
{
    const struct chunk *first = config->first_chunk;
    double share = source_progress(config->source);
    if (first == NULL || share < 0) return share;
    double before = (double)first->raw.start.index;
    return share * before / MAX(before + (double)first->raw.n_records, 1.0);
}

static tidemill_error *build(struct engine *engine, const struct engine_config *config)
{
    size_t n_chunks = config->n_free_chunks + 1;
    *engine = (struct engine){.config = *config,
                              .signature = runtime_signature(config->runtime),
                              .next_chunk_number = config->first_chunk_number,
                              .free_slots = config->slots,
                              .started_s = clock_now_s()};
    engine->last = &engine->first;
    engine->ready_last = &engine->ready;
    engine->observed_s = engine->rate_s = engine->started_s;
    engine->share_read = engine->share_start = share_before(config);
    struct token_usage before = sink_counts(config->sink).tokens;
    engine->rate_tokens = before.in + before.out;
    pthread_mutex_init(&engine->mutex, NULL);
    engine->free_chunks = queue_new(n_chunks);
    engine->decoded = queue_new(n_chunks);
    engine->encoded = queue_new(config->n_slots);
    engine->pieces = queue_new(4 * n_chunks);
    if (engine->free_chunks == NULL || engine->decoded == NULL || engine->encoded == NULL ||
        engine->pieces == NULL)
        return error_memory();
    for (size_t i = 0; i < config->n_free_chunks; i++)
        queue_push(engine->free_chunks, config->free_chunks[i]);
    if (config->first_chunk != NULL) {
        config->first_chunk->number = config->first_chunk_number;
        queue_push(engine->decoded, config->first_chunk);
    }
    return start_threads(engine);
}

static void drop_pieces(struct engine *engine)
{
    struct piece *piece;
    while (engine->pieces != NULL && (piece = queue_try_pop(engine->pieces)) != NULL) free(piece);
}

/* Lets the writer finish what it was given, ends all threads. Keeps the first error. */
static tidemill_error *take_apart(struct engine *engine, tidemill_error *error)
{
    uint64_t n_chunks;
    if (engine->free_chunks != NULL) queue_close(engine->free_chunks);
    if (engine->pieces != NULL) queue_close(engine->pieces);
    if (engine->has_reader && !is_all_read(engine, &n_chunks))
        job_stop_cancel_reads(engine->config.stop);
    if (engine->has_reader) pthread_join(engine->reader, NULL);
    workers_stop(engine->workers);
    if (engine->has_writer) pthread_join(engine->writer, NULL);
    tidemill_error *late;
    while ((late = thread_error(engine)) != NULL) {
        if (error == NULL)
            error = late;
        else
            error_free(late);
    }
    drop_pieces(engine);
    decode_scratch_free(engine->scratch);
    queue_free(engine->pieces);
    queue_free(engine->encoded);
    queue_free(engine->decoded);
    queue_free(engine->free_chunks);
    pthread_mutex_destroy(&engine->mutex);
    return error;
}

tidemill_error *engine_run(const struct engine_config *config)
{
    struct engine engine;
    tidemill_error *error = build(&engine, config);
    if (error == NULL) error = coordinate(&engine);
    bool is_stopped = error == NULL && engine.is_stopping;
    note_host_cpu(&engine);
    error = take_apart(&engine, error);
    if (error == NULL && is_stopped)
        error =
            error_new(ERROR_INTERRUPTED, config->spec->to_stdout
                                             ? "stopped; what was written to standard output is "
                                               "whole lines, but not all of them"
                                             : "stopped at a checkpoint; the same command goes on");
    return error;
}
