/* SPDX-License-Identifier: Apache-2.0 */
/* resp_parse.h - one command of the Redis protocol out of bytes that a stranger sent.
 *
 * A command is an array of bulk strings ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n") or a line of words ("GET k").
 * What it may hold is bounded before anything is made for it: a length that is too large is refused
 * when it is read, not when its bytes have come. */
#ifndef TIDEMILL_SERVER_RESP_PARSE_H
#define TIDEMILL_SERVER_RESP_PARSE_H

#include "base/base.h"

#define RESP_ARGS_MAX 1024 /* MGET takes a thousand keys */
#define RESP_BULK_BYTES_MAX ((size_t)64 << 10)
#define RESP_COMMAND_BYTES_MAX ((size_t)1 << 20)
#define RESP_INLINE_BYTES_MAX ((size_t)64 << 10)

struct resp_command {
    struct slice args[RESP_ARGS_MAX]; /* in the bytes that were parsed */
    size_t n;                         /* 0: an empty line or array, to which nobody answers */
};

enum resp_parsed {
    RESP_MORE,  /* as far as it goes it is right, but it is not whole */
    RESP_WHOLE, /* `command` holds it, *ret_used bytes are done with */
    RESP_BAD    /* *ret_message says why; what follows cannot be understood */
};

enum resp_parsed resp_parse(const char *data, size_t size, struct resp_command *command,
                            size_t *ret_used, const char **ret_message);

#endif
