/* SPDX-License-Identifier: Apache-2.0 */
/* exec_command.c - the words of a command, as POSIX sh splits them (2.2 Quoting, 2.6.5 Field Splitting),
 * without any expansion. */
#include "runtime/exec.h"

#include <stdlib.h>

/* One word, its quotes taken off, written to *out; false: a quote is not closed. */
static bool take_word(const char **at, char **out)
{
    char quote = '\0';
    const char *p = *at;
    for (; *p != '\0' && (quote != '\0' || strchr(" \t\n", *p) == NULL); p++) {
        bool is_escape = *p == '\\' && p[1] != '\0' &&
                         (quote == '\0' || (quote == '"' && strchr("\"\\$`", p[1]) != NULL));
        if (is_escape)
            *(*out)++ = *++p;
        else if (quote == '\0' && (*p == '"' || *p == '\''))
            quote = *p;
        else if (quote != '\0' && *p == quote)
            quote = '\0';
        else
            *(*out)++ = *p;
    }
    *(*out)++ = '\0';
    *at = p;
    return quote == '\0';
}

tidemill_error *exec_split_command(const char *command, char ***ret)
{
    size_t size = strlen(command), n_max = size / 2 + 2, n = 0;
    char **words = malloc(n_max * sizeof *words + size + 2);
    if (words == NULL) return error_memory();
    char *out = (char *)(words + n_max);
    for (const char *p = command;;) {
        p += strspn(p, " \t\n");
        if (*p == '\0') break;
        words[n++] = out;
        if (take_word(&p, &out)) continue;
        free(words);
        return error_new(ERROR_USAGE, "--model exec: a quote is not closed in: %s", command);
    }
    words[n] = NULL;
    if (n > 0) {
        *ret = words;
        return NULL;
    }
    free(words);
    return error_new(ERROR_USAGE, "--model exec: no command; write exec:\"python3 handler.py\"");
}
