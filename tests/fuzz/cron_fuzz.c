/* SPDX-License-Identifier: Apache-2.0 */
/* cron_fuzz.c - any text as a line of cron, and as hours of a tariff. A line that is taken comes, at a
 * minute that its fields name. */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
    if (!is_true) abort();
}

static void check_cron(const char *text)
{
    struct cron cron;
    tidemill_error *error = cron_parse(text, &cron);
    require(error == NULL || error_code_of(error) == ERROR_USAGE);
    error_free(error);
    if (error != NULL) return;
    require(cron.minutes != 0 && cron.minutes >> 60 == 0 && cron.hours != 0);
    require((cron.days & ~0xfffffffeU) == 0 && (cron.months & ~0x1ffeU) == 0);
    require(cron.hours >> 24 == 0 && cron.weekdays >> 7 == 0 && cron.weekdays != 0);
    int64_t at = 1774656000000;
    for (int i = 0; i < 3; i++) {
        int64_t next = cron_next(&cron, NULL, at);
        if (next == INT64_MAX) return; /* 29 February on a Monday, say */
        require(next > at && next % 60000 == 0);
        struct local_time local = zone_local(NULL, next);
        require((cron.minutes >> local.minute & 1) != 0 && (cron.hours >> local.hour & 1) != 0);
        require((cron.months >> local.month & 1) != 0);
        at = next;
    }
}

static void check_hours(const char *text)
{
    struct tariff tariff;
    int n = 0;
    tariff_init(&tariff);
    tidemill_error *error = tariff_allow(&tariff, text);
    require(error == NULL || error_code_of(error) == ERROR_USAGE);
    for (size_t i = 0; i < DAY_MINUTES; i++) n += tariff.is_allowed[i];
    require(error == NULL ? n > 0 : n == DAY_MINUTES);
    error_free(error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (text == NULL) return 0;
    if (size > 0) memcpy(text, data, size);
    text[size] = '\0';
    check_cron(text);
    check_hours(text);
    free(text);
    return 0;
}
