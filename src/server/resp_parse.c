/* SPDX-License-Identifier: Apache-2.0 */
/* resp_parse.c - the grammar of Redis' requests (RESP2 and RESP3 send the same). Starts over with every
 * call, as a command is small: what it costs is bounded by RESP_ARGS_MAX. */
#include "server/resp_parse.h"

#define NUMBER_DIGITS_MAX 10

struct cursor {
    const char *p, *end;
    const char *message;
};

static enum resp_parsed bad(struct cursor *cursor, const char *message)
{
    cursor->message = message;
    return RESP_BAD;
}

/* "123\r\n" from the cursor on. A minus sign is read, so that "*-1" can be told from nonsense. */
static enum resp_parsed take_number(struct cursor *cursor, int64_t *ret, const char *message)
{
    const char *p = cursor->p;
    bool is_negative = p < cursor->end && *p == '-';
    if (is_negative) p++;
    int64_t value = 0;
    const char *digits = p;
    while (p < cursor->end && *p >= '0' && *p <= '9') {
        if (p - digits >= NUMBER_DIGITS_MAX) return bad(cursor, message);
        value = value * 10 + (*p++ - '0');
    }
    if (p < cursor->end && (p == digits || *p != '\r')) return bad(cursor, message);
    if (cursor->end - p < 2) return RESP_MORE;
    if (p[1] != '\n') return bad(cursor, message);
    cursor->p = p + 2;
    *ret = is_negative ? -value : value;
    return RESP_WHOLE;
}

static enum resp_parsed take_bulk(struct cursor *cursor, struct slice *ret)
{
    int64_t size;
    if (cursor->p == cursor->end) return RESP_MORE;
    if (*cursor->p != '$') return bad(cursor, "Protocol error: expected '$'");
    cursor->p++;
    enum resp_parsed parsed = take_number(cursor, &size, "Protocol error: invalid bulk length");
    if (parsed != RESP_WHOLE) return parsed;
    if (size < 0 || (uint64_t)size > RESP_BULK_BYTES_MAX)
        return bad(cursor, "Protocol error: invalid bulk length");
    size_t left = (size_t)(cursor->end - cursor->p);
    if (left < (size_t)size + 2) return RESP_MORE;
    if (cursor->p[size] != '\r' || cursor->p[size + 1] != '\n')
        return bad(cursor, "Protocol error: a bulk string does not end where it says");
    *ret = (struct slice){cursor->p, (size_t)size};
    cursor->p += size + 2;
    return RESP_WHOLE;
}

static enum resp_parsed take_array(struct cursor *cursor, struct resp_command *command)
{
    int64_t n;
    cursor->p++;
    enum resp_parsed parsed = take_number(cursor, &n, "Protocol error: invalid multibulk length");
    if (parsed != RESP_WHOLE) return parsed;
    if (n > RESP_ARGS_MAX) return bad(cursor, "Protocol error: invalid multibulk length");
    for (int64_t i = 0; i < n; i++) {
        parsed = take_bulk(cursor, &command->args[i]);
        if (parsed != RESP_WHOLE) return parsed;
    }
    command->n = n < 0 ? 0 : (size_t)n;
    return RESP_WHOLE;
}

static bool is_space(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r';
}

/* Words between spaces; quotes have no meaning here, as keys with spaces can be sent in arrays. */
static enum resp_parsed split_words(struct cursor *cursor, const char *line_end,
                                    struct resp_command *command)
{
    const char *p = cursor->p;
    for (;;) {
        while (p < line_end && is_space(*p)) p++;
        if (p == line_end) return RESP_WHOLE;
        const char *word = p;
        while (p < line_end && !is_space(*p)) p++;
        if (command->n == RESP_ARGS_MAX) return bad(cursor, "Protocol error: too many words");
        command->args[command->n++] = (struct slice){word, (size_t)(p - word)};
    }
}

static enum resp_parsed take_line(struct cursor *cursor, struct resp_command *command)
{
    size_t size = MIN((size_t)(cursor->end - cursor->p), RESP_INLINE_BYTES_MAX);
    const char *line_end = memchr(cursor->p, '\n', size);
    if (line_end == NULL && size == RESP_INLINE_BYTES_MAX)
        return bad(cursor, "Protocol error: too big inline request");
    if (line_end == NULL) return RESP_MORE;
    enum resp_parsed parsed = split_words(cursor, line_end, command);
    cursor->p = line_end + 1;
    return parsed;
}

enum resp_parsed resp_parse(const char *data, size_t size, struct resp_command *command,
                            size_t *ret_used, const char **ret_message)
{
    /* With one byte more than the limit, a command that is not whole by then is too large. */
    size_t seen = MIN(size, RESP_COMMAND_BYTES_MAX + 1);
    struct cursor cursor = {.p = data, .end = data + seen};
    command->n = 0;
    if (size == 0) return RESP_MORE;
    enum resp_parsed parsed =
        *data == '*' ? take_array(&cursor, command) : take_line(&cursor, command);
    if (parsed == RESP_MORE && seen > RESP_COMMAND_BYTES_MAX)
        parsed = bad(&cursor, "Protocol error: the command is too large");
    *ret_used = parsed == RESP_WHOLE ? (size_t)(cursor.p - data) : 0;
    if (parsed == RESP_BAD) *ret_message = cursor.message;
    return parsed;
}
