/* SPDX-License-Identifier: Apache-2.0 */
/* batch_object.h - a batch as OpenAI's API shows it, and what its routes share. */
#ifndef TIDEMILL_SERVER_BATCH_OBJECT_H
#define TIDEMILL_SERVER_BATCH_OBJECT_H

#include "server/json_out.h"
#include "server/scheduler.h"

/* What a client of OpenAI's calls the state. A batch that waits for its hours is in progress; one that
 * stopped at its budget is expired for them: the field "tidemill" says more. */
const char *batch_status(const struct store_job *job);
/* The object, with the live estimate where the batch has not ended. */
yyjson_mut_val *batch_object(struct app *app, yyjson_mut_doc *doc, const struct store_job *job);
/* Sends it. */
void batch_answer(struct exchange *exchange, struct app *app, const struct store_job *job);
/* The batch that the path's first capture names, of the caller's tenant; false: there is none, or it could not be
 * looked for, and that has been answered. */
bool batch_find(struct exchange *exchange, struct app *app, struct store_job *ret);
void batch_refuse_missing(struct exchange *exchange, const char *id);

/* POST /v1/batches (batch_create.c). */
void batch_create(struct exchange *exchange, void *context);

#endif
