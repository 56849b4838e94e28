/* SPDX-License-Identifier: Apache-2.0 */
/* decode_fast.c - one pass over a plain record, numbers straight into the tensor, no tree.
 *
 * Plain: one object; keys without escapes; the model's fields numbers or lists of exactly the right
 * form; everything else valid. Whatever is not plain - right or wrong - is left to decode_json.c, so
 * this file knows no error. What it accepts, the tree accepts too and gives the same bytes. */
#include "format/decode_parts.h"
#include "format/decode_scan.h"

#define KEPT_PLAIN_MAX 32 /* with more kept fields the search for duplicates gets slow */

/* --- inputs ------------------------------------------------------------------------------------------ */

/* `p` is at the first of `rank` brackets. Lists of exactly `dims`; dims[0] may be -1. */
static const char *append_nested(struct row *row, const char *first, const char *p,
                                 const char *last, const int64_t *dims, int32_t rank)
{
    int64_t left[TENSOR_RANK_MAX + 1];
    int32_t level = 0;
    while (level >= 0) {
        for (; level < rank - 1; level++) { /* into the first list that stands here */
            if (*p != '[') return NULL;
            p = skip_space(p + 1);
            left[level] = dims[level];
        }
        if (*p != '[') return NULL;
        size_t count = dims[level] < 0 ? SIZE_MAX : (size_t)dims[level];
        p = scan_numbers(row, first, p + 1, last, count);
        if (p == NULL) return NULL;
        for (level--; level >= 0; level--) {
            p = skip_space(p);
            left[level]--;
            if (*p == ',') {
                p = skip_space(p + 1);
                level++;
                break;
            }
            if (*p != ']' || (dims[level] >= 0 && left[level] != 0)) return NULL;
            p++;
        }
    }
    return p;
}

static const char *put_list(struct row *row, const char *first, const char *p, const char *last)
{
    const struct input_plan *input = row->input;
    const struct shape *wanted = &input->row_shape;
    int32_t depth = 0, rank = wanted->rank;
    for (const char *q = p; *q == '['; q = skip_space(q + 1)) {
        if (++depth > TENSOR_RANK_MAX) return NULL;
    }
    for (int32_t i = 0; i < rank; i++) {
        if (wanted->dims[i] == 0 || (wanted->dims[i] < 0 && i > 0)) return NULL;
    }
    if (depth == rank) {
        p = append_nested(row, first, p, last, wanted->dims, rank);
        row->shape = *wanted;
        if (p == NULL || input->is_fixed) return p;
        size_t inner = 1; /* elements for each step of the first dimension */
        for (int32_t i = 1; i < rank; i++) inner *= (size_t)wanted->dims[i];
        row->shape.dims[0] = (int64_t)(row->count / inner);
        return p;
    }
    if (!input->is_fixed) return NULL;
    row->shape = *wanted;
    if (depth == 1) return scan_numbers(row, first, p + 1, last, input->count);
    if (depth != rank + 1) return NULL;
    int64_t dims[TENSOR_RANK_MAX + 1] = {1};
    memcpy(dims + 1, wanted->dims, (size_t)rank * sizeof dims[0]);
    return append_nested(row, first, p, last, dims, rank + 1);
}

static const char *put_scalar(struct row *row, const char *p, const char *last)
{
    if (row->type != TENSOR_STRING) return scan_number(row, p, last);
    size_t room = row->capacity - row->bytes, size = 0;
    if (*p != '"' || room < 4 || room - 4 < (size_t)(last - p)) return NULL;
    p = scan_string(p + 1, last, (char *)row->out + row->bytes + 4, &size);
    if (p == NULL || size > UINT32_MAX) return NULL;
    uint32_t length = (uint32_t)size;
    memcpy(row->out + row->bytes, &length, sizeof length);
    row->bytes += 4 + size;
    row->count++;
    return p;
}

static const char *put_text(struct decoding *d, const struct field *field, const char *p,
                            const char *last)
{
    size_t size;
    if (*p != '"') return NULL;
    const char *end = scan_string(p + 1, last, NULL, NULL);
    char *text = end == NULL ? NULL : arena_alloc(d->arena, (size_t)(end - p));
    if (text == NULL) return NULL; /* for want of memory too: the tree tells */
    scan_string(p + 1, last, text, &size);
    decoding_take_text(d, field->part, (struct slice){text, size});
    return end;
}

static const char *put_field(struct decoding *d, const struct field *field, const char *first,
                             const char *p, const char *last)
{
    struct row *row = &d->scratch->rows[field->input];
    const struct input_plan *input = row->input;
    if (input->is_text) return put_text(d, field, p, last);
    if (input->is_joined) {
        if (field->part != row->count) return NULL; /* in another order: the tree sorts it out */
        return put_scalar(row, p, last);
    }
    if (*p == '[') return row->type == TENSOR_STRING ? NULL : put_list(row, first, p, last);
    if (!input->is_fixed || input->count != 1) return NULL;
    row->shape = input->row_shape;
    return put_scalar(row, p, last);
}

/* --- the record ---------------------------------------------------------------------------------------- */

