/* SPDX-License-Identifier: Apache-2.0 */
/* decode_scan.c - strings, and values that do not matter: validated, without recursion. */
#include "format/decode_scan.h"
#include "format/decode_text.h"

/* --- strings ---------------------------------------------------------------------------------------- */

/* Bytes of the word that are not plain: below 0x20, '"', '\\', above 0x7f. High bits tell which; those
 * above the lowest may be wrong. */
ALWAYS_INLINE uint64_t special_bytes(uint64_t word)
{
    const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
    return (word | (word - ones * 0x20) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash)) &
           highs;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four digits at `p`; -1 where they are not. */
static int32_t hex4(const char *p, const char *last)
{
    int32_t value = 0;
    if (last - p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(p[i]);
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* `p` is behind the backslash. Returns the end of the escape, NULL where it is not valid. */
static const char *scan_escape(const char *p, const char *last, uint32_t *ret_code)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (*p != 'u') {
        const char *found = *p == '\0' ? NULL : strchr(from, *p);
        if (found == NULL) return NULL;
        *ret_code = (unsigned char)to[found - from];
        return p + 1;
    }
    int32_t high = hex4(p + 1, last), low;
    p += 5;
    if (high < 0 || (high >= 0xdc00 && high < 0xe000)) return NULL;
    if (high < 0xd800 || high >= 0xe000) {
        *ret_code = (uint32_t)high;
        return p;
    }
    if (last - p < 6 || p[0] != '\\' || p[1] != 'u') return NULL;
    low = hex4(p + 2, last);
    if (low < 0xdc00 || low >= 0xe000) return NULL;
    *ret_code = 0x10000 + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
    return p + 6;
}

/* First byte of the string at `p` that is not plain ASCII. */
ALWAYS_INLINE const char *skip_plain(const char *p, const char *last)
{
    while (last - p >= 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        uint64_t special = special_bytes(word);
        if (special != 0) return p + __builtin_ctzll(special) / 8;
        p += 8;
    }
    while (p < last && (unsigned char)(*p - 0x20) < 0x60 && *p != '"' && *p != '\\') p++;
    return p;
}

const char *scan_string(const char *p, const char *last, char *out, size_t *ret_size)
{
    char *begin = out;
    for (;;) {
        const char *stop = skip_plain(p, last);
        size_t length = (size_t)(stop - p);
        if (out != NULL) {
            memcpy(out, p, length);
            out += length;
        }
        p = stop;
        if (p >= last) return NULL;
        if (*p == '"') break;
        if ((unsigned char)*p >= 0x80) {
            length = text_sequence(p, last);
            if (length == 0) return NULL;
            if (out != NULL) memcpy(out, p, length);
            p += length;
            out = out == NULL ? NULL : out + length;
        } else if (*p == '\\') {
            uint32_t code;
            p = scan_escape(p + 1, last, &code);
            if (p == NULL) return NULL;
            if (out != NULL) out += text_put_code_point(out, code);
        } else {
            return NULL;
        }
    }
    if (ret_size != NULL) *ret_size = (size_t)(out - begin);
    return p + 1;
}

const char *scan_key(const char *p, const char *last)
{
    for (;;) {
        p = skip_plain(p, last);
        if (p >= last) return NULL;
        if (*p == '"') return p;
        size_t length = text_sequence(p, last);
        if (length == 0) return NULL;
        p += length;
    }
}

/* --- values that do not matter ------------------------------------------------------------------------- */

static const char *skip_number(const char *p)
{
    if (*p == '-') p++;
    if (*p == '0') {
        p++;
    } else {
        if ((unsigned char)(*p - '0') > 9) return NULL;
        while ((unsigned char)(*p - '0') <= 9) p++;
    }
    if (*p == '.') {
        if ((unsigned char)(*++p - '0') > 9) return NULL;
        while ((unsigned char)(*p - '0') <= 9) p++;
    }
    if (*p == 'e' || *p == 'E') {
        p++;
        if (*p == '+' || *p == '-') p++;
        if ((unsigned char)(*p - '0') > 9) return NULL;
        while ((unsigned char)(*p - '0') <= 9) p++;
    }
    return p;
}

static const char *skip_word(const char *p, const char *last, const char *word, size_t size)
{
    return (size_t)(last - p) >= size && memcmp(p, word, size) == 0 ? p + size : NULL;
}

ALWAYS_INLINE const char *skip_scalar(const char *p, const char *last)
{
    switch (*p) {
    case '"': return scan_string(p + 1, last, NULL, NULL);
    case 't': return skip_word(p, last, "true", 4);
    case 'f': return skip_word(p, last, "false", 5);
    case 'n': return skip_word(p, last, "null", 4);
    default: return skip_number(p);
    }
}

/* The brackets that are open, as bits: 1 is an object. */
struct nesting {
    uint64_t bits[JSON_DEPTH_MAX / 64];
    unsigned depth;
};

/* The record's own object is one level. */
static bool push(struct nesting *nesting, bool is_object)
{
    unsigned at = nesting->depth;
    if (at + 1 >= JSON_DEPTH_MAX) return false;
    uint64_t bit = (uint64_t)1 << (at % 64);
    nesting->bits[at / 64] = (nesting->bits[at / 64] & ~bit) | (is_object ? bit : 0);
    nesting->depth++;
    return true;
}

static bool is_in_object(const struct nesting *nesting)
{
    unsigned at = nesting->depth - 1;
    return (nesting->bits[at / 64] >> (at % 64) & 1) != 0;
}

/* `p` is at a key. Returns the value. */
static const char *skip_key(const char *p, const char *last)
{
    if (*p != '"') return NULL;
    p = scan_string(p + 1, last, NULL, NULL);
    if (p == NULL) return NULL;
    p = skip_space(p);
    return *p == ':' ? skip_space(p + 1) : NULL;
}

const char *scan_value(const char *p, const char *last)
{
    struct nesting nesting = {.depth = 0};
    for (;;) {
        bool is_object = *p == '{';
        if (is_object || *p == '[') {
            if (!push(&nesting, is_object)) return NULL;
            p = skip_space(p + 1);
            if (*p != (is_object ? '}' : ']')) {
                if (is_object && (p = skip_key(p, last)) == NULL) return NULL;
                continue;
            }
        } else {
            p = skip_scalar(p, last);
            if (p == NULL) return NULL;
            if (nesting.depth == 0) return p;
            p = skip_space(p);
        }
        while (*p == (is_in_object(&nesting) ? '}' : ']')) {
            if (p >= last) return NULL; /* that one closes the record */
            p++;
            if (--nesting.depth == 0) return p;
            p = skip_space(p);
        }
        if (*p != ',') return NULL;
        p = skip_space(p + 1);
        if (is_in_object(&nesting) && (p = skip_key(p, last)) == NULL) return NULL;
    }
}
