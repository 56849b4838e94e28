/* SPDX-License-Identifier: Apache-2.0 */
/* http_json.c - JSON from servers and for servers: checked, written on one line, told of in messages. */
#include "format/decode.h"
#include "format/decode_text.h"
#include "runtime/http_dialects.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT_MAX 1000000000000000u

/* Valid UTF-8 up to `size`, without control characters; the text has room for that many. */
static void clean(char *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x80) {
            size_t length = text_sequence(text + i, text + size);
            /* C1 controls, U+0080 to U+009F, move cursors too. */
            bool is_control = length == 2 && c == 0xc2 && (unsigned char)text[i + 1] < 0xa0;
            if (is_control) text[i] = text[i + 1] = ' ';
            if (length == 0) text[i] = '?';
            i += length == 0 ? 1 : length;
            continue;
        }
        if (c < 0x20 || c == 0x7f) text[i] = ' ';
        i++;
    }
}

void http_say(char message[HTTP_MESSAGE_SIZE], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(message, HTTP_MESSAGE_SIZE, format, arguments);
    va_end(arguments);
    size_t size = length < 0 ? 0 : MIN((size_t)length, (size_t)HTTP_MESSAGE_SIZE - 1);
    if (size == HTTP_MESSAGE_SIZE - 1) { /* a character that was cut goes as a whole */
        size_t start = size;
        while (start > 0 && size - start < 4 && (message[start - 1] & 0xc0) == 0x80) start--;
        if (start > 0 && (message[start - 1] & 0xc0) == 0xc0 &&
            text_sequence(message + start - 1, message + size) == 0)
            size = start - 1;
    }
    message[size] = '\0';
    clean(message, size);
}

yyjson_doc *http_json_read(struct slice text, char message[HTTP_MESSAGE_SIZE])
{
    if (text.size == 0) {
        http_say(message, "empty");
        return NULL;
    }
    if (!text_is_utf8(text.data, text.size)) {
        http_say(message, "not UTF-8");
        return NULL;
    }
    if (json_depth(text.data, text.size, JSON_DEPTH_MAX) > JSON_DEPTH_MAX) {
        http_say(message, "nested deeper than %d", JSON_DEPTH_MAX);
        return NULL;
    }
    yyjson_read_err error;
    /* Without YYJSON_READ_INSITU the text is only read. */
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)text.data, text.size,
                                       YYJSON_READ_NUMBER_AS_RAW, NULL, &error);
    if (doc == NULL && error.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION)
        http_say(message, "too large: out of memory");
    else if (doc == NULL)
        http_say(message, "not JSON: %s at byte %zu of %zu", error.msg, error.pos, text.size);
    return doc;
}

void http_json_put(struct buffer *out, yyjson_val *value)
{
    size_t size;
    char *text = yyjson_val_write(value, YYJSON_WRITE_NOFLAG, &size);
    if (text == NULL)
        out->is_failed = true;
    else
        buffer_append(out, text, size);
    free(text);
}

void http_json_put_string(struct buffer *out, const char *text, size_t size)
{
    buffer_byte(out, '"');
    json_escape(out, text, size);
    buffer_byte(out, '"');
}

void http_json_put_scalar(struct buffer *out, yyjson_val *value)
{
    if (yyjson_is_raw(value))
        buffer_append(out, yyjson_get_raw(value), yyjson_get_len(value));
    else if (yyjson_is_str(value))
        http_json_put_string(out, yyjson_get_str(value), yyjson_get_len(value));
    else
        buffer_text(out, yyjson_is_true(value)    ? "true"
                         : yyjson_is_false(value) ? "false"
                                                  : "null");
}

bool http_json_count(yyjson_val *value, uint64_t *ret)
{
    const char *text = yyjson_get_raw(value);
    size_t size = text == NULL ? 0 : yyjson_get_len(value);
    uint64_t count = 0;
    if (size == 0 || size > 16) return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        count = count * 10 + (uint64_t)(text[i] - '0');
    }
    *ret = count;
    return count <= COUNT_MAX;
}

const char *http_json_kind(yyjson_val *value)
{
    if (yyjson_is_obj(value)) return "an object";
    if (yyjson_is_arr(value)) return "a list";
    if (yyjson_is_str(value)) return "a string";
    if (yyjson_is_raw(value)) return "a number";
    if (yyjson_is_bool(value)) return "true or false";
    return value == NULL ? "nothing" : "null";
}

static const char *text_at(yyjson_val *object, const char *name)
{
    const char *text = yyjson_get_str(yyjson_obj_get(object, name));
    return text == NULL || *text == '\0' ? NULL : text;
}

/* OpenAI: {"error":{"message"}}; KServe, TF Serving: {"error"}; TorchServe: {"message"}; FastAPI's
 * {"detail"}, a sentence or [{"msg"}]. */
const char *http_json_error(yyjson_val *root)
{
    yyjson_val *error = yyjson_obj_get(root, "error"), *detail = yyjson_obj_get(root, "detail");
    const char *const texts[] = {
        text_at(error, "message"), text_at(root, "error"),
        text_at(error, "type"),    text_at(root, "message"),
        text_at(root, "detail"),   text_at(yyjson_arr_get_first(detail), "msg"),
    };
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        if (texts[i] != NULL) return texts[i];
    }
    return NULL;
}
