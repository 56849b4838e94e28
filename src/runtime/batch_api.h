/* SPDX-License-Identifier: Apache-2.0 */
/* batch_api.h - what the two batch APIs are asked and how they answer, as text; no I/O.
 *
 * OpenAI: POST BASE/files, POST BASE/batches, GET BASE/batches/ID, GET BASE/files/ID/content.
 * Anthropic: POST BASE/messages/batches, GET BASE/messages/batches/ID, GET its results_url.
 * Sources: openai-openapi's openapi.yaml and the SDKs of both. */
#ifndef TIDEMILL_RUNTIME_BATCH_API_H
#define TIDEMILL_RUNTIME_BATCH_API_H

#include "runtime/batch_results.h"
#include "runtime/http_protocol.h"

struct batch_api {
    enum batch_dialect dialect;
    struct http_target target;
    char *base;     /* before the API's paths: "https://api.openai.com/v1" */
    char *endpoint; /* of the requests in a batch, "/v1/chat/completions"; NULL: their own url */
};

/* ERROR_USAGE: not an address, or of a protocol that has no batch API. */
tidemill_error *batch_api_open(const char *address, enum http_protocol protocol,
                               struct batch_api *ret);
void batch_api_close(struct batch_api *api);

/* BASE and a path, malloc'ed; NULL: out of memory. */
char *batch_api_url(const struct batch_api *api, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Where results are, if that is the server's own: whole, malloc'ed. ERROR_UNREACHABLE: elsewhere; the
 * key is not taken there. */
tidemill_error *batch_api_results_url(const struct batch_api *api, const char *url, char **ret);

/* One request in a batch: a line for OpenAI, an element for Anthropic, without what separates them. */
void batch_api_line(const struct batch_api *api, uint64_t index, const char *tag, const char *url,
                    struct slice body, struct buffer *out);
/* What creates a batch of an uploaded file (OpenAI alone). */
void batch_api_create(const char *file, const char *endpoint, const char *tag, struct buffer *out);

enum batch_status { BATCH_RUNNING, BATCH_ENDED, BATCH_FAILED };

/* A line that validation complains of, from 0. */
struct batch_complaint {
    uint64_t line;
    char message[256];
};

/* What a server says of a batch. Strings are malloc'ed; NULL: not there. */
struct batch_object {
    enum batch_status status;
    char *id, *input_file, *output_file, *error_file, *results_url;
    uint64_t n_done, n_total;
    char message[256]; /* of FAILED */
    struct batch_complaint *complaints;
    size_t n_complaints;
};

/* False: not a batch object. */
bool batch_object_read(enum batch_dialect dialect, struct slice body, struct batch_object *ret);
void batch_object_free(struct batch_object *object); /* all zero is fine */

/* "id" of any object; NULL: none. */
char *batch_read_id(struct slice body);

/* A page of a list of batches, newest first. *ret_id: ours, malloc'ed, NULL where it is not here. OpenAI:
 * the one whose metadata bears the tag. Anthropic: the one of `n_requests`, newer than `after` and not
 * known to `is_known`. *ret_last: the page's last id if there is another page, malloc'ed. False: no list. */
struct batch_search {
    const char *tag, *after;
    uint64_t n_requests;
    bool (*is_known)(void *context, const char *id);
    void *context;
};
bool batch_list_find(enum batch_dialect dialect, struct slice body,
                     const struct batch_search *search, char **ret_id, char **ret_last);
/* The first id of a list, malloc'ed; "" where it is empty; NULL: no list. */
char *batch_list_first(struct slice body);

#endif
