/* SPDX-License-Identifier: Apache-2.0 */
/* http_dialects.h - what the files behind http_protocol.h share: one set of functions a dialect, JSON
 * from outside, nested arrays as tensors. */
#ifndef TIDEMILL_RUNTIME_HTTP_DIALECTS_H
#define TIDEMILL_RUNTIME_HTTP_DIALECTS_H

#include "runtime/http_protocol.h"

#include <yyjson.h>

#define HTTP_MESSAGE_SIZE 512

struct http_dialect {
    const char *name;
    const char *example; /* an address of it */
    /* Whether a path alone tells that it is one of this dialect. NULL: never. */
    bool (*owns)(const char *path);
    /* `path` is everything behind the host, without a query; fills all but origin, and may add to
     * that. ERROR_USAGE: not a path of this dialect. */
    tidemill_error *(*parse)(const char *path, struct http_target *target);
    enum error_code (*put_request)(const struct http_target *target, const struct slice *rows,
                                   size_t n, struct buffer *out, size_t *ret_row, char *message);
    enum error_code (*read_answer)(const struct http_target *target, struct slice body, size_t n,
                                   struct http_answer *answer);
    /* Puts the events of a stream together. NULL: it has no streams. */
    enum error_code (*join_stream)(struct slice body, struct buffer *out, char *message);
};

extern const struct http_dialect http_openai, http_kserve, http_tfserving, http_torchserve,
    http_json;

const struct http_dialect *http_dialect_of(const struct http_target *target);
enum error_code http_stream_join(struct slice body, struct buffer *out, char *message);

/* Paths. */
bool path_ends_with(const char *path, const char *end);
/* Behind the last "/v1/models/" or so that has a name behind it; NULL: there is none. */
const char *path_find_name(const char *path, const char *marker);
tidemill_error *path_put(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The body of a request that is the row itself. */
enum error_code http_put_row(const struct http_target *target, const struct slice *rows, size_t n,
                             struct buffer *out, size_t *ret_row, char *message);

/* A sentence; control characters become spaces, what does not fit is cut between characters. */
void http_say(char message[HTTP_MESSAGE_SIZE], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* JSON from outside: UTF-8, at most JSON_DEPTH_MAX deep, numbers kept as their text. NULL: it is not
 * that, or memory is out; `message` says what it is ("not JSON: ..."), without a subject. */
yyjson_doc *http_json_read(struct slice text, char message[HTTP_MESSAGE_SIZE]);
void http_json_put(struct buffer *out, yyjson_val *value); /* on one line */
void http_json_put_scalar(struct buffer *out, yyjson_val *value);
void http_json_put_string(struct buffer *out, const char *text, size_t size);
/* A whole number from 0 to 10^15; false: not that. NULL is fine. */
bool http_json_count(yyjson_val *value, uint64_t *ret);
const char *http_json_kind(yyjson_val *value); /* "an object" */
/* What an error object says: {"error":{"message":M}}, {"error":M} and their like; NULL: nothing. */
const char *http_json_error(yyjson_val *root);

/* Appended text ends here: the text of row `i`. `start` is where the first one began. */
void http_answer_end(struct http_answer *answer, size_t start, size_t i);

/* The shape of nested arrays of one length a level; false: they are not, or there is an object inside,
 * or more than TENSOR_RANK_MAX levels. A scalar has rank 0; levels below an empty array do not count. */
bool tensor_shape_of(yyjson_val *value, struct shape *ret);

/* The scalars of a value that tensor_shape_of took, in row-major order. */
struct tensor_walk {
    yyjson_val *scalar; /* rank 0 */
    yyjson_arr_iter levels[TENSOR_RANK_MAX];
    int depth; /* -1: the end */
};
void tensor_walk_begin(struct tensor_walk *walk, yyjson_val *value);
yyjson_val *tensor_walk_next(struct tensor_walk *walk); /* NULL: that was all */
/* The next scalars as nested arrays of `shape`, whose count is `n_scalars`. */
void tensor_put_nested(struct buffer *out, struct tensor_walk *walk, const struct shape *shape,
                       size_t n_scalars);

void kserve_model_free(struct kserve_model *model); /* NULL is fine */
tidemill_error *kserve_read_metadata(struct slice body, bool *ret_is_batched,
                                     struct kserve_model **ret);

#endif
