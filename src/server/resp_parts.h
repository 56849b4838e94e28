/* SPDX-License-Identifier: Apache-2.0 */
/* resp_parts.h - what the Redis protocol's files share: a client, and how it is answered. */
#ifndef TIDEMILL_SERVER_RESP_PARTS_H
#define TIDEMILL_SERVER_RESP_PARTS_H

#include "server/resp_parse.h"
#include "server/results_parts.h"

#define RESP_KEY_TEXT_MAX 128
#define RESP_NAME_BYTES 64
#define RESP_REPLY_BYTES_MAX ((size_t)64 << 20) /* of one command */

/* What is the same for all keys of a queue, kept from one command to the next. */
struct resp_queue {
    const struct server_config *config;
    const struct queue_config *queue; /* NULL: nothing is kept */
    struct results_scope scope;
};

struct resp_client {
    struct resp_client *next, *previous; /* of its thread */
    int fd;
    uint64_t id;
    struct buffer in;  /* what is not a whole command yet; empty most of the time */
    struct buffer out; /* what the socket did not take, from out_sent on */
    size_t out_sent;
    double out_since_s; /* when the socket last took something */
    int protocol;       /* 2 or 3 */
    bool is_closing;    /* once `out` is sent */
    bool is_open;       /* no key is needed; `caller` holds */
    bool has_key;       /* it gave one that is known; `caller` holds */
    double checked_s;   /* when that was last looked at */
    char key[RESP_KEY_TEXT_MAX];
    char name[RESP_NAME_BYTES];
    struct caller caller;
    struct resp_queue last;
};

/* What a command works on: the client, and its thread's buffers. */
struct resp_session {
    struct app *app;
    struct resp_client *client;
    struct buffer *out;
    struct result result; /* reused */
};

/* Whether it may use commands beside AUTH and HELLO, looked at again every second: keys are made and
 * revoked while it is connected. */
void resp_check_caller(struct app *app, struct resp_client *client);
void resp_run(struct resp_session *session, const struct resp_command *command);

/* --- resp_reply.c --------------------------------------------------------------------------------- */

void resp_simple(struct buffer *out, const char *text);
void resp_error(struct buffer *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
void resp_integer(struct buffer *out, int64_t value);
void resp_bulk(struct buffer *out, const void *data, size_t size);
void resp_null(struct buffer *out, int protocol);
void resp_array(struct buffer *out, size_t n);
/* `n` pairs; an array of 2 * n where the protocol has no maps. */
void resp_map(struct buffer *out, int protocol, size_t n);

#endif
