/* SPDX-License-Identifier: Apache-2.0 */
/* plan_cron_test.c - lines of cron: what is one, and when it comes next, against a walk over minutes
 * that knows nothing of local times but what a clock on the wall shows. */
#include "expect.h"

#include "plan/plan.h"
#include "zone_vectors.h"

#define MINUTE_MS 60000
#define LINES 100000
#define STRETCHES 100
#define LEAD_MINUTES (2 * 1440) /* so that the walk knows what was shown before */
#define WALK_MINUTES (4 * 1440)

/* --- the reference --------------------------------------------------------------------------------- */

struct line { /* what the text says, made together with it */
    char text[600];
    bool minutes[60], hours[24], days[32], months[13], weekdays[7];
    bool any_day, any_weekday;
};

static bool fits(const struct line *line, const struct local_time *at)
{
    bool is_day = line->days[at->day], is_weekday = line->weekdays[at->weekday];
    return line->minutes[at->minute] && line->hours[at->hour] && line->months[at->month] &&
           (line->any_day || line->any_weekday ? is_day && is_weekday : is_day || is_weekday);
}

static bool is_for_every_hour(const struct line *line)
{
    for (size_t i = 0; i < 24; i++)
        if (!line->hours[i]) return false;
    return true;
}

/* What the wall shows, minute by minute: local time as text is compared, not reckoned with. */
struct wall {
    int64_t begin; /* minutes since 1970 */
    struct local_time shown[LEAD_MINUTES + WALK_MINUTES];
};

static int64_t order_of(const struct local_time *at)
{
    return ((((int64_t)at->year * 12 + at->month) * 31 + at->day) * 24 + at->hour) * 60 +
           at->minute;
}

static void look_at_wall(struct wall *wall, const struct zone *zone, int64_t begin)
{
    wall->begin = begin;
    for (size_t i = 0; i < COUNT_OF(wall->shown); i++)
        wall->shown[i] = zone_local(zone, (begin + (int64_t)i) * MINUTE_MS);
}

/* The minutes that a jump from `last` to `now` leaves out, one by one. */
static bool fits_between(const struct line *line, const struct local_time *last,
                         const struct local_time *now)
{
    struct local_time at = *last;
    while (order_of(&at) + 1 < order_of(now)) {
        if (++at.minute == 60) {
            at.minute = 0;
            at.hour++;
        }
        if (at.hour == 24) { /* Santiago jumps at midnight */
            at = *now;
            at.hour = at.minute = 0;
            if (order_of(&at) >= order_of(now)) return false;
        }
        if (fits(line, &at)) return true;
    }
    return false;
}

/* The first minute after place `from` at which the line comes; 0: not on this wall. */
static int64_t walk(const struct wall *wall, const struct line *line, size_t from)
{
    bool every_hour = is_for_every_hour(line);
    struct local_time latest = wall->shown[0];
    for (size_t i = 1; i < COUNT_OF(wall->shown); i++) {
        const struct local_time *now = &wall->shown[i];
        bool is_new = order_of(now) > order_of(&latest);
        bool comes = every_hour ? fits(line, now)
                                : is_new && (fits(line, now) || fits_between(line, &latest, now));
        if (is_new) latest = *now;
        if (comes && i > from) return wall->begin + (int64_t)i;
    }
    return 0;
}

/* --- random lines ------------------------------------------------------------------------------------ */

#define ADD(line, ...)                                                                             \
    snprintf((line)->text + strlen((line)->text), sizeof(line)->text - strlen((line)->text),       \
             __VA_ARGS__)

static void make_item(struct line *line, bool *set, int minimum, int maximum, int period,
                      uint64_t *random)
{
    int range = maximum - minimum + 1;
    int first = minimum + (int)random_below(random, (uint64_t)range);
    int last = first, step = 1;
    switch (random_below(random, 3)) {
    case 0: ADD(line, "%d", first); break;
    case 1:
        last = first + (int)random_below(random, (uint64_t)(maximum - first + 1));
        ADD(line, "%d-%d", first, last);
        break;
    default:
        last = first + (int)random_below(random, (uint64_t)(maximum - first + 1));
        step = 1 + (int)random_below(random, 20);
        ADD(line, "%d-%d/%d", first, last, step);
    }
    for (int i = first; i <= last; i += step) set[i % period] = true;
}

