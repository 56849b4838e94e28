/* SPDX-License-Identifier: Apache-2.0 */
/* decode_numbers.c - lists of numbers, straight into the tensor.
 *
 * Most lists hold whole numbers of a few digits. Of those, 64 bytes at a time are classified into
 * bit masks, and each number is then taken with the same few instructions whatever its length: a
 * branch on the number of digits would be guessed wrong half of the time, and costs more than all
 * the rest. What is no such number (a sign, a fraction, more than 8 digits) is read by number.c. */
#include "format/decode_scan.h"

#include <math.h>
#ifdef __SSE2__
#include <emmintrin.h>
#define HAS_BLOCKS true
#else
#define HAS_BLOCKS false
#endif

#define BLOCK 64
#define PLAIN_AFTER 16 /* numbers to read one by one after a block began with none that is short */

/* Stores a whole number below 100000000; the type is known where this is inlined. */
ALWAYS_INLINE bool store_small(enum tensor_type type, unsigned char *out, uint32_t value)
{
    float single = (float)(int32_t)value;
    double real = (double)(int32_t)value;
    int64_t wide = value;
    int32_t narrow = (int32_t)value;
    switch (type) {
    case TENSOR_FLOAT: memcpy(out, &single, 4); return true;
    case TENSOR_DOUBLE: memcpy(out, &real, 8); return true;
    case TENSOR_INT64: memcpy(out, &wide, 8); return true;
    case TENSOR_INT32: memcpy(out, &narrow, 4); return true;
    default: *out = (unsigned char)value; return value <= UINT8_MAX;
    }
}

const char *scan_number(struct row *row, const char *p, const char *last)
{
    struct number number;
    const char *end = number_scan(p, last, &number);
    if (end == NULL || row_append_number(row, &number, p, end) != ERROR_OK) return NULL;
    return end;
}

/* One number of any form, to `out`. */
ALWAYS_INLINE const char *store_any(struct row *row, enum tensor_type type, unsigned char *out,
                                    const char *p, const char *last)
{
    if (type != TENSOR_FLOAT && type != TENSOR_DOUBLE) {
        row->bytes = (size_t)(out - row->out);
        p = scan_number(row, p, last);
        if (p != NULL) row->count--; /* the caller counts */
        return p;
    }
    struct number number;
    const char *end = number_scan(p, last, &number);
    if (end == NULL) return NULL;
    double real = number_to_double(&number, p, end);
    float single = (float)real;
    if (type == TENSOR_FLOAT) memcpy(out, &single, sizeof single);
    if (type == TENSOR_DOUBLE) memcpy(out, &real, sizeof real);
    bool is_finite = type == TENSOR_FLOAT ? isfinite(single) : isfinite(real);
    return is_finite || row->nonfinite != NONFINITE_ERROR ? end : NULL;
}

#ifdef __SSE2__

/* Bit i: byte i of the 64 is ... */
struct block_masks {
    uint64_t digit, zero, comma;
    uint64_t space; /* directly behind a comma */
    uint64_t other; /* no digit, comma, or such a space */
};

/* Also, for each byte that ends a number of one or two digits, that number. Byte p[-1] is readable. */
ALWAYS_INLINE struct block_masks classify(const char *p, uint8_t pairs[BLOCK])
{
    struct block_masks masks = {0};
    const __m128i nine = _mm_set1_epi8(9), base = _mm_set1_epi8('0');
    for (int i = 0; i < BLOCK / 16; i++) {
        const char *at = p + 16 * i;
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i before = _mm_loadu_si128((const __m128i *)(const void *)(at - 1));
        __m128i value = _mm_sub_epi8(bytes, base), tens = _mm_sub_epi8(before, base);
        __m128i is_digit = _mm_cmpeq_epi8(_mm_min_epu8(value, nine), value);
        __m128i is_comma = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(','));
        __m128i is_blank = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(' '));
        __m128i is_zero = _mm_cmpeq_epi8(bytes, base);
        tens = _mm_and_si128(tens, _mm_cmpeq_epi8(_mm_min_epu8(tens, nine), tens));
        tens = _mm_add_epi8(_mm_slli_epi16(tens, 3), _mm_add_epi8(tens, tens));
        _mm_storeu_si128((__m128i *)(void *)(pairs + 16 * i), _mm_add_epi8(tens, value));
        masks.digit |= (uint64_t)(uint32_t)_mm_movemask_epi8(is_digit) << (16 * i);
        masks.comma |= (uint64_t)(uint32_t)_mm_movemask_epi8(is_comma) << (16 * i);
        masks.space |= (uint64_t)(uint32_t)_mm_movemask_epi8(is_blank) << (16 * i);
        masks.zero |= (uint64_t)(uint32_t)_mm_movemask_epi8(is_zero) << (16 * i);
    }
    masks.space &= masks.comma << 1;
    masks.other = ~(masks.digit | masks.comma | masks.space);
    return masks;
}

