/* SPDX-License-Identifier: Apache-2.0 */
/* error.c - errors as values: made here, given context on the way up, freed by who handles them. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tidemill_error {
    enum error_code code;
    char message[1];
};

static tidemill_error out_of_memory = {.code = ERROR_MEMORY};

static const struct {
    const char *name;
    const char *sentence;
    int exit_status;
} error_table[] = {
#define ERROR_ROW(c, n, s, e) [ERROR_##c] = {.name = n, .sentence = s, .exit_status = e},
#include "base/errors.def"
#undef ERROR_ROW
};

const char *error_code_name(enum error_code code)
{
    return (unsigned)code < ERROR_CODE_COUNT ? error_table[code].name : "unknown";
}

const char *error_code_sentence(enum error_code code)
{
    return (unsigned)code < ERROR_CODE_COUNT ? error_table[code].sentence : "unknown error";
}

int error_code_exit_status(enum error_code code)
{
    return (unsigned)code < ERROR_CODE_COUNT ? error_table[code].exit_status : 3;
}

/* Formatted text, separator and suffix as one error. */
static tidemill_error *build(enum error_code code, const char *format, va_list arguments,
                             const char *separator, const char *suffix)
    __attribute__((format(printf, 2, 0)));

static tidemill_error *build(enum error_code code, const char *format, va_list arguments,
                             const char *separator, const char *suffix)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0) return &out_of_memory;
    size_t total = (size_t)length + strlen(separator) + strlen(suffix);
    tidemill_error *error = malloc(sizeof *error + total);
    if (error == NULL) return &out_of_memory;
    error->code = code;
    vsnprintf(error->message, (size_t)length + 1, format, arguments);
    snprintf(error->message + length, total - (size_t)length + 1, "%s%s", separator, suffix);
    return error;
}

tidemill_error *error_new(enum error_code code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    tidemill_error *error = build(code, format, arguments, "", "");
    va_end(arguments);
    return error;
}

tidemill_error *error_errno(enum error_code code, int errnum, const char *format, ...)
{
    char text[128];
    if (errnum == ENOSPC || errnum == EDQUOT) code = ERROR_NO_SPACE;
    if (errnum == ENOMEM) code = ERROR_MEMORY;
    va_list arguments;
    va_start(arguments, format);
    tidemill_error *error =
        build(code, format, arguments, ": ", strerror_r(errnum, text, sizeof text));
    va_end(arguments);
    return error;
}

tidemill_error *error_memory(void)
{
    return &out_of_memory;
}

tidemill_error *error_context(tidemill_error *error, const char *format, ...)
{
    if (error == NULL || error == &out_of_memory) return error;
    va_list arguments;
    va_start(arguments, format);
    tidemill_error *wrapped = build(error->code, format, arguments, ": ", error->message);
    va_end(arguments);
    if (wrapped == &out_of_memory) return error; /* the bare message beats none */
    error_free(error);
    return wrapped;
}

enum error_code error_code_of(const tidemill_error *error)
{
    return error == NULL ? ERROR_OK : error->code;
}

const char *error_message(const tidemill_error *error)
{
    if (error == NULL) return "";
    return error == &out_of_memory ? error_table[ERROR_MEMORY].sentence : error->message;
}

void error_free(tidemill_error *error)
{
    if (error != &out_of_memory) free(error);
}
