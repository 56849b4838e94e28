/* SPDX-License-Identifier: Apache-2.0 */
/* plan_zone_test.c - local times against Python's zoneinfo and the C library, moments against a walk
 * over minutes, and files that are no zones. */
#include "expect.h"

#include "plan/plan.h"
#include "plan/zone.h"
#include "zone_vectors.h"

#include <dirent.h>
#include <time.h>
#include <unistd.h>

#define ZONEINFO "/usr/share/zoneinfo"
#define YEAR_S 31556952
#define MINUTE_MS 60000

static void expect_local(struct local_time found, time_t local_s, const char *row, int64_t moment)
{
    struct tm expected;
    gmtime_r(&local_s, &expected);
    if (found.year != expected.tm_year + 1900 || found.month != expected.tm_mon + 1 ||
        found.day != expected.tm_mday || found.hour != expected.tm_hour ||
        found.minute != expected.tm_min || found.second != expected.tm_sec ||
        found.weekday != expected.tm_wday)
        fail_msg("%s: %lld is %d-%02d-%02d %02d:%02d:%02d (weekday %d), not %s", row,
                 (long long)moment, found.year, found.month, found.day, found.hour, found.minute,
                 found.second, found.weekday, asctime(&expected));
}

static struct zone *vector_zone(size_t i)
{
    struct zone *zone;
    expect_fine(zone_new(zone_vectors[i].file, zone_vectors[i].size, &zone), zone_vectors[i].name);
    return zone;
}

/* Changes both ways, 30 minutes of them, the southern half, the footer's years to 2100. */
static void local_times_are_those_of_zoneinfo(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(zone_vectors); i++) {
        struct zone *zone = vector_zone(i);
        for (size_t k = 0; k < zone_vectors[i].n; k++) {
            const int64_t *row = zone_vectors[i].offsets[k];
            expect_local(zone_local(zone, row[0] * 1000), row[0] + row[1], zone_vectors[i].name,
                         row[0]);
            expect_local(zone_local(zone, row[0] * 1000 + 999), row[0] + row[1],
                         zone_vectors[i].name, row[0]);
        }
        zone_free(zone);
    }
}

static void without_a_zone_it_is_utc(void **unused)
{
    (void)unused;
    uint64_t state = random_seed(__func__);
    for (int i = 0; i < 100000; i++) {
        int64_t moment = (int64_t)random_below(&state, 20000ULL * YEAR_S) - 10000LL * YEAR_S;
        struct local_time local = zone_local(NULL, moment * 1000);
        expect_local(local, moment, "UTC", moment);
        assert_true(zone_moment(NULL, &local) == moment * 1000);
    }
}

/* --- the machine's own zones, against the C library -------------------------------------------------- */

static char *read_zone(const char *name, size_t *ret_size)
{
    char path[512], *data = malloc(1 << 16);
    assert_non_null(data);
    snprintf(path, sizeof path, ZONEINFO "/%s", name);
    FILE *file = fopen(path, "rb");
    *ret_size = file == NULL ? 0 : fread(data, 1, 1 << 16, file);
    if (file != NULL) fclose(file);
    return data;
}

static void compare_zone(const char *name, uint64_t *random)
{
    struct zone *zone;
    size_t size;
    char *data = read_zone(name, &size), path[512];
    expect_fine(zone_new(data, size, &zone), name);
    free(data);
    snprintf(path, sizeof path, ":" ZONEINFO "/%s", name);
    setenv("TZ", path, 1);
    tzset();
    for (int i = 0; i < 300; i++) {
        time_t moment = (time_t)random_below(random, 180ULL * YEAR_S) - 50LL * YEAR_S;
        struct tm expected;
        localtime_r(&moment, &expected);
        expect_local(zone_local(zone, moment * 1000), moment + expected.tm_gmtoff, name, moment);
    }
    zone_free(zone);
}

static void local_times_are_those_of_the_c_library(void **unused)
{
    (void)unused;
    static const char *const areas[] = {"Africa", "America",  "Antarctica",
                                        "Asia",   "Atlantic", "Australia",
                                        "Europe", "Pacific",  "America/Argentina"};
    uint64_t random = random_seed(__func__);
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(areas); i++) {
        char name[300];
        snprintf(name, sizeof name, ZONEINFO "/%s", areas[i]);
        DIR *folder = opendir(name);
        for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
            if (entry->d_name[0] == '.' || entry->d_type == DT_DIR) continue;
            snprintf(name, sizeof name, "%s/%.200s", areas[i], entry->d_name);
            compare_zone(name, &random);
            n++;
        }
        if (folder != NULL) closedir(folder);
    }
    unsetenv("TZ");
    tzset();
    print_message("%zu zones of this machine\n", n);
}

