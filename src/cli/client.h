/* SPDX-License-Identifier: Apache-2.0 */
/* client.h - the commands that ask a server: what they share. */
#ifndef TIDEMILL_CLI_CLIENT_H
#define TIDEMILL_CLI_CLIENT_H

#include "base/base.h"
#include "io/io.h"

#include <curl/curl.h>
#include <yyjson.h>

/* --- what was asked for: client_arguments.c --------------------------------------------------------- */

/* An option of a command. Its value goes to `text`, or, without a placeholder, `flag` becomes true. */
struct client_option {
    const char *name;  /* with its dashes */
    const char *value; /* the placeholder; NULL: a flag */
    const char **text;
    bool *flag;
};

struct client_common {
    const char *server; /* NULL: $TIDEMILL_SERVER, or http://127.0.0.1:8080 */
    bool is_json, wants_help;
};

/* Options stand anywhere, behind "--" there are words only; --server, --json and --help are known to all.
 * `words` are those of the command's own, `n_words` of them exactly, and `usage` says which. */
tidemill_error *client_parse(int argc, char **argv, const struct client_option *options,
                             size_t n_options, const char **words, size_t n_words,
                             const char *usage, struct client_common *ret);

/* --- asking: client_http.c --------------------------------------------------------------------------- */

/* How long a server that is there but does not answer now is asked again. */
#define CLIENT_PATIENCE_S 10.0
#define CLIENT_PATIENCE_WAITING_S 300.0

struct client {
    char *base; /* without a slash at its end */
    CURL *curl;
    struct curl_slist *headers;
    double patience_s;
    bool was_reached; /* the first question of all is not asked again: there is no server, then */
};
tidemill_error *client_open(const struct client_common *common, struct client *ret);
void client_close(struct client *client);

/* A question. Bodies: `json`, or the file `path` as it is, or as the form of an upload. */
struct client_request {
    const char *method, *path; /* "GET", "/v1/batches" */
    const char *json;
    const char *file; /* "-": standard input, which is sent once */
    bool is_upload;
    const char *type;            /* of `file` as it is */
    const char *idempotency_key; /* so that a POST may be asked again; NULL: none */
    /* Where a 2xx body goes, piece by piece; NULL: memory. False: it cannot be written. */
    bool (*sink)(void *context, const char *data, size_t size);
    void *context;
};
struct client_reply {
    long status;
    struct buffer body;
};
/* 2xx, or an error: USAGE where the server refused (with what it said), UNREACHABLE where it did not
 * answer, also after patience. ret->status is the HTTP status in either case; 0: none came. */
tidemill_error *client_ask(struct client *client, const struct client_request *request,
                           struct client_reply *ret);
void client_reply_free(struct client_reply *reply);
/* The same, for JSON: *ret is freed by yyjson_doc_free. */
tidemill_error *client_ask_json(struct client *client, const struct client_request *request,
                                yyjson_doc **ret);
/* A path with parts escaped: "/v1/results/%s/%s"; free() it. */
tidemill_error *client_path(struct client *client, const char *before, const char *part,
                            const char *between, const char *other, char **ret);

/* client_results.c: writes a batch's answers to `output_path` (NULL: standard output) and what failed to
 * `errors_path` (NULL: nowhere). *ret_status as client_batch_status. */
tidemill_error *client_results(struct client *client, const char *id, bool follows,
                               const char *output_path, const char *errors_path, int *ret_status);

/* --- showing: client_show.c --------------------------------------------------------------------------- */

void client_print_json(yyjson_val *value); /* a line */
void client_print_batch(yyjson_val *batch);
void client_print_batches_head(void);
void client_print_batches_line(yyjson_val *batch);
bool client_batch_is_over(yyjson_val *batch);
/* 0: all answered; 1: not all; 2: the file was not valid. */
int client_batch_status(yyjson_val *batch);
/* Prints what standard output could not take as an error. */
int client_end(tidemill_error *error, int status);

#endif
