/* SPDX-License-Identifier: Apache-2.0 */
/* bench_table.c - what bench measured, for the terminal and as JSON. */
#include "cli/bench.h"

#include "format/encode.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PLOT_ROWS 13 /* a label every three */
#define PLOT_COLUMNS_MAX 160
#define LABEL_COLUMNS 9 /* left of the plot */
#define COLUMN_CELLS_MAX 8
#define CURVES_SHOWN 12

void bench_way_text(const struct bench_curve *curve, char *ret, size_t size)
{
    snprintf(ret, size, "%d instance%s x %d thread%s", curve->instances,
             curve->instances == 1 ? "" : "s", curve->threads, curve->threads == 1 ? "" : "s");
}

size_t bench_panel(const struct bench_result *result, size_t first)
{
    size_t n = 0;
    while (first + n < result->n_curves &&
           result->curves[first + n].length == result->curves[first].length)
        n++;
    return n;
}

double bench_highest(const struct bench_result *result, size_t first, size_t n)
{
    double highest = 0;
    for (size_t c = first; c < first + n; c++)
        for (size_t p = 0; p < result->curves[c].n_points; p++)
            highest = MAX(highest, result->curves[c].points[p].rate_rows_s);
    return highest;
}

/* A round number whose quarters are round as well. */
double bench_axis_top(double highest)
{
    static const double steps[] = {1, 1.2, 1.6, 2, 2.4, 3.2, 4, 5, 6, 8, 10};
    double unit = pow(10, floor(log10(MAX(highest, 1e-6))));
    for (size_t i = 0; i < COUNT_OF(steps); i++)
        if (steps[i] * unit >= highest) return steps[i] * unit;
    return 10 * unit;
}

/* 1234567 -> "1.23M" */
static void rate_text(double rate, char *ret, size_t size)
{
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}};
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        double value = rate / units[i].unit;
        if (value < 1 && i + 1 < COUNT_OF(units)) continue;
        int digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
        snprintf(ret, size, "%.*f%s", digits, value, units[i].name);
        return;
    }
}

/* The longest list of batch sizes in a panel: curves may end early. */
static const struct bench_curve *longest(const struct bench_result *result, size_t first, size_t n)
{
    const struct bench_curve *found = &result->curves[first];
    for (size_t c = first; c < first + n; c++)
        if (result->curves[c].n_points > found->n_points) found = &result->curves[c];
    return found;
}

/* --- table -------------------------------------------------------------------------------------- */

static void append_cell(const struct bench_curve *curve, size_t p, bool is_best, struct buffer *out)
{
    char text[32] = "-";
    if (p < curve->n_points && curve->points[p].rate_rows_s > 0)
        rate_text(curve->points[p].rate_rows_s, text, sizeof text);
    buffer_printf(out, "  %9s%c", text, is_best ? '*' : ' ');
}

static void append_table(const struct bench_result *result, size_t first, size_t n,
                         struct buffer *out)
{
    size_t best_curve = SIZE_MAX, best_point = 0;
    const struct bench_curve *rows = longest(result, first, n);
    bench_best(result, rows->length, &best_curve, &best_point);
    buffer_text(out, "\n   batch");
    for (size_t c = first; c < first + n; c++)
        buffer_printf(out, "  %6d x %d", result->curves[c].instances, result->curves[c].threads);
    buffer_text(out, "   rows/s, instances x threads\n");
    for (size_t p = 0; p < rows->n_points; p++) {
        buffer_printf(out, "%8u", rows->points[p].batch);
        for (size_t c = first; c < first + n; c++)
            append_cell(&result->curves[c], p, c == best_curve && p == best_point, out);
        buffer_byte(out, '\n');
    }
}

static void append_best(const struct bench_result *result, size_t first, struct buffer *out)
{
    size_t c, p;
    char way[64], rate[32], tokens[32];
    uint32_t length = result->curves[first].length;
    if (!bench_best(result, length, &c, &p)) {
        buffer_text(out, "no call was answered\n");
        return;
    }
    const struct bench_curve *curve = &result->curves[c];
    bench_way_text(curve, way, sizeof way);
    rate_text(curve->points[p].rate_rows_s, rate, sizeof rate);
    buffer_printf(out, "* chosen: %s, batch %u: %s rows/s", way, curve->points[p].batch, rate);
    if (result->is_dynamic) {
        rate_text(curve->points[p].rate_rows_s * length, tokens, sizeof tokens);
        buffer_printf(out, ", %s tokens/s, %u tokens a call", tokens,
                      curve->points[p].batch * length);
    }
    buffer_byte(out, '\n');
}

/* --- plot --------------------------------------------------------------------------------------- */

static const char *mark_of(size_t curve, bool is_unicode)
{
    static const char *const unicode[] = {"●", "○", "▲", "△", "■", "□",
                                          "◆", "◇", "✚", "✕", "★", "☆"};
    static const char *const ascii[] = {"o", "x", "+", "#", "@", "%", "&", "=", "a", "b", "c", "d"};
    return is_unicode ? unicode[curve % CURVES_SHOWN] : ascii[curve % CURVES_SHOWN];
}

struct plot {
    unsigned char cells[PLOT_ROWS][PLOT_COLUMNS_MAX]; /* 0, or 1 + curve */
    size_t n_columns, cell_columns;
    double top;
};

