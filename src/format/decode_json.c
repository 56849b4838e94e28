/* SPDX-License-Identifier: Apache-2.0 */
/* decode_json.c - the way that decides: yyjson's tree of a record, and every sentence about what is
 * wrong with it.
 *
 * yyjson works in place on a copy; numbers stay text (YYJSON_READ_NUMBER_AS_RAW), so that ids and
 * kept fields are slices of the raw record, found by walking text and tree side by side. */
#include "format/decode_json.h"
#include "format/decode_text.h"

/* --- parsing --------------------------------------------------------------------------------------- */

/* The tree of `text` in scratch->doc; NULL: the record failed. */
static yyjson_val *parse(struct decoding *d, struct slice text)
{
    struct decode_scratch *scratch = d->scratch;
    yyjson_read_err error;
    if (!text_is_utf8(text.data, text.size)) {
        decoding_fail(d, ERROR_INVALID_UTF8, "the record is not valid UTF-8");
        return NULL;
    }
    if (json_depth(text.data, text.size, JSON_DEPTH_MAX) > JSON_DEPTH_MAX) {
        decoding_fail(d, ERROR_INVALID_JSON, "nested deeper than %d", JSON_DEPTH_MAX);
        return NULL;
    }
    buffer_reset(&scratch->text, (size_t)1 << 22);
    char *copy = buffer_reserve(&scratch->text, text.size + YYJSON_PADDING_SIZE);
    if (copy == NULL) {
        decoding_fail_memory(d);
        return NULL;
    }
    if (text.size > 0) memcpy(copy, text.data, text.size);
    memset(copy + text.size, 0, YYJSON_PADDING_SIZE);
    yyjson_doc_free(scratch->doc);
    scratch->doc = yyjson_read_opts(copy, text.size, YYJSON_READ_INSITU | YYJSON_READ_NUMBER_AS_RAW,
                                    scratch->allocator, &error);
    if (scratch->doc != NULL) return yyjson_doc_get_root(scratch->doc);
    if (error.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION) {
        decoding_fail_memory(d);
    } else {
        decoding_fail(d, ERROR_INVALID_JSON, "not valid JSON at byte %zu: %s", error.pos,
                      error.msg);
    }
    return NULL;
}

/* Members of an object, in tree and text alike. */
struct walk {
    yyjson_obj_iter iterator;
    const char *p, *end;
    bool is_first;
    yyjson_val *key, *value;
    struct slice key_text, value_text;
};

static struct walk walk_start(yyjson_val *object, struct slice text)
{
    const char *end = text.data + text.size;
    struct walk walk = {.p = json_skip_space(text.data, end) + 1, .end = end};
    yyjson_obj_iter_init(object, &walk.iterator);
    return walk;
}

static bool walk_next(struct walk *walk)
{
    walk->key = yyjson_obj_iter_next(&walk->iterator);
    if (walk->key == NULL) return false;
    walk->value = yyjson_obj_iter_get_val(walk->key);
    const char *end = walk->end, *p = json_skip_space(walk->p, end);
    if (p < end && *p == ',') p = json_skip_space(p + 1, end);
    const char *key_end = json_skip_string(p, end);
    walk->key_text = (struct slice){p, (size_t)(key_end - p)};
    p = json_skip_space(json_skip_space(key_end, end) + 1, end); /* the colon */
    walk->p = json_skip_value(p, end);
    walk->value_text = (struct slice){p, (size_t)(walk->p - p)};
    return true;
}

/* Keys already kept, as a hash set: a record of a million keys costs a million steps, not more. */
static bool is_new_key(struct decode_scratch *scratch, const struct walk *walk, size_t n_slots)
{
    yyjson_val **slots = (yyjson_val **)(void *)scratch->key_set.data;
    const char *key = yyjson_get_str(walk->key);
    size_t size = yyjson_get_len(walk->key);
    size_t at = hash_checksum(key, size) & (n_slots - 1);
    for (; slots[at] != NULL; at = (at + 1) & (n_slots - 1)) {
        if (yyjson_equals_strn(slots[at], key, size)) return false;
    }
    slots[at] = walk->key;
    return true;
}

static bool keep_member(struct decoding *d, const struct walk *walk, size_t n_slots)
{
    struct kept_field kept = {walk->key_text, walk->value_text};
    if (is_new_key(d->scratch, walk, n_slots)) {
        buffer_append(&d->scratch->all_kept, &kept, sizeof kept);
    }
    return !d->scratch->all_kept.is_failed || decoding_fail_memory(d);
}

static bool prepare_key_set(struct decoding *d, size_t n_keys, size_t *ret_slots)
{
    struct buffer *set = &d->scratch->key_set;
    size_t n_slots = 16;
    while (n_slots < n_keys * 2) n_slots *= 2;
    set->size = 0;
    char *slots = buffer_reserve(set, n_slots * sizeof(yyjson_val *));
    if (slots == NULL) {
        buffer_reset(set, 0);
        return decoding_fail_memory(d);
    }
    memset(slots, 0, n_slots * sizeof(yyjson_val *));
    *ret_slots = n_slots;
    return true;
}

bool json_read(struct decoding *d, const struct reading *reading, struct slice text)
{
    if (!reading_reset(d, reading)) return false;
    yyjson_val *root = parse(d, text);
    size_t n_slots = 0;
    if (root == NULL) return false;
    if (!yyjson_is_obj(root)) {
        return decoding_fail(d, ERROR_WRONG_TYPE, "expected a JSON object, found %s",
                             json_kind_text(root));
    }
    if (reading->wants_all && !prepare_key_set(d, yyjson_obj_size(root), &n_slots)) return false;
    struct walk walk = walk_start(root, text);
    while (walk_next(&walk)) {
        int32_t field = reading_find(reading, yyjson_get_str(walk.key), yyjson_get_len(walk.key));
        if (field >= 0 && d->scratch->found[field].data == NULL) {
            d->scratch->found[field] = walk.value_text;
            d->scratch->values[field] = walk.value;
        }
        bool is_kept = reading->wants_all && (field < 0 || field != reading->id_field);
        if (is_kept && !keep_member(d, &walk, n_slots)) return false;
    }
    return true;
}

