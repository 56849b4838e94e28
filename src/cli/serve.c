/* SPDX-License-Identifier: Apache-2.0 */
/* serve.c - tidemill serve: the server, until a signal ends it. */
#include "cli/cli.h"
#include "server/server.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_DEFAULT "tidemill.yaml"

struct arguments {
    struct server_options options;
    enum log_format format;
    bool wants_help;
};

static void print_help(void)
{
    puts(
        "Usage: tidemill serve [CONFIG.yaml] [OPTION]...\n"
        "Serve models: collect requests over windows, run them as jobs, serve the results; speak\n"
        "OpenAI's Files and Batches, KServe, TF Serving, TorchServe and Redis. CONFIG.yaml says "
        "what\n"
        "is served (" CONFIG_DEFAULT
        " by default; 'tidemill check' reads it and starts nothing).\n\n"
        "      --listen=ADDRESS     HOST:PORT or unix:PATH instead of the file's; repeatable\n"
        "      --data=DIR           where everything is kept, instead of the file's\n"
        "      --log-format=FORMAT  text or json [default: text]\n"
        "  -h, --help               show this help\n\n"
        "SIGTERM and SIGINT checkpoint what runs and end the server: started again, it goes on. A\n"
        "second one ends it at once, which is as safe as a kill. SIGHUP reads the file again.\n\n"
        "Exit status: 0 stopped; 2 the configuration or the command is wrong; 3 the store or an\n"
        "address cannot be used.");
}

static tidemill_error *add_listen(struct arguments *arguments, const char *address)
{
    struct string_list *list = &arguments->options.listen;
    char **items = realloc(list->items, (list->n + 1) * sizeof *items);
    if (items == NULL) return error_memory();
    list->items = items;
    list->items[list->n] = strdup(address);
    if (list->items[list->n] == NULL) return error_memory();
    list->n++;
    return NULL;
}

static tidemill_error *set_format(struct arguments *arguments, const char *name)
{
    if (strcmp(name, "json") == 0)
        arguments->format = LOG_FORMAT_JSON;
    else if (strcmp(name, "text") != 0)
        return error_new(ERROR_USAGE, "--log-format: '%s' is neither text nor json", name);
    return NULL;
}

/* "--name=VALUE" or "--name VALUE"; NULL: it is another option. */
static const char *value_of(const char *name, int argc, char **argv, int *i)
{
    size_t size = strlen(name);
    if (strncmp(argv[*i], name, size) != 0) return NULL;
    if (argv[*i][size] == '=') return argv[*i] + size + 1;
    return argv[*i][size] == '\0' && *i + 1 < argc ? argv[++*i] : NULL;
}

static tidemill_error *parse(int argc, char **argv, struct arguments *ret)
{
    *ret = (struct arguments){.options = {.config_path = NULL}};
    for (int i = 1; i < argc; i++) {
        const char *value;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            ret->wants_help = true;
        else if ((value = value_of("--listen", argc, argv, &i)) != NULL)
            TRY(add_listen(ret, value));
        else if ((value = value_of("--data", argc, argv, &i)) != NULL)
            ret->options.data = value;
        else if ((value = value_of("--log-format", argc, argv, &i)) != NULL)
            TRY(set_format(ret, value));
        else if (argv[i][0] == '-' && argv[i][1] != '\0')
            return error_new(
                ERROR_USAGE,
                "unknown option '%s', or its value is missing; 'tidemill serve --help' "
                "lists them",
                argv[i]);
        else if (ret->options.config_path != NULL)
            return error_new(ERROR_USAGE, "one configuration is enough: '%s' and '%s'",
                             ret->options.config_path, argv[i]);
        else
            ret->options.config_path = argv[i];
    }
    if (ret->options.config_path == NULL) ret->options.config_path = CONFIG_DEFAULT;
    return NULL;
}

static void free_arguments(struct arguments *arguments)
{
    struct string_list *list = &arguments->options.listen;
    for (size_t i = 0; i < list->n; i++) free(list->items[i]);
    free(list->items);
}

static void tell_addresses(const struct server *server)
{
    const char *const *addresses;
    size_t n = server_addresses(server, &addresses);
    for (size_t i = 0; i < n; i++) log_event(LOG_INFO, "listening on %s", addresses[i]);
}

static void reload(struct server *server)
{
    tidemill_error *error = server_reload(server);
    if (error != NULL)
        log_event(LOG_ERROR, "not reloaded, all is as it was: %s", error_message(error));
    else
        log_event(LOG_INFO, "reloaded");
    error_free(error);
}

/* The stop itself may take a while: whoever asks again does not want to wait. */
static void leave_at_once(int number)
{
    (void)number;
    _exit(error_code_exit_status(ERROR_INTERRUPTED));
}

static void serve_until_stopped(struct server *server, const sigset_t *signals)
{
    int number = 0;
    while (sigwait(signals, &number) == 0 && number == SIGHUP) reload(server);
    log_event(LOG_INFO, "stopping: %s", number == SIGINT ? "SIGINT" : "SIGTERM");
    struct sigaction action = {.sa_handler = leave_at_once};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    pthread_sigmask(SIG_UNBLOCK, signals, NULL);
    server_stop(server);
    log_event(LOG_INFO, "stopped");
}

int cli_serve(int argc, char **argv)
{
    struct arguments arguments;
    struct server *server = NULL;
    sigset_t signals;
    tidemill_error *error = parse(argc, argv, &arguments);
    if (error == NULL && arguments.wants_help) {
        print_help();
        free_arguments(&arguments);
        return 0;
    }
    sigemptyset(
        &signals); /* blocked before there is any thread, so that this one alone takes them */
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (error == NULL) {
        log_configure(LOG_INFO, arguments.format);
        error = server_start(&io_local, &arguments.options, &server);
    }
    if (error == NULL) {
        tell_addresses(server);
        serve_until_stopped(server, &signals);
    }
    free_arguments(&arguments);
    return error != NULL ? cli_fail(error) : 0;
}
