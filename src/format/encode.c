/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c - the encoder: configuration checked and made ready once, then one call a record.
 *
 * Picks (argmax, topk) replace an output. With one such output their keys stand at the top level,
 * {"id":1,"label":"7","score":0.9}; with several, or where another output or a kept field has such a
 * name (with --keep all: always), under the output's name,
 * {"id":1,"label":7,"logits":{"label":"7","score":0.9}}. So no key stands twice in a line. */
#include "format/decode_text.h"
#include "format/encode_parts.h"

#include <stdlib.h>
#include <string.h>

#include <yyjson.h>

#define CSV_CELLS_MAX 4096 /* a longer row is JSON text in one cell */

/* --- outputs -------------------------------------------------------------------------------------- */

static bool is_float_type(enum tensor_type type)
{
    return type == TENSOR_FLOAT || type == TENSOR_DOUBLE || type == TENSOR_FLOAT16 ||
           type == TENSOR_BFLOAT16;
}

bool has_post(const struct post *post)
{
    return post->n_steps > 0 || post->pick != PICK_NONE;
}

static tidemill_error *check_post(const struct encoder *encoder, const struct output_plan *plan)
{
    size_t n_labels = encoder->config.n_labels;
    const struct value_spec *spec = plan->spec;
    if (plan->row.rank == 0)
        return error_new(ERROR_USAGE,
                         "--post: output '%s' is one number a record; steps work over a dimension",
                         spec->name);
    if (plan->row.rank < 0 || plan->post.pick == PICK_NONE || n_labels == 0) return NULL;
    int64_t n_classes = plan->row.dims[plan->row.rank - 1];
    if (n_classes < 0 || (size_t)n_classes == n_labels) return NULL;
    return error_new(ERROR_USAGE, "--labels has %zu names but output '%s' has %lld classes",
                     n_labels, spec->name, (long long)n_classes);
}

static tidemill_error *plan_output(struct encoder *encoder, const struct post *post,
                                   struct output_plan *plan)
{
    const struct value_spec *spec = plan->spec;
    struct buffer key = {0};
    plan->row = spec->kind == VALUE_TENSOR ? value_row_shape(spec, encoder->config.is_batched)
                                           : (struct shape){.rank = -1};
    plan->is_row_known = plan->row.rank >= 0 && shape_count(&plan->row, &plan->row_count);
    if (spec->kind == VALUE_TENSOR && is_float_type(spec->type)) plan->post = *post;
    if (has_post(&plan->post)) TRY(check_post(encoder, plan));
    plan->is_cells = plan->post.pick != PICK_NONE ? plan->row.rank == 1
                                                  : plan->is_row_known && plan->row.rank <= 1 &&
                                                        plan->row_count <= CSV_CELLS_MAX;
    buffer_byte(&key, ',');
    format_json_string(&key, spec->name, strlen(spec->name));
    buffer_byte(&key, ':');
    if (!key.is_failed)
        plan->key = (struct slice){arena_copy(&encoder->arena, key.data, key.size), key.size};
    buffer_free(&key);
    if (plan->key.data == NULL) return error_memory();
    bool is_array = encoder->config.format == FORMAT_NPY || encoder->config.format == FORMAT_NPZ;
    plan->is_shape_fixed = is_array || (encoder->config.format == FORMAT_CSV && plan->is_cells);
    return is_array ? array_plan_output(plan) : NULL;
}

/* Whether a key stands in every record's line, or may: an output's or a kept field's name. */
static bool is_in_use(const struct encoder *encoder, const char *name)
{
    const struct encoder_config *config = &encoder->config;
    if (config->keep_all) return true;
    for (size_t i = 0; i < config->n_keep; i++)
        if (strcmp(config->keep[i], name) == 0) return true;
    for (size_t i = 0; i < config->n_outputs; i++) {
        bool is_replaced = encoder->outputs[i].post.pick != PICK_NONE;
        if (!is_replaced && strcmp(config->outputs[i].name, name) == 0) return true;
    }
    return false;
}

