/* SPDX-License-Identifier: Apache-2.0 */
/* decode_map.c - which field is which input: what --map says, else names that agree, else the one
 * field that is left, else all columns of a CSV that is nothing but the input. */
#include "format/decode_plan.h"

#include <stdio.h>
#include <stdlib.h>

#define RANGE_MAX 1000000

/* Parts of one input as they are found. */
struct parts {
    struct field_ref *refs;
    size_t n, capacity;
};

static bool is_body(const struct planner *planner)
{
    return planner->decoder->template_text != NULL;
}

static const struct reading *names_of(const struct planner *planner)
{
    return is_body(planner) ? &planner->body_names : &planner->row_names;
}

static bool knows_names(const struct planner *planner)
{
    return is_body(planner) ? planner->knows_body : planner->knows_row;
}

static tidemill_error *append_part(struct planner *planner, struct parts *parts, const char *text,
                                   bool must_exist, const char *what)
{
    if (parts->n == parts->capacity) {
        size_t capacity = parts->capacity == 0 ? 8 : parts->capacity * 2;
        struct field_ref *refs =
            arena_calloc(&planner->decoder->arena, capacity, sizeof *parts->refs);
        if (refs == NULL) return error_memory();
        if (parts->n > 0) memcpy(refs, parts->refs, parts->n * sizeof *refs);
        parts->refs = refs;
        parts->capacity = capacity;
    }
    TRY(plan_ref(planner, is_body(planner), text, must_exist, what, &parts->refs[parts->n]));
    parts->n++;
    return NULL;
}

static tidemill_error *add_part(struct planner *planner, struct parts *parts, const char *text,
                                const char *what)
{
    return append_part(planner, parts, text, true, what);
}

/* --- ranges ------------------------------------------------------------------------------------------ */

static size_t digits_at_end(const char *text)
{
    size_t size = strlen(text), n = 0;
    while (n < size && n < 9 && text[size - n - 1] >= '0' && text[size - n - 1] <= '9') n++;
    return n;
}

/* "p0..p63" by counting. */
static tidemill_error *add_counted(struct planner *planner, struct parts *parts, const char *first,
                                   const char *last, const char *what)
{
    size_t first_digits = digits_at_end(first), last_digits = digits_at_end(last);
    size_t prefix = strlen(first) - first_digits;
    long from = first_digits == 0 ? 0 : strtol(first + prefix, NULL, 10);
    long to = last_digits == 0 ? 0 : strtol(last + strlen(last) - last_digits, NULL, 10);
    bool is_fine = first_digits > 0 && last_digits > 0 && from <= to && to - from < RANGE_MAX &&
                   strlen(last) - last_digits == prefix && memcmp(first, last, prefix) == 0;
    if (!is_fine) {
        return error_new(ERROR_USAGE, "%s: '%s..%s' is no range like p0..p63", what, first, last);
    }
    bool is_padded = first[prefix] == '0' && first_digits > 1;
    for (long i = from; i <= to; i++) {
        char *name = arena_printf(&planner->decoder->arena, "%.*s%0*ld", (int)prefix, first,
                                  is_padded ? (int)first_digits : 1, i);
        if (name == NULL) return error_memory();
        TRY(add_part(planner, parts, name, what));
    }
    return NULL;
}

/* A range of a header's columns goes by their place, whatever their names. */
static tidemill_error *add_range(struct planner *planner, struct parts *parts, const char *first,
                                 const char *last, const char *what)
{
    const struct decoder *decoder = planner->decoder;
    const struct reading *names = names_of(planner);
    int32_t from = reading_find(names, first, strlen(first));
    int32_t to = reading_find(names, last, strlen(last));
    bool has_places = decoder->format == FORMAT_CSV && !is_body(planner) && from >= 0 && to >= 0;
    if (!has_places) return add_counted(planner, parts, first, last, what);
    uint32_t begin = names->fields[from].column, end = names->fields[to].column;
    if (begin > end) {
        return error_new(ERROR_USAGE, "%s: column '%s' stands behind column '%s'", what, first,
                         last);
    }
    for (uint32_t i = begin; i <= end; i++) {
        TRY(add_part(planner, parts, decoder->columns[i], what));
    }
    return NULL;
}

/* "a", "/a/0", "a,b,c", "p0..p63,q" */
static tidemill_error *add_field_text(struct planner *planner, struct parts *parts,
                                      const char *text, const char *what)
{
    struct arena *arena = &planner->decoder->arena;
    bool is_name = reading_find(names_of(planner), text, strlen(text)) >= 0 || text[0] == '/';
    if (is_name) return add_part(planner, parts, text, what);
    for (const char *p = text;;) {
        const char *end = strchrnul(p, ',');
        char *piece = arena_copy(arena, p, (size_t)(end - p));
        if (piece == NULL) return error_memory();
        while (*piece == ' ') piece++;
        size_t size = strlen(piece);
        while (size > 0 && piece[size - 1] == ' ') piece[--size] = '\0';
        if (size == 0) return error_new(ERROR_USAGE, "%s: a field's name is empty", what);
        char *dots = strstr(piece, "..");
        bool is_range = dots != NULL && dots > piece && dots[2] != '\0' &&
                        reading_find(names_of(planner), piece, size) < 0;
        if (is_range) {
            *dots = '\0';
            TRY(add_range(planner, parts, piece, dots + 2, what));
        } else {
            TRY(add_part(planner, parts, piece, what));
        }
        if (*end == '\0') return NULL;
        p = end + 1;
    }
}