/* --- moments ---------------------------------------------------------------------------------------- */

static int64_t minute_of(struct local_time local)
{
    return civil_seconds(&local) / 60;
}

/* The first minute that shows this local time, or the first one behind it. */
static int64_t walk_to(const struct zone *zone, int64_t local_minute)
{
    for (int64_t minute = local_minute - 27 * 60;; minute++)
        if (minute_of(zone_local(zone, minute * MINUTE_MS)) >= local_minute) return minute;
}

static void moments_are_what_a_walk_finds(void **unused)
{
    (void)unused;
    uint64_t random = random_seed(__func__);
    for (size_t i = 0; i < COUNT_OF(zone_vectors); i++) {
        struct zone *zone = vector_zone(i);
        for (int round = 0; round < 150; round++) {
            /* a day around a change, or any */
            const int64_t *row = zone_vectors[i].offsets[random_below(&random, zone_vectors[i].n)];
            int64_t at = row[0] + (int64_t)random_below(&random, 14400) - 7200;
            struct local_time local = civil_of_seconds((at + row[1]) / 60 * 60);
            int64_t expected = walk_to(zone, minute_of(local));
            if (zone_moment(zone, &local) != expected * MINUTE_MS)
                fail_msg("%s: %d-%02d-%02d %02d:%02d is %lld, not %lld", zone_vectors[i].name,
                         local.year, local.month, local.day, local.hour, local.minute,
                         (long long)zone_moment(zone, &local), (long long)expected * MINUTE_MS);
        }
        zone_free(zone);
    }
}

static void known_moments(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        size_t zone;
        struct local_time local;
        int64_t moment_s;
    } rows[] = {
        {"Berlin, winter", 0, {.year = 2026, .month = 1, .day = 1}, 1767222000},
        {"Berlin, skipped: the moment of the change",
         0,
         {.year = 2026, .month = 3, .day = 29, .hour = 2, .minute = 30},
         1774746000},
        {"Berlin, twice: the first",
         0,
         {.year = 2026, .month = 10, .day = 25, .hour = 2, .minute = 30},
         1792888200},
        {"New York, skipped", 1, {.year = 2026, .month = 3, .day = 8, .hour = 2}, 1772953200},
        {"Lord Howe, skipped half an hour",
         2,
         {.year = 2026, .month = 10, .day = 4, .hour = 2, .minute = 10},
         1791041400},
        {"Lord Howe, twice half an hour",
         2,
         {.year = 2026, .month = 4, .day = 5, .hour = 1, .minute = 45},
         1775313900},
        {"hours beyond the day go on to the next",
         5,
         {.year = 2026, .month = 12, .day = 31, .hour = 25},
         1798765200},
        {"months beyond the year, too", 5, {.year = 2026, .month = 13, .day = 1}, 1798761600},
        {"day 0 is the last of the month before",
         5,
         {.year = 2028, .month = 3, .day = 0},
         1835395200},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct zone *zone = vector_zone(rows[i].zone);
        int64_t found = zone_moment(zone, &rows[i].local);
        if (found != rows[i].moment_s * 1000)
            fail_msg("%s: %lld, not %lld", rows[i].name, (long long)found / 1000,
                     (long long)rows[i].moment_s);
        zone_free(zone);
    }
}

/* --- files that are none ----------------------------------------------------------------------------- */

#define HEAD(version) "TZif" version "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define NONE "\0\0\0\0"
#define ONE "\0\0\0\1"
#define UTC_TYPE "\0\0\0\0\0\0"
#define EMPTY_BLOCK HEAD("2") NONE NONE NONE NONE ONE NONE UTC_TYPE

