/* SPDX-License-Identifier: Apache-2.0 */
/* run.c - one job from the state that an earlier run left to a complete output or a checkpoint.
 *
 *   lock -> journal says where we are -> model -> first chunk -> plan -> (skip what is done)
 *        -> engine -> publish
 *
 * Nothing is written beside the output before the model is loaded and the first records fit it, so
 * a mistyped command leaves no trace. */
#include "job/dry_run.h"
#include "job/identity.h"
#include "job/paths.h"
#include "job/run_parts.h"

#include <stdlib.h>

/* So many runs in a row that died before their first commit: something here kills them. */
#define CAREFUL_STARTS 8

/* --- what an earlier run left ------------------------------------------------------------------------- */

static tidemill_error *forget(struct run *run)
{
    static const char *const endings[] = {
        ".journal",           ".journal.new",       ".partial",      ".rows",
        ".answers",           ".retry.out.answers", ".retry.in",     ".retry.out",
        ".retry.out.journal", ".retry.out.partial", ".retry.errors", ".retry.errors.partial",
        ".upstream",          ".retry.out.upstream"};
    for (size_t i = 0; i < COUNT_OF(endings); i++) {
        char *path = path_with(run->spec->output, endings[i]);
        if (path == NULL) return error_memory();
        run->io->unlink(run->io->context, path);
        free(path);
    }
    journal_state_free(&run->state);
    return NULL;
}

static void tell_complete(struct run *run)
{
    struct job_summary *summary = run->summary;
    summary->is_complete = summary->was_complete = true;
    summary->counts = run->state.commit.counts;
    summary->wall_s = run->state.commit.wall_s;
    summary->cpu_s = run->state.commit.cpu_s;
    summary->batch = run->state.plan.limits.rows_max;
    run_tell_tuned(summary, &run->state.plan);
}

static bool is_output_whole(struct run *run)
{
    struct stat status;
    return run->io->stat(run->io->context, run->spec->output, &status) == 0 &&
           (uint64_t)status.st_size == run->state.final.output_bytes;
}

static tidemill_error *finish_publication(struct run *run)
{
    TRY(journal_open(run->io, run->journal_path, &run->state, NULL, &run->journal));
    TRY(sink_publish_again(run->io, run->spec, run->journal, &run->state.final));
    tell_complete(run);
    return NULL;
}

/* Sets summary->was_complete when nothing is left to do. */
static tidemill_error *look_at_past(struct run *run)
{
    if (run->spec->is_forced) return NULL; /* what is there goes when the new job begins */
    TRY(journal_read(run->io, run->journal_path, &run->state));
    if (!run->state.exists) {
        if (!io_exists(run->io, run->spec->output)) return NULL;
        return error_new(ERROR_EXISTS,
                         "%s exists and no journal of this job lies beside it; remove it, choose "
                         "another --output, or use --force to replace it",
                         run->spec->output);
    }
    TRY(identity_compare(&run->state.identity, &run->identity));
    if (!run->state.final.is_set) return NULL;
    if (!run->state.final.is_published) return finish_publication(run);
    if (is_output_whole(run)) {
        tell_complete(run);
        return NULL;
    }
    if (!io_exists(run->io, run->spec->output)) {
        log_event(LOG_INFO, "%s is gone since the job was complete: running it again",
                  run->spec->output);
        return forget(run);
    }
    return error_new(ERROR_CHANGED,
                     "%s was changed since the job was complete; use --force to run it again",
                     run->spec->output);
}

static tidemill_error *open_past(struct run *run)
{
    const struct job_spec *spec = run->spec;
    if (spec->to_stdout) return NULL;
    run->journal_path = path_with(spec->output, ".journal");
    run->lock_path = path_with(spec->output, ".lock");
    if (run->journal_path == NULL || run->lock_path == NULL) return error_memory();
    TRY(file_lock_take(run->io, run->lock_path, &run->lock));
    TRY(identity_of_job(spec, run->io, &run->identity));
    return look_at_past(run);
}

static tidemill_error *begin_journal(struct run *run)
{
    if (run->spec->to_stdout) return NULL;
    bool is_new = !run->state.exists;
    if (is_new) TRY(forget(run));
    TRY(journal_open(run->io, run->journal_path, is_new ? NULL : &run->state, &run->identity,
                     &run->journal));
    TRY(journal_append_start(run->journal));
    return run->state.plan.is_set ? NULL : journal_append_plan(run->journal, &run->plan);
}

/* --- going on where an earlier run ended ---------------------------------------------------------------- */

static tidemill_error *note_ids(struct run *run, const struct chunk *chunk)
{
    for (size_t i = 0; i < chunk->raw.n_records; i++) {
        uint64_t first_line;
        struct slice id = chunk->records[i].decoded.id;
        if (id.size > 0) TRY(id_set_add(run->ids, id, chunk->raw.records[i].line, &first_line));
    }
    return NULL;
}

