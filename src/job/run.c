/* SPDX-License-Identifier: Apache-2.0 */
/* run.c - one job from the state that an earlier run left to a complete output or a checkpoint.
 *
 *   lock -> journal says where we are -> model -> first chunk -> plan -> (skip what is done)
 *        -> engine -> publish
 *
 * Nothing is written beside the output before the model is loaded and the first records fit it, so
 * a mistyped command leaves no trace. */
#include "job/calibrate.h"
#include "job/dry_run.h"
#include "job/engine.h"
#include "job/identity.h"
#include "job/job.h"
#include "job/journal.h"
#include "job/machine.h"
#include "job/paths.h"
#include "job/resources.h"
#include "job/reuse.h"
#include "job/sink.h"

#include "cost/cost.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_FILE_BYTES_MAX ((size_t)64 << 20)
#define SAMPLES_MAX 100 /* records tried until one can be read */
#define LOAD_TIMEOUT_MS (10 * 60 * 1000)
/* So many runs in a row that died before their first commit: something here kills them. */
#define CAREFUL_STARTS 8
/* Seconds inside the model that make up for starting another host. */
#define HOST_WORTH_S 0.6
/* Seconds of one model process a record that make up for finding out whether its input is new. */
#define DEDUP_WORTH_S 10e-6

struct run {
    const struct job_spec *spec;
    const struct io *io;
    const struct job_observer *observer;
    struct job_stop *stop;
    struct job_summary *summary;
    double started_s, started_cpu_s;

    char *journal_path, *lock_path;
    struct file_lock *lock;
    struct identity identity;
    struct journal_state state;
    struct journal *journal;

    struct resources resources; /* chunks[0] is the first one read */
    struct runtime *runtime;
    struct source_config source_config;
    struct source *source;
    char *template_text, *labels_text;
    size_t template_size;
    struct string_list labels;
    enum format output_format;
    struct padding padding;
    bool is_dynamic;             /* records may differ in shape */
    struct tokenizer *tokenizer; /* NULL: the input brings no text */
    struct decoder *decoder;
    struct encoder *encoder;
    struct sink *sink;
    struct id_set *ids;
    struct reuse *reuse; /* NULL: every record runs */
    struct journal_plan plan;
    struct engine_work work;
};

/* --- what an earlier run left ------------------------------------------------------------------------- */