/* --- inputs ------------------------------------------------------------------------------------------ */

/* Gives the parts to the input and checks that they can make up its row. */
static tidemill_error *set_parts(struct planner *planner, size_t index, const struct parts *parts,
                                 const char *label)
{
    struct decoder *decoder = planner->decoder;
    struct reading *reading = is_body(planner) ? &decoder->body : &decoder->row;
    struct input_plan *input = &decoder->inputs[index];
    input->parts = parts->refs;
    input->n_parts = parts->n;
    TRY(plan_text(planner, input, parts->refs, parts->n, label, &input->is_text));
    if (input->is_text) decoder->text_input = input;
    input->is_joined = parts->n > 1 && !input->is_text;
    if (label[0] == '\0') label = input->name; /* a .npy file's array has no name */
    input->label = arena_copy(&decoder->arena, label, strlen(label));
    if (input->label == NULL) return error_memory();
    for (size_t i = 0; i < parts->n; i++) {
        struct field *field = &reading->fields[parts->refs[i].field];
        if (field->input >= 0) reading->is_plain = false; /* it goes to two places */
        field->input = (int32_t)index;
        field->part = (uint32_t)i;
    }
    if (input->is_json) reading->is_plain = false; /* only the tree's way checks all of the text */
    if (input->is_json && parts->n > 1)
        return error_new(ERROR_USAGE, "model input '%s' takes one JSON value: map one field to it",
                         input->name);
    if (!input->is_joined) return NULL;
    bool is_array = decoder->n_arrays > 0;
    if (!is_array && input->is_fixed && input->count != parts->n) {
        return error_new(ERROR_USAGE,
                         "model input '%s' takes %zu values, --map gives it %zu fields",
                         input->name, input->count, parts->n);
    }
    int64_t dim = input->row_shape.rank == 1 ? input->row_shape.dims[0] : -1;
    if (!input->is_fixed && (input->row_shape.rank > 1 || input->row_shape.rank == 0 || dim >= 0)) {
        return error_new(ERROR_USAGE,
                         "model input '%s' has a shape that fields cannot be joined to",
                         input->name);
    }
    return NULL;
}

static tidemill_error *take_map(struct planner *planner, const char *map)
{
    struct decoder *decoder = planner->decoder;
    char what[160];
    snprintf(what, sizeof what, "--map %s", map);
    const char *equals = NULL;
    size_t index = decoder->n_inputs;
    /* Names of inputs may hold '=': the longest that fits. */
    for (size_t i = 0; i < decoder->n_inputs; i++) {
        size_t size = strlen(decoder->inputs[i].name);
        if (strncmp(map, decoder->inputs[i].name, size) != 0 || map[size] != '=') continue;
        if (equals != NULL && map + size < equals) continue;
        equals = map + size;
        index = i;
    }
    if (equals == NULL) {
        struct buffer names = {0};
        for (size_t i = 0; i < decoder->n_inputs; i++) {
            buffer_printf(&names, "%s%s", i == 0 ? "" : ", ", decoder->inputs[i].name);
        }
        buffer_byte(&names, '\0');
        tidemill_error *error =
            error_new(ERROR_USAGE, "%s: not INPUT=FIELD; the model's inputs are: %s", what,
                      names.is_failed ? "" : names.data);
        buffer_free(&names);
        return error;
    }
    if (decoder->inputs[index].n_parts > 0) {
        return error_new(ERROR_USAGE, "%s: input '%s' is mapped twice", what,
                         decoder->inputs[index].name);
    }
    struct parts parts = {0};
    TRY(add_field_text(planner, &parts, equals + 1, what));
    return set_parts(planner, index, &parts, equals + 1);
}

/* Fields that are no id, not yet an input's and, where that counts, not named by --keep. */
bool plan_is_free(const struct planner *planner, size_t name_index, bool counts_kept)
{
    const struct decoder *decoder = planner->decoder;
    const struct reading *reading = is_body(planner) ? &decoder->body : &decoder->row;
    struct slice name = names_of(planner)->fields[name_index].name;
    int32_t field = reading_find(reading, name.data, name.size);
    if (field >= 0 && reading->fields[field].input >= 0) return false;
    if (decoder->has_id && strcmp(decoder->id.text, name.data) == 0) return false;
    for (size_t i = 0; i < decoder->n_keep && counts_kept; i++) {
        if (strcmp(decoder->keep[i].text, name.data) == 0) return false;
    }
    return true;
}

static bool is_free(const struct planner *planner, size_t name_index)
{
    return plan_is_free(planner, name_index, true);
}

