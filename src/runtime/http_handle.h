/* SPDX-License-Identifier: Apache-2.0 */
/* http_handle.h - one request through libcurl: what all requests to a server have in common, and what
 * comes back. The key goes to the server that was named and nowhere else: redirects are not followed. */
#ifndef TIDEMILL_RUNTIME_HTTP_HANDLE_H
#define TIDEMILL_RUNTIME_HTTP_HANDLE_H

#include "runtime/runtime.h"

#include <curl/curl.h>

#define HTTP_ANSWER_BYTES_MAX ((size_t)64 << 20)

/* Receives the body of an answer, piece by piece; false: enough. */
typedef bool (*http_sink)(void *context, const char *data, size_t size);

struct http_response {
    long status; /* of the last status line; 0: none came */
    struct buffer body;
    size_t bytes;   /* received, of the body */
    http_sink sink; /* NULL: the body is collected, at most HTTP_ANSWER_BYTES_MAX */
    void *sink_context;
    bool is_too_large, is_sink_full, is_too_slow;
    int64_t retry_after_ms; /* -1: not told */
    char content_type[64], location[256];
    char error[CURL_ERROR_SIZE]; /* libcurl's words where the transfer failed; empty: none */
    int64_t slow_since_ns;       /* a window of the body's rate */
    size_t slow_bytes;
};

void http_response_reset(struct http_response *response); /* for another answer; keeps the sink */
void http_response_free(struct http_response *response);

/* Headers, certificates and the like of all requests. */
struct http_common;

/* ERROR_USAGE: a header without a colon, or with a line's end in it. Option strings are copied. */
tidemill_error *http_common_new(const struct http_options *options, struct http_common **ret);
/* One more header, "Name: value", for a dialect that wants it. */
tidemill_error *http_common_add(struct http_common *common, const char *header);
/* Sends the key as "NAME: KEY" instead of "Authorization: Bearer KEY". */
tidemill_error *http_common_name_key(struct http_common *common, const char *name);
/* A server may send back what it was sent: the key in `text` becomes asterisks. */
void http_common_redact(const struct http_common *common, char *text);
void http_common_free(struct http_common *common); /* overwrites the key; NULL is fine */

struct http_request {
    const char *method; /* "GET", "POST", "DELETE" */
    const char *url;    /* copied */
    const void *body;   /* borrowed until the request is over; NULL: none */
    size_t body_bytes;
    int timeout_ms; /* in all; 0: none */
    bool is_form;   /* the caller sets CURLOPT_MIMEPOST; no Content-Type of ours */
};

/* Makes an easy handle ready for a request; whatever it did before is forgotten, its connections are
 * not. `response` is filled while it runs. Returns false when memory is short. */
bool http_handle_prepare(CURL *handle, const struct http_common *common,
                         const struct http_request *request, struct http_response *response);

/* What became of a request. */
enum http_outcome {
    HTTP_ANSWERED,    /* 2xx */
    HTTP_REFUSED,     /* the request is wrong: 400, 404, 413, 422, ...: no use to try it again */
    HTTP_BUSY,        /* 429: later */
    HTTP_FAILED,      /* 5xx, 408, cut short, reset, too slow: may pass */
    HTTP_TIMED_OUT,   /* --timeout */
    HTTP_UNREACHABLE, /* no connection */
    HTTP_TOO_LARGE,   /* the answer */
    HTTP_HOPELESS,    /* 401, 403, 407, redirects, certificates: no request will fare better */
};

/* After the transfer ended with `code`. `message` gets a sentence where it is not HTTP_ANSWERED. */
enum http_outcome http_outcome_of(CURL *handle, CURLcode code, const struct http_response *response,
                                  char message[512]);

#endif
