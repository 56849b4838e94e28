/* SPDX-License-Identifier: Apache-2.0 */
/* decode_plan.c - makes a decoder: from the configuration and the first record to the fields that
 * matter, where they are found and what they are for. */
#include "format/decode_plan.h"
#include "format/decode_text.h"

#include <stdlib.h>

/* --- fields ----------------------------------------------------------------------------------------- */

static bool add_slot(struct reading *reading, uint32_t field)
{
    struct slice name = reading->fields[field].name;
    size_t mask = reading->n_slots - 1;
    size_t at = (size_t)hash_checksum(name.data, name.size) & mask;
    while (reading->slots[at] != 0) at = (at + 1) & mask;
    reading->slots[at] = field + 1;
    return true;
}

/* Doubles the tables; the old ones stay behind in the arena. */
static bool grow(struct arena *arena, struct reading *reading)
{
    size_t n_slots = reading->n_slots == 0 ? 32 : reading->n_slots * 2;
    struct field *fields = arena_calloc(arena, n_slots / 2, sizeof *fields);
    uint32_t *slots = arena_calloc(arena, n_slots, sizeof *slots);
    if (fields == NULL || slots == NULL) return false;
    if (reading->n_fields > 0) {
        memcpy(fields, reading->fields, reading->n_fields * sizeof *fields);
    }
    reading->fields = fields;
    reading->slots = slots;
    reading->n_slots = n_slots;
    for (uint32_t i = 0; i < reading->n_fields; i++) add_slot(reading, i);
    return true;
}

static bool quote(struct arena *arena, struct slice name, struct slice *ret)
{
    struct buffer text = {0};
    buffer_byte(&text, '"');
    json_escape(&text, name.data, name.size);
    buffer_byte(&text, '"');
    const char *copy = text.is_failed ? NULL : arena_copy(arena, text.data, text.size);
    *ret = (struct slice){copy, text.size};
    buffer_free(&text);
    return copy != NULL;
}

bool plan_add_field(struct arena *arena, struct reading *reading, struct slice name,
                    uint32_t *ret_field)
{
    int32_t known = reading_find(reading, name.data, name.size);
    if (known >= 0) {
        *ret_field = (uint32_t)known;
        return true;
    }
    if (reading->n_fields >= reading->n_slots / 2 && !grow(arena, reading)) return false;
    uint32_t field = (uint32_t)reading->n_fields;
    struct field *place = &reading->fields[field];
    const char *copy = arena_copy(arena, name.data, name.size);
    *place = (struct field){.name = {copy, name.size}, .input = -1};
    if (copy == NULL || !quote(arena, place->name, &place->quoted)) return false;
    reading->n_fields++;
    add_slot(reading, field);
    *ret_field = field;
    return true;
}

const char *plan_names_text(struct arena *arena, const struct reading *names)
{
    const size_t shown_max = 20;
    struct buffer text = {0};
    for (size_t i = 0; i < names->n_fields && i < shown_max; i++) {
        struct slice name = names->fields[i].name;
        buffer_printf(&text, "%s%.*s", i == 0 ? "" : ", ", (int)MIN(name.size, 100), name.data);
    }
    if (names->n_fields > shown_max) {
        buffer_printf(&text, " and %zu more", names->n_fields - shown_max);
    }
    if (names->n_fields == 0) buffer_text(&text, "no fields");
    const char *copy = text.is_failed ? NULL : arena_copy(arena, text.data, text.size);
    buffer_free(&text);
    return copy == NULL ? "" : copy;
}

/* --- references ------------------------------------------------------------------------------------- */

/* One token of a JSON pointer, "~1" and "~0" replaced. */
static bool add_token(struct arena *arena, const char *p, const char *end, struct slice *ret)
{
    char *copy = arena_copy(arena, p, (size_t)(end - p)), *out = copy;
    if (copy == NULL) return false;
    for (; p < end; p++) {
        bool is_escape = *p == '~' && p + 1 < end && (p[1] == '0' || p[1] == '1');
        *out++ = !is_escape ? *p : p[1] == '0' ? '~' : '/';
        if (is_escape) p++;
    }
    *ret = (struct slice){copy, (size_t)(out - copy)};
    return true;
}

