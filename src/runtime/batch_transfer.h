/* SPDX-License-Identifier: Apache-2.0 */
/* batch_transfer.h - one request of a batch API under way: small answers to memory, results to a file,
 * uploads from a source that makes them as they go. Nothing here waits; the owner drives curl. */
#ifndef TIDEMILL_RUNTIME_BATCH_TRANSFER_H
#define TIDEMILL_RUNTIME_BATCH_TRANSFER_H

#include "io/io.h"
#include "runtime/http_handle.h"

/* Bytes to send, made on demand. */
struct transfer_source {
    void *context;
    uint64_t size_bytes; /* just so many come */
    /* Up to `size` bytes; 0: no memory, or fewer than were promised. */
    size_t (*read)(void *context, char *place, size_t size);
    void (*rewind)(void *context);
};

struct transfer_request {
    const char *method;                   /* "GET", "POST", "DELETE" */
    const char *url;                      /* whole */
    struct slice body;                    /* sent as JSON; copied. Empty: none */
    const struct transfer_source *source; /* or this, borrowed until the end; NULL: none */
    bool is_file; /* `source` as the part "file" of a form, with purpose=batch */
    int fd;       /* where the body of a 2xx answer goes; -1: memory */
};

/* One that is under way or has ended; stays where it is meanwhile. All zero is none. */
struct transfer {
    CURL *easy; /* NULL: none is under way */
    curl_mime *form;
    const struct io *io;
    struct transfer_request request;
    struct buffer sent; /* the copy of the body */
    struct http_response response;
    enum http_outcome outcome;
    bool is_in_doubt; /* the server may have acted on it: it was reached, and did not say */
    int write_errno;  /* of fd; 0: all was written */
    char message[512];
};

/* Begins; `owner` comes back from curl as the handle's private pointer. What an earlier one left is
 * forgotten. */
tidemill_error *transfer_start(struct transfer *transfer, CURLM *multi,
                               const struct http_common *common, const struct io *io,
                               const struct transfer_request *request, void *owner);
/* After curl said that it ended: outcome and message; lets the handle go. */
void transfer_end(struct transfer *transfer, CURLM *multi, CURLcode code);
void transfer_free(struct transfer *transfer, CURLM *multi); /* also one that is under way */

#endif
