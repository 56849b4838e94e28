/* SPDX-License-Identifier: Apache-2.0 */
/* civil.c - dates of the Gregorian calendar and days since 1970, without a clock and without zones. */
#include "plan/zone.h"

#define DAYS_400_YEARS 146097
#define DAYS_0000_TO_1970 719468 /* from 1 March of year 0 */

bool civil_is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

int civil_month_days(int64_t year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && civil_is_leap(year));
}

/* Years that begin in March end with the leap day: then months have a formula (Howard Hinnant,
 * "chrono-compatible low-level date algorithms"). */
int64_t civil_days(int64_t year, int64_t month, int64_t day)
{
    year += floor_div(month - 1, 12);
    month -= 12 * floor_div(month - 1, 12);
    if (month <= 2) year--;
    int64_t era = floor_div(year, 400);
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * DAYS_400_YEARS + day_of_era - DAYS_0000_TO_1970 + day - 1;
}

struct local_time civil_of_seconds(int64_t local_s)
{
    int64_t days = floor_div(local_s, DAY_S);
    int64_t second = local_s - days * DAY_S;
    int64_t shifted = days + DAYS_0000_TO_1970;
    int64_t era = floor_div(shifted, DAYS_400_YEARS);
    int64_t day_of_era = shifted - era * DAYS_400_YEARS;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t from_march = (5 * day_of_year + 2) / 153;
    int64_t month = from_march < 10 ? from_march + 3 : from_march - 9;
    return (struct local_time){
        .year = (int)(year_of_era + era * 400 + (month <= 2)),
        .month = (int)month,
        .day = (int)(day_of_year - (153 * from_march + 2) / 5 + 1),
        .hour = (int)(second / 3600),
        .minute = (int)(second / 60 % 60),
        .second = (int)(second % 60),
        .weekday = (int)(days + 4 - 7 * floor_div(days + 4, 7)), /* 1 January 1970: a Thursday */
    };
}

int64_t civil_seconds(const struct local_time *local)
{
    return civil_days(local->year, local->month, local->day) * DAY_S + (int64_t)local->hour * 3600 +
           (int64_t)local->minute * 60 + local->second;
}