static void wrong_files_are_refused(void **unused)
{
    (void)unused;
#define BYTES(text) text, sizeof text - 1
    static const struct {
        const char *name, *bytes;
        size_t size;
        const char *part; /* NULL: it is fine */
    } rows[] = {
        {"nothing", BYTES(""), "it is empty"},
        {"a text", BYTES("Europe/Berlin, I said, and nothing else but that"), "does not begin"},
        {"a cut header", BYTES("TZif2"), "does not begin"},
        {"version 1", BYTES(HEAD("\0") NONE NONE NONE NONE ONE NONE UTC_TYPE), NULL},
        {"no types", BYTES(HEAD("\0") NONE NONE NONE NONE NONE NONE), "no types"},
        {"more times than bytes", BYTES(HEAD("\0") NONE NONE NONE "\377\377\377\377" ONE NONE),
         "cut off"},
        {"no second header", BYTES(EMPTY_BLOCK), "does not begin"},
        {"no footer", BYTES(EMPTY_BLOCK EMPTY_BLOCK), "footer is missing"},
        {"an empty footer", BYTES(EMPTY_BLOCK EMPTY_BLOCK "\n\n"), NULL},
        {"a footer", BYTES(EMPTY_BLOCK EMPTY_BLOCK "\nUTC0\n"), NULL},
        {"a footer without end", BYTES(EMPTY_BLOCK EMPTY_BLOCK "\nUTC0"), "no end"},
        {"a footer with a NUL", BYTES(EMPTY_BLOCK EMPTY_BLOCK "\nUT\0C0\n"), "not text"},
        {"a rule of summer without dates", BYTES(EMPTY_BLOCK EMPTY_BLOCK "\nCET-1CEST\n"), "rule"},
        {"a rule with an odd month",
         BYTES(EMPTY_BLOCK EMPTY_BLOCK "\nCET-1CEST,M13.5.0,M10.5.0/3\n"), "rule"},
        {"a rule with more behind it",
         BYTES(EMPTY_BLOCK EMPTY_BLOCK "\nCET-1CEST,M3.5.0,M10.5.0/3,\n"), "rule"},
        {"days of the year", BYTES(EMPTY_BLOCK EMPTY_BLOCK "\nAAA3BBB,J60/0,300/-167:59:59\n"),
         NULL},
        {"an offset of days", BYTES(HEAD("\0") NONE NONE NONE NONE ONE NONE "\0\1\206\240\0\0"),
         "26 hours"},
        {"leap seconds", BYTES(HEAD("\0") NONE NONE ONE NONE ONE NONE UTC_TYPE "\0\0\0\0\0\0\0\1"),
         "right/"},
        {"a type that is not there",
         BYTES(HEAD("\0") NONE NONE NONE ONE ONE NONE "\0\0\0\0\1" UTC_TYPE), "type of local time"},
        {"times that do not ascend",
         BYTES(HEAD("\0") NONE NONE NONE "\0\0\0\2" ONE NONE "\0\0\0\1\0\0\0\1\0\0" UTC_TYPE),
         "ascend"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct zone *zone = NULL;
        char *copy = malloc(rows[i].size + 1); /* so that a sanitizer sees what is read too far */
        assert_non_null(copy);
        memcpy(copy, rows[i].bytes, rows[i].size);
        tidemill_error *error = zone_new(copy, rows[i].size, &zone);
        if (rows[i].part == NULL) {
            expect_fine(error, rows[i].name);
            zone_local(zone, 0);
            zone_free(zone);
        } else {
            expect_error(error, ERROR_USAGE, rows[i].part, rows[i].name);
            assert_null(zone);
        }
        free(copy);
    }
}

/* POSIX's odd rules, behind an empty table. */
static void rules_of_footers(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *rule;
        int64_t moment;
        int offset;
    } rows[] = {
        {"no summer", "<+0330>-3:30", 1770000000, 12600},
        {"west", "EST5", 1770000000, -18000},
        {"summer of 30 minutes", "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", 1770000000, 39600},
        {"all year", "XXX3EDT4,0/0,J365/23", 1770000000, -14400},
        {"all year, at the turn of the year", "XXX3EDT4,0/0,J365/23", 1767236400, -14400},
        {"all year, a second before it", "XXX3EDT4,0/0,J365/23", 1767236399, -14400},
        {"29 February is not counted: 1 March", "AAA0BBB,J60/0,J300/0", 1709251200, 3600},
        {"a second before it", "AAA0BBB,J60/0,J300/0", 1709251199, 0},
        {"29 February is counted: day 59", "AAA0BBB,59/0,300/0", 1709164800, 3600},
        {"Greenland: changes on the day before", "<-02>2<-01>,M3.5.0/-1,M10.5.0/0", 1774746000,
         -3600},
        {"... and a second earlier", "<-02>2<-01>,M3.5.0/-1,M10.5.0/0", 1774745999, -7200},
        {"negative summer time, as Ireland's", "IST-1GMT0,M10.5.0,M3.5.0/1", 1768000000, 0},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct zone_rule rule;
        if (!zone_rule_parse(rows[i].rule, &rule)) fail_msg("%s: not parsed", rows[i].name);
        int found = zone_rule_span(&rule, rows[i].moment).offset_s;
        if (found != rows[i].offset)
            fail_msg("%s: %d, not %d", rows[i].name, found, rows[i].offset);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(local_times_are_those_of_zoneinfo),
        cmocka_unit_test(without_a_zone_it_is_utc),
        cmocka_unit_test(local_times_are_those_of_the_c_library),
        cmocka_unit_test(moments_are_what_a_walk_finds),
        cmocka_unit_test(known_moments),
        cmocka_unit_test(wrong_files_are_refused),
        cmocka_unit_test(rules_of_footers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
