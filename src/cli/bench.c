/* SPDX-License-Identifier: Apache-2.0 */
/* bench.c - tidemill bench: how fast a model is here, by batch size and ways of using the cores. */
#include "cli/bench.h"

#include "cli/cli.h"
#include "io/io.h"

#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define POINT_S 0.3
#define BATCH_MAX 4096
#define LENGTH_MAX 65536
#define WIDTH_USUAL 80

struct bench_flags {
    const char *batches, *lengths, *plot, *seconds;
    bool is_json;
};

static int print_help(void)
{
    puts("Usage: tidemill bench MODEL [--input=FILE] [OPTION]...\n"
         "Measure a model on this machine: rows/s by batch size, for each way of using the cores\n"
         "(instances x threads), all instances busy at once. Without --input the records are\n"
         "random numbers made from the model's signature.\n\n"
         "      --batch-sizes=N,...   sizes to measure [1, 2, 4, ... 4096]\n"
         "      --lengths=N,...       lengths of random records, where records vary [16,64,256]\n"
         "      --seconds=S           time for one size [0.3]\n"
         "      --json                print one JSON object\n"
         "      --plot=FILE.svg       write the curves as a picture\n"
         "      --instances=N, --threads=N   measure this way only\n\n"
         "Also --input, --input-format, --map, --pad, --provider, --onnxruntime, --output-name,\n"
         "--batch-dimension, --precision, --timeout, --isolate, --memory and --max-record-bytes of "
         "'tidemill "
         "run'.");
    return 0;
}

/* Takes bench's own flags out of argv; what is left is for the job table. */
static tidemill_error *take_flags(int *argc, char **argv, struct bench_flags *ret)
{
    struct {
        const char *name;
        const char **value;
    } const flags[] = {{"--batch-sizes", &ret->batches},
                       {"--lengths", &ret->lengths},
                       {"--plot", &ret->plot},
                       {"--seconds", &ret->seconds}};
    int n = 1;
    for (int i = 1; i < *argc; i++) {
        bool is_taken = strcmp(argv[i], "--json") == 0;
        ret->is_json |= is_taken;
        for (size_t f = 0; f < COUNT_OF(flags) && !is_taken; f++) {
            size_t length = strlen(flags[f].name);
            if (strncmp(argv[i], flags[f].name, length) != 0) continue;
            if (argv[i][length] != '=' && argv[i][length] != '\0') continue;
            is_taken = true;
            *flags[f].value = argv[i][length] == '=' ? argv[i] + length + 1 : argv[++i];
            if (i >= *argc) return error_new(ERROR_USAGE, "%s wants a value", flags[f].name);
        }
        if (!is_taken) argv[n++] = argv[i];
    }
    *argc = n;
    return NULL;
}

/* "1,2,4" in growing order, without doubles. */
static tidemill_error *parse_numbers(const char *flag, const char *text, uint32_t max,
                                     uint32_t *numbers, size_t numbers_max, size_t *ret_n)
{
    const char *p = text;
    while (*p != '\0') {
        char *end;
        unsigned long number = strtoul(p, &end, 10);
        bool is_number = end != p && (*end == ',' || *end == '\0') && number >= 1 && number <= max;
        if (!is_number || *p == '-' || *p == '+' || *p == ' ')
            return error_new(ERROR_USAGE,
                             "%s wants whole numbers from 1 to %u, such as 1,16,64; not '%s'", flag,
                             max, text);
        if (*ret_n == numbers_max)
            return error_new(ERROR_USAGE, "%s takes at most %zu numbers", flag, numbers_max);
        if (*ret_n > 0 && number <= numbers[*ret_n - 1])
            return error_new(ERROR_USAGE, "%s wants growing numbers, not '%s'", flag, text);
        numbers[(*ret_n)++] = (uint32_t)number;
        p = *end == ',' ? end + 1 : end;
    }
    return NULL;
}