static tidemill_error *next_first_chunk(struct run *run)
{
    struct chunk *chunk = run->resources.chunks[0];
    chunk_recycle(chunk, &run->resources.region);
    TRY(source_read_chunk(run->source, &chunk->raw));
    chunk->share_read = source_progress(run->source);
    return run_decode_first_chunk(run);
}

static bool can_seek_input(const struct run *run)
{
    for (size_t i = 0; i < run->source_config.n_paths; i++)
        if (io_is_stream(run->io, run->source_config.paths[i])) return false;
    return run->ids == NULL; /* ids of what is done must be seen again */
}

static tidemill_error *reopen_at(struct run *run, const struct source_position *position)
{
    source_close(run->source);
    run->source = NULL;
    TRY(source_open(run->io, &run->source_config, position, &run->source));
    run_set_chunk_rows(run);
    return next_first_chunk(run);
}

/* Makes chunks[0] the chunk that holds the next record. */
static tidemill_error *skip_to_commit(struct run *run)
{
    const struct source_position *target = &run->state.commit.chunk;
    struct chunk *chunk = run->resources.chunks[0];
    if (chunk->raw.start.index == target->index && run->ids == NULL) return NULL;
    if (can_seek_input(run)) return reopen_at(run, target);
    while (chunk->raw.start.index < target->index && !chunk->raw.is_last) {
        if (run->ids != NULL) TRY(note_ids(run, chunk));
        TRY(next_first_chunk(run));
    }
    if (chunk->raw.start.index == target->index) return NULL;
    /* all is written but not published: an empty chunk ends the job */
    if (chunk->raw.is_last && chunk->raw.end.index == target->index) {
        chunk_recycle(chunk, &run->resources.region);
        chunk->raw.n_records = 0;
        chunk->raw.start = chunk->raw.end;
        return NULL;
    }
    return error_new(ERROR_CHANGED, "the input is shorter than what this job has already done; "
                                    "give back the same input, or use --force to start anew");
}

/* --- running ------------------------------------------------------------------------------------------------ */

static tidemill_error *open_output(struct run *run)
{
    struct sink_config config = {
        .io = run->io,
        .spec = run->spec,
        .encoder = run->encoder,
        .schema = source_schema(run->source),
        .reuse = run->reuse,
        .journal = run->journal,
        .resume = &run->state,
        .output_format = run->output_format,
        .batch_job = run->output_format == FORMAT_OPENAI_BATCH ? &run->batch_job : NULL,
    };
    TRY(sink_open(&config, &run->sink));
    sink_set_clock(run->sink, run->started_s, run->started_cpu_s);
    return NULL;
}

static tidemill_error *run_engine(struct run *run)
{
    /* a batch is waited for through any number of restarts, and no record in it harms this process */
    bool is_batch = model_kind(run->spec->model) == MODEL_HTTP && run->spec->via == VIA_BATCH;
    bool is_careful = !is_batch && (run->state.starts_without_commit >= CAREFUL_STARTS ||
                                    run->state.n_deadly > 0);
    if (is_careful)
        log_event(LOG_WARNING, "runs of this job died again and again at one place: going on one "
                               "record at a time to find what kills them");
    struct engine_config config = {
        .spec = run->spec,
        .observer = run->observer,
        .stop = run->stop,
        .source = run->source,
        .first_chunk = run->resources.chunks[0],
        .free_chunks = run->resources.chunks + 1,
        .n_free_chunks = run->resources.n_chunks - 1,
        .skip_in_first_chunk = (size_t)run->state.commit.done_in_chunk,
        .region = &run->resources.region,
        .slots = run->resources.slots,
        .n_slots = run->resources.n_slots,
        .decoder = run->decoder,
        .encoder = run->encoder,
        .runtime = run->runtime,
        .sink = run->sink,
        .ids = run->ids,
        .reuse = run->reuse,
        .limits = run->plan.limits,
        .work = &run->work,
        .n_workers = run->resources.n_workers,
        .is_careful = is_careful,
        .deadly = run->state.deadly,
        .n_deadly = run->state.n_deadly,
    };
    return engine_run(&config);
}

/* All that tells how the job will run; nothing is written yet. `reuse` is for run_open_answers. */
static tidemill_error *open_and_plan(struct run *run, struct reuse_config *reuse)
{
    TRY(run_open_model(run));
    TRY(run_open_input(run));
    TRY(run_decode_first_chunk(run));
    TRY(run_check_precision(run));
    TRY(run_decide_plan(run));
    run_set_chunk_rows(run);
    return run_open_reuse(run, reuse);
}

static tidemill_error *prepare(struct run *run)
{
    struct reuse_config reuse;
    TRY(open_and_plan(run, &reuse));
    if (run->spec->duplicate_ids != 0 && (run->ids = id_set_new()) == NULL) return error_memory();
    TRY(begin_journal(run));
    TRY(run_open_answers(run, &reuse));
    if (run->state.has_commit) TRY(skip_to_commit(run));
    return open_output(run);
}