static bool split_pointer(struct arena *arena, const char *text, struct slice **ret, size_t *ret_n)
{
    size_t n = 0;
    for (const char *p = text; *p != '\0'; p++) n += *p == '/';
    struct slice *tokens = arena_calloc(arena, n, sizeof *tokens);
    if (tokens == NULL) return false;
    *ret = tokens;
    *ret_n = n;
    for (size_t i = 0; i < n; i++) {
        const char *begin = text + 1, *end = strchrnul(begin, '/');
        if (!add_token(arena, begin, end, &tokens[i])) return false;
        text = end;
    }
    return true;
}

static bool reads_json(const struct planner *planner, bool is_body)
{
    return is_body || planner->decoder->format == FORMAT_JSONL;
}

tidemill_error *plan_ref(struct planner *planner, bool is_body, const char *text, bool must_exist,
                         const char *what, struct field_ref *ret)
{
    struct decoder *decoder = planner->decoder;
    struct reading *reading = is_body ? &decoder->body : &decoder->row;
    const struct reading *names = is_body ? &planner->body_names : &planner->row_names;
    bool knows = is_body ? planner->knows_body : planner->knows_row;
    struct slice name = {text, strlen(text)}, *tokens = NULL;
    size_t n_tokens = 0;
    int32_t known = reading_find(names, name.data, name.size);
    if (known < 0 && text[0] == '/' && reads_json(planner, is_body)) {
        if (!split_pointer(&decoder->arena, text, &tokens, &n_tokens)) return error_memory();
        name = tokens[0];
        known = reading_find(names, name.data, name.size);
    }
    if (known < 0 && knows && must_exist) {
        return error_new(ERROR_USAGE, "%s: there is no field '%s'; there is %s", what, text,
                         plan_names_text(&decoder->arena, names));
    }
    if (!plan_add_field(&decoder->arena, reading, name, &ret->field)) return error_memory();
    if (known >= 0) reading->fields[ret->field].column = names->fields[known].column;
    ret->tokens = n_tokens > 1 ? tokens + 1 : NULL;
    ret->n_tokens = n_tokens > 1 ? n_tokens - 1 : 0;
    ret->text = arena_copy(&decoder->arena, text, strlen(text));
    if (ret->n_tokens > 0) reading->is_plain = false;
    return ret->text == NULL ? error_memory() : NULL;
}

/* --- what there is to choose from ------------------------------------------------------------------- */

/* The keys of a JSON object; *ret_knows false where it is none. */
static tidemill_error *list_keys(struct arena *arena, struct slice text, struct reading *names,
                                 bool *ret_knows)
{
    *ret_knows = false;
    if (text.size == 0 || json_depth(text.data, text.size, JSON_DEPTH_MAX) > JSON_DEPTH_MAX) {
        return NULL;
    }
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)text.data, text.size,
                                       YYJSON_READ_NUMBER_AS_RAW, NULL, NULL);
    yyjson_val *root = yyjson_doc_get_root(doc), *key;
    bool has_memory = true;
    *ret_knows = yyjson_is_obj(root);
    yyjson_obj_iter iterator;
    if (*ret_knows && yyjson_obj_iter_init(root, &iterator)) {
        while (has_memory && (key = yyjson_obj_iter_next(&iterator)) != NULL) {
            uint32_t field;
            struct slice name = {yyjson_get_str(key), yyjson_get_len(key)};
            has_memory = plan_add_field(arena, names, name, &field);
        }
    }
    yyjson_doc_free(doc);
    return has_memory ? NULL : error_memory();
}

