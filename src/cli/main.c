/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the tidemill command: finds the subcommand and hands over. */
#include "cli/cli.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help; /* NULL: not for people */
} commands[] = {
    {"run", cli_run, "run one job: records through a model into a file; resumes after any end"},
    {"serve", cli_serve,
     "serve models: queues with windows, OpenAI batches, KServe, results from memory"},
    {"key", cli_key, "make, list and revoke a server's API keys"},
    {"inspect", cli_inspect, "show a model's inputs and outputs, with a sample record"},
    {"bench", cli_bench, "measure a model here: rows/s by batch size and use of the cores"},
    {"cache", cli_cache, "look into, cut or empty a cache of results"},
    {"check", cli_check, "read tidemill.yaml, say what is wrong, or what is served and when"},
    {"submit", cli_submit, "send a file of requests to a server: a batch, or records of a queue"},
    {"status", cli_status, "show a batch of a server"},
    {"results", cli_results, "write a batch's answers, also while it runs"},
    {"get", cli_get, "print what a queue answered under a key"},
    {"cancel", cli_cancel, "cancel a batch"},
    {"ls", cli_ls, "list the batches of a server"},
    {"prices", cli_prices, "list the machine prices that --price knows"},
    {"host", host_main, NULL},
    {"docs", cli_docs, NULL},
};

static void print_help(FILE *stream)
{
    fputs("Usage: tidemill COMMAND [OPTION]...\n"
          "Batch inference with cost as a first-class constraint.\n\nCommands:\n",
          stream);
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (commands[i].help != NULL)
            fprintf(stream, "  %-10s %s\n", commands[i].name, commands[i].help);
    fputs("\n'tidemill COMMAND --help' tells more; 'tidemill --version' prints the version.\n",
          stream);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);                       /* a closed pipe and a file that may not grow */
    signal(SIGXFSZ, SIG_IGN);                       /* are errors of the write */
    setenv("TIDEMILL_BINARY", "/proc/self/exe", 0); /* model processes are this program too */
    const char *name = argc > 1 ? argv[1] : "--help";
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        puts("tidemill " TIDEMILL_VERSION);
        return 0;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(argc > 1 ? stdout : stderr);
        return argc > 1 ? 0 : 2;
    }
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (strcmp(commands[i].name, name) == 0) return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "tidemill: error: unknown command '%s'; 'tidemill --help' lists them\n", name);
    return 2;
}
