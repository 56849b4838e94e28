/* SPDX-License-Identifier: Apache-2.0 */
/* bench_chart.c - what bench measured as SVG: panels below each other, batch sizes to the right on a
 * logarithmic axis, rows/s upwards. Colours are those of Okabe and Ito, told apart by the colour-blind. */
#include "cli/bench.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WIDTH 760
#define PANEL_HEIGHT 340
#define TITLE_HEIGHT 44
#define LEFT 74.0
#define RIGHT 540.0
#define TOP 34.0
#define BOTTOM 278.0
#define TICKS 4
#define X_LABELS_MAX 14

static const char *const colours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                      "#E69F00", "#56B4E9", "#000000"};

struct panel {
    const struct bench_result *result;
    size_t first, n;
    double x_low, x_high; /* log2 of the batch size */
    double y_top;
    double offset; /* of the panel from the picture's top */
};

static double x_of(const struct panel *panel, uint32_t batch)
{
    double span = MAX(panel->x_high - panel->x_low, 1e-9);
    return LEFT + (RIGHT - LEFT) * (log2(batch) - panel->x_low) / span;
}

static double y_of(const struct panel *panel, double rate)
{
    return panel->offset + BOTTOM - (BOTTOM - TOP) * rate / panel->y_top;
}

static void append_escaped(struct buffer *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '<')
            buffer_text(out, "&lt;");
        else if (*text == '&')
            buffer_text(out, "&amp;");
        else if ((unsigned char)*text >= ' ')
            buffer_byte(out, *text);
    }
}

static void append_text(struct buffer *out, double x, double y, const char *anchor,
                        const char *text)
{
    buffer_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    append_escaped(out, text);
    buffer_text(out, "</text>\n");
}

/* 2500000 -> "2.5M" */
static void tick_text(double value, char *ret, size_t size)
{
    if (value >= 1e6)
        snprintf(ret, size, "%.4gM", value / 1e6);
    else if (value >= 1e3)
        snprintf(ret, size, "%.4gk", value / 1e3);
    else
        snprintf(ret, size, "%.4g", value);
}

static void append_axes(const struct panel *panel, struct buffer *out)
{
    char label[32];
    for (int i = 0; i <= TICKS; i++) {
        double value = panel->y_top * i / TICKS, y = y_of(panel, value);
        buffer_printf(out,
                      "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n",
                      LEFT, y, RIGHT, y, i == 0 ? "#333" : "#ddd");
        tick_text(value, label, sizeof label);
        append_text(out, LEFT - 8, y + 4, "end", label);
    }
    const struct bench_curve *curve = &panel->result->curves[panel->first];
    for (size_t c = panel->first; c < panel->first + panel->n; c++)
        if (panel->result->curves[c].n_points > curve->n_points) curve = &panel->result->curves[c];
    size_t step = 1 + curve->n_points / X_LABELS_MAX;
    for (size_t p = 0; p < curve->n_points; p += step) {
        double x = x_of(panel, curve->points[p].batch);
        buffer_printf(out,
                      "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#333\"/>\n",
                      x, panel->offset + BOTTOM, x, panel->offset + BOTTOM + 5);
        snprintf(label, sizeof label, "%u", curve->points[p].batch);
        append_text(out, x, panel->offset + BOTTOM + 20, "middle", label);
    }
    append_text(out, (LEFT + RIGHT) / 2, panel->offset + BOTTOM + 42, "middle",
                "records in a call");
    double middle = panel->offset + (TOP + BOTTOM) / 2;
    buffer_printf(out,
                  "<text x=\"18\" y=\"%.1f\" text-anchor=\"middle\" transform=\"rotate(-90 18 "
                  "%.1f)\">rows/s</text>\n",
                  middle, middle);
}

