/* SPDX-License-Identifier: Apache-2.0 */
/* run_open.c - opens the model and the input, and makes what depends on how both look. */
#include "job/identity.h"
#include "job/run_parts.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_FILE_BYTES_MAX ((size_t)64 << 20)
#define SAMPLES_MAX 100 /* records tried until one can be read */

/* --- the model ------------------------------------------------------------------------------------------- */

tidemill_error *run_open_model(struct run *run)
{
    TRY(resources_reserve(run->spec, run->io, &run->resources));
    run->tuning = (struct tuning){
        .spec = run->spec, .io = run->io, .stop = run->stop, .resources = &run->resources};
    TRY(tuning_open(&run->tuning, &run->identity, &run->state.plan));
    run->runtime = run->tuning.runtime;
    const struct model_signature *signature = runtime_signature(run->runtime);
    TRY(prompting_decide(run->spec, signature, &run->prompting));
    TRY(resources_make_chunks(&run->resources, signature->n_inputs, &run->padding));
    for (size_t i = 0; i < run->resources.n_chunks; i++)
        run->resources.chunks[i]->prompting = &run->prompting;
    return NULL;
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

/* All that a job's names of requests have in common. */
static tidemill_error *digest_job(struct run *run)
{
    if (run->identity.n == 0) TRY(identity_of_job(run->spec, run->io, &run->identity));
    struct hash_state *state = hash_state_new();
    if (state == NULL) return error_memory();
    for (size_t i = 0; i < run->identity.n; i++) {
        const struct identity_part *part = &run->identity.parts[i];
        hash_state_add(state, part->name, strlen(part->name) + 1);
        hash_state_add(state, part->value, strlen(part->value) + 1);
    }
    run->batch_job = hash_state_digest(state);
    hash_state_free(state);
    return NULL;
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
    if (run->output_format == FORMAT_OPENAI_BATCH) TRY(digest_job(run));
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
        .job = run->batch_job,
        .schema = source_schema(run->source),
        .padded_dims = run->padding.output_dims,
    };
    return encoder_new(&config, &run->encoder);
}

/* Opens the input, reads its first chunk, and makes what depends on how records look. */
tidemill_error *run_open_input(struct run *run)
{
    const struct job_spec *spec = run->spec;
    run->source_config = (struct source_config){
        .paths = (const char *const *)spec->input_paths.items,
        .n_paths = spec->input_paths.n,
        .format = (enum format)spec->input_format,
        .compression = COMPRESSION_AUTO,
        .record_bytes_max = (size_t)spec->record_bytes_max,
        .chunk_bytes = run->resources.chunk_bytes,
        .chunk_rows = run->resources.chunk_rows,
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

tidemill_error *run_decode_first_chunk(struct run *run)
{
    struct decode_scratch *scratch = decode_scratch_new();
    if (scratch == NULL) return error_memory();
    tidemill_error *error =
        chunk_decode(run->resources.chunks[0], run->decoder, scratch, run->reuse);
    decode_scratch_free(scratch);
    return error;
}
