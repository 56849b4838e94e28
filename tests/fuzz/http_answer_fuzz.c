/* SPDX-License-Identifier: Apache-2.0 */
/* http_answer_fuzz.c - any bytes as a server's answer, in each protocol, at once and as a stream; as a
 * model's metadata with rows for it; as an error. What is taken must be JSON, a line a row. The first
 * byte chooses. */
#include "format/decode_text.h"
#include "runtime/http_protocol.h"

#include <stdlib.h>
#include <yyjson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define KSERVE "http://h/v2/models/m"
#define ROWS_MAX 4u

static const char rows_metadata[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1]}]}";
static const char whole_metadata[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[2]}]}";

static const struct setup {
    const char *address, *metadata;
    bool is_stream;
} setups[] = {
    {"http://h/v1/chat/completions", NULL, false},
    {"http://h/v1/chat/completions", NULL, true},
    {"http://h/v1/models/m:predict", NULL, false},
    {"http://h/predictions/m", NULL, false},
    {KSERVE, rows_metadata, false},
    {KSERVE, whole_metadata, false},
};

static void require(bool is_true)
{
    if (!is_true) abort();
}

static void check_text(const char *text, size_t size)
{
    yyjson_doc *doc = yyjson_read(text, size, YYJSON_READ_NUMBER_AS_RAW);
    require(doc != NULL && text_is_utf8(text, size) && json_depth(text, size, 200) <= 128 + 8);
    require(memchr(text, '\n', size) == NULL && memchr(text, '\r', size) == NULL);
    yyjson_doc_free(doc);
}

static struct http_target open_target(const char *address)
{
    struct http_target target;
    require(http_target_parse(address, PROTOCOL_AUTO, &target) == NULL);
    return target;
}

static void fuzz_answer(const struct setup *setup, struct slice body, size_t n)
{
    struct http_target target = open_target(setup->address);
    struct buffer text = {0};
    size_t ends[ROWS_MAX], start = 0;
    struct http_answer answer = {.text = &text, .ends = ends};
    if (setup->metadata != NULL)
        require(http_target_take_metadata(
                    &target, (struct slice){setup->metadata, strlen(setup->metadata)}) == NULL);
    if (!target.is_batched) n = 1;
    enum error_code code = http_answer_read(&target, body, setup->is_stream, n, &answer);
    require((code == ERROR_OK) == (answer.message[0] == '\0'));
    require(code == ERROR_OK || text.size == 0);
    require(text_is_utf8(answer.message, strlen(answer.message)));
    for (size_t i = 0; code == ERROR_OK && i < n; start = ends[i++]) {
        require(ends[i] > start && ends[i] <= text.size);
        check_text(text.data + start, ends[i] - start);
    }
    require(code != ERROR_OK || start == text.size);
    buffer_free(&text);
    http_target_free(&target);
}

/* Metadata, and behind NULs the rows. */
static void fuzz_request(const char *text, const char *end)
{
    struct http_target target = open_target(KSERVE);
    struct slice rows[ROWS_MAX] = {0};
    size_t n = 0, row = 0;
    const char *stop = memchr(text, '\0', (size_t)(end - text));
    if (stop == NULL) stop = end;
    tidemill_error *error =
        http_target_take_metadata(&target, (struct slice){text, (size_t)(stop - text)});
    for (; n < ROWS_MAX && stop < end; n++) {
        text = stop + 1;
        stop = memchr(text, '\0', (size_t)(end - text));
        if (stop == NULL) stop = end;
        rows[n] = (struct slice){text, (size_t)(stop - text)};
    }
    if (!target.is_batched && n > 1) n = 1;
    struct buffer out = {0};
    char message[512] = "";
    if (error == NULL && n > 0) {
        if (http_request_body(&target, rows, n, &out, &row, message) == ERROR_OK)
            check_text(out.data, out.size);
        else
            require(row < n && message[0] != '\0');
    }
    error_free(error);
    buffer_free(&out);
    http_target_free(&target);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    size_t length = size - 2;
    char message[512], *text = malloc(length + 1);
    if (text == NULL) return 0;
    memcpy(text, data + 2, length);
    char *body = realloc(text, length == 0 ? 1 : length); /* nothing behind it to read */
    if (body == NULL) return 0;
    size_t choice = data[0] % (COUNT_OF(setups) + 2);
    if (choice < COUNT_OF(setups))
        fuzz_answer(&setups[choice], (struct slice){body, length}, 1 + data[1] % ROWS_MAX);
    else if (choice == COUNT_OF(setups))
        fuzz_request(body, body + length);
    else {
        http_error_text(400 + data[1], (struct slice){body, length}, message);
        require(text_is_utf8(message, strlen(message)));
    }
    free(body);
    return 0;
}
