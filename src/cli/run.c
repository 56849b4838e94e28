/* SPDX-License-Identifier: Apache-2.0 */
/* run.c - tidemill run: one job, here and now. */
#include "cli/cli.h"

#include "io/io.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct job_stop stop;

/* The first signal asks for a checkpoint; the second one leaves at once, which is as safe as a kill. */
static void on_signal(int number)
{
    (void)number;
    if (stop.is_asked) _exit(error_code_exit_status(ERROR_INTERRUPTED));
    job_stop_ask(&stop);
}

static void catch_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        struct sigaction old;
        sigaction(numbers[i], NULL, &old);
        if (old.sa_handler != SIG_IGN) sigaction(numbers[i], &action, NULL); /* nohup stays */
    }
}

int cli_fail(tidemill_error *error)
{
    int status = error_code_exit_status(error_code_of(error));
    log_event(error_code_of(error) == ERROR_INTERRUPTED ? LOG_INFO : LOG_ERROR, "%s",
              error_message(error));
    error_free(error);
    return status;
}

static int print_help(void)
{
    struct buffer text = {0};
    buffer_text(&text, "Usage: tidemill run [JOB.yaml] --model=FILE --input=FILE --output=FILE "
                       "[OPTION]...\n"
                       "Take records through a model, in order, surviving anything; the same "
                       "command resumes.\nA job file has the same keys; flags override it.\n");
    cli_print_options(&text);
    buffer_text(&text,
                "\nExit status: 0 all records answered; 1 some are in the error file; 2 the "
                "request was wrong;\n3 nothing could be done; 75 stopped at a checkpoint: run "
                "again to go on.\n");
    fwrite(text.data, 1, text.size, stdout);
    buffer_free(&text);
    return 0;
}

static tidemill_error *parse(int argc, char **argv, struct job_spec *spec, bool *ret_wants_help)
{
    const char *words[1];
    size_t n_words;
    TRY(cli_parse_job(argc, argv, spec, words, COUNT_OF(words), &n_words, ret_wants_help));
    if (*ret_wants_help) return NULL;
    for (size_t i = 0; i < n_words; i++) {
        const char *ending = strrchr(words[i], '.');
        if (ending == NULL || (strcmp(ending, ".yaml") != 0 && strcmp(ending, ".yml") != 0))
            return error_new(ERROR_USAGE,
                             "'%s' is not a job file (.yaml); name records with --input", words[i]);
    }
    log_configure(spec->is_quiet ? LOG_WARNING : LOG_INFO, (enum log_format)spec->log_format);
    return job_spec_check(spec, &io_local);
}

static tidemill_error *write_summary(const char *path, const struct job_summary *summary)
{
    int fd;
    struct buffer json = {0};
    job_summary_json(summary, &json);
    tidemill_error *error = io_open(&io_local, path, O_WRONLY | O_CREAT | O_TRUNC, 0666, &fd);
    if (error == NULL) {
        error = io_write_all(&io_local, fd, path, json.data, json.size);
        io_close(&io_local, fd);
    }
    buffer_free(&json);
    return error;
}

static void tell_summary(const struct job_spec *spec, const struct job_summary *summary)
{
    struct buffer text = {0};
    if (spec->is_quiet) return;
    if (summary->was_complete) {
        log_event(LOG_INFO,
                  "%s is complete already: %llu records, %llu of them failed; --force runs the job "
                  "again",
                  spec->output, (unsigned long long)summary->counts.records,
                  (unsigned long long)summary->counts.failed);
        return;
    }
    if (log_is_json()) {
        job_summary_json(summary, &text);
        if (text.size > 0) text.size--;
        buffer_byte(&text, '\0');
        log_event(LOG_INFO, "%s", text.data);
    } else {
        job_summary_text(summary, &text);
        fwrite(text.data, 1, text.size, stderr);
    }
    buffer_free(&text);
}

/* The forecast is what the command is asked for: it goes to standard output. */
static tidemill_error *forecast(const struct job_spec *spec)
{
    struct job_forecast told;
    struct buffer text = {0};
    TRY(job_dry_run(spec, &io_local, &stop, &told));
    if (log_is_json())
        job_forecast_json(&told, &text);
    else
        job_forecast_text(&told, &text);
    fwrite(text.data, 1, text.size, stdout);
    buffer_free(&text);
    return NULL;
}

static int run_job(const struct job_spec *spec)
{
    struct job_summary summary;
    struct progress_view view;
    progress_view_init(&view, spec);
    struct job_observer observer = {.context = &view, .progress = progress_view_show};
    tidemill_error *error = spec->is_retry ? job_retry(spec, &io_local, &observer, &stop, &summary)
                                           : job_run(spec, &io_local, &observer, &stop, &summary);
    progress_view_end(&view);
    if (error == NULL || error_code_of(error) == ERROR_INTERRUPTED) tell_summary(spec, &summary);
    if (spec->summary != NULL && error == NULL) error = write_summary(spec->summary, &summary);
    return error != NULL ? cli_fail(error) : summary.counts.failed > 0 ? 1 : 0;
}

int cli_run(int argc, char **argv)
{
    struct job_spec spec;
    bool wants_help = false;
    tidemill_error *error = parse(argc, argv, &spec, &wants_help);
    if (error == NULL && wants_help) {
        job_spec_free(&spec);
        return print_help();
    }
    if (error == NULL) error = job_stop_init(&stop);
    if (error != NULL) {
        job_spec_free(&spec);
        return cli_fail(error);
    }
    catch_signals();
    if (spec.is_dry) error = forecast(&spec);
    int status = error != NULL ? cli_fail(error) : spec.is_dry ? 0 : run_job(&spec);
    job_spec_free(&spec);
    return status;
}
