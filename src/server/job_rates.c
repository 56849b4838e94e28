/* SPDX-License-Identifier: Apache-2.0 */
/* job_rates.c - the pace of each model's last jobs; one JSON object, {"model":[[rows_s,usd_row,records]]}. */
#include "server/job_rates.h"

#include "format/encode.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <yyjson.h>

#define FILE_BYTES_MAX ((size_t)4 << 20)

void rates_free(struct rates *rates)
{
    free(rates->models);
    *rates = (struct rates){0};
}

static struct model_rates *find(const struct rates *rates, const char *model)
{
    for (size_t i = 0; i < rates->n; i++)
        if (strcmp(rates->models[i].model, model) == 0) return &rates->models[i];
    return NULL;
}

static tidemill_error *add_model(struct rates *rates, const char *model, struct model_rates **ret)
{
    struct model_rates *models = realloc(rates->models, (rates->n + 1) * sizeof *models);
    if (models == NULL) return error_memory();
    rates->models = models;
    *ret = &models[rates->n++];
    **ret = (struct model_rates){0};
    memcpy((*ret)->model, model, strnlen(model, STORE_NAME_BYTES - 1));
    return NULL;
}

tidemill_error *rates_add(struct rates *rates, const char *model, const struct job_rate *rate)
{
    struct model_rates *found = find(rates, model);
    if (!(rate->rows_s > 0) || !isfinite(rate->rows_s) || rate->records == 0) return NULL;
    if (found == NULL) TRY(add_model(rates, model, &found));
    if (found->n == RATES_KEPT)
        memmove(&found->last[0], &found->last[1], --found->n * sizeof found->last[0]);
    found->last[found->n++] = *rate;
    return NULL;
}

/* --- paces -------------------------------------------------------------------------------------- */

static int compare_rates(const void *a, const void *b)
{
    double x = ((const struct job_rate *)a)->rows_s, y = ((const struct job_rate *)b)->rows_s;
    return (x > y) - (x < y);
}

/* The rate below which `share` of all records ran; `sorted` by rate. */
static double weighted(const struct job_rate *sorted, size_t n, double share)
{
    double all = 0, below = 0;
    for (size_t i = 0; i < n; i++) all += (double)sorted[i].records;
    for (size_t i = 0; i < n; i++) {
        below += (double)sorted[i].records;
        if (below >= share * all) return sorted[i].rows_s;
    }
    return 0;
}

struct pace rates_pace(const struct rates *rates, const char *model)
{
    struct pace pace = {.usd_row = -1};
    struct job_rate sorted[RATES_KEPT];
    const struct model_rates *found = find(rates, model);
    if (found == NULL || found->n == 0) return pace;
    memcpy(sorted, found->last, found->n * sizeof sorted[0]);
    qsort(sorted, found->n, sizeof sorted[0], compare_rates);
    pace.p50_rows_s = weighted(sorted, found->n, 0.5);
    pace.p10_rows_s = weighted(sorted, found->n, 0.1);
    pace.usd_row = found->last[found->n - 1].usd_row; /* prices change: the last one's */
    return pace;
}

/* --- the file ----------------------------------------------------------------------------------- */

static tidemill_error *read_model(struct rates *rates, const char *model, yyjson_val *list)
{
    yyjson_val *item;
    yyjson_arr_iter items;
    yyjson_arr_iter_init(list, &items);
    if (strlen(model) >= STORE_NAME_BYTES) return NULL;
    while ((item = yyjson_arr_iter_next(&items)) != NULL) {
        struct job_rate rate = {
            .rows_s = yyjson_get_num(yyjson_arr_get(item, 0)),
            .usd_row = yyjson_get_num(yyjson_arr_get(item, 1)),
            .records = yyjson_get_uint(yyjson_arr_get(item, 2)),
        };
        TRY(rates_add(rates, model, &rate));
    }
    return NULL;
}

static tidemill_error *read_all(struct rates *rates, const char *text, size_t size)
{
    yyjson_doc *doc = yyjson_read(text, size, 0);
    yyjson_obj_iter models;
    tidemill_error *error = NULL;
    if (doc == NULL || !yyjson_obj_iter_init(yyjson_doc_get_root(doc), &models)) {
        yyjson_doc_free(doc);
        return error_new(ERROR_CORRUPT, "it is no JSON object");
    }
    for (yyjson_val *key; error == NULL && (key = yyjson_obj_iter_next(&models)) != NULL;)
        error = read_model(rates, yyjson_get_str(key), yyjson_obj_iter_get_val(key));
    yyjson_doc_free(doc);
    return error;
}

void rates_load(const struct io *io, const char *path, struct rates *ret)
{
    char *text = NULL;
    size_t size;
    *ret = (struct rates){0};
    if (!io_exists(io, path)) return;
    tidemill_error *error = io_read_file(io, path, FILE_BYTES_MAX, &text, &size);
    if (error == NULL) error = read_all(ret, text, size);
    if (error != NULL)
        log_event(LOG_WARNING, "%s is left out, forecasts begin anew: %s", path,
                  error_message(error));
    error_free(error);
    free(text);
}

static void write_model(const struct model_rates *model, struct buffer *out)
{
    format_json_string(out, model->model, strlen(model->model));
    buffer_text(out, ":[");
    for (size_t i = 0; i < model->n; i++)
        buffer_printf(out, "%s[%.9g,%.9g,%" PRIu64 "]", i > 0 ? "," : "", model->last[i].rows_s,
                      model->last[i].usd_row, model->last[i].records);
    buffer_byte(out, ']');
}

static tidemill_error *write_file(const struct io *io, const char *path, const struct buffer *text)
{
    int fd;
    TRY(io_open(io, path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd));
    tidemill_error *error = io_write_all(io, fd, path, text->data, text->size);
    if (error == NULL && io->fsync(io->context, fd) != 0)
        error = error_new(ERROR_IO, "cannot sync %s", path);
    io_close(io, fd);
    return error;
}

tidemill_error *rates_save(const struct io *io, const char *path, const struct rates *rates)
{
    struct buffer text = {0};
    char *beside;
    if (asprintf(&beside, "%s.new", path) < 0) return error_memory();
    buffer_byte(&text, '{');
    for (size_t i = 0; i < rates->n; i++) {
        if (i > 0) buffer_byte(&text, ',');
        write_model(&rates->models[i], &text);
    }
    buffer_text(&text, "}\n");
    tidemill_error *error = text.is_failed ? error_memory() : write_file(io, beside, &text);
    if (error == NULL) error = io_publish(io, beside, path);
    buffer_free(&text);
    free(beside);
    return error;
}