static tidemill_error *forget(struct run *run)
{
    static const char *const endings[] = {".journal",
                                          ".journal.new",
                                          ".partial",
                                          ".rows",
                                          ".answers",
                                          ".retry.in",
                                          ".retry.out",
                                          ".retry.out.journal",
                                          ".retry.out.partial",
                                          ".retry.errors",
                                          ".retry.errors.partial"};
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
    summary->is_batch_measured = run->state.plan.is_measured;
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

/* --- the model ------------------------------------------------------------------------------------------- */

static tidemill_error *open_model(struct run *run)
{
    const struct job_spec *spec = run->spec;
    TRY(resources_reserve(spec, run->io, &run->resources));
    struct runtime_options options = {
        .model = spec->model,
        .onnxruntime = spec->onnxruntime,
        .provider = spec->provider,
        .output_names = (const char *const *)spec->output_names.items,
        .n_output_names = spec->output_names.n,
        .batch_dimension = (enum batch_dimension)spec->batch_dimension,
        .threads = run->resources.threads,
        .instances_max = run->resources.instances_max,
        .is_growing = spec->instances == 0,
        .is_isolated = spec->is_isolated,
        .timeout_ms = (int)MIN(spec->timeout_ms, (int64_t)INT32_MAX),
        .load_timeout_ms = LOAD_TIMEOUT_MS,
        .wake_fd = run->stop->wake_fd,
    };
    TRY(runtime_open(&options, &run->resources.region, &run->runtime));
    return resources_make_chunks(&run->resources, runtime_signature(run->runtime)->n_inputs,
                                 &run->padding);
}

/* --- formats ----------------------------------------------------------------------------------------------- */

static tidemill_error *read_labels(struct run *run)
{
    size_t size;
    if (run->spec->labels == NULL) return NULL;
    TRY(io_read_file(run->io, run->spec->labels, TEXT_FILE_BYTES_MAX, &run->labels_text, &size));
    size_t capacity = 1;
    for (size_t i = 0; i < size; i++) capacity += run->labels_text[i] == '\n';
    run->labels.items = calloc(capacity, sizeof *run->labels.items);
    if (run->labels.items == NULL) return error_memory();
    char *rest = run->labels_text, *line;
    while ((line = strsep(&rest, "\n")) != NULL) {
        size_t length = strlen(line);
        if (length > 0 && line[length - 1] == '\r') line[length - 1] = '\0';
        if (rest != NULL || length > 0) run->labels.items[run->labels.n++] = line;
    }
    return NULL;
}

/* Opening one takes up to a second and a library: only where the first record brings text. */
static tidemill_error *open_tokenizer(struct run *run, const struct decoder_config *config,
                                      struct slice sample)
{
    const struct job_spec *spec = run->spec;
    const struct tokenizer_options options = {.max_length = (size_t)spec->max_length};
    bool brings_text;
    char *path;
    TRY(job_spec_tokenizer(spec, run->io, &path));
    if (path == NULL) return NULL;
    tidemill_error *error = decoder_brings_text(config, sample, &brings_text);
    if (error == NULL && brings_text)
        error = tokenizer_open(run->io, path, &options, &run->tokenizer);
    else if (error == NULL && spec->tokenizer != NULL)
        log_event(LOG_WARNING, "--tokenizer %s is not used: the first record brings no text for it",
                  path);
    free(path);
    return error;
}

/* The first record that can be read: a broken one ahead of the others tells nothing of them. */
static struct slice choose_sample(const struct raw_chunk *first, const struct source_schema *schema)
{
    for (size_t i = 0; i < MIN(first->n_records, (size_t)SAMPLES_MAX); i++) {
        const struct raw_record *record = &first->records[i];
        if (record->error == ERROR_OK && decoder_can_sample(schema, record->bytes))
            return record->bytes;
    }
    return first->n_records > 0 ? first->records[0].bytes : (struct slice){0};
}

static tidemill_error *make_decoder(struct run *run)
{
    const struct job_spec *spec = run->spec;
    const struct raw_chunk *first = &run->resources.chunks[0]->raw;
    if (spec->template_path != NULL)
        TRY(io_read_file(run->io, spec->template_path, TEXT_FILE_BYTES_MAX, &run->template_text,
                         &run->template_size));
    struct decoder_config config = {
        .schema = source_schema(run->source),
        .signature = runtime_signature(run->runtime),
        .maps = (const char *const *)spec->maps.items,
        .n_maps = spec->maps.n,
        .id_field = spec->id_field,
        .keep = (const char *const *)spec->keep.items,
        .n_keep = spec->keep_all ? 0 : spec->keep.n,
        .keep_all = spec->keep_all,
        .template_text = run->template_text,
        .template_size = run->template_size,
        .nonfinite = (enum nonfinite_policy)spec->nonfinite,
        .masks = (const char *const *)spec->masks.items,
        .n_masks = spec->masks.n,
    };
    struct slice sample = choose_sample(first, config.schema);
    TRY(open_tokenizer(run, &config, sample));
    config.tokenizer = run->tokenizer;
    return decoder_new(&config, sample, &run->decoder);
}

static tidemill_error *make_encoder(struct run *run)
{
    const struct job_spec *spec = run->spec;
    const struct model_signature *signature = runtime_signature(run->runtime);
    run->output_format = (enum format)spec->output_format;
    if (run->output_format == FORMAT_AUTO) run->output_format = format_of_path(spec->output);
    if (run->output_format == FORMAT_AUTO) run->output_format = FORMAT_JSONL;
    if (run->output_format == FORMAT_NPZ && spec->to_stdout)
        return error_new(ERROR_USAGE, "an .npz archive cannot be streamed to standard output");
    TRY(read_labels(run));
    struct encoder_config config = {
        .format = run->output_format,
        .outputs = signature->outputs,
        .n_outputs = signature->n_outputs,
        .is_batched = signature->is_batched,
        .batch_fixed = signature->batch_fixed,
        .post = spec->post,
        .labels = (const char *const *)run->labels.items,
        .n_labels = run->labels.n,
        .nonfinite = (enum nonfinite_policy)spec->nonfinite,
        .keep = (const char *const *)spec->keep.items,
        .n_keep = spec->keep_all ? 0 : spec->keep.n,
        .keep_all = spec->keep_all,
        .schema = source_schema(run->source),
        .padded_dims = run->padding.output_dims,
    };
    return encoder_new(&config, &run->encoder);
}

/* Opens the input, reads its first chunk, and makes what depends on how records look. */
static tidemill_error *open_input(struct run *run)
{
    const struct job_spec *spec = run->spec;
    run->source_config = (struct source_config){
        .paths = (const char *const *)spec->input_paths.items,
        .n_paths = spec->input_paths.n,
        .format = (enum format)spec->input_format,
        .compression = COMPRESSION_AUTO,
        .record_bytes_max = (size_t)spec->record_bytes_max,
        .chunk_bytes = CHUNK_BYTES,
        .chunk_rows = CHUNK_ROWS,
        .line_numbers = spec->line_numbers,
        .n_line_numbers = spec->n_line_numbers,
    };
    TRY(source_open(run->io, &run->source_config, NULL, &run->source));
    TRY(source_read_chunk(run->source, &run->resources.chunks[0]->raw));
    run->resources.chunks[0]->share_read = source_progress(run->source);
    TRY(make_decoder(run));
    run->is_dynamic = signature_has_dynamic_row(runtime_signature(run->runtime));
    int64_t pad_id = run->tokenizer != NULL ? tokenizer_pad_id(run->tokenizer) : 0;
    TRY(padding_decide(spec, runtime_signature(run->runtime), pad_id, &run->padding));
    return make_encoder(run);
}

static tidemill_error *decode_first_chunk(struct run *run)
{
    struct decode_scratch *scratch = decode_scratch_new();
    if (scratch == NULL) return error_memory();
    tidemill_error *error =
        chunk_decode(run->resources.chunks[0], run->decoder, scratch, run->reuse);
    decode_scratch_free(scratch);
    return error;
}

/* --- the plan ---------------------------------------------------------------------------------------------- */

/* A model that will keep one host busy for long is the bottleneck: all that may be start at once. The
 * others come one by one, when the engine finds itself waiting. */
static void start_hosts(struct run *run, double model_s)
{
    if (model_s > HOST_WORTH_S)
        runtime_want_hosts(run->runtime, (int)MIN(model_s / HOST_WORTH_S, 1e6) + 1);
}

static struct calibration calibration_of(struct run *run)
{
    const struct chunk *first = run->resources.chunks[0];
    struct calibration calibration = {
        .runtime = run->runtime,
        .region = &run->resources.region,
        .slot = &run->resources.slots[0],
        .chunk = run->resources.chunks[0],
        .memory_bytes = run->resources.memory_bytes,
        .instances_max = run->resources.instances_max,
        .stop = run->stop,
    };
    if (first->raw.is_last)
        calibration.records_total = (double)first->raw.n_records;
    else if (first->share_read > 0)
        calibration.records_total = (double)first->raw.n_records / first->share_read;
    return calibration;
}

static tidemill_error *measure_limits(struct run *run, double *ret_rate_rows_s)
{
    struct calibration calibration = calibration_of(run);
    struct plan_limits *limits = &run->plan.limits;
    if (run->is_dynamic)
        TRY(calibrate_tokens(&calibration, limits, ret_rate_rows_s));
    else
        TRY(calibrate_batch(&calibration, &limits->rows_max, ret_rate_rows_s));
    run->plan.is_measured = *ret_rate_rows_s > 0;
    if (run->plan.is_measured) start_hosts(run, calibration.records_total / *ret_rate_rows_s);
    return NULL;
}

/* How large microbatches are: given, forced by the model, or measured now. Where records vary in
 * length they are counted in tokens; a batch size that is given bounds the rows as well. */
static tidemill_error *decide_limits(struct run *run, double *ret_rate_rows_s)
{
    const struct job_spec *spec = run->spec;
    const struct model_signature *signature = runtime_signature(run->runtime);
    struct plan_limits *limits = &run->plan.limits;
    *limits = (struct plan_limits){.rows_max = 1, .is_padded = run->padding.is_on};
    if (!signature->is_batched) return NULL;
    bool is_measured = spec->batch == 0 && !(run->is_dynamic && spec->tokens_max > 0);
    if (run->is_dynamic) limits->rows_max = CHUNK_ROWS;
    if (spec->batch > 0) limits->rows_max = (uint32_t)spec->batch;
    for (size_t i = 0; i < PLAN_CLASSES; i++) limits->tokens_max[i] = (uint32_t)spec->tokens_max;
    if (signature->batch_fixed > 0) {
        limits->rows_max = (uint32_t)signature->batch_fixed;
        if (spec->batch > 0 && spec->batch != signature->batch_fixed)
            log_event(LOG_WARNING,
                      "the model takes exactly %lld records a call; --batch %lld is not used",
                      (long long)signature->batch_fixed, (long long)spec->batch);
        return NULL;
    }
    return is_measured ? measure_limits(run, ret_rate_rows_s) : NULL;
}

/* Whether equal inputs are looked for: where a record costs more in the model than finding out. A
 * cache is asked for by whom it pays. */
static tidemill_error *decide_dedup(struct run *run, double rate_rows_s)
{
    bool is_auto = run->spec->dedup == DEDUP_AUTO && run->spec->cache == NULL;
    run->plan.is_deduped = run->spec->dedup == DEDUP_ON || run->spec->cache != NULL;
    if (!is_auto) return NULL;
    if (rate_rows_s <= 0) {
        struct calibration calibration = calibration_of(run);
        TRY(calibrate_rate(&calibration, &run->plan.limits, &rate_rows_s));
    }
    run->plan.is_deduped = rate_rows_s > 0 && rate_rows_s < 1 / DEDUP_WORTH_S;
    return NULL;
}

/* Remembered by the journal, or decided now. */
static tidemill_error *decide_plan(struct run *run)
{
    const struct buffer *bytes = &run->resources.chunks[0]->raw.bytes;
    struct digest first_chunk = hash_bytes(bytes->data, bytes->size);
    if (run->state.plan.is_set) {
        run->plan = run->state.plan;
        if (digest_equal(first_chunk, run->plan.first_chunk)) return NULL;
        return error_new(ERROR_CHANGED, "the input begins with other records than when this job "
                                        "was begun; use --force to start anew");
    }
    run->plan = (struct journal_plan){
        .is_set = true,
        .first_chunk = first_chunk,
        .decoder = decoder_description(run->decoder),
    };
    double rate_rows_s = 0;
    TRY(decide_limits(run, &rate_rows_s));
    return decide_dedup(run, rate_rows_s);
}

/* Chunks of whole microbatches; a function of the batch size alone. */
static void set_chunk_rows(struct run *run)
{
    uint32_t batch = run->plan.limits.rows_max;
    if (run->is_dynamic)
        source_set_chunk_rows(run->source, MAX(batch, CHUNK_ROWS), 1);
    else
        source_set_chunk_rows(run->source, batch >= CHUNK_ROWS ? batch : CHUNK_ROWS / batch * batch,
                              batch);
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

static tidemill_error *open_reuse(struct run *run, struct reuse_config *config)
{
    if (!run->plan.is_deduped) return NULL;
    if (run->identity.n == 0) TRY(identity_of_job(run->spec, run->io, &run->identity));
    *config = (struct reuse_config){
        .io = run->io,
        .spec = run->spec,
        .identity = &run->identity,
        .encoder = run->encoder,
        .output_format = run->output_format,
        .runtime = runtime_description(run->runtime),
        .n_inputs = runtime_signature(run->runtime)->n_inputs,
    };
    return reuse_open(config, &run->reuse);
}

/* The first chunk was decoded before it was known that equal inputs are looked for. */
static tidemill_error *open_answers(struct run *run, const struct reuse_config *config)
{
    if (run->reuse == NULL) return NULL;
    TRY(reuse_open_answers(run->reuse, config, run->state.plan.is_set));
    return decode_first_chunk(run);
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
    return decode_first_chunk(run);
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
    set_chunk_rows(run);
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
    };
    TRY(sink_open(&config, &run->sink));
    sink_set_clock(run->sink, run->started_s, run->started_cpu_s);
    return NULL;
}

static tidemill_error *run_engine(struct run *run)
{
    bool is_careful = run->state.starts_without_commit >= CAREFUL_STARTS || run->state.n_deadly > 0;
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

static tidemill_error *prepare(struct run *run)
{
    TRY(open_model(run));
    TRY(open_input(run));
    TRY(decode_first_chunk(run));
    TRY(decide_plan(run));
    set_chunk_rows(run);
    if (run->spec->duplicate_ids != 0 && (run->ids = id_set_new()) == NULL) return error_memory();
    struct reuse_config reuse;
    TRY(open_reuse(run, &reuse));
    TRY(begin_journal(run));
    TRY(open_answers(run, &reuse));
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
    run->summary->is_complete = true;
    return NULL;
}

/* --- a forecast --------------------------------------------------------------------------------------------- */

static tidemill_error *open_dry(struct run *run)
{
    struct reuse_config reuse;
    TRY(open_model(run));
    TRY(open_input(run));
    TRY(decode_first_chunk(run));
    TRY(decide_plan(run));
    set_chunk_rows(run);
    TRY(open_reuse(run, &reuse));
    return open_answers(run, &reuse);
}

static tidemill_error *run_dry(struct run *run, struct job_forecast *ret)
{
    TRY(open_dry(run));
    struct calibration calibration = calibration_of(run);
    struct dry_run_config config = {
        .source = run->source,
        .chunk = run->resources.chunks[0],
        .decoder = run->decoder,
        .reuse = run->reuse,
        .calibration = &calibration,
        .limits = &run->plan.limits,
        .stop = run->stop,
    };
    TRY(dry_run(&config, ret));
    ret->price_usd_hour = run->spec->price_usd_hour;
    ret->cost_usd = cost_machine_usd(ret->wall_s, ret->price_usd_hour);
    ret->cost_usd_per_million = cost_per_million_usd(ret->cost_usd, ret->records);
    return NULL;
}

/* --- the bill ----------------------------------------------------------------------------------------------- */

static void fill_costs(struct job_summary *summary)
{
    summary->cost_usd = cost_machine_usd(summary->wall_s, summary->price_usd_hour);
    summary->cost_usd_per_million =
        cost_per_million_usd(summary->cost_usd, summary->counts.records);
}

static void fill_runtime(struct run *run)
{
    struct runtime_stats stats;
    struct job_summary *summary = run->summary;
    runtime_get_stats(run->runtime, &stats);
    if (run->sink != NULL) sink_add_host_cpu(run->sink, stats.cpu_s);
    summary->run_cpu_s = clock_process_cpu_s() - run->started_cpu_s + stats.cpu_s;
    summary->instances = stats.hosts;
    summary->threads = run->resources.threads;
    summary->restarts = stats.restarts;
    if (run->plan.limits.is_padded)
        for (size_t i = 0; i < PLAN_CLASSES; i++)
            summary->tokens_max = MAX(summary->tokens_max, run->plan.limits.tokens_max[i]);
    summary->run_rows = run->work.rows;
    summary->tokens = run->work.tokens;
    summary->padded_tokens = run->work.padded_tokens;
    summary->peak_host_memory_bytes = stats.peak_memory_bytes;
    if (summary->run_wall_s > 0 && stats.hosts > 0)
        summary->model_busy_share = stats.busy_s / (summary->run_wall_s * stats.hosts);
    snprintf(summary->runtime, sizeof summary->runtime, "%s", runtime_description(run->runtime));
}

static void fill_summary(struct run *run)
{
    struct job_summary *summary = run->summary;
    summary->run_wall_s = clock_now_s() - run->started_s;
    summary->peak_memory_bytes = machine_peak_memory_bytes(run->io);
    if (run->runtime != NULL) fill_runtime(run);
    if (run->sink != NULL) {
        summary->counts = sink_counts(run->sink);
        summary->records_this_run = summary->counts.records - run->state.commit.counts.records;
        summary->batch = run->plan.limits.rows_max;
        summary->is_batch_measured = run->plan.is_measured;
        sink_times(run->sink, &summary->wall_s, &summary->cpu_s);
    }
    if (summary->run_wall_s > 0)
        summary->rate_rows_s = (double)summary->records_this_run / summary->run_wall_s;
    fill_costs(summary);
}

static void close_run(struct run *run)
{
    sink_close(run->sink);
    reuse_free(run->reuse);
    encoder_free(run->encoder);
    decoder_free(run->decoder);
    tokenizer_close(run->tokenizer);
    source_close(run->source);
    runtime_close(run->runtime);
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
    *summary = (struct job_summary){
        .output = spec->output, .errors = spec->errors, .price_usd_hour = spec->price_usd_hour};
    tidemill_error *error = run_to_end(&run);
    fill_summary(&run);
    close_run(&run);
    return error;
}
