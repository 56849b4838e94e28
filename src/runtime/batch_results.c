/* SPDX-License-Identifier: Apache-2.0 */
/* batch_results.c - lines of results, of OpenAI's dialect and of Anthropic's. */
#include "runtime/batch_results.h"

#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

#define PREFIX "tidemill-"
#define TAG_SHOWN 16 /* digits of the tag in an id: 64 characters are the most that servers take */

void batch_custom_id(enum batch_dialect dialect, uint64_t index, const char *tag,
                     char ret[BATCH_ID_BYTES])
{
    if (dialect == BATCH_OPENAI)
        snprintf(ret, BATCH_ID_BYTES, PREFIX "%llu", (unsigned long long)index);
    else
        snprintf(ret, BATCH_ID_BYTES, PREFIX "%llu-%.*s", (unsigned long long)index, TAG_SHOWN,
                 tag);
}

/* The number in an id, which is ours only if it is written just as we write it. */
static bool read_id(enum batch_dialect dialect, const char *tag, yyjson_val *value,
                    uint64_t *ret_index)
{
    const char *text = yyjson_get_str(value);
    char ours[BATCH_ID_BYTES];
    if (text == NULL || strncmp(text, PREFIX, strlen(PREFIX)) != 0) return false;
    *ret_index = strtoull(text + strlen(PREFIX), NULL, 10);
    batch_custom_id(dialect, *ret_index, tag, ours);
    return yyjson_get_len(value) == strlen(ours) && strcmp(text, ours) == 0;
}

/* A server's words, cut to fit and without what could move a terminal. */
static void say(struct batch_result *result, const char *what, yyjson_val *message)
{
    const char *text = yyjson_get_str(message);
    int n = snprintf(result->message, sizeof result->message, "%s%s%s", what,
                     text != NULL ? ": " : "", text != NULL ? text : "");
    size_t size = MIN((size_t)MAX(n, 0), sizeof result->message - 1);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)result->message[i] < 0x20 || result->message[i] == 0x7f)
            result->message[i] = ' ';
    if ((size_t)n < sizeof result->message) return;
    while (size > 0 && ((unsigned char)result->message[size - 1] & 0xc0) == 0x80) size--;
    if (size > 0 && (unsigned char)result->message[size - 1] >= 0xc0) size--;
    result->message[size] = '\0'; /* not in the middle of a character */
}

static tidemill_error *take_body(struct batch_result *result, yyjson_val *body)
{
    size_t size;
    yyjson_write_err failure;
    char *text = yyjson_val_write_opts(body, YYJSON_WRITE_NOFLAG, NULL, &size, &failure);
    if (text == NULL && failure.code == YYJSON_WRITE_ERROR_MEMORY_ALLOCATION) return error_memory();
    if (text == NULL) {
        result->verdict = BATCH_AGAIN;
        say(result, "the answer is not valid JSON", NULL);
        return NULL;
    }
    result->verdict = BATCH_ANSWERED;
    buffer_append(result->body, text, size);
    free(text);
    return result->body->is_failed ? error_memory() : NULL;
}

static bool may_pass(int64_t status)
{
    return status == 408 || status == 409 || status == 429 || status >= 500;
}

static int64_t number_of(yyjson_val *value)
{
    const char *text = yyjson_is_raw(value) ? yyjson_get_raw(value) : NULL;
    return text != NULL ? strtoll(text, NULL, 10) : 0;
}

/* The sentence in an error object of either form: {"message"} or {"error": {"message"}}. */
static yyjson_val *sentence_in(yyjson_val *body)
{
    yyjson_val *error = yyjson_obj_get(body, "error");
    yyjson_val *message = yyjson_obj_get(error, "message");
    if (message != NULL) return message;
    return yyjson_is_str(error) ? error : yyjson_obj_get(body, "message");
}

static tidemill_error *read_openai(yyjson_val *line, struct batch_result *result)
{
    yyjson_val *response = yyjson_obj_get(line, "response");
    yyjson_val *error = yyjson_obj_get(line, "error");
    char what[64];
    if (yyjson_is_obj(error) || !yyjson_is_obj(response)) {
        const char *code = yyjson_get_str(yyjson_obj_get(error, "code"));
        result->verdict = BATCH_AGAIN; /* batch_expired, batch_cancelled, request_timeout, ... */
        snprintf(what, sizeof what, "the batch gave no answer (%.30s)", code ? code : "no code");
        say(result, what, yyjson_obj_get(error, "message"));
        return NULL;
    }
    int64_t status = number_of(yyjson_obj_get(response, "status_code"));
    yyjson_val *body = yyjson_obj_get(response, "body");
    if (status >= 200 && status < 300 && body != NULL) return take_body(result, body);
    result->verdict = may_pass(status) || status < 300 ? BATCH_AGAIN : BATCH_REFUSED;
    snprintf(what, sizeof what, "the server answered %lld", (long long)status);
    say(result, what, sentence_in(body));
    return NULL;
}

static tidemill_error *read_anthropic(yyjson_val *line, struct batch_result *result)
{
    yyjson_val *of = yyjson_obj_get(line, "result");
    const char *type = yyjson_get_str(yyjson_obj_get(of, "type"));
    if (type == NULL) type = "";
    yyjson_val *message = yyjson_obj_get(of, "message");
    if (strcmp(type, "succeeded") == 0 && message != NULL) return take_body(result, message);
    result->verdict = BATCH_AGAIN;
    if (strcmp(type, "errored") != 0) {
        say(result, "the batch gave no answer", yyjson_obj_get(of, "type")); /* canceled, expired */
        return NULL;
    }
    yyjson_val *error = yyjson_obj_get(of, "error");
    yyjson_val *inner = yyjson_obj_get(error, "error");
    const char *kind = yyjson_get_str(yyjson_obj_get(inner ? inner : error, "type"));
    bool is_passing = kind == NULL || strcmp(kind, "api_error") == 0 ||
                      strcmp(kind, "overloaded_error") == 0 ||
                      strcmp(kind, "rate_limit_error") == 0 || strcmp(kind, "timeout_error") == 0;
    if (!is_passing) result->verdict = BATCH_REFUSED;
    say(result, "the server refused the request", sentence_in(error));
    return NULL;
}

tidemill_error *batch_result_read(enum batch_dialect dialect, const char *tag, struct slice line,
                                  struct batch_result *ret)
{
    ret->verdict = BATCH_STRANGE;
    ret->index = 0;
    ret->message[0] = '\0';
    ret->body->size = 0;
    yyjson_read_err failure;
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)line.data, line.size,
                                       YYJSON_READ_NUMBER_AS_RAW, NULL, &failure);
    if (doc == NULL)
        return failure.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION ? error_memory() : NULL;
    yyjson_val *root = yyjson_doc_get_root(doc);
    tidemill_error *error = NULL;
    if (read_id(dialect, tag, yyjson_obj_get(root, "custom_id"), &ret->index))
        error = dialect == BATCH_OPENAI ? read_openai(root, ret) : read_anthropic(root, ret);
    yyjson_doc_free(doc);
    return error;
}
