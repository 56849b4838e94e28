/* SPDX-License-Identifier: Apache-2.0 */
/* check.c - tidemill check: reads tidemill.yaml as `serve` would, and says what it found. */
#include "cli/cli.h"

#include "io/io.h"
#include "server/server.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static void print_help(void)
{
    puts("Usage: tidemill check [FILE]\n"
         "Read the configuration of `tidemill serve` (tidemill.yaml by default), and show its "
         "models and\n"
         "queues, when each window closes next, and in which hours its jobs run. Nothing is "
         "started,\n"
         "loaded or changed. A mistake is told with its line; the exit status is 2 then.\n\n"
         "  -h, --help    show this help");
}

static tidemill_error *parse(int argc, char **argv, const char **ret_path, bool *ret_wants_help)
{
    bool has_options = true;
    *ret_path = NULL;
    *ret_wants_help = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        bool is_option = has_options && word[0] == '-' && word[1] != '\0';
        if (is_option && strcmp(word, "--") == 0)
            has_options = false;
        else if (is_option && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0))
            *ret_wants_help = true;
        else if (is_option)
            return error_new(ERROR_USAGE, "unknown option '%s'; 'tidemill check --help'", word);
        else if (*ret_path != NULL)
            return error_new(ERROR_USAGE, "one file at a time, not also '%s'", word);
        else
            *ret_path = word;
    }
    if (*ret_path == NULL) *ret_path = "tidemill.yaml";
    return NULL;
}

static tidemill_error *check(const char *path)
{
    struct server_config *config;
    struct buffer out = {0};
    TRY(server_config_load(&io_local, path, &config));
    server_config_print(config, (int64_t)time(NULL) * 1000, &out);
    server_config_free(config);
    bool is_written =
        !out.is_failed && fwrite(out.data, 1, out.size, stdout) == out.size && fflush(stdout) == 0;
    tidemill_error *error = out.is_failed ? error_memory()
                            : is_written  ? NULL
                                         : error_new(ERROR_IO, "standard output cannot be written");
    buffer_free(&out);
    return error;
}

int cli_check(int argc, char **argv)
{
    const char *path;
    bool wants_help;
    tidemill_error *error = parse(argc, argv, &path, &wants_help);
    if (error == NULL && wants_help) {
        print_help();
        return 0;
    }
    if (error == NULL) error = check(path);
    return error == NULL ? 0 : cli_fail(error);
}