static tidemill_error *read_request(const struct bench_flags *flags, struct bench_request *ret)
{
    char *end = NULL;
    ret->seconds = flags->seconds == NULL ? POINT_S : strtod(flags->seconds, &end);
    if ((end != NULL && *end != '\0') || !(ret->seconds > 0 && ret->seconds <= 3600))
        return error_new(ERROR_USAGE, "--seconds wants a number above 0, not '%s'", flags->seconds);
    if (flags->batches != NULL)
        TRY(parse_numbers("--batch-sizes", flags->batches, BATCH_MAX, ret->batches,
                          BENCH_POINTS_MAX, &ret->n_batches));
    if (flags->lengths != NULL)
        TRY(parse_numbers("--lengths", flags->lengths, LENGTH_MAX, ret->lengths, BENCH_LENGTHS_MAX,
                          &ret->n_lengths));
    if (flags->lengths != NULL && ret->spec->inputs.n > 0)
        return error_new(ERROR_USAGE, "--lengths is for random records; those of --input have "
                                      "their own");
    return NULL;
}

static void tell(const char *what)
{
    if (isatty(STDERR_FILENO) != 0) log_status(what);
}

static tidemill_error *write_plot(const struct bench_result *result, const char *model,
                                  const char *path)
{
    int fd;
    struct buffer svg = {0};
    bench_svg(result, model, &svg);
    tidemill_error *error = svg.is_failed ? error_memory() : NULL;
    if (error == NULL) error = io_open(&io_local, path, O_WRONLY | O_CREAT | O_TRUNC, 0666, &fd);
    if (error == NULL) {
        error = io_write_all(&io_local, fd, path, svg.data, svg.size);
        io_close(&io_local, fd);
    }
    buffer_free(&svg);
    return error;
}

static int terminal_width(void)
{
    struct winsize window = {0};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0) return window.ws_col;
    return WIDTH_USUAL;
}

static tidemill_error *report(const struct bench_result *result, const char *model,
                              const struct bench_flags *flags)
{
    struct buffer text = {0};
    setlocale(LC_CTYPE, "");
    bool is_unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    if (flags->is_json)
        bench_json(result, model, &text);
    else
        bench_table(result, model, terminal_width(), is_unicode, &text);
    tidemill_error *error = text.is_failed ? error_memory() : NULL;
    if (error == NULL) fwrite(text.data, 1, text.size, stdout);
    buffer_free(&text);
    if (error == NULL && flags->plot != NULL) error = write_plot(result, model, flags->plot);
    return error;
}

static tidemill_error *bench(const struct job_spec *spec, const struct bench_flags *flags)
{
    struct job_stop stop;
    struct bench_request request = {.spec = spec};
    TRY(read_request(flags, &request));
    struct bench_result *result = calloc(1, sizeof *result);
    if (result == NULL) return error_memory();
    tidemill_error *error = job_stop_init(&stop);
    if (error == NULL) {
        error = bench_run(&request, &io_local, &stop, tell, result);
        log_status("");
        job_stop_fini(&stop);
    }
    if (error == NULL) error = report(result, spec->model, flags);
    free(result);
    return error;
}

int cli_bench(int argc, char **argv)
{
    struct job_spec spec = {0};
    struct bench_flags flags = {0};
    const char *words[1];
    size_t n_words = 0;
    bool wants_help = false;
    tidemill_error *error = take_flags(&argc, argv, &flags);
    if (error != NULL) return cli_fail(error);
    error = cli_parse_job(argc, argv, &spec, words, COUNT_OF(words), &n_words, &wants_help);
    if (error == NULL && wants_help) {
        job_spec_free(&spec);
        return print_help();
    }
    if (error == NULL && n_words == 1)
        error = option_set(&spec, option_find("model"), words[0], "MODEL");
    if (error == NULL && spec.model == NULL)
        error = error_new(ERROR_USAGE, "name a model: tidemill bench MODEL");
    if (error == NULL) error = bench(&spec, &flags);
    job_spec_free(&spec);
    return error == NULL ? 0 : cli_fail(error);
}