/* Where picks stand: see the head of the file. */
static void decide_nesting(struct encoder *encoder)
{
    size_t n_picks = 0;
    for (size_t i = 0; i < encoder->config.n_outputs; i++)
        n_picks += encoder->outputs[i].post.pick != PICK_NONE;
    for (size_t i = 0; i < encoder->config.n_outputs; i++) {
        struct output_plan *plan = &encoder->outputs[i];
        bool is_taken = plan->post.pick == PICK_TOP_K
                            ? is_in_use(encoder, "top")
                            : is_in_use(encoder, "label") || is_in_use(encoder, "score");
        plan->is_nested = n_picks > 1 || is_taken;
    }
}

static bool is_taken(const struct encoder_config *config, const char *name)
{
    if (strcmp(name, "id") == 0) return true;
    for (size_t i = 0; i < config->n_outputs; i++)
        if (strcmp(name, config->outputs[i].name) == 0) return true;
    return false;
}

static tidemill_error *check_names(const struct encoder *encoder)
{
    const struct encoder_config *config = &encoder->config;
    bool has_id = config->format == FORMAT_JSONL || config->format == FORMAT_CSV;
    for (size_t i = 0; i < config->n_outputs && has_id; i++)
        if (strcmp(config->outputs[i].name, "id") == 0)
            return error_new(ERROR_USAGE,
                             "the model has an output named 'id', and so has every record its id; "
                             "choose other outputs with --output-name, or write .npz");
    for (size_t k = 0; k < config->n_keep; k++)
        if (is_taken(config, config->keep[k]))
            return error_new(ERROR_USAGE, "--keep %s: the output has a field of that name already",
                             config->keep[k]);
    return NULL;
}

static tidemill_error *check_arrays(const struct encoder *encoder)
{
    const struct encoder_config *config = &encoder->config;
    if (config->format == FORMAT_NPY && config->n_outputs != 1)
        return error_new(ERROR_USAGE,
                         "an .npy file holds one array and the model has %zu outputs; use .npz, or "
                         "choose one with --output-name",
                         config->n_outputs);
    if (config->n_keep > 0 || config->keep_all)
        return error_new(ERROR_USAGE, "--keep: arrays hold the model's outputs alone; use JSONL");
    if (config->n_labels > 0)
        return error_new(ERROR_USAGE, "--labels: arrays hold numbers alone; use JSONL or CSV");
    return NULL;
}

static tidemill_error *check_use_of_labels(const struct encoder *encoder, const struct post *post)
{
    if (encoder->config.n_labels > 0 && post->pick == PICK_NONE)
        return error_new(ERROR_USAGE,
                         "--labels names classes for argmax or topk; add --post argmax");
    bool has_float = false;
    for (size_t i = 0; i < encoder->config.n_outputs; i++)
        has_float |= has_post(&encoder->outputs[i].post);
    if (has_post(post) && !has_float)
        return error_new(ERROR_USAGE,
                         "--post %s: no output of the model has floating-point numbers",
                         encoder->config.post);
    return NULL;
}

static tidemill_error *make_labels(struct encoder *encoder)
{
    size_t n = encoder->config.n_labels;
    struct buffer text = {0};
    encoder->labels = arena_calloc(&encoder->arena, n + 1, sizeof *encoder->labels);
    if (encoder->labels == NULL) return error_memory();
    for (size_t i = 0; i < n; i++) {
        buffer_reset(&text, SIZE_MAX);
        format_json_string(&text, encoder->config.labels[i], strlen(encoder->config.labels[i]));
        if (text.is_failed) break;
        encoder->labels[i] =
            (struct slice){arena_copy(&encoder->arena, text.data, text.size), text.size};
    }
    bool is_short = text.is_failed || (n > 0 && encoder->labels[n - 1].data == NULL);
    buffer_free(&text);
    return is_short ? error_memory() : NULL;
}

static tidemill_error *check_csv(const struct encoder *encoder)
{
    const struct encoder_config *config = &encoder->config;
    if (!config->keep_all || config->schema->format == FORMAT_CSV) return NULL;
    return error_new(ERROR_USAGE, "--keep all with CSV output needs CSV input; name the fields");
}