static size_t count_free(const struct planner *planner, size_t *ret_last)
{
    size_t count = 0;
    for (size_t i = 0; i < names_of(planner)->n_fields; i++) {
        if (!is_free(planner, i)) continue;
        count++;
        *ret_last = i;
    }
    return count;
}

tidemill_error *plan_take_one(struct planner *planner, size_t index, const char *name,
                              bool must_exist)
{
    struct parts parts = {0};
    TRY(append_part(planner, &parts, name, must_exist, "input"));
    return set_parts(planner, index, &parts, name);
}

static tidemill_error *take_one(struct planner *planner, size_t index, const char *name)
{
    return plan_take_one(planner, index, name, true);
}

/* Token ids come from text, where one field has it. */
static tidemill_error *take_text(struct planner *planner)
{
    size_t ids = plan_ids_input(planner->decoder);
    bool is_open = ids != SIZE_MAX && planner->decoder->inputs[ids].n_parts == 0;
    const char *name = is_open ? plan_find_text(planner) : NULL;
    return name == NULL ? NULL : take_one(planner, ids, name);
}

/* Every free column, in the header's order. */
static tidemill_error *take_all_columns(struct planner *planner, size_t index)
{
    const struct reading *names = names_of(planner);
    struct parts parts = {0};
    const char *first = NULL, *last = NULL;
    for (size_t i = 0; i < names->n_fields; i++) {
        if (!is_free(planner, i)) continue;
        last = names->fields[i].name.data;
        if (first == NULL) first = last;
        TRY(add_part(planner, &parts, last, "input"));
    }
    const char *label = arena_printf(&planner->decoder->arena, "%s..%s", first, last);
    return label == NULL ? error_memory() : set_parts(planner, index, &parts, label);
}

static tidemill_error *fail_unmapped(struct planner *planner, size_t index)
{
    struct decoder *decoder = planner->decoder;
    const struct input_plan *input = &decoder->inputs[index];
    const struct reading *names = names_of(planner);
    const char *list = plan_names_text(&decoder->arena, names), *example = "FIELD";
    char shape[160];
    for (size_t i = names->n_fields; i-- > 0;) {
        if (is_free(planner, i)) example = names->fields[i].name.data;
    }
    shape_text(&input->row_shape, input->dim_names, shape, sizeof shape);
    return error_new(ERROR_USAGE,
                     "model input '%s' (%s%s a record) finds no field of its name; there is %s. "
                     "Say which it is: --map %s=%s",
                     input->name, tensor_type_name(input->type), shape, list, input->name, example);
}

/* What takes JSON text takes the field of its name, or else all of the record. */
static tidemill_error *take_whole(struct planner *planner)
{
    struct decoder *decoder = planner->decoder;
    struct reading *reading = is_body(planner) ? &decoder->body : &decoder->row;
    for (size_t i = 0; i < decoder->n_inputs; i++) {
        struct input_plan *input = &decoder->inputs[i];
        bool is_ours = input->is_json || input->is_optional;
        if (!is_ours || input->n_parts > 0) continue;
        if (decoder->format == FORMAT_NPY || decoder->format == FORMAT_NPZ)
            return error_new(ERROR_UNSUPPORTED,
                             "the model takes JSON; its records come as JSONL or CSV");
        reading->is_plain = false;
        int32_t name = reading_find(names_of(planner), input->name, strlen(input->name));
        if (name >= 0)
            TRY(take_one(planner, i, input->name));
        else
            input->is_whole = input->is_json && !input->is_optional;
        if (input->label == NULL) input->label = input->name;
    }
    return NULL;
}

tidemill_error *plan_inputs(struct planner *planner)
{
    struct decoder *decoder = planner->decoder;
    for (size_t i = 0; i < planner->config->n_maps; i++) {
        TRY(take_map(planner, planner->config->maps[i]));
    }
    TRY(take_whole(planner));
    TRY(take_text(planner));
    TRY(plan_making(planner));
    size_t n_missing = 0, missing = 0, last = 0;
    for (size_t i = 0; i < decoder->n_inputs; i++) {
        const char *name = decoder->inputs[i].name;
        const struct input_plan *input = &decoder->inputs[i];
        bool is_settled = input->n_parts > 0 || input->is_whole || input->is_optional ||
                          input->making != MAKE_NOTHING;
        if (is_settled) continue;
        bool agrees = reading_find(names_of(planner), name, strlen(name)) >= 0;
        if (agrees || !knows_names(planner)) {
            TRY(take_one(planner, i, name));
        } else {
            if (n_missing++ == 0) missing = i;
        }
    }
    if (n_missing == 0) return NULL;
    if (n_missing > 1) return fail_unmapped(planner, missing);
    const struct input_plan *input = &decoder->inputs[missing];
    size_t n_free = count_free(planner, &last);
    bool is_csv = decoder->format == FORMAT_CSV && !is_body(planner);
    if (is_csv && decoder->n_inputs == 1 && n_free > 1 && input->is_fixed &&
        input->count == n_free) {
        return take_all_columns(planner, missing);
    }
    if (n_free == 1) return take_one(planner, missing, names_of(planner)->fields[last].name.data);
    return fail_unmapped(planner, missing);
}