/* The last `length` of the 8 bytes before `end`, 1 to 8 digits, as a number. */
ALWAYS_INLINE uint32_t take_digits(const char *end, uint32_t length)
{
    uint64_t word;
    memcpy(&word, end - 8, sizeof word);
    uint32_t shift = (0 - 8 * length) & 63;
    word = (word >> shift) << shift & 0x0f0f0f0f0f0f0f0fu;
    word = (word * 10 + (word >> 8)) & 0x00ff00ff00ff00ffu;
    word = (word * 100 + (word >> 16)) & 0x0000ffff0000ffffu;
    return (uint32_t)(word * 10000 + (word >> 32));
}

/* The same of 4 bytes. */
ALWAYS_INLINE uint32_t take_few_digits(const char *end, uint32_t length)
{
    uint32_t word;
    memcpy(&word, end - 4, sizeof word);
    uint32_t shift = (0 - 8 * length) & 31;
    word = (word >> shift) << shift & 0x0f0f0f0fu;
    word = (word * 10 + (word >> 8)) & 0x00ff00ffu;
    return (word * 100 + (word >> 16)) & 0xffff;
}

/* Stores the numbers whose ends are marked; returns how many, 0 where one does not fit the type or
 * there are more than `room`. */
ALWAYS_INLINE size_t store_marked(enum tensor_type type, const char *p, unsigned char *out,
                                  size_t room, uint64_t ends, uint64_t space, bool is_few)
{
    const size_t width = tensor_type_bits(type) / 8;
    uint32_t start = 0;
    size_t n = 0;
    bool is_fine = true;
    for (; ends != 0; ends &= ends - 1, n++) {
        uint32_t end = (uint32_t)__builtin_ctzll(ends);
        if (n == room) return 0;
        uint32_t value =
            is_few ? take_few_digits(p + end, end - start) : take_digits(p + end, end - start);
        is_fine &= store_small(type, out + n * width, value);
        start = end + 1 + (uint32_t)(space >> 1 >> end & 1);
    }
    return is_fine ? n : 0;
}

ALWAYS_INLINE size_t store_pairs(enum tensor_type type, const uint8_t pairs[BLOCK],
                                 unsigned char *out, size_t room, uint64_t ends)
{
    const size_t width = tensor_type_bits(type) / 8;
    size_t n = 0;
    for (; ends != 0; ends &= ends - 1, n++) {
        if (n == room) return 0;
        (void)store_small(type, out + n * width, pairs[__builtin_ctzll(ends) - 1]);
    }
    return n;
}

/* Takes the short whole numbers at the front of the 64 bytes at `p`, at most `room` of them. Returns
 * how many, and in *ret_end what is behind the last and its comma; *ret_is_last: it was a ']'.
 * 8 bytes before `p` are readable; p[-1] is no digit. */
