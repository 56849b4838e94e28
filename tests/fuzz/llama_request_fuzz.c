/* SPDX-License-Identifier: Apache-2.0 */
/* llama_request_fuzz.c - any bytes as a record for a GGUF model: read or refused, whatever the task; a
 * grammar that comes of it has its rules. */
#include "runtime/llama_request.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice body = {(const char *)data, size}, url = {"/v1/chat/completions", size % 2 * 20};
    static const enum llama_task purposes[] = {TASK_COMPLETION, TASK_EMBEDDING, TASK_RERANK,
                                               TASK_CLASSIFY};
    for (enum llama_task task = TASK_AUTO; task <= TASK_CLASSIFY; task++) {
        struct llama_request request;
        tidemill_error *error = llama_request_read(body, url, task, purposes[size % 4], &request);
        if (error == NULL) {
            if (request.task == TASK_AUTO) abort();
            if (request.task == TASK_CHAT && request.n_messages == 0) abort();
            if (request.task != TASK_CHAT && request.n_texts == 0) abort();
            if (request.top_n < 0) abort();
            if (request.grammar != NULL && strlen(request.grammar) > (size_t)2 << 20) abort();
            if (request.n_stops > 0) (void)llama_find_stop(&request, body.data, size, size / 2);
        }
        error_free(error);
        llama_request_free(&request);
    }
    return 0;
}
