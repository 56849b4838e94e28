/* SPDX-License-Identifier: Apache-2.0 */
/* progress.c - a bar on a terminal, a plain line every 10 seconds elsewhere, nothing when quiet. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PLAIN_LINE_S 10
#define BAR_CELLS 20

void progress_view_init(struct progress_view *view, const struct job_spec *spec)
{
    *view = (struct progress_view){
        .is_json = spec->log_format == LOG_FORMAT_JSON,
        .is_quiet = spec->is_quiet,
    };
    view->is_terminal = !view->is_json && isatty(STDERR_FILENO) != 0;
}

/* 3725 -> "1h02m", 75 -> "1m15s", 9 -> "9s" */
static void append_time(struct buffer *out, double seconds)
{
    unsigned long s = (unsigned long)(seconds + 0.5);
    if (s >= 3600)
        buffer_printf(out, "%luh%02lum", s / 3600, s / 60 % 60);
    else if (s >= 60)
        buffer_printf(out, "%lum%02lus", s / 60, s % 60);
    else
        buffer_printf(out, "%lus", s);
}

static void append_bar(struct buffer *out, double share)
{
    int full = (int)(share * BAR_CELLS + 0.5);
    buffer_byte(out, '[');
    for (int i = 0; i < BAR_CELLS; i++) buffer_byte(out, i < full ? '#' : '.');
    buffer_printf(out, "] %3.0f%%  ", share * 100);
}

static void append_numbers(struct buffer *out, const struct job_progress *progress)
{
    buffer_printf(out, "%llu rows, %.0f rows/s, ", (unsigned long long)progress->records_done,
                  progress->rate_rows_s);
    if (progress->counts.tokens.in + progress->counts.tokens.out > 0)
        buffer_printf(out, "%.0f tokens/s, ", progress->rate_tokens_s);
    if (progress->batch > 0) buffer_printf(out, "batch %u, ", progress->batch);
    buffer_printf(out, "%llu errors", (unsigned long long)progress->counts.failed);
    if (progress->left_s >= 0) {
        buffer_text(out, ", ");
        append_time(out, progress->left_s);
        buffer_text(out, " left");
    }
    if (progress->cost_usd >= 0) buffer_printf(out, ", %.4f USD", progress->cost_usd);
}

static void show_status(const struct job_progress *progress)
{
    struct buffer line = {0};
    struct winsize window = {.ws_col = 80};
    ioctl(STDERR_FILENO, TIOCGWINSZ, &window);
    if (progress->share_done >= 0 && window.ws_col >= 100) append_bar(&line, progress->share_done);
    append_numbers(&line, progress);
    if (window.ws_col > 1 && line.size >= window.ws_col) line.size = window.ws_col - 1u;
    buffer_byte(&line, '\0');
    if (!line.is_failed) log_status(line.data);
    buffer_free(&line);
}

static void show_line(struct progress_view *view, const struct job_progress *progress)
{
    struct buffer line = {0};
    if (progress->elapsed_s - view->told_s < PLAIN_LINE_S) return;
    view->told_s = progress->elapsed_s;
    append_numbers(&line, progress);
    if (progress->share_done >= 0)
        buffer_printf(&line, ", %.0f%% done", progress->share_done * 100);
    buffer_byte(&line, '\0');
    if (!line.is_failed) log_event(LOG_INFO, "%s", line.data);
    buffer_free(&line);
}

void progress_view_show(void *context, const struct job_progress *progress)
{
    struct progress_view *view = context;
    if (view->is_quiet) return;
    if (view->is_terminal)
        show_status(progress);
    else
        show_line(view, progress);
}

void progress_view_end(struct progress_view *view)
{
    if (view->is_terminal) log_status("");
}
