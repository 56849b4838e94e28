/* SPDX-License-Identifier: Apache-2.0 */
/* exec_frame.c - what engine and handler say to each other. A handler is trusted no more than a model:
 * what it sends is checked before anything of it is used. */
#include "runtime/exec.h"

#include "format/decode_text.h"

#include <stdio.h>
#include <stdlib.h>

#include <yyjson.h>

#define DEPTH_MAX 128
#define PROTOCOL_VERSION 1
#define MESSAGE_BYTES_MAX 400

static tidemill_error *not_valid(const char *what)
{
    return error_new(ERROR_MODEL_ERROR, "the handler's reply is %s", what);
}

/* NULL and an error, or a document whose root is an object. */
static tidemill_error *parse(struct slice payload, yyjson_doc **ret)
{
    yyjson_read_err error;
    if (!text_is_utf8(payload.data, payload.size)) return not_valid("not UTF-8");
    if (json_depth(payload.data, payload.size, DEPTH_MAX) > DEPTH_MAX)
        return not_valid("nested deeper than 128");
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)payload.data, payload.size,
                                       YYJSON_READ_NUMBER_AS_RAW, NULL, &error);
    if (doc == NULL && error.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION) return error_memory();
    if (doc == NULL)
        return error_new(ERROR_MODEL_ERROR,
                         "the handler's reply is not valid JSON at byte %zu: %s (NaN is not JSON)",
                         error.pos, error.msg);
    *ret = doc;
    if (yyjson_is_obj(yyjson_doc_get_root(doc))) return NULL;
    yyjson_doc_free(doc);
    return not_valid("not a JSON object");
}

/* --- hello ------------------------------------------------------------------------------------------ */

static bool is_number(yyjson_val *value, uint64_t *ret)
{
    if (!yyjson_is_raw(value)) return false;
    char *end;
    *ret = strtoull(yyjson_get_raw(value), &end, 10);
    return end == yyjson_get_raw(value) + yyjson_get_len(value);
}

tidemill_error *exec_read_hello(struct slice payload, struct exec_hello *ret)
{
    yyjson_doc *doc;
    uint64_t version = 0, batch = 0;
    *ret = (struct exec_hello){.name = "handler"};
    tidemill_error *error = parse(payload, &doc);
    if (error != NULL) {
        tidemill_error *ours = error_new(ERROR_MODEL_LOAD, "%s", error_message(error));
        error_free(error);
        return ours;
    }
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *name = yyjson_obj_get(root, "name");
    if (yyjson_is_str(name)) snprintf(ret->name, sizeof ret->name, "%s", yyjson_get_str(name));
    bool is_ours = is_number(yyjson_obj_get(root, "tidemill"), &version);
    if (is_number(yyjson_obj_get(root, "batch"), &batch))
        ret->batch_max = (uint32_t)MIN(batch, (uint64_t)UINT32_MAX);
    yyjson_doc_free(doc);
    if (is_ours && version == PROTOCOL_VERSION) return NULL;
    return error_new(ERROR_MODEL_LOAD,
                     "the handler does not begin with {\"tidemill\":%d}; docs/EXEC.md has the "
                     "protocol",
                     PROTOCOL_VERSION);
}

/* --- requests --------------------------------------------------------------------------------------- */

tidemill_error *exec_append_request(struct buffer *out, const unsigned char **at,
                                    const unsigned char *end, uint32_t n)
{
    uint32_t length = 0;
    size_t start = out->size;
    buffer_append(out, &length, sizeof length);
    buffer_byte(out, '[');
    for (uint32_t r = 0; r < n; r++) {
        uint32_t size;
        if ((size_t)(end - *at) < sizeof size) return not_valid("asked for with broken records");
        memcpy(&size, *at, sizeof size);
        *at += sizeof size;
        if ((size_t)(end - *at) < size) return not_valid("asked for with broken records");
        if (r > 0) buffer_byte(out, ',');
        buffer_append(out, *at, size);
        *at += size;
    }
    buffer_byte(out, ']');
    if (out->is_failed) return error_memory();
    size_t payload = out->size - start - sizeof length;
    if (payload > EXEC_FRAME_BYTES_MAX)
        return error_new(ERROR_MODEL_ERROR, "%zu bytes of records are too many for one frame",
                         payload);
    length = (uint32_t)payload;
    memcpy(out->data + start, &length, sizeof length);
    return NULL;
}

/* --- results -------------------------------------------------------------------------------------------- */

/* The text of a member of an object that was found valid; the first one of that name. */
static bool find_member(struct slice object, const char *name, struct slice *ret)
{
    const char *end = object.data + object.size, *p = json_skip_space(object.data, end) + 1;
    for (;;) {
        p = json_skip_space(p, end);
        if (p < end && *p == ',') p = json_skip_space(p + 1, end);
        if (p >= end || *p != '"') return false;
        const char *key_end = json_skip_string(p, end);
        bool is_it =
            (size_t)(key_end - p) == strlen(name) + 2 && memcmp(p + 1, name, strlen(name)) == 0;
        p = json_skip_space(json_skip_space(key_end, end) + 1, end);
        const char *value_end = json_skip_value(p, end);
        *ret = (struct slice){p, (size_t)(value_end - p)};
        if (is_it) return true;
        p = value_end;
    }
}

