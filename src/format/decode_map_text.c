/* SPDX-License-Identifier: Apache-2.0 */
/* decode_map_text.c - which field has text that a tokenizer turns into token ids, and which inputs are
 * made where a record does not bring them. The first record decides what a field holds. */
#include "format/csv.h"
#include "format/decode_plan.h"
#include "format/decode_text.h"

/* --- the first record ---------------------------------------------------------------------------------- */

static bool is_body(const struct planner *planner)
{
    return planner->decoder->template_text != NULL;
}

static const struct reading *names_of(const struct planner *planner)
{
    return is_body(planner) ? &planner->body_names : &planner->row_names;
}

static tidemill_error *split_cells(struct planner *planner, struct slice sample)
{
    struct decoder *decoder = planner->decoder;
    size_t n = 0;
    bool is_memory_short = false;
    struct slice *cells = arena_calloc(&decoder->arena, decoder->n_columns + 1, sizeof *cells);
    if (cells == NULL) return error_memory();
    const char *wrong =
        csv_split(sample, cells, decoder->n_columns, &decoder->arena, &n, &is_memory_short);
    if (wrong != NULL && is_memory_short) return error_memory();
    if (wrong == NULL && n == decoder->n_columns) planner->sample_cells = cells;
    return NULL;
}

static yyjson_doc *parse(struct slice text)
{
    if (text.size == 0 || json_depth(text.data, text.size, JSON_DEPTH_MAX) > JSON_DEPTH_MAX)
        return NULL;
    return yyjson_read_opts((char *)(uintptr_t)text.data, text.size, YYJSON_READ_NUMBER_AS_RAW,
                            NULL, NULL);
}

bool decoder_can_sample(const struct source_schema *schema, struct slice record)
{
    struct arena arena = {0};
    size_t n = 0;
    bool is_memory_short, is_fine = true;
    if (schema->format == FORMAT_JSONL) {
        yyjson_doc *doc = parse(record);
        is_fine = yyjson_is_obj(yyjson_doc_get_root(doc));
        yyjson_doc_free(doc);
    } else if (schema->format == FORMAT_CSV) {
        is_fine = csv_split(record, NULL, 0, &arena, &n, &is_memory_short) == NULL &&
                  n == schema->n_columns;
    }
    arena_free(&arena);
    return is_fine;
}

static yyjson_val *follow(yyjson_val *value, const struct field_ref *ref, struct slice name)
{
    value = yyjson_obj_getn(value, name.data, name.size);
    for (size_t i = 0; i < ref->n_tokens && value != NULL; i++) {
        struct slice token = ref->tokens[i];
        size_t index = 0;
        for (size_t k = 0; k < token.size && k < 9; k++)
            index = index * 10 + ((size_t)(unsigned char)token.data[k] - '0');
        value = yyjson_is_arr(value) ? yyjson_arr_get(value, index)
                                     : yyjson_obj_getn(value, token.data, token.size);
    }
    return value;
}

/* A template's field as JSON text. False: the first record lacks it. */
static bool field_json(struct planner *planner, yyjson_val *row, const struct field_ref *ref,
                       struct buffer *text)
{
    const struct field *field = &planner->decoder->row.fields[ref->field];
    text->size = 0;
    if (planner->sample_cells != NULL) {
        struct slice cell = planner->sample_cells[field->column];
        buffer_byte(text, '"');
        json_escape(text, cell.data, cell.size);
        buffer_byte(text, '"');
        return true;
    }
    yyjson_val *value = follow(row, ref, field->name);
    size_t size = 0;
    char *json = value == NULL ? NULL : yyjson_val_write(value, YYJSON_WRITE_NOFLAG, &size);
    if (json == NULL) return false;
    buffer_append(text, json, size);
    free(json);
    return true;
}

/* The template with the first record's fields in it. */
static tidemill_error *expand_sample(struct planner *planner, yyjson_val *row)
{
    struct decoder *decoder = planner->decoder;
    size_t n = template_n_fields(decoder->template_text);
    struct slice *values = arena_calloc(&decoder->arena, n + 1, sizeof *values);
    struct buffer text = {0}, body = {0};
    bool is_there = true, has_memory = values != NULL;
    for (size_t i = 0; i < n && is_there && has_memory; i++) {
        is_there = field_json(planner, row, &decoder->template_refs[i], &text);
        const char *copy = arena_copy(&decoder->arena, text.data, text.size);
        has_memory = copy != NULL && !text.is_failed;
        values[i] = (struct slice){copy, text.size};
    }
    if (is_there && has_memory) {
        template_expand(decoder->template_text, values, &body);
        planner->sample = parse((struct slice){body.data, body.size});
    }
    has_memory = has_memory && !body.is_failed;
    buffer_free(&text);
    buffer_free(&body);
    return has_memory ? NULL : error_memory();
}

