/* SPDX-License-Identifier: Apache-2.0 */
/* request_id.h - the names of accepted requests: "req_", the window without its "win_", "_", the place of
 * the first record. A request of several records, or one that wants its answer in a dialect's own
 * shape, says so behind that: ".3k" is three records, answered as KServe does. So the name is all that
 * has to be known, and nothing has to be stored beside the window. */
#ifndef TIDEMILL_SERVER_REQUEST_ID_H
#define TIDEMILL_SERVER_REQUEST_ID_H

#include "server/app.h"

#define REQUEST_ID_BYTES 80

struct request_id {
    char window[STORE_ID_BYTES]; /* "win_..." */
    uint64_t first, n;
    enum dialect dialect; /* TIDEMILL: the line as it stands */
};

void request_id_text(const struct request_id *id, char text[REQUEST_ID_BYTES]);
/* False: it is none. */
bool request_id_parse(const char *text, struct request_id *ret);

#endif
