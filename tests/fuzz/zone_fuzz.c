/* SPDX-License-Identifier: Apache-2.0 */
/* zone_fuzz.c - any bytes as a zone's file. What is taken gives local times that are dates, spans that
 * go on, and a moment for each local time, not before another one's that is earlier. */
#include "plan/plan.h"
#include "plan/zone.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
    if (!is_true) abort();
}

static void check_moment(const struct zone *zone, int64_t time_s)
{
    struct zone_span span = zone_span_at(zone, time_s);
    require(span.end_s > time_s);
    require(span.offset_s > -ZONE_OFFSET_S_MAX && span.offset_s < ZONE_OFFSET_S_MAX);
    struct local_time local = zone_local(zone, time_s * 1000);
    require(local.month >= 1 && local.month <= 12 && local.hour >= 0 && local.hour < 24);
    require(local.day >= 1 && local.day <= civil_month_days(local.year, local.month));
    require(local.weekday >= 0 && local.weekday < 7 && local.minute < 60 && local.second < 60);
    /* shown now, so first shown then or earlier */
    int64_t first = zone_moment(zone, &local);
    require(first <= time_s * 1000);
    local.minute++;
    require(zone_moment(zone, &local) >= first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t times[] = {-4000000000, -1,         0,          1,
                                    1774746000,  1792888200, 4102444800, 32503680000};
    struct zone *zone;
    tidemill_error *error = zone_new(data, size, &zone);
    require((error == NULL) == (zone != NULL));
    require(error == NULL || error_code_of(error) == ERROR_USAGE);
    error_free(error);
    if (zone == NULL) return 0;
    for (size_t i = 0; i < COUNT_OF(times); i++) check_moment(zone, times[i]);
    for (size_t i = 0; i < zone->n && i < 64; i++)
        if (zone->times[i] > -4000000000 && zone->times[i] < 32503680000)
            check_moment(zone, zone->times[i] - (int64_t)(i % 2));
    struct cron cron;
    if (cron_parse("30 2 * * *", &cron) != NULL) abort();
    require(cron_next(&cron, zone, 0) > 0);
    zone_free(zone);
    return 0;
}
