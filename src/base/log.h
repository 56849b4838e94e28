/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - one line an event on standard error: plain text for people, JSON for machines. The only
 * global state in the project. Control characters are escaped, so that no record, path or library
 * message can forge a line or move a terminal's cursor. */
#ifndef TIDEMILL_BASE_LOG_H
#define TIDEMILL_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

void log_configure(enum log_level level, enum log_format format);
bool log_is_json(void);
void log_event(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A field beside the message: `"name":"value"` in JSON; text shows "name=value" behind the message.
 * Empty and NULL values are left out. */
struct log_field {
    const char *name, *value;
};
void log_fields(enum log_level level, const struct log_field *fields, size_t n, const char *format,
                ...) __attribute__((format(printf, 4, 5)));

/* A status line that the next status or event overwrites; for terminals. "" takes it away. */
void log_status(const char *line);

#endif
