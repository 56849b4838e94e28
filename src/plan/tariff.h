/* SPDX-License-Identifier: Apache-2.0 */
/* tariff.h - time cut where a tariff or the zone's offset changes; for the files of this room. */
#ifndef TIDEMILL_PLAN_TARIFF_H
#define TIDEMILL_PLAN_TARIFF_H

#include "plan/zone.h"

#define TARIFF_WEEK_MS ((int64_t)7 * DAY_S * 1000)

struct tariff_stretch {
    int64_t end_ms; /* INT64_MAX: never */
    bool is_allowed;
    double factor;
};
/* What holds at a moment, until when at least. */
struct tariff_stretch tariff_stretch_at(const struct tariff *tariff, const struct zone *zone,
                                        int64_t time_ms);

#endif
