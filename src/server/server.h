/* SPDX-License-Identifier: Apache-2.0 */
/* server.h - the way into the room of `tidemill serve`: queues with windows, batches, models that
 * answer at once, results from memory, behind HTTP. */
#ifndef TIDEMILL_SERVER_SERVER_H
#define TIDEMILL_SERVER_SERVER_H

#include "base/base.h"
#include "server/config.h"

struct server;
struct server_options {
    const char *config_path;   /* tidemill.yaml */
    struct string_list listen; /* n > 0: instead of the file's */
    const char *data;          /* NULL: the file's */
};
/* Opens everything, resumes what was under way, and answers from then on. */
tidemill_error *server_start(const struct io *io, const struct server_options *options,
                             struct server **ret);
/* The file was changed: what is under way ends as it began. Addresses, the data folder and certificates
 * take a restart. An error leaves all as it was. */
tidemill_error *server_reload(struct server *server);
/* Checkpoints, and ends. */
void server_stop(struct server *server);
/* The addresses it listens on, ports filled in. */
size_t server_addresses(const struct server *server, const char *const **ret);

/* A new API key: its text, to be shown once and freed; fills id, hash and hint. */
struct store_key;
tidemill_error *server_make_key(struct store_key *key, char **ret_text);

#endif
