/* SPDX-License-Identifier: Apache-2.0 */
/* zone_file.c - the bytes of a zone's file (TZif, RFC 8536) as a table of offsets and a rule for the
 * years behind it. Nothing in them is believed before it is checked. */
#include "plan/zone.h"

#include <stdlib.h>
#include <string.h>

#define HEADER_BYTES 44
#define TYPE_BYTES 6
#define FOOTER_BYTES_MAX 256

struct tzif {
    const unsigned char *p; /* what is to be read next */
    const unsigned char *end;
    size_t isut, isstd, leaps, times, types, letters;
    int version;
};

static tidemill_error *wrong(const char *what)
{
    return error_new(ERROR_USAGE, "not a time zone's file (TZif): %s", what);
}

static uint32_t get_u32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t get_time(const unsigned char *p, size_t size)
{
    if (size == 4) return (int32_t)get_u32(p);
    return (int64_t)((uint64_t)get_u32(p) << 32 | get_u32(p + 4));
}

static tidemill_error *read_header(struct tzif *file)
{
    if (file->end - file->p < HEADER_BYTES || memcmp(file->p, "TZif", 4) != 0)
        return wrong("it does not begin as one");
    const unsigned char *p = file->p;
    file->version = p[4] == '\0' ? 1 : p[4] - '0';
    file->isut = get_u32(p + 20);
    file->isstd = get_u32(p + 24);
    file->leaps = get_u32(p + 28);
    file->times = get_u32(p + 32);
    file->types = get_u32(p + 36);
    file->letters = get_u32(p + 40);
    file->p += HEADER_BYTES;
    if (file->types == 0 || file->types > 256) return wrong("it has no types of local time");
    return NULL;
}

/* Numbers are below 2^32 each, so their sum is far from overflowing. */
static uint64_t block_bytes(const struct tzif *file, size_t time_bytes)
{
    return (uint64_t)file->times * (time_bytes + 1) + (uint64_t)file->types * TYPE_BYTES +
           file->letters + (uint64_t)file->leaps * (time_bytes + 4) + file->isstd + file->isut;
}

static tidemill_error *read_type(const struct tzif *file, const unsigned char *types, size_t i,
                                 int32_t *ret)
{
    if (i >= file->types) return wrong("a type of local time is missing");
    *ret = (int32_t)get_u32(types + i * TYPE_BYTES);
    if (*ret <= -ZONE_OFFSET_S_MAX || *ret >= ZONE_OFFSET_S_MAX)
        return wrong("an offset is more than 26 hours");
    return NULL;
}

static tidemill_error *read_block(struct tzif *file, size_t time_bytes, struct zone *zone)
{
    const unsigned char *times = file->p, *places = times + file->times * time_bytes;
    const unsigned char *types = places + file->times;
    if (file->leaps != 0)
        return error_new(ERROR_USAGE, "the zone counts leap seconds, which clocks here do not; "
                                      "take the one of that name without 'right/'");
    zone->times = calloc(file->times + 1, sizeof *zone->times);
    zone->offsets = calloc(file->times + 1, sizeof *zone->offsets);
    if (zone->times == NULL || zone->offsets == NULL) return error_memory();
    TRY(read_type(file, types, 0, &zone->first_offset_s));
    for (size_t i = 0; i < file->times; i++) {
        zone->times[i] = get_time(times + i * time_bytes, time_bytes);
        if (i > 0 && zone->times[i] <= zone->times[i - 1]) return wrong("times do not ascend");
        TRY(read_type(file, types, places[i], &zone->offsets[i]));
    }
    zone->n = file->times;
    file->p += block_bytes(file, time_bytes);
    return NULL;
}

/* "\nRULE\n"; an empty one: what the table ends with holds on. */
static tidemill_error *read_footer(struct tzif *file, struct zone *zone)
{
    char text[FOOTER_BYTES_MAX];
    if (file->p == file->end || *file->p != '\n') return wrong("its footer is missing");
    const unsigned char *begin = file->p + 1;
    const unsigned char *end = memchr(begin, '\n', (size_t)(file->end - begin));
    if (end == NULL || (size_t)(end - begin) >= sizeof text) return wrong("its footer has no end");
    memcpy(text, begin, (size_t)(end - begin));
    text[end - begin] = '\0';
    if (strlen(text) != (size_t)(end - begin)) return wrong("its footer is not text");
    if (text[0] == '\0') return NULL;
    if (!zone_rule_parse(text, &zone->rule)) return wrong("its footer's rule is not one");
    zone->has_rule = true;
    return NULL;
}

static tidemill_error *read_file(struct tzif *file, struct zone *zone)
{
    TRY(read_header(file));
    if ((uint64_t)(file->end - file->p) < block_bytes(file, 4)) return wrong("it is cut off");
    if (file->version < 2) return read_block(file, 4, zone);
    file->p += block_bytes(file, 4); /* for readers of version 1 */
    TRY(read_header(file));
    if ((uint64_t)(file->end - file->p) < block_bytes(file, 8)) return wrong("it is cut off");
    TRY(read_block(file, 8, zone));
    return read_footer(file, zone);
}

tidemill_error *zone_new(const void *tzfile, size_t size, struct zone **ret)
{
    struct tzif file = {.p = tzfile, .end = (const unsigned char *)tzfile + size};
    struct zone *zone = calloc(1, sizeof *zone);
    *ret = NULL;
    if (zone == NULL) return error_memory();
    tidemill_error *error = size == 0 ? wrong("it is empty") : read_file(&file, zone);
    if (error != NULL) {
        zone_free(zone);
        return error;
    }
    *ret = zone;
    return NULL;
}

void zone_free(struct zone *zone)
{
    if (zone == NULL) return;
    free(zone->times);
    free(zone->offsets);
    free(zone);
}
