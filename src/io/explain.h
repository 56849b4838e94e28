/* SPDX-License-Identifier: Apache-2.0 */
/* explain.h - errno as one plain sentence: what, where, why, what to do. Inside this room. */
#ifndef TIDEMILL_IO_EXPLAIN_H
#define TIDEMILL_IO_EXPLAIN_H

#include "base/error.h"

/* "cannot <verb> <path>: <text of errnum>; <advice>". A full disk or quota becomes ERROR_NO_SPACE
 * and ENOMEM becomes ERROR_MEMORY whatever `code` says, as with error_errno. `verb` that begins
 * with "read" or "stat" gets the advice for readers, every other the advice for writers. */
tidemill_error *io_explain(enum error_code code, int errnum, const char *verb, const char *path)
    __attribute__((warn_unused_result));

#endif
