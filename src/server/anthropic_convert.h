/* SPDX-License-Identifier: Apache-2.0 */
/* anthropic_convert.h - Anthropic's messages as chat completions, which models here answer, and back.
 * Contract: anthropics/anthropic-sdk-python, types/messages. Text alone: who sends tools, images or
 * documents is told so at once. */
#ifndef TIDEMILL_SERVER_ANTHROPIC_CONVERT_H
#define TIDEMILL_SERVER_ANTHROPIC_CONVERT_H

#include "base/base.h"

#include <yyjson.h>

/* A line of an OpenAI batch for one request. Params that cannot be taken over, or no
 * request at all: ERROR_USAGE names the custom_id and says why. */
tidemill_error *anthropic_line(yyjson_val *request, struct buffer *out);
/* A line of results from a line of a batch's output or error file. */
void anthropic_result(struct slice line, struct buffer *out);
/* A line of results for one that never ran: `type` is "errored", "canceled" or "expired". */
void anthropic_not_run(const char *custom_id, const char *type, const char *message,
                       struct buffer *out);

#endif
