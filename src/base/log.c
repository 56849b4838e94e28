/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - writes one event with one write(), so that lines of several threads do not mix. */
#include "base/log.h"

#include "base/buffer.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static enum log_level log_level_max = LOG_INFO;
static enum log_format log_format_now = LOG_FORMAT_TEXT;
static bool has_status;

void log_configure(enum log_level level, enum log_format format)
{
    pthread_mutex_lock(&log_mutex);
    log_level_max = level;
    log_format_now = format;
    pthread_mutex_unlock(&log_mutex);
}

bool log_is_json(void)
{
    pthread_mutex_lock(&log_mutex);
    bool is_json = log_format_now == LOG_FORMAT_JSON;
    pthread_mutex_unlock(&log_mutex);
    return is_json;
}

static void append_escaped(struct buffer *line, const char *text, bool is_json)
{
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            buffer_printf(line, is_json ? "\\u%04x" : "\\x%02x", *p);
        } else {
            if (is_json && (*p == '"' || *p == '\\')) buffer_byte(line, '\\');
            buffer_byte(line, (char)*p);
        }
    }
}

/* What one call of log_event or log_fields says. */
struct event {
    enum log_level level;
    const char *text;
    const struct log_field *fields;
    size_t n_fields;
};

static bool has_value(const struct log_field *field)
{
    return field->value != NULL && field->value[0] != '\0';
}

static void append_json(struct buffer *line, const struct event *event)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    struct timespec now;
    struct tm utc;
    char time_text[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(time_text, sizeof time_text, "%Y-%m-%dT%H:%M:%S", &utc);
    buffer_printf(line, "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"message\":\"", time_text,
                  now.tv_nsec / 1000000, names[event->level]);
    append_escaped(line, event->text, true);
    buffer_byte(line, '"');
    for (size_t i = 0; i < event->n_fields; i++) {
        if (!has_value(&event->fields[i])) continue;
        buffer_printf(line, ",\"%s\":\"", event->fields[i].name);
        append_escaped(line, event->fields[i].value, true);
        buffer_byte(line, '"');
    }
    buffer_byte(line, '}');
}

static void append_text(struct buffer *line, const struct event *event)
{
    if (event->level == LOG_ERROR) buffer_text(line, "tidemill: error: ");
    if (event->level == LOG_WARNING) buffer_text(line, "tidemill: warning: ");
    append_escaped(line, event->text, false);
    for (size_t i = 0; i < event->n_fields; i++) {
        if (!has_value(&event->fields[i])) continue;
        buffer_printf(line, " %s=", event->fields[i].name);
        append_escaped(line, event->fields[i].value, false);
    }
}

static void write_line(const struct buffer *line)
{
    static const char no_memory[] = "tidemill: error: out of memory\n";
    const char *data = line->is_failed ? no_memory : line->data;
    size_t size = line->is_failed ? sizeof no_memory - 1 : line->size, done = 0;
    while (done < size) {
        ssize_t n = write(STDERR_FILENO, data + done, size - done);
        if (n <= 0) return; /* nowhere left to complain */
        done += (size_t)n;
    }
}

static void write_event(const struct event *event)
{
    struct buffer line = {0};
    pthread_mutex_lock(&log_mutex);
    if (event->level <= log_level_max) {
        if (has_status) buffer_text(&line, "\r\033[K");
        has_status = false;
        line.is_failed |= event->text == NULL;
        if (line.is_failed)
            ; /* write_line says so */
        else if (log_format_now == LOG_FORMAT_JSON)
            append_json(&line, event);
        else
            append_text(&line, event);
        buffer_byte(&line, '\n');
        write_line(&line);
    }
    pthread_mutex_unlock(&log_mutex);
    buffer_free(&line);
}

/* text->data stays NULL where there is no memory. */
static void format_text(const char *format, va_list arguments, struct buffer *text)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    char *place = length < 0 ? NULL : buffer_reserve(text, (size_t)length + 1);
    if (place != NULL) vsnprintf(place, (size_t)length + 1, format, arguments);
}

void log_event(enum log_level level, const char *format, ...)
{
    struct buffer text = {0};
    va_list arguments;
    va_start(arguments, format);
    format_text(format, arguments, &text);
    va_end(arguments);
    write_event(&(struct event){.level = level, .text = text.data});
    buffer_free(&text);
}

void log_fields(enum log_level level, const struct log_field *fields, size_t n, const char *format,
                ...)
{
    struct buffer text = {0};
    va_list arguments;
    va_start(arguments, format);
    format_text(format, arguments, &text);
    va_end(arguments);
    write_event(
        &(struct event){.level = level, .text = text.data, .fields = fields, .n_fields = n});
    buffer_free(&text);
}

void log_status(const char *text)
{
    struct buffer line = {0};
    pthread_mutex_lock(&log_mutex);
    if (has_status || text[0] != '\0') {
        buffer_text(&line, "\r\033[K");
        buffer_text(&line, text);
        has_status = text[0] != '\0';
        write_line(&line);
    }
    pthread_mutex_unlock(&log_mutex);
    buffer_free(&line);
}
