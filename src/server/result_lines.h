/* SPDX-License-Identifier: Apache-2.0 */
/* result_lines.h - a window's answers, each with the key of its record.
 *
 * A line of a window's output bears its record's place; its key stands in the record, in the window's
 * file. Both are in the same order, so they are read side by side. */
#ifndef TIDEMILL_SERVER_RESULT_LINES_H
#define TIDEMILL_SERVER_RESULT_LINES_H

#include "server/app.h"

#define RESULT_KEY_BYTES_MAX 4096

struct result_lines {
    /* `key` is empty where the record has none. `line` is the answer with the key, where there is one, as
     * its "id". Both until the next call. */
    tidemill_error *(*take)(void *context, struct slice key, struct slice line);
    void *context;
    const char *key_field;           /* NULL: "id", or "custom_id" */
    const _Atomic bool *is_stopping; /* NULL is fine; then ERROR_INTERRUPTED */
};
/* Of a window that has an output; ERROR_CORRUPT: the two do not fit together. */
tidemill_error *result_lines_read(struct app *app, const struct store_job *job,
                                  const struct result_lines *lines);

/* The value of a record's field as a key: a string, or a number as it is spelled. False: there is none. */
bool result_record_key(struct slice record, const char *field, struct buffer *key);

#endif
