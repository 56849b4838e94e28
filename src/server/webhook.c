/* SPDX-License-Identifier: Apache-2.0 */
/* webhook.c - events' names, bodies and signatures. */
#include "server/webhook.h"

#include "format/format.h"

#include <inttypes.h>
#include <stdio.h>

#include <sodium/crypto_auth_hmacsha256.h>
#include <sodium/utils.h>

#define SECRET_BYTES_MIN 16
#define SECRET_BYTES_MAX 128
#define SECRET_TEXT_MAX 180

static const struct digest event_domain = {0x7469646d2d657674u, 1};

static void add_text(struct hash_key *key, const char *text)
{
    hash_key_add(key, text, strlen(text) + 1);
}

void webhook_event_id(const struct store_job *job, const char *target, char id[STORE_ID_BYTES])
{
    struct hash_key key;
    char digits[DIGEST_TEXT_BYTES];
    unsigned char state = (unsigned char)job->state;
    hash_key_start(&key, event_domain);
    add_text(&key, job->id);
    hash_key_add(&key, &state, sizeof state);
    add_text(&key, job->output_file);
    add_text(&key, job->error_file);
    add_text(&key, target);
    digest_text(hash_key_end(&key), digits);
    snprintf(id, STORE_ID_BYTES, "evt_%s", digits);
}

const char *webhook_event_type(const struct store_job *job)
{
    static const char *const names[][2] = {
        [STORE_COMPLETED] = {"batch.completed", "window.completed"},
        [STORE_FAILED] = {"batch.failed", "window.failed"},
        [STORE_EXPIRED] = {"batch.expired", "window.expired"},
        [STORE_CANCELLED] = {"batch.cancelled", "window.cancelled"},
        [STORE_STOPPED] = {"batch.stopped", "window.stopped"},
    };
    if ((size_t)job->state >= COUNT_OF(names)) return NULL;
    return names[job->state][job->kind == STORE_WINDOW];
}

static void append_window(const struct store_job *job, struct buffer *out)
{
    buffer_text(out, ",\"queue\":");
    format_json_string(out, job->queue, strlen(job->queue));
    buffer_printf(out,
                  ",\"counts\":{\"total\":%" PRIu64 ",\"completed\":%" PRIu64 ",\"failed\":%" PRIu64
                  ",\"cancelled\":%" PRIu64 ",\"expired\":%" PRIu64 "}",
                  job->counts.total, job->counts.completed, job->counts.failed,
                  job->counts.cancelled, job->counts.expired);
}

void webhook_body(const struct store_job *job, const char *event_id, struct buffer *out)
{
    const char *type = webhook_event_type(job);
    buffer_printf(out,
                  "{\"id\":\"%s\",\"object\":\"event\",\"type\":\"%s\",\"created_at\":%" PRId64
                  ",\"data\":{\"id\":\"%s\"",
                  event_id, type == NULL ? "" : type, job->state_at[job->state] / 1000, job->id);
    if (job->kind == STORE_WINDOW) append_window(job, out);
    buffer_text(out, "}}");
}

/* --- the signature ------------------------------------------------------------------------------ */

static tidemill_error *secret_bytes(const char *secret, unsigned char *bytes, size_t *ret_size)
{
    static const char prefix[] = "whsec_";
    if (strncmp(secret, prefix, sizeof prefix - 1) == 0) secret += sizeof prefix - 1;
    size_t size = strlen(secret);
    if (size > SECRET_TEXT_MAX || !parse_base64(secret, size, bytes, ret_size) ||
        *ret_size < SECRET_BYTES_MIN || *ret_size > SECRET_BYTES_MAX)
        return error_new(ERROR_USAGE, "a webhook's secret is \"whsec_\" and 16 to 128 bytes in "
                                      "base64; this one is not");
    return NULL;
}

tidemill_error *webhook_sign(const char *secret, const char *id, int64_t timestamp_s,
                             struct slice body, char signature[WEBHOOK_SIGNATURE_BYTES])
{
    unsigned char key[SECRET_TEXT_MAX], mac[crypto_auth_hmacsha256_BYTES];
    char head[STORE_ID_BYTES + 32];
    size_t key_size;
    tidemill_error *error = secret_bytes(secret, key, &key_size);
    if (error != NULL) return error;
    crypto_auth_hmacsha256_state state;
    int head_size = snprintf(head, sizeof head, "%s.%" PRId64 ".", id, timestamp_s);
    crypto_auth_hmacsha256_init(&state, key, key_size);
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)head, (size_t)head_size);
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)body.data, body.size);
    crypto_auth_hmacsha256_final(&state, mac);
    sodium_memzero(key, sizeof key);
    memcpy(signature, "v1,", 3);
    sodium_bin2base64(signature + 3, WEBHOOK_SIGNATURE_BYTES - 3, mac, sizeof mac,
                      sodium_base64_VARIANT_ORIGINAL);
    return NULL;
}