tidemill_error *plan_sample(struct planner *planner, struct slice sample)
{
    enum format format = planner->decoder->format;
    if (sample.size == 0) return NULL;
    if (format == FORMAT_CSV) TRY(split_cells(planner, sample));
    if (format == FORMAT_JSONL) planner->sample = parse(sample);
    if (!is_body(planner)) return NULL;
    yyjson_doc *row = planner->sample;
    planner->sample = NULL;
    tidemill_error *error = expand_sample(planner, yyjson_doc_get_root(row));
    yyjson_doc_free(row);
    return error;
}

/* --- what fields hold ------------------------------------------------------------------------------------ */

/* A cell is text unless it is a list or, where there are several, a number. */
static bool is_text_cell(struct slice cell, bool is_single)
{
    const char *p = cell.data, *end = p + cell.size;
    struct number number;
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    while (end > p && (end[-1] == ' ' || end[-1] == '\t')) end--;
    if (p < end && (*p == '[' || *p == '{')) return false;
    return is_single || p == end || number_scan_lenient(p, end, &number) != end;
}

/* `field` is one of the decoder's, or of the names that there are to choose from. */
static bool holds_text(const struct planner *planner, const struct field *field,
                       const struct field_ref *ref, bool is_single)
{
    const struct decoder *decoder = planner->decoder;
    size_t count;
    if (planner->sample != NULL)
        return yyjson_is_str(follow(yyjson_doc_get_root(planner->sample), ref, field->name));
    if (is_body(planner)) return false;
    if (planner->sample_cells != NULL)
        return is_text_cell(planner->sample_cells[field->column], is_single);
    if (decoder->n_arrays == 0) return false;
    const struct source_array *array = &decoder->arrays[field->column];
    return array->type == TENSOR_STRING && shape_count(&array->row_shape, &count) && count == 1;
}

static bool name_holds_text(const struct planner *planner, size_t name_index)
{
    static const struct field_ref whole = {.n_tokens = 0};
    return holds_text(planner, &names_of(planner)->fields[name_index], &whole, false);
}

size_t plan_ids_input(const struct decoder *decoder)
{
    for (size_t i = 0; i < decoder->n_inputs; i++) {
        const struct input_plan *input = &decoder->inputs[i];
        bool is_whole = input->type == TENSOR_INT64 || input->type == TENSOR_INT32;
        if (is_whole && strcmp(input->name, "input_ids") == 0) return i;
    }
    return SIZE_MAX;
}

/* [tokens], or one record a call: [1, tokens]. */
static bool takes_tokens(const struct input_plan *input)
{
    const struct shape *shape = &input->row_shape;
    return shape->rank < 0 || shape->rank == 1 ||
           (shape->rank == 2 && (shape->dims[0] == 1 || shape->dims[0] < 0));
}

tidemill_error *plan_text(struct planner *planner, const struct input_plan *input,
                          const struct field_ref *parts, size_t n_parts, const char *label,
                          bool *ret_is_text)
{
    struct decoder *decoder = planner->decoder;
    const struct reading *reading = is_body(planner) ? &decoder->body : &decoder->row;
    size_t ids = plan_ids_input(decoder);
    char shape[160];
    *ret_is_text = false;
    if (ids == SIZE_MAX || input != &decoder->inputs[ids]) return NULL;
    for (size_t i = 0; i < n_parts; i++) {
        const struct field *field = &reading->fields[parts[i].field];
        if (!holds_text(planner, field, &parts[i], n_parts == 1)) return NULL;
    }
    *ret_is_text = true;
    if (planner->is_probe) return NULL;
    if (n_parts > 2)
        return error_new(ERROR_USAGE, "model input '%s' takes one text or a pair, not %zu fields",
                         input->name, n_parts);
    if (decoder->tokenizer == NULL)
        return error_new(ERROR_USAGE,
                         "model input '%s' takes token ids and field '%s' holds text: put a "
                         "tokenizer.json beside the model or name one with --tokenizer",
                         input->name, label);
    if (takes_tokens(input)) return NULL;
    shape_text(&input->row_shape, input->dim_names, shape, sizeof shape);
    return error_new(ERROR_USAGE, "model input '%s' takes %s a record: that is no list of tokens",
                     input->name, shape);
}

