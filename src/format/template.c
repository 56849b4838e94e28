/* SPDX-License-Identifier: Apache-2.0 */
/* template.c - compiled once to pieces: text, and places between. */
#include "format/template.h"
#include "format/decode.h"
#include "format/decode_text.h"

#include <stdlib.h>
#include <yyjson.h>

struct piece {
    struct slice text; /* stands before the place */
    size_t field;
    bool is_whole; /* the place was the whole string: quotes and all are replaced */
};

struct template_text {
    const char **fields;
    size_t n_fields;
    struct piece *pieces;
    size_t n_pieces;
    struct slice rest; /* behind the last place */
};

static tidemill_error *check_json(const char *text, size_t size)
{
    yyjson_read_err error;
    if (json_depth(text, size, JSON_DEPTH_MAX) > JSON_DEPTH_MAX) {
        return error_new(ERROR_USAGE, "the template is nested deeper than %d", JSON_DEPTH_MAX);
    }
    yyjson_doc *doc =
        yyjson_read_opts((char *)(uintptr_t)text, size, YYJSON_READ_NUMBER_AS_RAW, NULL, &error);
    if (doc == NULL && error.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION) return error_memory();
    if (doc == NULL) {
        return error_new(ERROR_USAGE,
                         "the template is not JSON at byte %zu: %s (places go inside "
                         "quotes: \"{{field}}\")",
                         error.pos, error.msg);
    }
    bool is_object = yyjson_is_obj(yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    return is_object ? NULL : error_new(ERROR_USAGE, "the template is not a JSON object");
}

/* The number of a field; adds it when new. The arrays have room for as many as there are places. */
static size_t add_field(struct template_text *t, char *name)
{
    for (size_t i = 0; i < t->n_fields; i++) {
        if (strcmp(t->fields[i], name) == 0) return i;
    }
    t->fields[t->n_fields] = name;
    return t->n_fields++;
}

/* {{...}} at or behind `p`, inside the string that ends at `quote`. */
static bool find_place(const char *p, const char *quote, const char **open, const char **close)
{
    *open = memmem(p, (size_t)(quote - p), "{{", 2);
    if (*open == NULL) return false;
    *close = memmem(*open + 2, (size_t)(quote - *open - 2), "}}", 2);
    return *close != NULL;
}

/* Takes the places of one string, quotes at `first` and `quote`; *done moves behind the last. */
static tidemill_error *add_places(struct template_text *t, struct arena *arena, const char *first,
                                  const char *quote, bool is_key, const char **done)
{
    const char *p = first + 1, *open, *close;
    while (find_place(p, quote, &open, &close)) {
        const char *name = open + 2, *end = close;
        while (name < end && *name == ' ') name++;
        while (end > name && end[-1] == ' ') end--;
        if (name == end || memchr(name, '\\', (size_t)(end - name)) != NULL) {
            return error_new(ERROR_USAGE, "the template has a place without a plain name: %.*s",
                             (int)MIN(close + 2 - open, 80), open);
        }
        char *copy = arena_copy(arena, name, (size_t)(end - name));
        if (copy == NULL) return error_memory();
        bool is_whole = !is_key && open == first + 1 && close + 2 == quote;
        const char *stop = is_whole ? first : open;
        t->pieces[t->n_pieces++] = (struct piece){
            .text = {*done, (size_t)(stop - *done)},
            .field = add_field(t, copy),
            .is_whole = is_whole,
        };
        p = close + 2;
        *done = is_whole ? quote + 1 : p;
    }
    return NULL;
}

static size_t count_places(const char *text, size_t size)
{
    size_t count = 0;
    const char *p = text, *end = text + size;
    while ((p = memmem(p, (size_t)(end - p), "{{", 2)) != NULL) {
        count++;
        p += 2;
    }
    return count;
}

tidemill_error *template_compile(const char *text, size_t size, struct arena *arena,
                                 struct template_text **ret)
{
    TRY(check_json(text, size));
    struct template_text *t = arena_calloc(arena, 1, sizeof *t);
    const char *copy = arena_copy(arena, text, size);
    size_t n_places = count_places(text, size);
    if (t == NULL || copy == NULL) return error_memory();
    t->fields = arena_calloc(arena, n_places + 1, sizeof *t->fields);
    t->pieces = arena_calloc(arena, n_places + 1, sizeof *t->pieces);
    if (t->fields == NULL || t->pieces == NULL) return error_memory();
    const char *end = copy + size, *done = copy;
    for (const char *p = copy; p < end; p++) {
        if (*p != '"') continue;
        const char *after = json_skip_string(p, end);
        const char *next = json_skip_space(after, end);
        bool is_key = next < end && *next == ':';
        TRY(add_places(t, arena, p, after - 1, is_key, &done));
        p = after - 1;
    }
    t->rest = (struct slice){done, (size_t)(end - done)};
    *ret = t;
    return NULL;
}

size_t template_n_fields(const struct template_text *template_text)
{
    return template_text->n_fields;
}

const char *template_field(const struct template_text *template_text, size_t index)
{
    return template_text->fields[index];
}

void template_expand(const struct template_text *template_text, const struct slice *values,
                     struct buffer *out)
{
    for (size_t i = 0; i < template_text->n_pieces; i++) {
        const struct piece *piece = &template_text->pieces[i];
        struct slice value = values[piece->field];
        buffer_append(out, piece->text.data, piece->text.size);
        if (piece->is_whole) {
            buffer_append(out, value.data, value.size);
        } else if (value.size >= 2 && value.data[0] == '"') {
            buffer_append(out, value.data + 1, value.size - 2);
        } else {
            json_escape(out, value.data, value.size);
        }
    }
    buffer_append(out, template_text->rest.data, template_text->rest.size);
}
