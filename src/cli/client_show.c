/* SPDX-License-Identifier: Apache-2.0 */
/* client_show.c - a server's answers for people, and its batches' ends as exit statuses. */
#include "cli/client.h"

#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *text_of(yyjson_val *object, const char *name)
{
    const char *text = yyjson_get_str(yyjson_obj_get(object, name));
    return text != NULL ? text : "-";
}

/* What a server says goes to a terminal: no control characters. */
static void print_text(const char *text)
{
    for (; *text != '\0'; text++)
        putchar((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text);
}

static void time_text(yyjson_val *object, const char *name, char text[32])
{
    yyjson_val *value = yyjson_obj_get(object, name);
    time_t seconds = (time_t)yyjson_get_num(value);
    struct tm local;
    snprintf(text, 32, "-");
    if (yyjson_is_num(value) && localtime_r(&seconds, &local) != NULL)
        strftime(text, 32, "%Y-%m-%d %H:%M:%S", &local);
}

static unsigned long long count_of(yyjson_val *batch, const char *name)
{
    return yyjson_get_uint(yyjson_obj_get(yyjson_obj_get(batch, "request_counts"), name));
}

void client_print_json(yyjson_val *value)
{
    size_t size;
    char *text = yyjson_val_write(value, 0, &size);
    if (text == NULL) return;
    fwrite(text, 1, size, stdout);
    putchar('\n');
    free(text);
}

static void print_line(const char *name, const char *value)
{
    if (strcmp(value, "-") == 0) return;
    printf("%-12s ", name);
    print_text(value);
    putchar('\n');
}

static void print_forecast(yyjson_val *batch)
{
    yyjson_val *extra = yyjson_obj_get(batch, "tidemill");
    yyjson_val *forecast = yyjson_obj_get(extra, "forecast");
    char when[32];
    double usd = yyjson_get_num(yyjson_obj_get(extra, "cost_usd"));
    if (usd > 0) printf("%-12s %.6g USD\n", "cost so far", usd);
    print_line("paused", text_of(extra, "paused"));
    if (forecast == NULL) return;
    print_line("forecast", text_of(forecast, "verdict"));
    time_text(forecast, "p90_finish_at", when);
    print_line("done by", when);
}

static void print_errors(yyjson_val *batch)
{
    yyjson_val *errors = yyjson_obj_get(yyjson_obj_get(batch, "errors"), "data"), *error;
    size_t i, n;
    yyjson_arr_foreach(errors, i, n, error)
    {
        yyjson_val *line = yyjson_obj_get(error, "line");
        if (yyjson_is_int(line))
            printf("line %-7lld ", (long long)yyjson_get_sint(line));
        else
            printf("%-12s ", "error");
        print_text(text_of(error, "message"));
        putchar('\n');
    }
}

void client_print_batch(yyjson_val *batch)
{
    static const char *const texts[] = {"id", "status", "model", "endpoint"};
    static const char *const times[] = {"created_at", "expires_at", "completed_at",
                                        "failed_at",  "expired_at", "cancelled_at"};
    char when[32];
    for (size_t i = 0; i < COUNT_OF(texts); i++) print_line(texts[i], text_of(batch, texts[i]));
    printf("%-12s %llu of %llu, %llu failed\n", "answered", count_of(batch, "completed"),
           count_of(batch, "total"), count_of(batch, "failed"));
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        time_text(batch, times[i], when);
        print_line(times[i], when);
    }
    print_forecast(batch);
    print_errors(batch);
}

void client_print_batches_head(void)
{
    printf("%-32s %-12s %10s %10s %10s  %-19s  %s\n", "id", "status", "answered", "failed", "of",
           "created", "model");
}

void client_print_batches_line(yyjson_val *batch)
{
    char when[32];
    time_text(batch, "created_at", when);
    printf("%-32.64s %-12.20s %10llu %10llu %10llu  %-19s  ", text_of(batch, "id"),
           text_of(batch, "status"), count_of(batch, "completed"), count_of(batch, "failed"),
           count_of(batch, "total"), when);
    print_text(text_of(batch, "model"));
    putchar('\n');
}

/* --- ends ----------------------------------------------------------------------------------------------- */

static bool has_status(yyjson_val *batch, const char *status)
{
    return yyjson_equals_str(yyjson_obj_get(batch, "status"), status);
}

bool client_batch_is_over(yyjson_val *batch)
{
    static const char *const ends[] = {"completed", "failed", "expired", "cancelled"};
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        if (has_status(batch, ends[i])) return true;
    return false;
}

int client_batch_status(yyjson_val *batch)
{
    if (has_status(batch, "failed")) return 2;
    return has_status(batch, "completed") && count_of(batch, "failed") == 0 ? 0 : 1;
}

int client_end(tidemill_error *error, int status)
{
    if (fflush(stdout) != 0 && error == NULL)
        error = error_new(ERROR_IO, "standard output cannot be written");
    return error == NULL ? status : cli_fail(error);
}