/* The kept columns of a CSV file, with their keys spelled as the decoder does. */
static tidemill_error *make_columns(struct encoder *encoder)
{
    const struct encoder_config *config = &encoder->config;
    size_t n = config->keep_all ? config->schema->n_columns : config->n_keep;
    const char *const *names = config->keep_all ? config->schema->columns : config->keep;
    struct buffer key = {0};
    encoder->columns = arena_calloc(&encoder->arena, n + 1, sizeof *encoder->columns);
    if (encoder->columns == NULL) return error_memory();
    for (size_t i = 0; i < n; i++) {
        if (is_taken(config, names[i])) continue;
        struct kept_column *column = &encoder->columns[encoder->n_columns++];
        buffer_reset(&key, SIZE_MAX);
        buffer_byte(&key, '"');
        json_escape(&key, names[i], strlen(names[i]));
        buffer_byte(&key, '"');
        char *copy = key.is_failed ? NULL : arena_copy(&encoder->arena, key.data, key.size);
        *column = (struct kept_column){names[i], {copy, key.size}};
        if (copy == NULL) break;
    }
    bool is_short = n > 0 && encoder->n_columns > 0 &&
                    encoder->columns[encoder->n_columns - 1].key.data == NULL;
    buffer_free(&key);
    return is_short ? error_memory() : NULL;
}

static tidemill_error *prepare(struct encoder *encoder)
{
    struct post post;
    const struct encoder_config *config = &encoder->config;
    TRY(post_parse(config->post, &post));
    encoder->outputs =
        arena_calloc(&encoder->arena, config->n_outputs + 1, sizeof *encoder->outputs);
    if (encoder->outputs == NULL) return error_memory();
    if (config->format == FORMAT_CSV) TRY(check_csv(encoder));
    if (config->format == FORMAT_OPENAI_BATCH) TRY(batch_check(config));
    if (config->format == FORMAT_NPY || config->format == FORMAT_NPZ) TRY(check_arrays(encoder));
    for (size_t i = 0; i < config->n_outputs; i++) {
        encoder->outputs[i].spec = &config->outputs[i];
        TRY(plan_output(encoder, &post, &encoder->outputs[i]));
    }
    decide_nesting(encoder);
    TRY(check_names(encoder));
    TRY(check_use_of_labels(encoder, &post));
    if (config->format == FORMAT_CSV) TRY(make_columns(encoder));
    return make_labels(encoder);
}

tidemill_error *encoder_new(const struct encoder_config *config, struct encoder **ret)
{
    struct encoder *encoder = calloc(1, sizeof *encoder);
    if (encoder == NULL) return error_memory();
    encoder->config = *config;
    tidemill_error *error = prepare(encoder);
    if (error != NULL) {
        encoder_free(encoder);
        return error;
    }
    *ret = encoder;
    return NULL;
}

void encoder_free(struct encoder *encoder)
{
    if (encoder == NULL) return;
    arena_free(&encoder->arena);
    free(encoder);
}

struct encode_scratch *encode_scratch_new(void)
{
    return calloc(1, sizeof(struct encode_scratch));
}

void encode_scratch_free(struct encode_scratch *scratch)
{
    if (scratch == NULL) return;
    for (size_t i = 0; i < MODEL_VALUES_MAX; i++) free(scratch->string_rows[i]);
    free(scratch->numbers);
    buffer_free(&scratch->cell);
    buffer_free(&scratch->trimmed);
    free(scratch);
}

/* --- records -------------------------------------------------------------------------------------- */

void encoder_begin(const struct encoder *encoder, struct buffer *out)
{
    if (encoder->config.format == FORMAT_CSV) csv_begin(encoder, out);
    if (encoder->config.format == FORMAT_NPY) array_header(&encoder->outputs[0], 0, out);
}

bool encoder_finish_header(const struct encoder *encoder, uint64_t n_rows, struct buffer *out)
{
    if (encoder->config.format != FORMAT_NPY) return false;
    array_header(&encoder->outputs[0], n_rows, out);
    return true;
}

bool encoder_must_assemble(const struct encoder *encoder)
{
    return encoder->config.format == FORMAT_NPZ;
}

