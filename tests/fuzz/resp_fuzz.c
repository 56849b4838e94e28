/* SPDX-License-Identifier: Apache-2.0 */
/* resp_fuzz.c - any bytes as commands of the Redis protocol. Every command lies within the bytes that it
 * was read from, takes some of them, and is the same however the bytes are cut: a part of a command is
 * never a command, and what was wrong as a part is wrong as a whole. */
#include "server/resp_parse.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
    if (!is_true) abort();
}

static void check_bounds(const char *data, size_t used, const struct resp_command *command)
{
    require(used > 0 && command->n <= RESP_ARGS_MAX);
    for (size_t i = 0; i < command->n; i++) {
        require(command->args[i].data >= data);
        require(command->args[i].data + command->args[i].size <= data + used);
        require(command->args[i].size <= RESP_COMMAND_BYTES_MAX);
    }
}

/* Cut off anywhere before its end it is not whole. */
static void check_parts(const char *data, size_t used)
{
    static struct resp_command part;
    const char *message = NULL;
    size_t part_used;
    for (size_t n = 0; n < used && n < 256; n++)
        require(resp_parse(data, n, &part, &part_used, &message) == RESP_MORE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct resp_command command;
    const char *p = (const char *)data, *end = p + size;
    for (;;) {
        const char *message = NULL;
        size_t used = 0;
        enum resp_parsed parsed = resp_parse(p, (size_t)(end - p), &command, &used, &message);
        require((parsed == RESP_BAD) == (message != NULL));
        if (parsed != RESP_WHOLE) return 0;
        check_bounds(p, used, &command);
        check_parts(p, used);
        p += used;
    }
}
