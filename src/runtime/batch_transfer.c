/* SPDX-License-Identifier: Apache-2.0 */
/* batch_transfer.c - a curl handle for each request. */
#include "runtime/batch_transfer.h"

#include <errno.h>
#include <stdlib.h>

#define CONTROL_TIMEOUT_MS (2 * 60 * 1000) /* of what is asked and answered in a few bytes */
#define STALL_S 120L                       /* without a byte either way */

static bool write_to_file(struct transfer *transfer, const char *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = transfer->io->write(transfer->io->context, transfer->request.fd, data + done,
                                        size - done);
        if (n <= 0) {
            transfer->write_errno = n < 0 ? errno : ENOSPC;
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

/* Results go to the file as they come; what a server says instead of them goes to memory. */
static bool take_body(void *context, const char *data, size_t size)
{
    struct transfer *transfer = context;
    struct http_response *response = &transfer->response;
    if (response->status >= 200 && response->status < 300)
        return write_to_file(transfer, data, size);
    if (size > HTTP_ANSWER_BYTES_MAX - response->body.size) return false;
    buffer_append(&response->body, data, size);
    return !response->body.is_failed;
}

static size_t give_body(char *place, size_t one, size_t count, void *context)
{
    const struct transfer_source *source = ((struct transfer *)context)->request.source;
    size_t n = source->read(source->context, place, one * count);
    return n > 0 ? n : CURL_READFUNC_ABORT;
}

/* Only back to the start: that is what a connection that was closed under us needs. */
static int seek_body(void *context, curl_off_t offset, int origin)
{
    const struct transfer_source *source = ((struct transfer *)context)->request.source;
    if (offset != 0 || origin != SEEK_SET) return CURL_SEEKFUNC_CANTSEEK;
    source->rewind(source->context);
    return CURL_SEEKFUNC_OK;
}

static bool set_form(struct transfer *transfer)
{
    transfer->form = curl_mime_init(transfer->easy);
    curl_mimepart *purpose = transfer->form ? curl_mime_addpart(transfer->form) : NULL;
    curl_mimepart *file = purpose ? curl_mime_addpart(transfer->form) : NULL;
    if (file == NULL) return false;
    return curl_mime_name(purpose, "purpose") == CURLE_OK &&
           curl_mime_data(purpose, "batch", CURL_ZERO_TERMINATED) == CURLE_OK &&
           curl_mime_name(file, "file") == CURLE_OK &&
           curl_mime_filename(file, "tidemill.jsonl") == CURLE_OK &&
           curl_mime_type(file, "application/jsonl") == CURLE_OK &&
           curl_mime_data_cb(file, (curl_off_t)transfer->request.source->size_bytes, give_body,
                             seek_body, NULL, transfer) == CURLE_OK &&
           curl_easy_setopt(transfer->easy, CURLOPT_MIMEPOST, transfer->form) == CURLE_OK;
}

static bool set_source(struct transfer *transfer)
{
    CURL *easy = transfer->easy;
    uint64_t size = transfer->request.source->size_bytes;
    return curl_easy_setopt(easy, CURLOPT_POSTFIELDS, NULL) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_POST, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)size) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_READFUNCTION, give_body) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_READDATA, transfer) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, seek_body) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SEEKDATA, transfer) == CURLE_OK;
}

static bool prepare(struct transfer *transfer, const struct http_common *common, void *owner)
{
    const struct transfer_request *request = &transfer->request;
    bool is_long = request->source != NULL || request->fd >= 0;
    struct http_request plain = {
        .method = request->method,
        .url = request->url,
        .body = transfer->sent.size > 0 ? transfer->sent.data : NULL,
        .body_bytes = transfer->sent.size,
        .timeout_ms = is_long ? 0 : CONTROL_TIMEOUT_MS,
        .is_form = request->is_file,
    };
    if (!http_handle_prepare(transfer->easy, common, &plain, &transfer->response)) return false;
    if (request->is_file && !set_form(transfer)) return false;
    if (request->source != NULL && !request->is_file && !set_source(transfer)) return false;
    /* On a connection that was used before and is closed without an answer, libcurl would send the
     * request once more by itself: that must be ours to decide, where it creates what is paid for. */
    if (strcmp(request->method, "POST") == 0 &&
        curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT, 1L) != CURLE_OK)
        return false;
    return curl_easy_setopt(transfer->easy, CURLOPT_LOW_SPEED_LIMIT, 1L) == CURLE_OK &&
           curl_easy_setopt(transfer->easy, CURLOPT_LOW_SPEED_TIME, STALL_S) == CURLE_OK &&
           curl_easy_setopt(transfer->easy, CURLOPT_PRIVATE, owner) == CURLE_OK;
}

tidemill_error *transfer_start(struct transfer *transfer, CURLM *multi,
                               const struct http_common *common, const struct io *io,
                               const struct transfer_request *request, void *owner)
{
    transfer_free(transfer, multi);
    transfer->io = io;
    transfer->request = *request;
    if (request->fd >= 0) {
        transfer->response.sink = take_body;
        transfer->response.sink_context = transfer;
    }
    buffer_append(&transfer->sent, request->body.data, request->body.size);
    transfer->easy = transfer->sent.is_failed ? NULL : curl_easy_init();
    if (transfer->easy != NULL && prepare(transfer, common, owner) &&
        curl_multi_add_handle(multi, transfer->easy) == CURLM_OK)
        return NULL;
    transfer_free(transfer, multi);
    return error_memory();
}

static void let_go(struct transfer *transfer, CURLM *multi)
{
    if (transfer->easy != NULL) {
        curl_multi_remove_handle(multi, transfer->easy);
        curl_easy_cleanup(transfer->easy);
    }
    curl_mime_free(transfer->form);
    buffer_free(&transfer->sent);
    transfer->easy = NULL;
    transfer->form = NULL;
}

void transfer_end(struct transfer *transfer, CURLM *multi, CURLcode code)
{
    transfer->outcome =
        http_outcome_of(transfer->easy, code, &transfer->response, transfer->message);
    transfer->is_in_doubt = transfer->outcome == HTTP_FAILED ||
                            transfer->outcome == HTTP_TIMED_OUT ||
                            transfer->outcome == HTTP_TOO_LARGE;
    let_go(transfer, multi);
}

void transfer_free(struct transfer *transfer, CURLM *multi)
{
    let_go(transfer, multi);
    http_response_free(&transfer->response);
    *transfer = (struct transfer){0};
}
