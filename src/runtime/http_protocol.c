/* SPDX-License-Identifier: Apache-2.0 */
/* http_protocol.c - requests and answers go to their dialect; what is one row as it is stands here. */
#include "format/decode_text.h"
#include "runtime/http_dialects.h"

#include <stdlib.h>

enum error_code http_request_body(const struct http_target *target, const struct slice *rows,
                                  size_t n, struct buffer *out, size_t *ret_row, char message[512])
{
    size_t start = out->size;
    *ret_row = 0;
    enum error_code code =
        http_dialect_of(target)->put_request(target, rows, n, out, ret_row, message);
    if (out->is_failed) {
        http_say(message, "out of memory for the request");
        return ERROR_MODEL_ERROR;
    }
    if (code != ERROR_OK) out->size = start;
    return code;
}

static enum error_code read_stream(const struct http_target *target, struct slice body, size_t n,
                                   struct http_answer *answer)
{
    const struct http_dialect *dialect = http_dialect_of(target);
    struct buffer joined = {0};
    if (dialect->join_stream == NULL) {
        http_say(answer->message,
                 "the server answered with a stream of events, which only OpenAI's "
                 "protocol has");
        return ERROR_UPSTREAM;
    }
    enum error_code code = dialect->join_stream(body, &joined, answer->message);
    if (code == ERROR_OK && joined.is_failed) {
        http_say(answer->message, "out of memory for the answer");
        code = ERROR_UPSTREAM;
    }
    if (code == ERROR_OK)
        code = dialect->read_answer(target, (struct slice){joined.data, joined.size}, n, answer);
    buffer_free(&joined);
    return code;
}

enum error_code http_answer_read(const struct http_target *target, struct slice body,
                                 bool is_stream, size_t n, struct http_answer *ret)
{
    size_t start = ret->text->size;
    ret->usage = (struct token_usage){0};
    ret->message[0] = '\0';
    enum error_code code = is_stream ? read_stream(target, body, n, ret)
                                     : http_dialect_of(target)->read_answer(target, body, n, ret);
    if (code == ERROR_OK && ret->text->is_failed) {
        http_say(ret->message, "out of memory for the answer");
        code = ERROR_UPSTREAM;
    }
    if (code != ERROR_OK) ret->text->size = start;
    return code;
}

void http_answer_end(struct http_answer *answer, size_t start, size_t i)
{
    answer->ends[i] = answer->text->size - start;
}

enum error_code http_put_row(const struct http_target *target, const struct slice *rows, size_t n,
                             struct buffer *out, size_t *ret_row, char *message)
{
    (void)target, (void)n;
    *ret_row = 0;
    if (rows[0].size == 0) {
        http_say(message, "there is nothing to send");
        return ERROR_WRONG_TYPE;
    }
    buffer_append(out, rows[0].data, rows[0].size);
    return ERROR_OK;
}

static enum error_code read_json(const struct http_target *target, struct slice body, size_t n,
                                 struct http_answer *answer)
{
    (void)target, (void)n;
    char problem[HTTP_MESSAGE_SIZE];
    size_t start = answer->text->size;
    yyjson_doc *doc = http_json_read(body, problem);
    if (doc == NULL) {
        http_say(answer->message, "the answer is %s", problem);
        return ERROR_UPSTREAM;
    }
    http_json_put(answer->text, yyjson_doc_get_root(doc));
    http_answer_end(answer, start, 0);
    yyjson_doc_free(doc);
    return ERROR_OK;
}

/* A handler may answer with anything. Text that begins like JSON and is not that was cut short. */
static bool is_plain_text(struct slice body)
{
    size_t i = 0;
    while (i < body.size && (unsigned char)body.data[i] <= ' ') i++;
    return i < body.size && strchr("{[\"", body.data[i]) == NULL &&
           text_is_utf8(body.data, body.size);
}

static enum error_code read_any(const struct http_target *target, struct slice body, size_t n,
                                struct http_answer *answer)
{
    size_t start = answer->text->size;
    enum error_code code = read_json(target, body, n, answer);
    if (code == ERROR_OK || !is_plain_text(body)) return code;
    answer->message[0] = '\0';
    http_json_put_string(answer->text, body.data, body.size);
    http_answer_end(answer, start, 0);
    return ERROR_OK;
}

static bool is_torchserve(const char *path)
{
    return strncmp(path, "/predictions/", 13) == 0 && path[13] != '\0' && path[13] != '/';
}

static tidemill_error *parse_torchserve(const char *path, struct http_target *target)
{
    if (path_find_name(path, "/predictions/") == NULL)
        return error_new(ERROR_USAGE,
                         "the path '%s' is none of TorchServe's models: "
                         "http://HOST:8080/predictions/NAME",
                         path);
    TRY(path_put(&target->health_path, "/ping"));
    return path_put(&target->path, "%s", path);
}

static tidemill_error *parse_json(const char *path, struct http_target *target)
{
    return path_put(&target->path, "%s", path);
}

const struct http_dialect http_torchserve = {
    .name = "torchserve",
    .example = "http://HOST:8080/predictions/NAME",
    .owns = is_torchserve,
    .parse = parse_torchserve,
    .put_request = http_put_row,
    .read_answer = read_any,
};

const struct http_dialect http_json = {
    .name = "json",
    .example = "http://HOST:PORT/PATH",
    .parse = parse_json,
    .put_request = http_put_row,
    .read_answer = read_json,
};
