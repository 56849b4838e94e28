/* SPDX-License-Identifier: Apache-2.0 */
/* webhook.h - what a webhook says, and how its receiver knows that it is ours: Standard Webhooks
 * (standardwebhooks.com), with bodies as OpenAI's. Pure: time and secret are handed in. */
#ifndef TIDEMILL_SERVER_WEBHOOK_H
#define TIDEMILL_SERVER_WEBHOOK_H

#include "store/store.h"

/* "evt_" and 32 hexadecimal digits of the job, its state, what it left and where it is sent: the same
 * after a kill, another one when a retry of the job made another output. */
void webhook_event_id(const struct store_job *job, const char *target, char id[STORE_ID_BYTES]);

/* "batch.completed", "window.failed"; NULL: a state that nobody is told of. */
const char *webhook_event_type(const struct store_job *job);
/* {"id":"evt_..","object":"event","type":"batch.completed","created_at":1700000000,
 *  "data":{"id":"batch_.."}}; of a window also "queue", and its counts. */
void webhook_body(const struct store_job *job, const char *event_id, struct buffer *out);

/* The value of webhook-signature, "v1,<base64>": HMAC-SHA256 over "id.timestamp.body". `secret` is
 * "whsec_<base64>" (or the base64 alone); 16 to 128 bytes. ERROR_USAGE: it is not. */
#define WEBHOOK_SIGNATURE_BYTES 64
tidemill_error *webhook_sign(const char *secret, const char *id, int64_t timestamp_s,
                             struct slice body, char signature[WEBHOOK_SIGNATURE_BYTES]);

#endif