static void fill_plot(const struct bench_result *result, size_t first, size_t n, int width,
                      struct plot *plot)
{
    size_t n_points = longest(result, first, n)->n_points;
    size_t room = (size_t)MIN(MAX(width - LABEL_COLUMNS - 1, 1), PLOT_COLUMNS_MAX);
    *plot = (struct plot){.top = bench_axis_top(bench_highest(result, first, n))};
    plot->cell_columns =
        MIN(MAX(room / MAX(n_points, (size_t)1), (size_t)1), (size_t)COLUMN_CELLS_MAX);
    plot->n_columns = MIN(plot->cell_columns * n_points, room);
    for (size_t c = 0; c < n; c++) {
        const struct bench_curve *curve = &result->curves[first + c];
        for (size_t p = 0; p < curve->n_points; p++) {
            double share = curve->points[p].rate_rows_s / plot->top;
            /* ways side by side where there is room, so that none hides another */
            size_t shift = plot->cell_columns > n ? c : 0;
            size_t column = p * plot->cell_columns + shift;
            if (share <= 0 || column >= plot->n_columns) continue;
            size_t row = (size_t)lround((1 - MIN(share, 1.0)) * (PLOT_ROWS - 1));
            plot->cells[row][column] = (unsigned char)(1 + c);
        }
    }
}

static void append_axis(const struct bench_curve *curve, const struct plot *plot, bool is_unicode,
                        struct buffer *out)
{
    char label[16];
    buffer_printf(out, "%*s%s", LABEL_COLUMNS - 1, "0", is_unicode ? "└" : "+");
    for (size_t i = 0; i < plot->n_columns; i++) buffer_text(out, is_unicode ? "─" : "-");
    buffer_printf(out, "\n%*s", LABEL_COLUMNS, "");
    for (size_t p = 0, column = 0; p < curve->n_points; p++) {
        size_t place = p * plot->cell_columns;
        int length = snprintf(label, sizeof label, "%u", curve->points[p].batch);
        if (place < column || place + (size_t)length > plot->n_columns) continue;
        buffer_printf(out, "%*s%s", (int)(place - column), "", label);
        column = place + (size_t)length + 1;
        buffer_byte(out, ' ');
    }
    buffer_text(out, " batch\n");
}

static void append_plot(const struct bench_result *result, size_t first, size_t n, int width,
                        bool is_unicode, struct buffer *out)
{
    struct plot plot;
    char label[32], way[64];
    if (width < LABEL_COLUMNS + 12 || longest(result, first, n)->n_points < 2) return;
    fill_plot(result, first, n, width, &plot);
    buffer_byte(out, '\n');
    for (size_t row = 0; row < PLOT_ROWS; row++) {
        rate_text(plot.top * (double)(PLOT_ROWS - 1 - row) / (PLOT_ROWS - 1), label, sizeof label);
        if (row % 3 != 0 || row == PLOT_ROWS - 1) label[0] = '\0';

        buffer_printf(out, "%*s", LABEL_COLUMNS - 1, label);
        buffer_text(out, is_unicode ? "│" : "|");
        for (size_t i = 0; i < plot.n_columns; i++)
            buffer_text(
                out, plot.cells[row][i] == 0 ? " " : mark_of(plot.cells[row][i] - 1u, is_unicode));
        buffer_byte(out, '\n');
    }
    append_axis(longest(result, first, n), &plot, is_unicode, out);
    for (size_t c = 0; c < n; c++) {
        bench_way_text(&result->curves[first + c], way, sizeof way);
        buffer_printf(out, "%s%s %s", c == 0 ? "         " : "   ", mark_of(c, is_unicode), way);
    }
    buffer_byte(out, '\n');
}

void bench_table(const struct bench_result *result, const char *model, int width, bool is_unicode,
                 struct buffer *out)
{
    buffer_printf(out, "%s: %s on %s, %d core%s%s\n", model, result->runtime, result->cpu,
                  result->cores, result->cores == 1 ? "" : "s",
                  result->is_random ? "; the records are random numbers" : "");
    for (size_t first = 0, n; first < result->n_curves; first += n) {
        n = bench_panel(result, first);
        if (result->is_dynamic)
            buffer_printf(out, "\nrecords of length %u", result->curves[first].length);
        append_table(result, first, n, out);
        append_best(result, first, out);
        append_plot(result, first, n, width, is_unicode, out);
    }
}

/* --- JSON --------------------------------------------------------------------------------------- */

static void append_curve(const struct bench_result *result, size_t c, struct buffer *out)
{
    size_t best_curve = SIZE_MAX, best_point = 0;
    const struct bench_curve *curve = &result->curves[c];
    bench_best(result, curve->length, &best_curve, &best_point);
    buffer_printf(out, "{\"instances\":%d,\"threads\":%d,\"length\":%u,\"points\":[",
                  curve->instances, curve->threads, curve->length);
    for (size_t p = 0; p < curve->n_points; p++)
        buffer_printf(out,
                      "%s{\"batch\":%u,\"rows_per_s\":%.6g,\"tokens_per_s\":%.6g,\"chosen\":%s}",
                      p == 0 ? "" : ",", curve->points[p].batch, curve->points[p].rate_rows_s,
                      result->is_dynamic ? curve->points[p].rate_rows_s * curve->length : 0,
                      c == best_curve && p == best_point ? "true" : "false");
    buffer_text(out, "]}");
}

void bench_json(const struct bench_result *result, const char *model, struct buffer *out)
{
    buffer_text(out, "{\"model\":");
    format_json_string(out, model, strlen(model));
    buffer_text(out, ",\"runtime\":");
    format_json_string(out, result->runtime, strlen(result->runtime));
    buffer_text(out, ",\"cpu\":");
    format_json_string(out, result->cpu, strlen(result->cpu));
    buffer_printf(out, ",\"cores\":%d,\"random_records\":%s,\"lengths_vary\":%s,\"curves\":[",
                  result->cores, result->is_random ? "true" : "false",
                  result->is_dynamic ? "true" : "false");
    for (size_t c = 0; c < result->n_curves; c++) {
        if (c > 0) buffer_byte(out, ',');
        append_curve(result, c, out);
    }
    buffer_text(out, "]}\n");
}
