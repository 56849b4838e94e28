/* SPDX-License-Identifier: Apache-2.0 */
/* dialects.h - answers to requests that waited for their window, in the shape of the dialect that asked:
 * made from the records' lines of output, as `tidemill run` writes them ({"id":..,"y":[..]}). Pure. */
#ifndef TIDEMILL_SERVER_DIALECTS_H
#define TIDEMILL_SERVER_DIALECTS_H

#include "server/app.h"

#include "format/tensor.h"

/* The body of the answer from the `n` lines of a request, without newlines. `signature` may be NULL: then
 * KServe's datatypes follow from the numbers (INT64, FP64). Anthropic's and tidemill's own answers are
 * others' affair: ERROR_UNSUPPORTED. */
tidemill_error *dialect_reply(enum dialect dialect, const char *model,
                              const struct model_signature *signature, const struct slice *lines,
                              size_t n, struct buffer *out);

#endif