/* period: weekdays 0 and 7 are one. Returns whether it begins with a star. */
static bool make_field(struct line *line, bool *set, int minimum, int maximum, int period,
                       uint64_t *random)
{
    bool has_star = random_below(random, 2) == 0;
    if (has_star) {
        int step = random_below(random, 3) == 0 ? 1 + (int)random_below(random, 30) : 1;
        int last = maximum == 7 ? 6 : maximum;
        ADD(line, "*");
        if (step > 1) ADD(line, "/%d", step);
        for (int i = minimum; i <= last; i += step) set[i % period] = true;
    } else {
        make_item(line, set, minimum, maximum, period, random);
    }
    while (random_below(random, 3) == 0) {
        ADD(line, ",");
        make_item(line, set, minimum, maximum, period, random);
    }
    ADD(line, "%s", random_below(random, 4) == 0 ? " \t " : " ");
    return has_star;
}

static void make_line(struct line *line, uint64_t *random)
{
    *line = (struct line){0};
    make_field(line, line->minutes, 0, 59, 60, random);
    make_field(line, line->hours, 0, 23, 24, random);
    line->any_day = make_field(line, line->days, 1, 31, 32, random);
    make_field(line, line->months, 1, 12, 13, random);
    line->any_weekday = make_field(line, line->weekdays, 0, 7, 7, random);
}

static void compare(const struct wall *wall, const struct zone *zone, const char *zone_name,
                    const struct line *line, uint64_t *random)
{
    struct cron cron;
    tidemill_error *error = cron_parse(line->text, &cron);
    if (error != NULL && strstr(error_message(error), "never comes") != NULL) {
        error_free(error);
        return;
    }
    expect_fine(error, line->text);
    size_t from = LEAD_MINUTES + random_below(random, WALK_MINUTES / 2);
    int64_t after = (wall->begin + (int64_t)from) * MINUTE_MS;
    if (random_below(random, 2) == 0) after += (int64_t)random_below(random, MINUTE_MS);
    int64_t expected = walk(wall, line, from), found = cron_next(&cron, zone, after);
    int64_t end = wall->begin + (int64_t)COUNT_OF(wall->shown);
    if (expected == 0 ? found < end * MINUTE_MS : found != expected * MINUTE_MS)
        fail_msg("'%s' in %s after %lld: %lld, not %lld", line->text, zone_name, (long long)after,
                 (long long)found, (long long)expected * MINUTE_MS);
    assert_true(found > after);
}

static void any_line_comes_when_a_walk_says(void **unused)
{
    (void)unused;
    uint64_t random = random_seed(__func__);
    struct wall *wall = malloc(sizeof *wall);
    assert_non_null(wall);
    for (size_t n = 0; n < STRETCHES; n++) {
        size_t i = random_below(&random, COUNT_OF(zone_vectors));
        struct zone *zone;
        expect_fine(zone_new(zone_vectors[i].file, zone_vectors[i].size, &zone), "zone");
        const int64_t *row = zone_vectors[i].offsets[random_below(&random, zone_vectors[i].n)];
        int64_t ahead = LEAD_MINUTES + (int64_t)random_below(&random, 3 * 1440);
        look_at_wall(wall, zone, row[0] / 60 - ahead);
        for (size_t k = 0; k < LINES / STRETCHES; k++) {
            struct line line;
            make_line(&line, &random);
            compare(wall, zone, zone_vectors[i].name, &line, &random);
        }
        zone_free(zone);
    }
    free(wall);
}

/* --- by hand ---------------------------------------------------------------------------------------- */