/* A key too long to remember leaves one that none is equal to. */
static void remember_key(struct key_memory *memory, size_t index, const char *text, size_t size,
                         int32_t field)
{
    struct remembered_key *key = &memory->keys[index];
    bool is_short = size <= KEY_TEXT_MAX;
    if (is_short) memcpy(key->text, text, size);
    if (!is_short) key->text[0] = '\0';
    key->size = (int16_t)(is_short ? size : 1);
    key->field = (int16_t)field;
    if (index == memory->n) memory->n++;
}

/* Reads the key at `p` (its quote) as number `index` of the record; returns what is behind it. */
ALWAYS_INLINE const char *read_key(struct key_memory *memory, const struct reading *reading,
                                   size_t index, const char *p, const char *last,
                                   int32_t *ret_field)
{
    if (index < memory->n) {
        const struct remembered_key *key = &memory->keys[index];
        size_t size = (size_t)key->size;
        if ((size_t)(last - p) > size && memcmp(p, key->text, size) == 0) {
            *ret_field = key->field;
            return p + size;
        }
    }
    const char *end = scan_key(p + 1, last);
    if (end == NULL) return NULL;
    end++;
    size_t size = (size_t)(end - p);
    *ret_field = reading_find(reading, p + 1, size - 2);
    if (index < KEY_MEMORY_MAX) remember_key(memory, index, p, size, *ret_field);
    return end;
}

static bool keep_member(struct decode_scratch *scratch, struct slice key, struct slice value)
{
    struct buffer *all = &scratch->all_kept;
    const struct kept_field *kept = (const struct kept_field *)(const void *)all->data;
    size_t n = all->size / sizeof *kept;
    if (n >= KEPT_PLAIN_MAX) return false;
    for (size_t i = 0; i < n; i++) {
        if (kept[i].key.size == key.size && memcmp(kept[i].key.data, key.data, key.size) == 0) {
            return true; /* the first one counts */
        }
    }
    struct kept_field field = {key, value};
    buffer_append(all, &field, sizeof field);
    return !all->is_failed;
}

/* Members of the object from its brace at `first` to the closing one at `last`. */
static bool read_members(struct decoding *d, const struct reading *reading, const char *first,
                         const char *last)
{
    struct slice *found = d->scratch->found;
    struct key_memory *memory = &d->scratch->memories[reading->memory];
    const char *p = skip_space(first + 1);
    if (p == last) return true;
    for (size_t index = 0;; index++) {
        int32_t field = -1;
        const char *key = p;
        if (*p != '"') return false;
        p = read_key(memory, reading, index, p, last, &field);
        if (p == NULL) return false;
        struct slice key_text = {key, (size_t)(p - key)};
        if (*p != ':') p = skip_space(p);
        if (*p != ':') return false;
        p = skip_space(p + 1);
        const char *value = p;
        bool is_wanted = field >= 0 && found[field].data == NULL;
        if (is_wanted && reading->fields[field].input >= 0) {
            p = put_field(d, &reading->fields[field], first, p, last);
        } else {
            p = scan_value(p, last);
        }
        if (p == NULL) return false;
        struct slice text = {value, (size_t)(p - value)};
        if (is_wanted) found[field] = text;
        if (reading->wants_all && (field < 0 || field != reading->id_field)) {
            if (!keep_member(d->scratch, key_text, text)) return false;
        }
        p = skip_space(p);
        if (*p != ',') break;
        p = skip_space(p + 1);
    }
    return p == last;
}

static bool has_all_parts(const struct decoding *d, const struct input_plan *input)
{
    for (size_t i = 0; i < input->n_parts; i++) {
        if (d->scratch->found[input->parts[i].field].data == NULL) return false;
    }
    return input->n_parts > 0;
}

static bool has_all_inputs(struct decoding *d)
{
    for (size_t i = 0; i < d->decoder->n_inputs; i++) {
        struct row *row = &d->scratch->rows[i];
        const struct input_plan *input = row->input;
        if (input->is_joined) {
            if (row->count != input->n_parts) return false;
            row->shape = (struct shape){.rank = 1, .dims = {(int64_t)row->count}};
            if (input->is_fixed && input->row_shape.rank > 0) row->shape = input->row_shape;
        } else if (!has_all_parts(d, input)) {
            row->is_made = input->making != MAKE_NOTHING;
            if (!row->is_made) return false;
        }
    }
    return true;
}

bool fast_read(struct decoding *d, const struct reading *reading, struct slice text)
{
    const char *p = text.data, *end = p + text.size;
    while (end > p && is_space(end[-1])) end--;
    while (p < end && is_space(*p)) p++;
    if (end - p < 2 || *p != '{' || end[-1] != '}') return false;
    struct key_memory *memory = &d->scratch->memories[reading->memory];
    if (memory->digest != reading->digest) {
        memory->digest = reading->digest;
        memory->n = 0;
    }
    if (!reading_reset(d, reading)) return false;
    if (reading->has_inputs) {
        for (size_t i = 0; i < d->decoder->n_inputs; i++) {
            decoding_begin_row(d, i, &d->scratch->rows[i]);
        }
    }
    if (!read_members(d, reading, p, end - 1)) return false;
    return !reading->has_inputs || has_all_inputs(d);
}
