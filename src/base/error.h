/* SPDX-License-Identifier: Apache-2.0 */
/* error.h - how every room says what went wrong: a code, a sentence, the contexts it came through.
 *
 * A function that can fail returns `tidemill_error *`: NULL means fine. The caller adds context
 * and passes it up, or handles it and frees it; nobody prints below cli/. Being out of memory is an
 * error like another: then a static error is returned, and freeing it does nothing. */
#ifndef TIDEMILL_BASE_ERROR_H
#define TIDEMILL_BASE_ERROR_H

#include <stdbool.h>

typedef struct tidemill_error tidemill_error;

enum error_code {
#define ERROR_ROW(code, name, sentence, exit_status) ERROR_##code,
#include "base/errors.def"
#undef ERROR_ROW
    ERROR_CODE_COUNT
};

/* The name in error sinks and logs ("wrong_shape"), a sentence, the exit status. Static strings. */
const char *error_code_name(enum error_code code);
const char *error_code_sentence(enum error_code code);
int error_code_exit_status(enum error_code code);

/* New error with a message. `error_errno` appends ": " and the text of `errnum`, and turns a full
 * disk or quota into ERROR_NO_SPACE and ENOMEM into ERROR_MEMORY whatever `code` says. */
tidemill_error *error_new(enum error_code code, const char *format, ...)
    __attribute__((format(printf, 2, 3), warn_unused_result));
tidemill_error *error_errno(enum error_code code, int errnum, const char *format, ...)
    __attribute__((format(printf, 3, 4), warn_unused_result));
tidemill_error *error_memory(void) __attribute__((warn_unused_result));

/* Puts "context: " before the message. Returns `error`; NULL stays NULL. */
tidemill_error *error_context(tidemill_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3), warn_unused_result));

enum error_code error_code_of(const tidemill_error *error); /* NULL: ERROR_OK */
const char *error_message(const tidemill_error *error);     /* NULL: "" */
void error_free(tidemill_error *error);                     /* NULL is fine */

/* if (a call failed) return its error. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        tidemill_error *try_error = (call);                                                        \
        if (try_error != NULL) return try_error;                                                   \
    } while (0)

#endif