static tidemill_error *run_to_end(struct run *run)
{
    TRY(open_past(run));
    if (run->summary->was_complete) return NULL;
    TRY(prepare(run));
    run->summary->is_resumed = run->state.has_commit;
    TRY(run_engine(run));
    TRY(sink_finish(run->sink));
    tuning_keep(&run->tuning);
    run->summary->is_complete = true;
    return NULL;
}

/* --- a forecast --------------------------------------------------------------------------------------------- */

/* What a model will generate is not known before it does. */
static void fill_forecast_cost(const struct run *run, struct job_forecast *ret)
{
    struct job_counts counts = {.records = ret->records,
                                .reused = ret->reused,
                                .cached = ret->cached,
                                .tokens = {.in = ret->tokens_in}};
    ret->cost = job_cost_prices(run->spec);
    job_cost_fill(&ret->cost, ret->wall_s, &counts);
}

static tidemill_error *run_dry(struct run *run, struct job_forecast *ret)
{
    struct reuse_config reuse;
    TRY(open_and_plan(run, &reuse));
    TRY(run_open_answers(run, &reuse));
    struct calibration calibration = tuning_calibration(&run->tuning, run->resources.chunks[0]);
    enum model_kind kind = model_kind(run->spec->model);
    struct dry_run_config config = {
        .source = run->source,
        .chunk = run->resources.chunks[0],
        .decoder = run->decoder,
        .reuse = run->reuse,
        .calibration = &calibration,
        .limits = &run->plan.limits,
        .stop = run->stop,
        .is_timed = kind != MODEL_HTTP && kind != MODEL_LLAMA,
    };
    TRY(dry_run(&config, ret));
    ret->precision = precision_name((enum precision)run->spec->precision);
    ret->deviation = run->deviation;
    fill_forecast_cost(run, ret);
    return NULL;
}

/* --- beginning and end ---------------------------------------------------------------------------------- */

static void close_run(struct run *run)
{
    sink_close(run->sink);
    reuse_free(run->reuse);
    encoder_free(run->encoder);
    decoder_free(run->decoder);
    tokenizer_close(run->tokenizer);
    source_close(run->source);
    runtime_close(run->runtime);
    tuning_close(&run->tuning);
    resources_free(&run->resources);
    id_set_free(run->ids);
    free(run->labels.items);
    free(run->labels_text);
    free(run->template_text);
    journal_close(run->journal);
    journal_state_free(&run->state);
    identity_free(&run->identity);
    file_lock_release(run->lock);
    free(run->journal_path);
    free(run->lock_path);
}

static struct run new_run(const struct job_spec *spec, const struct io *io, struct job_stop *stop)
{
    return (struct run){
        .spec = spec,
        .io = io,
        .stop = stop,
        .started_s = clock_now_s(),
        .started_cpu_s = clock_process_cpu_s(),
        .resources = {.region = {.fd = -1}},
    };
}

/* As a job to standard output: it leaves no trace. */
tidemill_error *job_dry_run(const struct job_spec *spec, const struct io *io, struct job_stop *stop,
                            struct job_forecast *ret)
{
    struct io cancellable = *io;
    cancellable.cancel_fd = stop->cancel_fd;
    struct job_spec dry = *spec;
    dry.to_stdout = true;
    if (dry.cache != NULL && !io_exists(io, dry.cache)) { /* not made for a look */
        dry.cache = NULL;
        dry.dedup = DEDUP_ON;
    }
    struct run run = new_run(&dry, &cancellable, stop);
    tidemill_error *error = run_dry(&run, ret);
    close_run(&run);
    return error;
}

tidemill_error *job_run(const struct job_spec *spec, const struct io *io,
                        const struct job_observer *observer, struct job_stop *stop,
                        struct job_summary *summary)
{
    struct io cancellable = *io;
    cancellable.cancel_fd = stop->cancel_fd;
    struct run run = new_run(spec, &cancellable, stop);
    run.observer = observer;
    run.summary = summary;
    *summary = (struct job_summary){.output = spec->output,
                                    .errors = spec->errors,
                                    .cost = job_cost_prices(spec),
                                    .precision = precision_name((enum precision)spec->precision)};
    run_tell_tuned(summary, &run.plan);
    tidemill_error *error = run_to_end(&run);
    run_fill_summary(&run);
    close_run(&run);
    return error;
}

tidemill_error *job_close(const struct job_spec *spec, const struct io *io, enum error_code code,
                          struct job_stop *stop, struct job_summary *summary)
{
    struct job_spec closing = *spec; /* borrows its strings */
    closing.close_code = code;
    closing.tune = TUNE_OFF;
    closing.max_errors_count = UINT64_MAX;
    closing.max_errors_share = 2;
    return job_run(&closing, io, NULL, stop, summary);
}