static void append_curve(const struct panel *panel, size_t c, struct buffer *out)
{
    const struct bench_curve *curve = &panel->result->curves[panel->first + c];
    const char *colour = colours[c % COUNT_OF(colours)];
    char way[64];
    buffer_printf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"",
                  colour);
    for (size_t p = 0; p < curve->n_points; p++)
        if (curve->points[p].rate_rows_s > 0)
            buffer_printf(out, "%.1f,%.1f ", x_of(panel, curve->points[p].batch),
                          y_of(panel, curve->points[p].rate_rows_s));
    buffer_text(out, "\"/>\n");
    for (size_t p = 0; p < curve->n_points; p++)
        if (curve->points[p].rate_rows_s > 0)
            buffer_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n",
                          x_of(panel, curve->points[p].batch),
                          y_of(panel, curve->points[p].rate_rows_s), colour);
    double y = panel->offset + TOP + 10 + 20 * (double)c;
    buffer_printf(out,
                  "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
                  "stroke-width=\"2\"/>\n",
                  RIGHT + 16, y, RIGHT + 40, y, colour);
    bench_way_text(curve, way, sizeof way);
    append_text(out, RIGHT + 46, y + 4, "start", way);
}

static void append_chosen(const struct panel *panel, struct buffer *out)
{
    size_t c, p;
    char text[64], rate[32];
    if (!bench_best(panel->result, panel->result->curves[panel->first].length, &c, &p)) return;
    const struct bench_point *point = &panel->result->curves[c].points[p];
    double x = x_of(panel, point->batch), y = y_of(panel, point->rate_rows_s);
    buffer_printf(out,
                  "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"7\" fill=\"none\" stroke=\"#333\" "
                  "stroke-width=\"1.5\"/>\n",
                  x, y);
    double legend_y = panel->offset + TOP + 18 + 20 * (double)panel->n;
    buffer_printf(out,
                  "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"7\" fill=\"none\" stroke=\"#333\" "
                  "stroke-width=\"1.5\"/>\n",
                  RIGHT + 28, legend_y);
    snprintf(text, sizeof text, "chosen: batch %u", point->batch);
    append_text(out, RIGHT + 46, legend_y + 4, "start", text);
    tick_text(point->rate_rows_s, rate, sizeof rate);
    snprintf(text, sizeof text, "%s rows/s", rate);
    append_text(out, RIGHT + 46, legend_y + 22, "start", text);
}

static void append_panel(struct panel *panel, struct buffer *out)
{
    const struct bench_result *result = panel->result;
    char title[64];
    panel->x_low = INFINITY;
    panel->x_high = -INFINITY;
    for (size_t c = panel->first; c < panel->first + panel->n; c++) {
        const struct bench_curve *curve = &result->curves[c];
        for (size_t p = 0; p < curve->n_points; p++) {
            panel->x_low = MIN(panel->x_low, log2(curve->points[p].batch));
            panel->x_high = MAX(panel->x_high, log2(curve->points[p].batch));
        }
    }
    panel->y_top = bench_axis_top(bench_highest(result, panel->first, panel->n));
    if (result->is_dynamic) {
        snprintf(title, sizeof title, "records of length %u", result->curves[panel->first].length);
        append_text(out, (LEFT + RIGHT) / 2, panel->offset + TOP - 12, "middle", title);
    }
    append_axes(panel, out);
    for (size_t c = 0; c < panel->n; c++) append_curve(panel, c, out);
    append_chosen(panel, out);
}

void bench_svg(const struct bench_result *result, const char *model, struct buffer *out)
{
    size_t n_panels = 0;
    const char *slash = strrchr(model, '/');
    for (size_t first = 0; first < result->n_curves; first += bench_panel(result, first))
        n_panels++;
    size_t height = TITLE_HEIGHT + n_panels * PANEL_HEIGHT;
    buffer_printf(out,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%zu\" "
                  "viewBox=\"0 0 %d %zu\" font-family=\"sans-serif\" font-size=\"12\" "
                  "fill=\"#333\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
                  WIDTH, height, WIDTH, height);
    buffer_printf(out, "<text x=\"%.1f\" y=\"22\" font-size=\"15\">", LEFT);
    append_escaped(out, slash == NULL ? model : slash + 1);
    buffer_printf(out, "</text>\n<text x=\"%.1f\" y=\"40\">", LEFT);
    append_escaped(out, result->runtime);
    buffer_text(out, ", ");
    append_escaped(out, result->cpu);
    buffer_printf(out, ", %d cores%s</text>\n", result->cores,
                  result->is_random ? ", random records" : "");
    struct panel panel = {.result = result, .offset = TITLE_HEIGHT};
    for (; panel.first < result->n_curves; panel.first += panel.n) {
        panel.n = bench_panel(result, panel.first);
        append_panel(&panel, out);
        panel.offset += PANEL_HEIGHT;
    }
    buffer_text(out, "</svg>\n");
}