static bool is_key_of(struct slice text, const char *name)
{
    return text.size == strlen(name) && memcmp(text.data, name, text.size) == 0;
}

static bool is_text_taken(const struct encoder *encoder, struct slice text)
{
    bool is_taken = is_key_of(text, "id");
    for (size_t i = 0; i < encoder->config.n_outputs && !is_taken; i++)
        is_taken = is_key_of(text, encoder->config.outputs[i].name);
    return is_taken;
}

/* Whether a kept field would stand beside one of its own name. With --keep all it is left out,
 * however its key is spelled. */
static bool is_name_taken(const struct encoder *encoder, struct slice key)
{
    struct slice text = {key.data + 1, key.size - 2};
    if (memchr(text.data, '\\', text.size) == NULL) return is_text_taken(encoder, text);
    yyjson_doc *doc = yyjson_read(key.data, key.size, 0);
    yyjson_val *string = yyjson_doc_get_root(doc);
    text = (struct slice){yyjson_get_str(string), yyjson_get_len(string)};
    bool is_taken = text.data != NULL && is_text_taken(encoder, text);
    yyjson_doc_free(doc);
    return is_taken;
}

static void json_append_head(const struct encoder *encoder, const struct record *record,
                             struct buffer *out)
{
    buffer_append(out, "{\"id\":", 6);
    buffer_append(out, record->id.data, record->id.size);
    for (size_t i = 0; i < record->n_kept; i++) {
        const struct kept_field *field = &record->kept[i];
        if (encoder->config.keep_all && is_name_taken(encoder, field->key)) continue;
        buffer_byte(out, ',');
        buffer_append(out, field->key.data, field->key.size);
        buffer_byte(out, ':');
        buffer_append(out, field->value.data, field->value.size);
    }
}

enum error_code encoder_append_head(const struct encoder *encoder, const struct record *record,
                                    uint64_t index, struct buffer *out)
{
    size_t start = out->size;
    enum error_code code = ERROR_OK;
    switch (encoder->config.format) {
    case FORMAT_CSV: code = csv_append_head(encoder, record, out); break;
    case FORMAT_OPENAI_BATCH: batch_append_head(encoder, record, index, out); break;
    case FORMAT_NPY:
    case FORMAT_NPZ: break;
    default: json_append_head(encoder, record, out); break;
    }
    if (code != ERROR_OK) out->size = start;
    return code;
}

static enum error_code json_append_answer(const struct encoder *encoder,
                                          struct encode_scratch *scratch, uint32_t row,
                                          struct buffer *out)
{
    for (size_t i = 0; i < encoder->config.n_outputs; i++) {
        enum error_code code = json_append_output(encoder, scratch, i, row, out);
        if (code != ERROR_OK) return code;
    }
    buffer_append(out, "}\n", 2);
    return ERROR_OK;
}

enum error_code encoder_append_answer(const struct encoder *encoder, struct encode_scratch *scratch,
                                      uint32_t row, struct buffer *out, const char **ret_message)
{
    enum error_code code;
    size_t start = out->size;
    scratch->message[0] = '\0';
    switch (encoder->config.format) {
    case FORMAT_CSV: code = csv_append_answer(encoder, scratch, row, out); break;
    case FORMAT_NPY:
    case FORMAT_NPZ: code = array_append_record(encoder, scratch, row, out); break;
    case FORMAT_OPENAI_BATCH: code = batch_append_answer(encoder, scratch, row, out); break;
    default: code = json_append_answer(encoder, scratch, row, out); break;
    }
    if (code == ERROR_OK) return ERROR_OK;
    out->size = start;
    *ret_message = scratch->message[0] != '\0' ? scratch->message : error_code_sentence(code);
    return code;
}

void encoder_append_failed(const struct encoder *encoder, struct buffer *out)
{
    if (encoder->config.format != FORMAT_NPY && encoder->config.format != FORMAT_NPZ) return;
    for (size_t i = 0; i < encoder->config.n_outputs; i++)
        array_append_failed(&encoder->outputs[i], out);
}