static tidemill_error *list_columns(struct decoder *decoder, const struct source_schema *schema,
                                    struct reading *names)
{
    struct arena *arena = &decoder->arena;
    decoder->n_columns = schema->n_columns;
    decoder->columns = arena_calloc(arena, schema->n_columns + 1, sizeof *decoder->columns);
    decoder->column_keys = arena_calloc(arena, schema->n_columns + 1, sizeof(struct slice));
    if (decoder->columns == NULL || decoder->column_keys == NULL) return error_memory();
    for (uint32_t i = 0; i < schema->n_columns; i++) {
        uint32_t field;
        struct slice name = {schema->columns[i], strlen(schema->columns[i])};
        size_t before = names->n_fields;
        if (!plan_add_field(arena, names, name, &field)) return error_memory();
        if (names->n_fields > before) names->fields[field].column = i; /* of two, the first */
        decoder->columns[i] = names->fields[field].name.data;
        decoder->column_keys[i] = names->fields[field].quoted;
    }
    return NULL;
}

static tidemill_error *list_arrays(struct decoder *decoder, const struct source_schema *schema,
                                   struct reading *names)
{
    struct arena *arena = &decoder->arena;
    decoder->n_arrays = schema->n_arrays;
    decoder->arrays = arena_calloc(arena, schema->n_arrays + 1, sizeof *decoder->arrays);
    if (decoder->arrays == NULL) return error_memory();
    for (uint32_t i = 0; i < schema->n_arrays; i++) {
        uint32_t field;
        struct slice name = {schema->arrays[i].name, strlen(schema->arrays[i].name)};
        if (!plan_add_field(arena, names, name, &field)) return error_memory();
        names->fields[field].column = i;
        decoder->arrays[i] = schema->arrays[i];
        decoder->arrays[i].name = names->fields[field].name.data;
    }
    return NULL;
}

static tidemill_error *list_names(struct planner *planner, struct slice sample)
{
    struct decoder *decoder = planner->decoder;
    const struct decoder_config *config = planner->config;
    const struct source_schema *schema = config->schema;
    planner->knows_row = true;
    if (decoder->format == FORMAT_CSV) {
        TRY(list_columns(decoder, schema, &planner->row_names));
        planner->knows_row = schema->n_columns > 0; /* an empty input has no header */
    } else if (decoder->format == FORMAT_JSONL) {
        TRY(list_keys(&decoder->arena, sample, &planner->row_names, &planner->knows_row));
    } else {
        TRY(list_arrays(decoder, schema, &planner->row_names));
        planner->knows_row = schema->n_arrays > 0;
    }
    if (config->template_text == NULL) return NULL;
    struct slice text = {config->template_text, config->template_size};
    return list_keys(&decoder->arena, text, &planner->body_names, &planner->knows_body);
}

/* --- the parts of a decoder --------------------------------------------------------------------------- */

static tidemill_error *plan_signature(struct decoder *decoder,
                                      const struct model_signature *signature)
{
    struct arena *arena = &decoder->arena;
    if (signature->n_inputs > MODEL_VALUES_MAX) {
        return error_new(ERROR_UNSUPPORTED, "the model has %zu inputs, more than %d",
                         signature->n_inputs, MODEL_VALUES_MAX);
    }
    decoder->n_inputs = signature->n_inputs;
    decoder->inputs = arena_calloc(arena, signature->n_inputs + 1, sizeof *decoder->inputs);
    if (decoder->inputs == NULL) return error_memory();
    for (size_t i = 0; i < signature->n_inputs; i++) {
        const struct value_spec *spec = &signature->inputs[i];
        struct input_plan *input = &decoder->inputs[i];
        if (spec->kind != VALUE_TENSOR) {
            return error_new(ERROR_UNSUPPORTED, "model input '%s' is no tensor", spec->name);
        }
        input->name = arena_copy(arena, spec->name, strlen(spec->name));
        char **names = arena_calloc(arena, TENSOR_RANK_MAX, sizeof *names);
        if (input->name == NULL || names == NULL) return error_memory();
        input->type = spec->type;
        input->is_json = spec->is_json;
        input->is_optional = spec->is_optional;
        input->row_shape = value_row_shape(spec, signature->is_batched);
        input->is_fixed = shape_count(&input->row_shape, &input->count);
        size_t skip = spec->shape.rank > input->row_shape.rank ? 1 : 0;
        for (int32_t k = 0; k < input->row_shape.rank; k++) {
            const char *name = spec->dim_names[(size_t)k + skip];
            names[k] = name == NULL ? NULL : arena_copy(arena, name, strlen(name));
        }
        input->dim_names = names;
    }
    return NULL;
}

