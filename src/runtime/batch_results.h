/* SPDX-License-Identifier: Apache-2.0 */
/* batch_results.h - what a batch API says of one request, a line of its results. Pure: text in, verdict
 * out. Everything that comes from a server is untrusted. */
#ifndef TIDEMILL_RUNTIME_BATCH_RESULTS_H
#define TIDEMILL_RUNTIME_BATCH_RESULTS_H

#include "base/base.h"

enum batch_dialect { BATCH_OPENAI, BATCH_ANTHROPIC };

/* Requests are told apart by "tidemill-INDEX", or "tidemill-INDEX-TAG" where a batch itself cannot carry
 * our mark. The users' own ids stay here. */
#define BATCH_ID_BYTES 64
#define BATCH_TAG_BYTES 33 /* hexadecimal digits and a NUL */

void batch_custom_id(enum batch_dialect dialect, uint64_t index, const char *tag,
                     char ret[BATCH_ID_BYTES]);

enum batch_verdict {
    BATCH_ANSWERED, /* `body` is the answer */
    BATCH_REFUSED,  /* for good: `message` says why */
    BATCH_AGAIN,    /* it may pass: too many requests, the server's own failure, never run */
    BATCH_STRANGE   /* no line of ours: not JSON, or without a number that we gave */
};

struct batch_result {
    enum batch_verdict verdict;
    uint64_t index;
    struct buffer *body; /* the caller's; emptied first */
    char message[512];
};

/* Reads one line, without its end. Ids of another tag are STRANGE. Numbers in the answer stay as they were
 * written. An error only where memory is out. */
tidemill_error *batch_result_read(enum batch_dialect dialect, const char *tag, struct slice line,
                                  struct batch_result *ret);

#endif