/* --- pointers -------------------------------------------------------------------------------------- */

/* RFC 6901: digits without leading zeros. */
static bool array_index(struct slice token, size_t *ret)
{
    size_t index = 0;
    if (token.size == 0 || token.size > 15 || (token.data[0] == '0' && token.size > 1))
        return false;
    for (size_t i = 0; i < token.size; i++) {
        if (token.data[i] < '0' || token.data[i] > '9') return false;
        index = index * 10 + (size_t)(token.data[i] - '0');
    }
    *ret = index;
    return true;
}

static bool enter_object(yyjson_val **value, struct slice *text, struct slice token)
{
    struct walk walk = walk_start(*value, *text);
    while (walk_next(&walk)) {
        if (!yyjson_equals_strn(walk.key, token.data, token.size)) continue;
        *value = walk.value;
        *text = walk.value_text;
        return true;
    }
    return false;
}

static bool enter_array(yyjson_val **value, struct slice *text, struct slice token)
{
    size_t index;
    if (!array_index(token, &index)) return false;
    yyjson_val *element = yyjson_arr_get(*value, index);
    if (element == NULL) return false;
    const char *end = text->data + text->size, *p = json_skip_space(text->data + 1, end);
    for (size_t i = 0; i < index; i++) {
        p = json_skip_space(json_skip_value(p, end), end);
        p = json_skip_space(p + 1, end);
    }
    *value = element;
    *text = (struct slice){p, (size_t)(json_skip_value(p, end) - p)};
    return true;
}

bool json_resolve(const struct decoding *d, const struct field_ref *ref, yyjson_val **ret_value,
                  struct slice *ret_text)
{
    yyjson_val *value = d->scratch->values[ref->field];
    struct slice text = d->scratch->found[ref->field];
    if (text.data == NULL) return false;
    for (size_t i = 0; i < ref->n_tokens; i++) {
        bool is_found = yyjson_is_obj(value)   ? enter_object(&value, &text, ref->tokens[i])
                        : yyjson_is_arr(value) ? enter_array(&value, &text, ref->tokens[i])
                                               : false;
        if (!is_found) return false;
    }
    *ret_value = value;
    if (ret_text != NULL) *ret_text = text;
    return true;
}

/* --- inputs ----------------------------------------------------------------------------------------- */

static bool put_value(struct decoding *d, struct row *row, yyjson_val *value)
{
    if (yyjson_is_obj(value)) return json_put_base64(d, row, value);
    return json_put_nested(d, row, value);
}

static bool put_text(struct decoding *d, uint32_t part, yyjson_val *value, const char *label)
{
    if (!yyjson_is_str(value)) {
        return decoding_fail(d, ERROR_WRONG_TYPE, "field '%s': expected a string, found %s", label,
                             json_kind_text(value));
    }
    size_t size = yyjson_get_len(value);
    char *text = arena_copy(d->arena, yyjson_get_str(value), size);
    if (text == NULL) return decoding_fail_memory(d);
    decoding_take_text(d, part, (struct slice){text, size});
    return true;
}

static bool put_input(struct decoding *d, struct row *row)
{
    const struct input_plan *input = row->input;
    if (input->is_optional && input->n_parts == 0)
        return json_put_verbatim(d, row, (struct slice){"", 0});
    row->is_made = input->n_parts == 0;
    for (size_t i = 0; i < input->n_parts; i++) {
        const struct field_ref *part = &input->parts[i];
        yyjson_val *value;
        struct slice text;
        if (!json_resolve(d, part, &value, &text)) {
            if (input->is_optional) return json_put_verbatim(d, row, (struct slice){"", 0});
            row->is_made = input->making != MAKE_NOTHING;
            if (row->is_made) return true;
            return decoding_fail(d, ERROR_MISSING_FIELD, "field '%s': not there", part->text);
        }
        if (input->is_text) {
            if (!put_text(d, (uint32_t)i, value, part->text)) return false;
            continue;
        }
        if (input->is_json) return json_put_verbatim(d, row, text);
        if (!input->is_joined) return put_value(d, row, value);
        if (!json_append_scalar(d, row, value, part->text)) return false;
    }
    row->shape = (struct shape){.rank = 1, .dims = {(int64_t)row->count}};
    if (input->row_shape.rank > 0 && input->is_fixed) row->shape = input->row_shape;
    return true;
}

bool json_put_inputs(struct decoding *d, const struct reading *reading)
{
    for (size_t i = 0; i < d->decoder->n_inputs; i++) {
        struct row *row = &d->scratch->rows[i];
        decoding_begin_row(d, i, row);
        bool is_fine = row->input->is_whole ? json_put_whole(d, reading, row) : put_input(d, row);
        if (!is_fine) return false;
    }
    return true;
}

bool json_put_text(struct decoding *d, struct row *row, struct slice text)
{
    yyjson_val *value = parse(d, text);
    if (value == NULL) {
        d->record->message =
            arena_printf(d->arena, "field '%s': %s", row->input->label, d->record->message);
        if (d->record->message == NULL) decoding_fail_memory(d);
        return false;
    }
    return put_value(d, row, value);
}