static bool is_array_format(const struct decoder *decoder)
{
    return decoder->format == FORMAT_NPY || decoder->format == FORMAT_NPZ;
}

static tidemill_error *plan_id(struct planner *planner)
{
    struct decoder *decoder = planner->decoder;
    const char *name = planner->config->id_field;
    if (name != NULL && name[0] == '\0') { /* line numbers, whatever fields there are */
        decoder->row.id_field = -1;
        return NULL;
    }
    if (name == NULL && !is_array_format(decoder)) {
        if (reading_find(&planner->row_names, "id", 2) >= 0) name = "id";
        if (reading_find(&planner->row_names, "custom_id", 9) >= 0) name = "custom_id";
    }
    decoder->row.id_field = -1;
    if (name == NULL) return NULL;
    bool must_exist =
        decoder->format != FORMAT_JSONL; /* one record may lack it, a header may not */
    TRY(plan_ref(planner, false, name, must_exist, "--id", &decoder->id));
    decoder->has_id = true;
    struct field *field = &decoder->row.fields[decoder->id.field];
    field->is_text_wanted = true;
    if (decoder->id.n_tokens == 0) decoder->row.id_field = decoder->id.field;
    if (!is_array_format(decoder)) return NULL;
    const struct source_array *array = &decoder->arrays[field->column];
    size_t count;
    bool is_fine = shape_count(&array->row_shape, &count) && count == 1 &&
                   !type_is_float(array->type) && array->type != TENSOR_BOOL;
    if (is_fine) return NULL;
    return error_new(ERROR_USAGE, "--id: array '%s' must hold one whole number or string a row",
                     name);
}

static tidemill_error *plan_keep(struct planner *planner)
{
    struct decoder *decoder = planner->decoder;
    const struct decoder_config *config = planner->config;
    if (is_array_format(decoder) && (config->keep_all || config->n_keep > 0)) {
        return error_new(ERROR_USAGE, "--keep works with JSONL and CSV inputs, not with arrays");
    }
    decoder->keep_all = config->keep_all;
    decoder->row.wants_all = config->keep_all;
    if (config->keep_all || config->n_keep == 0) return NULL;
    decoder->n_keep = config->n_keep;
    decoder->keep = arena_calloc(&decoder->arena, config->n_keep, sizeof *decoder->keep);
    decoder->keep_keys = arena_calloc(&decoder->arena, config->n_keep, sizeof(struct slice));
    if (decoder->keep == NULL || decoder->keep_keys == NULL) return error_memory();
    bool must_exist = decoder->format == FORMAT_CSV;
    for (size_t i = 0; i < config->n_keep; i++) {
        struct slice key = {config->keep[i], strlen(config->keep[i])};
        TRY(plan_ref(planner, false, config->keep[i], must_exist, "--keep", &decoder->keep[i]));
        decoder->row.fields[decoder->keep[i].field].is_text_wanted = true;
        if (!quote(&decoder->arena, key, &decoder->keep_keys[i])) return error_memory();
    }
    return NULL;
}

static tidemill_error *plan_template(struct planner *planner)
{
    struct decoder *decoder = planner->decoder;
    const struct decoder_config *config = planner->config;
    if (config->template_text == NULL) return NULL;
    if (is_array_format(decoder)) {
        return error_new(ERROR_USAGE,
                         "--template works with JSONL and CSV inputs, not with arrays");
    }
    TRY(template_compile(config->template_text, config->template_size, &decoder->arena,
                         &decoder->template_text));
    size_t n = template_n_fields(decoder->template_text);
    decoder->template_refs = arena_calloc(&decoder->arena, n + 1, sizeof *decoder->template_refs);
    if (decoder->template_refs == NULL) return error_memory();
    for (size_t i = 0; i < n; i++) {
        TRY(plan_ref(planner, false, template_field(decoder->template_text, i), true, "--template",
                     &decoder->template_refs[i]));
        decoder->row.fields[decoder->template_refs[i].field].is_text_wanted = true;
    }
    return NULL;
}

