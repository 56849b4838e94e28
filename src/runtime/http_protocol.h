/* SPDX-License-Identifier: Apache-2.0 */
/* http_protocol.h - what servers are asked and how they answer, as text; nothing here does I/O.
 *
 * A target is made from an address once. A request's body is made from the JSON texts of its rows; an
 * answer's body becomes one JSON text a row. Everything that comes from a server is untrusted. */
#ifndef TIDEMILL_RUNTIME_HTTP_PROTOCOL_H
#define TIDEMILL_RUNTIME_HTTP_PROTOCOL_H

#include "runtime/runtime.h"

/* What an address says. Strings are malloc'ed. */
struct http_target {
    enum http_protocol protocol; /* not AUTO */
    bool is_batched;             /* a request may hold several rows */
    char *origin; /* "http://host:port", without user and password; OpenAI's with what stands before
                     "/v1": "https://host/api" */
    char *path;   /* of requests, "/v1/chat/completions"; NULL: each record brings its own url */
    char *health_path;   /* GET answers 2xx when the server is up; NULL: there is none to ask. For
                            OpenAI's a refusal counts too: not every server has /v1/models */
    char *metadata_path; /* GET, once: http_target_take_metadata wants the answer; NULL: nothing */
    struct kserve_model *kserve; /* of PROTOCOL_KSERVE, once its metadata is known */
};

/* `address` is one http:// or https:// address. ERROR_USAGE: not an address (checked with libcurl's URL
 * parser alone), a user or password in it, or AUTO where the path does not tell; says what to write. */
tidemill_error *http_target_parse(const char *address, enum http_protocol protocol,
                                  struct http_target *ret);
void http_target_free(struct http_target *target); /* what it points to */

/* KServe's model metadata. ERROR_MODEL_LOAD: not that. */
tidemill_error *http_target_take_metadata(struct http_target *target, struct slice body);

/* The path of a record's own url, checked: it begins with one '/', has no control characters, white
 * space, backslash or "..", and is shorter than 2048 bytes. A whole address is refused: hosts come from --model
 * alone. ERROR_OK, or ERROR_WRONG_TYPE with a sentence in message. */
enum error_code http_record_path(struct slice url, char ret[2048], char message[512]);

/* Appends the body of one request for rows[0, n) (n is 1 unless is_batched), the text of a JSON value
 * each. ERROR_OK; or a record's error code with a sentence in `message` and *ret_row the row to blame. */
enum error_code http_request_body(const struct http_target *target, const struct slice *rows,
                                  size_t n, struct buffer *out, size_t *ret_row, char message[512]);

/* An answer as its rows' JSON texts: text i is out[ends[i - 1], ends[i]) of what is appended (from 0
 * at the first appended byte). */
struct http_answer {
    struct buffer *text;
    size_t *ends; /* n of them; the caller's */
    struct token_usage usage;
    char message[512];
};

/* Reads the body of a 2xx answer to a request of n rows; `is_stream`: it is text/event-stream, whose
 * chunks are put together into the answer that would have come at once (usage included where it was
 * sent). Each text is checked: valid JSON, UTF-8, nested at most 128 deep, on one line. ERROR_OK, or ERROR_UPSTREAM
 * with a sentence: not JSON, cut short, a wrong number of predictions, a shape that is not theirs. */
enum error_code http_answer_read(const struct http_target *target, struct slice body,
                                 bool is_stream, size_t n, struct http_answer *ret);

/* A sentence for an answer that is no 2xx: the status, and what the dialect's error body says, without
 * control characters and cut to fit. */
void http_error_text(int status, struct slice body, char message[512]);

#endif