static void append_packed(struct buffer *out, const char *mark, const char *text, size_t size)
{
    uint32_t length = (uint32_t)(size + strlen(mark));
    buffer_append(out, &length, sizeof length);
    buffer_text(out, mark);
    buffer_append(out, text, size);
}

/* One line, whatever white space the handler likes between its tokens. */
static void append_on_one_line(struct buffer *out, const char *text, size_t size)
{
    if (memchr(text, '\n', size) == NULL && memchr(text, '\r', size) == NULL) {
        append_packed(out, "", text, size);
        return;
    }
    size_t start = out->size;
    append_packed(out, "", "", 0);
    for (const char *p = text, *end = text + size; p < end;) {
        const char *next = *p == '"' ? json_skip_string(p, end) : p + 1;
        if (strchr(" \t\r\n", *p) == NULL) buffer_append(out, p, (size_t)(next - p));
        p = next;
    }
    uint32_t length = (uint32_t)(out->size - start - sizeof length);
    if (!out->is_failed) memcpy(out->data + start, &length, sizeof length);
}

/* "errors" by record: NULL where one has none. One look at each, however many there are. Keys that are
 * no record's number are nobody's. */
static yyjson_val **index_errors(yyjson_val *errors, uint32_t n)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(errors);
    yyjson_val **ret = calloc((size_t)n + 1, sizeof(yyjson_val *)), *key;
    while (ret != NULL && (key = yyjson_obj_iter_next(&iter)) != NULL) {
        char plain[16];
        uint32_t row = (uint32_t)strtoul(yyjson_get_str(key), NULL, 10);
        snprintf(plain, sizeof plain, "%u", row);
        if (yyjson_is_null(yyjson_obj_iter_get_val(key))) continue;
        if (row < n && yyjson_equals_str(key, plain)) ret[row] = yyjson_obj_iter_get_val(key);
    }
    return ret;
}

static void append_error(struct buffer *out, yyjson_val *text)
{
    static const char mark[] = {JSON_ERROR_MARK, '\0'};
    bool is_text = yyjson_is_str(text) && yyjson_get_len(text) > 0;
    const char *start =
        is_text ? yyjson_get_str(text) : "the handler failed it, and did not say why";
    size_t size = is_text ? yyjson_get_len(text) : strlen(start);
    if (size > MESSAGE_BYTES_MAX) /* not in the middle of a character */
        for (size = MESSAGE_BYTES_MAX; size > 0 && ((unsigned char)start[size] & 0xc0) == 0x80;)
            size--;
    append_packed(out, mark, start, size);
}

static tidemill_error *append_all(struct slice results, yyjson_val *errors, uint32_t n,
                                  struct buffer *out)
{
    const char *end = results.data + results.size, *p = results.data + 1;
    yyjson_val **failed = index_errors(errors, n);
    if (failed == NULL) return error_memory();
    for (uint32_t r = 0; r < n; r++) {
        p = json_skip_space(p, end);
        if (p < end && *p == ',') p = json_skip_space(p + 1, end);
        const char *value_end = json_skip_value(p, end);
        if (failed[r] != NULL)
            append_error(out, failed[r]);
        else
            append_on_one_line(out, p, (size_t)(value_end - p));
        p = value_end;
    }
    free(failed);
    return out->is_failed ? error_memory() : NULL;
}

/* Members of that name, however they are spelled. */
static size_t count_members(yyjson_val *object, const char *name)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    size_t n = 0;
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter)) != NULL;)
        n += yyjson_equals_str(key, name);
    return n;
}

static tidemill_error *read_reply(yyjson_val *root, struct slice payload, uint32_t n,
                                  struct buffer *out)
{
    struct slice text;
    yyjson_val *whole = yyjson_obj_get(root, "error"), *results = yyjson_obj_get(root, "results");
    if (whole != NULL && !yyjson_is_null(whole))
        return error_new(ERROR_MODEL_ERROR, "%.400s",
                         yyjson_is_str(whole) ? yyjson_get_str(whole) : "the handler failed");
    if (!yyjson_is_arr(results)) return not_valid("without a list \"results\"");
    if (yyjson_arr_size(results) != n)
        return error_new(ERROR_MODEL_ERROR, "the handler gave %zu results for %u records",
                         yyjson_arr_size(results), n);
    /* Tree and text must speak of the same list: of several, or of one spelled with escapes, they would
     * not, and the text would be read by the other's length. */
    if (count_members(root, "results") > 1) return not_valid("with several \"results\"");
    if (!find_member(payload, "results", &text) || text.size == 0 || text.data[0] != '[')
        return not_valid("without a plain key \"results\"");
    return append_all(text, yyjson_obj_get(root, "errors"), n, out);
}

tidemill_error *exec_append_results(struct slice payload, uint32_t n, struct buffer *out)
{
    yyjson_doc *doc;
    TRY(parse(payload, &doc));
    tidemill_error *error = read_reply(yyjson_doc_get_root(doc), payload, n, out);
    yyjson_doc_free(doc);
    return error;
}