static void finish_reading(struct reading *reading)
{
    uint64_t digest = reading->n_fields + 1;
    if (reading->n_fields >= INT16_MAX) reading->is_plain = false;
    for (size_t i = 0; i < reading->n_fields; i++) {
        struct slice name = reading->fields[i].name;
        digest = (digest ^ hash_checksum(name.data, name.size)) * 0x9e3779b97f4a7c15u;
    }
    reading->digest = digest | 1; /* 0 is a fresh scratch */
}

static tidemill_error *describe(struct decoder *decoder)
{
    struct buffer text = {0};
    for (size_t i = 0; i < decoder->n_inputs; i++) {
        const struct input_plan *input = &decoder->inputs[i];
        if (input->is_whole)
            buffer_printf(&text, "%s=the whole %s\n", input->name,
                          decoder->template_text != NULL ? "template" : "record");
        else if (input->n_parts == 0)
            buffer_printf(&text, "%s (made)\n", input->name);
        else
            buffer_printf(&text, "%s=%s%s\n", input->name, input->label,
                          input->is_text                  ? " (text)"
                          : input->making != MAKE_NOTHING ? " (made where absent)"
                                                          : "");
    }
    buffer_printf(&text, "id=%s", decoder->has_id ? decoder->id.text : "line number");
    decoder->description =
        text.is_failed ? NULL : arena_copy(&decoder->arena, text.data, text.size);
    buffer_free(&text);
    return decoder->description == NULL ? error_memory() : NULL;
}

static tidemill_error *plan(struct planner *planner, struct slice sample)
{
    struct decoder *decoder = planner->decoder;
    bool has_template = planner->config->template_text != NULL;
    decoder->row.is_plain = decoder->body.is_plain = true;
    decoder->row.has_inputs = !has_template;
    decoder->body.has_inputs = has_template;
    decoder->row.id_field = decoder->body.id_field = -1;
    decoder->body.memory = 1;
    TRY(plan_signature(decoder, planner->config->signature));
    TRY(list_names(planner, sample));
    TRY(plan_id(planner));
    TRY(plan_keep(planner));
    TRY(plan_template(planner));
    TRY(plan_sample(planner, sample));
    TRY(plan_inputs(planner));
    finish_reading(&decoder->row);
    finish_reading(&decoder->body);
    return describe(decoder);
}

static tidemill_error *make(const struct decoder_config *config, struct slice sample, bool is_probe,
                            struct decoder **ret)
{
    struct decoder *decoder = calloc(1, sizeof *decoder);
    if (decoder == NULL) return error_memory();
    struct planner planner = {.decoder = decoder, .config = config, .is_probe = is_probe};
    decoder->format = config->schema->format;
    decoder->nonfinite = config->nonfinite;
    decoder->tokenizer = config->tokenizer;
    tidemill_error *error = plan(&planner, sample);
    yyjson_doc_free(planner.sample);
    if (error != NULL) {
        decoder_free(decoder);
        return error;
    }
    *ret = decoder;
    return NULL;
}

tidemill_error *decoder_new(const struct decoder_config *config, struct slice sample,
                            struct decoder **ret)
{
    return make(config, sample, false, ret);
}

tidemill_error *decoder_brings_text(const struct decoder_config *config, struct slice sample,
                                    bool *ret)
{
    struct decoder *decoder;
    TRY(make(config, sample, true, &decoder));
    *ret = decoder->text_input != NULL;
    decoder_free(decoder);
    return NULL;
}

const char *decoder_description(const struct decoder *decoder)
{
    return decoder->description;
}

void decoder_free(struct decoder *decoder)
{
    if (decoder == NULL) return;
    arena_free(&decoder->arena);
    free(decoder);
}