static void known_times(void **unused)
{
    (void)unused;
    /* zones: 0 Berlin, 1 New York, 2 Lord Howe, 5 UTC */
    static const struct {
        const char *name, *line;
        size_t zone;
        int64_t after_s, expected_s; /* 0: never */
    } rows[] = {
        {"each night", "0 22 * * *", 0, 1767222000, 1767301200},
        {"at the moment itself: the next one", "0 22 * * *", 0, 1767301200, 1767387600},
        {"skipped: at the change", "30 2 * * *", 0, 1774742400, 1774746000},
        {"... and not again at that day", "30 2 * * *", 0, 1774746000, 1774830600},
        {"twice: at the first", "30 2 * * *", 0, 1792879200, 1792888200},
        {"... and not at the second", "30 2 * * *", 0, 1792888200, 1792978200},
        {"every hour: both of one name", "30 * * * *", 0, 1792888200, 1792891800},
        {"every hour: none that is left out", "30 * * * *", 0, 1774744200, 1774747800},
        {"New York skips 2:30", "30 2 * * *", 1, 1772949600, 1772953200},
        {"Lord Howe skips half an hour", "15 2 * * *", 2, 1791039600, 1791041400},
        {"29 February, over the year 2100", "0 0 29 2 *", 5, 3981312000, 4233686400},
        {"29 February", "0 0 29 2 *", 5, 1767225600, 1835395200},
        {"day or weekday", "0 0 13 * 5", 5, 1767225600, 1767312000},
        {"star and weekday", "0 0 */2 * 5", 5, 1767225600, 1767916800},
        {"names", "0 9 * jan-mar mon-fri", 5, 1767225600, 1767258000},
        {"names in capitals", "0 9 * JAN MON", 5, 1767225600, 1767603600},
        {"Friday to Sunday", "0 0 * * fri-sun", 5, 1767312000, 1767398400},
        {"7 is Sunday", "0 0 * * 7", 5, 1767225600, 1767484800},
        {"a nickname", "@monthly", 5, 1767225600, 1769904000},
        {"another", " @Hourly", 5, 1767225600, 1767229200},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct cron cron;
        struct zone *zone;
        size_t z = rows[i].zone;
        expect_fine(zone_new(zone_vectors[z].file, zone_vectors[z].size, &zone), rows[i].name);
        expect_fine(cron_parse(rows[i].line, &cron), rows[i].name);
        int64_t found = cron_next(&cron, zone, rows[i].after_s * 1000);
        if (found != rows[i].expected_s * 1000)
            fail_msg("%s: %lld, not %lld", rows[i].name, (long long)found / 1000,
                     (long long)rows[i].expected_s);
        zone_free(zone);
    }
}

static void wrong_lines_name_the_field(void **unused)
{
    (void)unused;
    static const struct {
        const char *line, *part;
    } rows[] = {
        {"", "'' has no minute; a line is MINUTE HOUR DAY MONTH WEEKDAY"},
        {"0 22 * *", "'0 22 * *' has no weekday"},
        {"0 22 * * * root", "goes on behind its five fields"},
        {"60 * * * *", "minute '60' is not *, a number from 0 to 59"},
        {"* 24 * * *", "hour '24' is not *, a number from 0 to 23"},
        {"* * 0 * *", "day '0' is not *"},
        {"* * 32 * *", "day '32' is not *"},
        {"* * * 13 *", "month '13' is not *"},
        {"* * * mai *", "month 'mai' is not *"},
        {"* * * * 8", "weekday '8' is not *"},
        {"* * jan * *", "day 'jan' is not *"},
        {"-1 * * * *", "minute '-1' is not *"},
        {"5-3 * * * *", "minute '5-3' ends before it begins"},
        {"1- * * * *", "minute '1-' is not *"},
        {"1,,2 * * * *", "minute '' is not *"},
        {", * * * *", "minute '' is not *"},
        {"*/0 * * * *", "has no step of 1 to 60"},
        {"*/ * * * *", "has no step of 1 to 60"},
        {"*/61 * * * *", "has no step of 1 to 60"},
        {"5/15 * * * *", "minute '5/15' has a step, which goes behind * or a range"},
        {"*5 * * * *", "minute '*5' is not *"},
        {"1x * * * *", "minute '1x' is not *"},
        {"99999999999999999999 * * * *", "is not *"},
        {"0 0 30 2 *", "never comes: no such month has such a day"},
        {"0 0 31 2,4,6,9,11 *", "never comes"},
        {"@dayly", "'@dayly' is none of @hourly"},
        {"@daily 5", "is none of @hourly"},
        {"every 5m", "minute 'every' is not *"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct cron cron;
        expect_error(cron_parse(rows[i].line, &cron), ERROR_USAGE, rows[i].part, rows[i].line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_times),
        cmocka_unit_test(wrong_lines_name_the_field),
        cmocka_unit_test(any_line_comes_when_a_walk_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
