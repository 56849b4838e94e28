/* SPDX-License-Identifier: Apache-2.0 */
/* delivery_webhook.c - one try of a webhook: checked, signed, sent. */
#include "server/delivery_address.h"
#include "server/delivery_parts.h"
#include "server/webhook.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define VARIABLE_BYTES 128

struct signing {
    char id[STORE_ID_BYTES + 16], timestamp[48], signature[WEBHOOK_SIGNATURE_BYTES + 24];
    const char *headers[4];
    size_t n_headers;
};

/* The headers of Standard Webhooks; the time is that of this try. */
static tidemill_error *sign(const struct store_delivery *delivery, const char *variable,
                            struct signing *ret)
{
    int64_t now_s = store_now() / 1000;
    char signature[WEBHOOK_SIGNATURE_BYTES];
    snprintf(ret->id, sizeof ret->id, "webhook-id: %s", delivery->id);
    snprintf(ret->timestamp, sizeof ret->timestamp, "webhook-timestamp: %" PRId64, now_s);
    ret->headers[ret->n_headers++] = "Content-Type: application/json";
    ret->headers[ret->n_headers++] = ret->id;
    ret->headers[ret->n_headers++] = ret->timestamp;
    if (strcmp(variable, "-") == 0) return NULL;
    const char *secret = getenv(variable);
    if (secret == NULL)
        return error_new(ERROR_USAGE, "the environment has no %s, the webhook's secret", variable);
    struct slice body = {delivery->body, strlen(delivery->body)};
    TRY(webhook_sign(secret, delivery->id, now_s, body, signature));
    snprintf(ret->signature, sizeof ret->signature, "webhook-signature: %s", signature);
    ret->headers[ret->n_headers++] = ret->signature;
    return NULL;
}

/* "VARIABLE URL" */
static const char *split(const char *what, char variable[VARIABLE_BYTES])
{
    size_t size = strcspn(what, " ");
    if (what[size] != ' ' || size >= VARIABLE_BYTES) return NULL;
    memcpy(variable, what, size);
    variable[size] = '\0';
    return what + size + 1;
}

enum delivery_end delivery_webhook(struct app *app, const struct store_delivery *delivery,
                                   const char *what, char outcome[DELIVERY_OUTCOME_BYTES])
{
    char variable[VARIABLE_BYTES];
    struct signing signing = {0};
    const struct server_config *config = app->config;
    const char *url = split(what, variable);
    tidemill_error *error = url == NULL ? error_new(ERROR_USAGE, "its target is not a webhook")
                                        : delivery_address_check(url, config->webhooks_private);
    if (error == NULL) error = sign(delivery, variable, &signing);
    if (error != NULL) {
        /* Not for ever: the environment or the configuration may be mended. */
        snprintf(outcome, DELIVERY_OUTCOME_BYTES, "%s", error_message(error));
        error_free(error);
        return DELIVERY_AGAIN;
    }
    struct delivery_post post = {.url = url,
                                 .body = {delivery->body, strlen(delivery->body)},
                                 .headers = signing.headers,
                                 .n_headers = signing.n_headers,
                                 .may_be_private = config->webhooks_private,
                                 .is_stopping = &app->is_stopping};
    return delivery_http_post(&post, outcome);
}
