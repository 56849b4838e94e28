/* SPDX-License-Identifier: Apache-2.0 */
/* request_id.c - see request_id.h. */
#include "server/request_id.h"

#include <ctype.h>
#include <stdio.h>

#define PREFIX "req_"
#define WINDOW_PREFIX "win_"

/* By enum dialect. */
static const char letters[] = {'\0', 'o', 'a', 'k', 'f', 't'};

void request_id_text(const struct request_id *id, char text[REQUEST_ID_BYTES])
{
    char letter[2] = {letters[id->dialect], '\0'};
    int size = snprintf(text, REQUEST_ID_BYTES, PREFIX "%s_%llu",
                        id->window + strlen(WINDOW_PREFIX), (unsigned long long)id->first);
    if (id->n != 1 || letter[0] != '\0')
        snprintf(text + size, REQUEST_ID_BYTES - (size_t)size, ".%llu%s", (unsigned long long)id->n,
                 letter);
}

/* A decimal number without a leading zero; *p is moved behind it. */
static bool read_number(const char **p, uint64_t *ret)
{
    const char *text = *p;
    uint64_t value = 0;
    if (!isdigit((unsigned char)*text) || (text[0] == '0' && isdigit((unsigned char)text[1])))
        return false;
    for (; isdigit((unsigned char)*text); text++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
            return false;
    *p = text;
    *ret = value;
    return true;
}

static bool read_dialect(char letter, enum dialect *ret)
{
    for (size_t i = 0; i < COUNT_OF(letters); i++) {
        if (letters[i] != letter) continue;
        *ret = (enum dialect)i;
        return true;
    }
    return false;
}

bool request_id_parse(const char *text, struct request_id *ret)
{
    *ret = (struct request_id){.n = 1, .dialect = DIALECT_TIDEMILL};
    if (strncmp(text, PREFIX, strlen(PREFIX)) != 0) return false;
    text += strlen(PREFIX);
    size_t size = strspn(text, "0123456789abcdef");
    if (size == 0 || size > sizeof ret->window - sizeof WINDOW_PREFIX || text[size] != '_')
        return false;
    memcpy(ret->window, WINDOW_PREFIX, strlen(WINDOW_PREFIX));
    memcpy(ret->window + strlen(WINDOW_PREFIX), text, size);
    text += size + 1;
    if (!read_number(&text, &ret->first)) return false;
    if (*text == '\0') return true;
    if (*text++ != '.' || !read_number(&text, &ret->n) || ret->n == 0) return false;
    if (*text == '\0') return ret->n != 1;
    return read_dialect(*text, &ret->dialect) && text[1] == '\0';
}
