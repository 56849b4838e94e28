/* SPDX-License-Identifier: Apache-2.0 */
/* json_out.h - objects of the APIs, built and sent. yyjson's mutable documents; a document that found no
 * memory becomes a 503. */
#ifndef TIDEMILL_SERVER_JSON_OUT_H
#define TIDEMILL_SERVER_JSON_OUT_H

#include "server/app.h"

#include <yyjson.h>

/* "name": text, or null where text is NULL or "". */
void json_out_text(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name, const char *text);
/* "name": seconds since 1970, or null for 0. */
void json_out_time(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name, int64_t time_ms);
/* Sends `root` and frees the document. */
void json_answer(struct exchange *exchange, int status, yyjson_mut_doc *doc, yyjson_mut_val *root);
/* The body as a JSON object; NULL: it is none, and that has been answered with 400. */
yyjson_doc *json_body(struct exchange *exchange);
/* A list as OpenAI has it: {"object":"list","data":[...],"first_id","last_id","has_more"}. `data` is the
 * array of objects with an "id". */
void json_answer_list(struct exchange *exchange, yyjson_mut_doc *doc, yyjson_mut_val *data,
                      bool has_more);
/* ?limit= of a list; false: not a number in range, and that has been answered. */
bool json_query_limit(struct exchange *exchange, size_t usual, size_t max, size_t *ret);

#endif