const char *plan_find_text(struct planner *planner)
{
    static const char *const usual[] = {"text", "sentence", "input", "prompt", "content", "body"};
    const struct reading *names = names_of(planner);
    const char *found = NULL;
    if (reading_find(names, "input_ids", 9) >= 0) return "input_ids";
    for (size_t i = 0; i < COUNT_OF(usual); i++) {
        int32_t name = reading_find(names, usual[i], strlen(usual[i]));
        bool is_it = name >= 0 && plan_is_free(planner, (size_t)name, false) &&
                     name_holds_text(planner, (size_t)name);
        if (is_it) return usual[i];
    }
    for (size_t i = 0; i < names->n_fields; i++) {
        if (!plan_is_free(planner, i, true) || !name_holds_text(planner, i)) continue;
        if (found != NULL) return NULL;
        found = names->fields[i].name.data;
    }
    return found;
}

/* --- inputs that are made --------------------------------------------------------------------------------- */

static bool is_mask(const struct planner *planner, const char *name)
{
    for (size_t i = 0; i < planner->config->n_masks; i++) {
        if (strcmp(planner->config->masks[i], name) == 0) return true;
    }
    return false;
}

static enum making making_of(const struct planner *planner, const struct input_plan *input)
{
    bool has_ids = plan_ids_input(planner->decoder) != SIZE_MAX;
    if (!type_is_number(input->type)) return MAKE_NOTHING;
    if (is_mask(planner, input->name)) return MAKE_ONES;
    if (!has_ids) return MAKE_NOTHING;
    if (strcmp(input->name, "attention_mask") == 0) return MAKE_ONES;
    if (strcmp(input->name, "token_type_ids") == 0) return MAKE_TYPES;
    if (strcmp(input->name, "position_ids") == 0) return MAKE_POSITIONS;
    return MAKE_NOTHING;
}

/* The ids; else the first input of variable length that is no mask. */
static size_t source_of_shape(const struct planner *planner)
{
    const struct decoder *decoder = planner->decoder;
    size_t ids = plan_ids_input(decoder);
    for (size_t i = 0; i < decoder->n_inputs && ids == SIZE_MAX; i++) {
        const struct input_plan *input = &decoder->inputs[i];
        if (!input->is_fixed && !is_mask(planner, input->name)) ids = i;
    }
    return ids;
}

static tidemill_error *check_masks(const struct planner *planner)
{
    const struct decoder *decoder = planner->decoder;
    for (size_t i = 0; i < planner->config->n_masks; i++) {
        const char *mask = planner->config->masks[i];
        size_t at = 0;
        while (at < decoder->n_inputs && strcmp(decoder->inputs[at].name, mask) != 0) at++;
        if (at == decoder->n_inputs)
            return error_new(ERROR_USAGE, "--mask %s: the model has no input of this name", mask);
        if (!type_is_number(decoder->inputs[at].type))
            return error_new(ERROR_USAGE, "--mask %s: the input takes no numbers", mask);
        if (source_of_shape(planner) == SIZE_MAX)
            return error_new(ERROR_USAGE,
                             "--mask %s: the model has no input of variable length to mask", mask);
    }
    return NULL;
}

/* A JSON record may bring what the first one lacks; a column or an array is there or not. */
tidemill_error *plan_making(struct planner *planner)
{
    struct decoder *decoder = planner->decoder;
    bool is_json = is_body(planner) || decoder->format == FORMAT_JSONL;
    TRY(check_masks(planner));
    size_t source = source_of_shape(planner);
    for (size_t i = 0; i < decoder->n_inputs; i++) {
        struct input_plan *input = &decoder->inputs[i];
        enum making making = input->n_parts > 0 ? MAKE_NOTHING : making_of(planner, input);
        if (making == MAKE_NOTHING || i == source) continue;
        bool is_there = reading_find(names_of(planner), input->name, strlen(input->name)) >= 0;
        if (is_there && !is_json) continue;
        if (is_json) TRY(plan_take_one(planner, i, input->name, false));
        input->making = making;
        input->source = source;
        decoder->has_making = true;
    }
    return NULL;
}
