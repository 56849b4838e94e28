/* SPDX-License-Identifier: Apache-2.0 */
/* delivery_parts.h - what the files of delivery share.
 *
 * A delivery's target, as the store has it, is a kind, and what that kind needs:
 *     webhook VARIABLE URL      VARIABLE "-": it is not signed
 *     jsonl PATH | directory PATH | redis ADDRESS | http URL */
#ifndef TIDEMILL_SERVER_DELIVERY_PARTS_H
#define TIDEMILL_SERVER_DELIVERY_PARTS_H

#include "server/delivery.h"

struct requests;
/* NULL: there are none (yet). */
struct requests *delivery_requests(struct delivery *delivery);

/* How a try ended. */
enum delivery_end {
    DELIVERY_DONE,
    DELIVERY_AGAIN, /* later */
    DELIVERY_GONE   /* never again: it says so itself */
};

#define DELIVERY_OUTCOME_BYTES 256

/* delivery_http.c: one POST that is not redirected, to an address that is public unless `may_be_private`,
 * in at most 15 s; the answer's first bytes are looked at for the outcome alone. */
struct delivery_post {
    const char *url;
    struct slice body;
    const char *const *headers; /* "Name: value" */
    size_t n_headers;
    bool may_be_private;
    const _Atomic int *is_stopping; /* NULL is fine: nobody stops it */
};
enum delivery_end delivery_http_post(const struct delivery_post *post,
                                     char outcome[DELIVERY_OUTCOME_BYTES]);

/* delivery_webhook.c */
enum delivery_end delivery_webhook(struct app *app, const struct store_delivery *delivery,
                                   const char *what, char outcome[DELIVERY_OUTCOME_BYTES]);

/* sink_*.c: a window's answers, all of them, to where `to` says. Each is at least once; what it
 * guarantees beyond that stands at its head. */
struct sink_source {
    struct app *app;
    const char *event; /* the delivery's id */
    const struct store_job *job;
    const char *key_field; /* NULL: the default */
    const char *path;      /* a file with the answers, ids being keys, a line each */
};
tidemill_error *sink_jsonl(const struct sink_source *source, const char *to);
tidemill_error *sink_directory(const struct sink_source *source, const char *to);
tidemill_error *sink_redis(const struct sink_source *source, const char *to);
tidemill_error *sink_http(const struct sink_source *source, const char *to);
/* sink_file.c: writes that file, the same bytes each time; malloc'ed path. */
tidemill_error *sink_make_file(struct app *app, const struct store_job *job, const char *key_field,
                               char **ret_path);

#endif