ALWAYS_INLINE size_t take_block(enum tensor_type type, const char *p, unsigned char *out,
                                size_t room, const char **ret_end, bool *ret_is_last)
{
    uint8_t pairs[BLOCK];
    struct block_masks masks = classify(p, pairs);
    uint64_t stop = masks.other & (0 - masks.other); /* lowest bit */
    uint64_t ends = masks.comma & (stop - 1);
    bool is_last = stop != 0 && p[__builtin_ctzll(stop)] == ']';
    if (is_last) ends |= stop;
    if (ends == 0) return 0;
    uint32_t last = 63 - (uint32_t)__builtin_clzll(ends);
    uint64_t taken = ((uint64_t)2 << last) - 1;
    /* Runs of digits: bit i of r3 means that at least 3 begin at byte i. */
    uint64_t digit = masks.digit & taken, r2 = digit & digit >> 1, r3 = r2 & digit >> 2;
    uint64_t r4 = r2 & r2 >> 2, r5 = r4 & digit >> 4, r9 = r4 & r4 >> 4 & digit >> 8;
    bool has_empty = (ends & ~(digit << 1)) != 0;
    bool has_leading_zero = (masks.zero & ~(digit << 1) & r2) != 0;
    if (has_empty || has_leading_zero || r9 != 0) return 0;
    *ret_end = p + last + 1;
    *ret_is_last = is_last;
    if (r3 == 0) return store_pairs(type, pairs, out, room, ends);
    if (r5 == 0) return store_marked(type, p, out, room, ends, masks.space, true);
    return store_marked(type, p, out, room, ends, masks.space, false);
}

#else

/* Without SSE2 numbers are read one by one. */
ALWAYS_INLINE size_t take_block(enum tensor_type type, const char *p, unsigned char *out,
                                size_t room, const char **ret_end, bool *ret_is_last)
{
    (void)type, (void)p, (void)out, (void)room, (void)ret_end, (void)ret_is_last;
    return 0;
}

#endif

ALWAYS_INLINE const char *take_list(struct row *row, enum tensor_type type, const char *first,
                                    const char *p, const char *last, size_t count)
{
    const size_t width = tensor_type_bits(type) / 8;
    size_t limit = MIN(count, (row->capacity - row->bytes) / width), done = 0, plain = 0;
    unsigned char *out = row->out + row->bytes;
    bool is_last = false;
    p = skip_space(p);
    if (*p == ']') return count == SIZE_MAX ? p + 1 : NULL;
    while (done < limit && !is_last) {
        size_t n = 0;
        if (plain > 0) {
            plain--;
        } else if (HAS_BLOCKS && p - first >= 8) {
            char tail[8 + BLOCK];
            const char *block = p, *end = p;
            if (last - p < BLOCK) { /* the record ends in it: the rest of the copy is no digit */
                memset(tail, 0, sizeof tail);
                memcpy(tail, p - 8, 8 + (size_t)(last - p));
                block = tail + 8;
            }
            n = take_block(type, block, out, limit - done, &end, &is_last);
            if (n > 0) p += end - block;
            if (n > 0 && !is_last && (unsigned char)*p <= ' ') p = skip_space(p);
            if (n == 0) plain = PLAIN_AFTER;
        }
        if (n == 0) {
            p = store_any(row, type, out, p, last);
            if (p == NULL) return NULL;
            p = skip_space(p);
            if (*p != ',' && *p != ']') return NULL;
            is_last = *p++ == ']';
            if (!is_last) p = skip_space(p);
            n = 1;
        }
        done += n;
        out += n * width;
    }
    if (!is_last || (count != SIZE_MAX && done != count)) return NULL;
    row->bytes = (size_t)(out - row->out);
    row->count += done;
    return p;
}

/* Types without a loop of their own. */
static const char *take_list_slowly(struct row *row, const char *p, const char *last, size_t count)
{
    size_t done = 0;
    p = skip_space(p);
    if (*p == ']') return count == SIZE_MAX ? p + 1 : NULL;
    while (done < count) {
        if ((p = scan_number(row, p, last)) == NULL) return NULL;
        p = skip_space(p);
        done++;
        if (*p == ']') return count == SIZE_MAX || done == count ? p + 1 : NULL;
        if (*p != ',') return NULL;
        p = skip_space(p + 1);
    }
    return NULL;
}

const char *scan_numbers(struct row *row, const char *first, const char *p, const char *last,
                         size_t count)
{
    switch (row->type) {
    case TENSOR_FLOAT: return take_list(row, TENSOR_FLOAT, first, p, last, count);
    case TENSOR_DOUBLE: return take_list(row, TENSOR_DOUBLE, first, p, last, count);
    case TENSOR_INT64: return take_list(row, TENSOR_INT64, first, p, last, count);
    case TENSOR_INT32: return take_list(row, TENSOR_INT32, first, p, last, count);
    case TENSOR_UINT8: return take_list(row, TENSOR_UINT8, first, p, last, count);
    default: return take_list_slowly(row, p, last, count);
    }
}
